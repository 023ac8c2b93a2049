//! A panic anywhere in a request costs this request only.

use super::*;
use crate::runtime::count_panics;

/// Sends a request on a connection that stays open, and returns the response.
fn answer(socket: &mut TcpStream, request: &str) -> String {
    socket.write_all(request.as_bytes()).unwrap();
    let (mut answer, mut some) = (String::new(), [0; 1024]);
    while !answer.ends_with('}') {
        let more = socket.read(&mut some).unwrap();
        assert!(more > 0, "{answer}");
        answer.push_str(std::str::from_utf8(&some[..more]).unwrap());
    }
    answer
}

#[test]
fn a_panic_costs_its_request_only_and_its_permits_are_released() {
    // Larger than what arrives with the head, so that the body is in the table of incomplete ones for some time.
    let event = format!(r#"{{"type":"a.b","data":"{}"}}"#, "a".repeat(900_000));
    for place in [PanicAt::Authentication, PanicAt::Matching, PanicAt::Submission] {
        let served = Served::with(Fake { panics: Some(place), ..Fake::default() });
        let admit = &served.admit;
        count_panics(&admit.metrics);
        // The only worker continues, and so does a connection that was open before.
        let mut other = served.connect();
        for body in [EVENT, &event] {
            let (code, problem) = served.post(&format!("{KEY}X-Request-ID: r-1\r\n"), body);
            assert_eq!((code, &problem["code"], &problem["request_id"]), (500, &json!("internal"), &json!("r-1")));
            assert_eq!((admit.ingest.deliveries(), admit.ingest.body_bytes()), (0, 0), "{place:?}");
            assert_eq!(admit.bodies.used(), (0, 0), "{place:?}");
            let health = answer(&mut other, "GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(status(&health), 200, "{health}");
        }
        assert!(admit.metrics.panics.get() >= 2);
        assert_eq!(admit.metrics.requests.with_label_values(&["5xx"]).get(), 2);
    }
}

#[test]
fn a_connection_continues_after_a_panic_of_a_request_that_was_read() {
    let served = Served::with(Fake { panics: Some(PanicAt::Matching), ..Fake::default() });
    let mut socket = served.connect();
    let head = format!("POST /api/v1/events HTTP/1.1\r\nHost: a\r\n{KEY}");
    for _ in 0..3 {
        let refused = answer(&mut socket, &format!("{head}Content-Length: {}\r\n\r\n{EVENT}", EVENT.len()));
        assert_eq!(status(&refused), 500, "{refused}");
    }
    assert!(served.is_healthy());
}

#[test]
fn a_panic_of_the_management_is_a_500_and_releases_its_permit() {
    let served = Served::new();
    let mut socket = served.connect();
    for _ in 0..3 * crate::limits::MANAGE_REQUESTS_MAX {
        let body = "{\"a\":1}";
        let head = format!("POST /api/v1/event-types/panic HTTP/1.1\r\nHost: a\r\n{ADMIN}");
        let refused = answer(&mut socket, &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()));
        assert_eq!((status(&refused), &body_of(&refused)["code"]), (500, &json!("internal")), "{refused}");
    }
    assert_eq!(served.admit.bodies.used(), (0, 0));
    assert_eq!(status(&answer(&mut socket, &format!("GET /api/v1/keys HTTP/1.1\r\nHost: a\r\n{ADMIN}\r\n"))), 200);
}
