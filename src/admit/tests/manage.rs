//! Management requests, which run on the management threads.

use tokio::sync::watch;

use super::*;
use crate::limits::{MANAGE_REQUESTS_MAX, MANAGE_REQUESTS_PER_TENANT, MANAGE_THREADS};

/// Waits until a count is reached.
fn wait_for(count: &watch::Sender<usize>, wanted: usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async { count.subscribe().wait_for(|count| *count >= wanted).await.map(drop) }).unwrap();
}

fn ask(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n{ADMIN}Connection: close\r\n\r\n")
}

/// Sends a request without waiting for its response.
fn sent(served: &Served, request: &str) -> TcpStream {
    let mut socket = served.connect();
    socket.write_all(request.as_bytes()).unwrap();
    socket
}

/// Resets a connection.
fn reset(socket: TcpStream) {
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
}

fn rest_of(mut socket: TcpStream) -> String {
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn management_requests_run_on_their_own_threads() {
    let served = Served::new();
    let answer = body_of(&served.exchange(ask("/api/v1/keys").as_bytes()));
    assert!(answer["thread"].as_str().unwrap().starts_with("manage-"), "{answer}");
}

#[test]
fn slow_management_work_delays_neither_events_nor_health() {
    let served = Served::new();
    let echo = &served.admit.management;
    // Requests of the only worker block all management threads.
    let held: Vec<_> = (0..MANAGE_THREADS).map(|_| sent(&served, &ask("/api/v1/tenants/a"))).collect();
    wait_for(&echo.came, MANAGE_THREADS);
    assert_eq!(served.post(KEY, EVENT).0, 202);
    assert!(served.is_healthy());
    echo.open();
    for socket in held {
        assert_eq!(status(&rest_of(socket)), 200);
    }
}

#[test]
fn too_many_waiting_requests_get_a_retry_after() {
    let served = Served::new();
    let echo = &served.admit.management;
    let ask_as = |key| ask("/api/v1/audit/a").replace("Bearer admin", &format!("Bearer {key}"));
    let mut waiting: Vec<_> = (0..MANAGE_REQUESTS_PER_TENANT).map(|_| sent(&served, &ask_as("admin"))).collect();
    wait_for(&echo.came, MANAGE_REQUESTS_PER_TENANT);
    let refused = |request: &str, want: (u16, &str)| {
        let answer = served.exchange(request.as_bytes());
        assert_eq!((status(&answer), body_of(&answer)["code"].as_str()), (want.0, Some(want.1)), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 1\r\n"), "{answer}");
    };
    refused(&ask("/api/v1/keys"), (429, "rate_limited"));
    // Other tenants have the rest.
    let rest = MANAGE_REQUESTS_MAX - MANAGE_REQUESTS_PER_TENANT;
    let mut others: Vec<_> = (0..rest).map(|_| sent(&served, &ask_as("viewer"))).collect();
    wait_for(&echo.came, MANAGE_REQUESTS_MAX);
    refused(&ask_as("viewer"), (503, "overloaded"));
    assert_eq!(served.post(KEY, EVENT).0, 202);
    // The work of a disconnected client ends and releases its permit.
    reset(waiting.pop().unwrap());
    wait_for(&echo.left, 1);
    let mut answer = 429;
    while answer == 429 {
        answer = status(&served.exchange(ask("/api/v1/keys").as_bytes()));
    }
    assert_eq!(answer, 200);
    waiting.append(&mut others);
    waiting.into_iter().for_each(reset);
    wait_for(&echo.left, MANAGE_REQUESTS_MAX);
}

#[test]
fn who_only_closes_his_side_is_answered() {
    let served = Served::new();
    let echo = &served.admit.management;
    let mut socket = sent(&served, &ask("/api/v1/tenants/a"));
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    wait_for(&echo.came, 1);
    echo.open();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn bodies_arrive_whole_however_they_come() {
    let served = Served::new();
    let mut socket = served.connect();
    let head = format!("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\n{ADMIN}");
    for (request, bytes) in [
        (format!("{head}Content-Length: 0\r\n\r\n"), 0),
        (format!("{head}Content-Length: 5\r\n\r\n12345"), 5),
        (format!("{head}Content-Length: 900000\r\n\r\n{}", "a".repeat(900_000)), 900_000),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"), 7),
        (format!("{head}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 0),
    ] {
        // All requests use one connection, so each body was read to its end.
        socket.write_all(request.as_bytes()).unwrap();
        let (mut answer, mut some) = (String::new(), [0; 1024]);
        while !answer.ends_with('}') {
            let more = socket.read(&mut some).unwrap();
            assert!(more > 0, "{answer}");
            answer.push_str(std::str::from_utf8(&some[..more]).unwrap());
        }
        assert_eq!((status(&answer), &body_of(&answer)["bytes"]), (200, &json!(bytes)), "{answer}");
    }
}

#[test]
fn a_body_that_ends_early_is_refused() {
    let served = Served::new();
    let head = format!("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\n{ADMIN}Content-Length: 100\r\n\r\nabc");
    // Refused, or closed without a response.
    assert!(matches!(status(&served.exchange(head.as_bytes())), 400 | 0));
    reset(sent(&served, &head));
    assert_eq!(status(&served.exchange(ask("/api/v1/keys").as_bytes())), 200);
    assert_eq!(*served.admit.management.came.borrow(), 1, "only the whole one came");
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let served = Served::new();
    let head = format!("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{ADMIN}");
    let answer = served.exchange(format!("{head}Content-Length: 2000000\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), 413, "{answer}");
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, "a".repeat(1 << 19));
    let head = format!("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\n{ADMIN}Transfer-Encoding: chunked\r\n\r\n");
    let answer = served.exchange(format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), 413, "{answer}");
    assert_eq!(*served.admit.management.came.borrow(), 0);
}

/// Uses an in-memory pipe, so that no buffer of the system holds unread bytes.
#[test]
fn an_unread_body_slows_down_its_client() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const BODY: usize = 900_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        // Both threads are blocked, so no part of the body is read.
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let holders: Vec<_> = (0..MANAGE_THREADS)
            .map(|_| {
                let (gate, (tell, notified)) = (Arc::clone(&gate), tokio::sync::oneshot::channel());
                let handed = MANAGE.handle().spawn(async move {
                    let _ = tell.send(());
                    drop(gate.1.wait_while(gate.0.lock().unwrap(), |is_open| !*is_open).unwrap());
                });
                (handed, notified)
            })
            .collect();
        let mut handed = Vec::new();
        for (work, notified) in holders {
            notified.await.unwrap();
            handed.push(work);
        }
        let request = format!("POST /api/v1/keys HTTP/1.1\r\nHost: a\r\n{ADMIN}Content-Length: {BODY}\r\n\r\n");
        let (mut client, _connections) = on_paused_clock(request).await;
        let mut written = 0;
        while let Ok(more) = tokio::time::timeout(Duration::from_millis(200), client.write(&[b'a'; 4096])).await {
            written += more.unwrap();
        }
        // The pipe, the buffer of hyper, and the waiting parts.
        assert!(written < 600_000, "{written}");
        *gate.0.lock().unwrap() = true;
        gate.1.notify_all();
        client.write_all(&vec![b'a'; BODY - written]).await.unwrap();
        let (mut answer, mut some) = (String::new(), [0; 1024]);
        while !answer.ends_with('}') {
            let more = client.read(&mut some).await.unwrap();
            answer.push_str(std::str::from_utf8(&some[..more]).unwrap());
        }
        assert_eq!((status(&answer), &body_of(&answer)["bytes"]), (200, &json!(BODY)));
    });
}

#[test]
fn a_long_metrics_response_is_streamed() {
    let served = Served::new();
    let few = served.exchange(ask("/metrics").as_bytes()).to_ascii_lowercase();
    assert!(status(&few) == 200 && few.contains("\r\ncontent-length: "), "{few}");
    for n in 0..5_000 {
        served.admit.metrics.inbound.with_label_values(&[&*format!("source-{n}"), "accepted"]).inc();
    }
    let many = served.exchange(ask("/metrics").as_bytes()).to_ascii_lowercase();
    assert!(status(&many) == 200 && many.contains("\r\ntransfer-encoding: chunked\r\n"));
    assert!(many.contains("source-4999") && many.ends_with("\r\n0\r\n\r\n"));
}
