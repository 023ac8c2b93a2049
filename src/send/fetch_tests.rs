//! Tests of the fetcher and of the certificate cache, with servers on real sockets.

use std::cell::{Cell, RefCell};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio_rustls::server::TlsStream;
use url::Url;

use super::tests::{NOW, Names, acceptor, guard, ip, local, receiver};
use super::*;
use crate::limits::{
    CERTIFICATE_FAILURES_MAX, CERTIFICATE_FETCHES, CERTIFICATE_RETRY, CERTIFICATE_TTL, CERTIFICATES_KEPT,
    FETCH_BYTES_MAX, FETCH_TIMEOUT, KEY_SET_REFRESH, KEY_SET_TTL,
};
use crate::runtime::Clock;
use crate::signature::{Certificate, KeySet, KeySetRequest};

const LOOPBACK: &[&str] = &["127.0.0.0/8"];

fn fetcher(allow: &[&str], names: Names) -> Fetcher<Names> {
    let ca_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls/ca.pem");
    Fetcher::new(guard(allow), tls_config(Some(&ca_file)).unwrap(), names)
}

#[expect(clippy::arc_with_non_send_sync, reason = "the names of the tests stay on one thread")]
fn shared_fetcher() -> Arc<Fetcher<Names>> {
    Arc::new(fetcher(LOOPBACK, Names::default()))
}

fn chain() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/certificates/chain.pem")).unwrap()
}

fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

fn answer(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} X\r\nlocation: https://127.0.0.1/\r\ncontent-length: 2\r\n\r\nno").into_bytes()
}

/// The lines of a request head.
async fn head(socket: &mut TlsStream<TcpStream>) -> Vec<String> {
    let mut bytes = Vec::new();
    // A body of a few bytes comes with the head.
    let end = loop {
        assert_ne!(socket.read_buf(&mut bytes).await.unwrap(), 0);
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
    };
    bytes.truncate(end);
    String::from_utf8(bytes).unwrap().trim_end().split("\r\n").map(str::to_owned).collect()
}

/// A server that answers with the result of a function of the connection's number, from 1, and of the path.
async fn server(answer: impl Fn(usize, &str) -> Vec<u8> + 'static) -> (SocketAddr, Rc<Cell<usize>>) {
    let (acceptor, answer) = (acceptor(), Rc::new(answer));
    receiver(move |n, socket| {
        let (acceptor, answer) = (acceptor.clone(), Rc::clone(&answer));
        async move {
            let Ok(mut socket) = acceptor.accept(socket).await else { return };
            let head = head(&mut socket).await;
            let path = head[0].split(' ').nth(1).unwrap();
            let _ = socket.write_all(&answer(n, path)).await;
            let _ = socket.shutdown().await;
        }
    })
    .await
}

fn url(at: SocketAddr, path: &str) -> Url {
    Url::parse(&format!("https://{at}{path}")).unwrap()
}

async fn get(allow: &[&str], address: &str) -> Result<Vec<u8>, FetchError> {
    fetcher(allow, Names::default()).get(&Url::parse(address).unwrap()).await
}

#[tokio::test]
async fn a_get_sends_a_user_agent_and_returns_the_body() {
    local(async {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (acceptor, recorded) = (acceptor(), Rc::clone(&seen));
        let (at, _) = receiver(move |_, socket| {
            let (acceptor, recorded) = (acceptor.clone(), Rc::clone(&recorded));
            async move {
                let mut socket = acceptor.accept(socket).await.unwrap();
                *recorded.borrow_mut() = head(&mut socket).await;
                socket.write_all(&ok(b"body")).await.unwrap();
            }
        })
        .await;
        let names = Names::default().with("receiver.test", |_| vec![ip("127.0.0.1")]);
        let address = Url::parse(&format!("https://receiver.test:{}/a/b.pem?x=1#f", at.port())).unwrap();
        assert_eq!(fetcher(LOOPBACK, names).get(&address).await, Ok(b"body".to_vec()));
        let seen = seen.borrow();
        assert_eq!(seen[0], "GET /a/b.pem?x=1 HTTP/1.1");
        assert!(seen.contains(&format!("host: receiver.test:{}", at.port())), "{seen:?}");
        assert!(seen.iter().any(|line| line.starts_with("user-agent: Hooktide/")), "{seen:?}");
        assert!(
            !seen.iter().any(|line| line.starts_with("content-length") || line.starts_with("transfer")),
            "{seen:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn only_200_is_taken_and_no_redirect_followed() {
    local(async {
        for status in [201, 204, 206, 301, 302, 303, 307, 308, 400, 403, 404, 410, 500, 503] {
            let (at, count) = server(move |_, _| answer(status)).await;
            let got = get(LOOPBACK, &format!("https://{at}/")).await;
            assert_eq!(got, Err(FetchError::Status(status)));
            assert_eq!(got.unwrap_err().is_temporary(), status >= 500, "{status}");
            assert_eq!(count.get(), 1, "{status}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_body_must_be_complete_and_within_the_limit() {
    local(async {
        let chunked = |size: usize| {
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n");
            [head.as_bytes(), &vec![b'x'; size], b"\r\n0\r\n\r\n"].concat()
        };
        for (answer, expected) in [
            (ok(&vec![b'x'; FETCH_BYTES_MAX]), Ok(FETCH_BYTES_MAX)),
            (chunked(FETCH_BYTES_MAX), Ok(FETCH_BYTES_MAX)),
            (ok(&vec![b'x'; FETCH_BYTES_MAX + 1]), Err(FetchError::TooLarge)),
            (chunked(FETCH_BYTES_MAX + 1), Err(FetchError::TooLarge)),
            (chunked(FETCH_BYTES_MAX * 20), Err(FetchError::TooLarge)),
        ] {
            let (at, _) = server(move |_, _| answer.clone()).await;
            let got = get(LOOPBACK, &format!("https://{at}/")).await;
            assert_eq!(got.map(|body| body.len()), expected);
        }
        for cut in ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab", "HTTP/1.1 200 OK\r\n", "", "nonsense\r\n\r\n"] {
            let (at, _) = server(|_, _| cut.into()).await;
            let got = get(LOOPBACK, &format!("https://{at}/")).await;
            assert!(matches!(got, Err(FetchError::Broken(_))), "{cut:?}: {got:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_endless_response_ends_with_the_timeout() {
    local(async {
        for begin in ["", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nab"] {
            let acceptor = acceptor();
            let (at, _) = receiver(move |_, socket| {
                let acceptor = acceptor.clone();
                async move {
                    let mut socket = acceptor.accept(socket).await.unwrap();
                    head(&mut socket).await;
                    socket.write_all(begin.as_bytes()).await.unwrap();
                    std::future::pending::<()>().await;
                }
            })
            .await;
            let (clock, fetcher) = (Clock::test(NOW), fetcher(LOOPBACK, Names::default()));
            let began = clock.instant();
            assert_eq!(fetcher.get(&url(at, "/")).await, Err(FetchError::Timeout));
            assert_eq!((clock.instant() - began).as_secs(), FETCH_TIMEOUT.as_secs());
        }
    })
    .await;
}

#[tokio::test]
async fn only_https_urls_within_the_egress_rules_are_fetched() {
    local(async {
        let (at, count) = server(|_, _| ok(b"body")).await;
        assert_eq!(get(LOOPBACK, &format!("http://{at}/")).await, Err(FetchError::Plain));
        let closed = get(&[], &format!("https://{at}/")).await;
        assert!(matches!(closed, Err(FetchError::Address(_))), "{closed:?}");
        for bad in ["https://user@127.0.0.1/", "https://169.254.169.254/latest", "https://[::1]/", "https://localhost/"]
        {
            let got = get(&[], bad).await;
            assert!(matches!(got, Err(FetchError::Address(_))), "{bad}: {got:?}");
        }
        // All or some addresses of the name are internal.
        for ips in [&["127.0.0.1"][..], &["10.0.0.1"], &["203.0.114.1", "127.0.0.1"], &["::ffff:127.0.0.1"]] {
            let ips: Vec<_> = ips.iter().map(|text| ip(text)).collect();
            let names = Names::default().with("sns.us-west-2.amazonaws.com", move |_| ips.clone());
            let address = Url::parse("https://sns.us-west-2.amazonaws.com/x.pem").unwrap();
            let got = fetcher(&[], names).get(&address).await;
            assert!(matches!(got, Err(FetchError::Forbidden(_))), "{got:?}");
        }
        // The server has no certificate for that name.
        let names = Names::default().with("other.test", |_| vec![ip("127.0.0.1")]);
        let address = Url::parse(&format!("https://other.test:{}/", at.port())).unwrap();
        let got = fetcher(LOOPBACK, names).get(&address).await;
        assert!(matches!(&got, Err(FetchError::Broken(why)) if why.starts_with("TLS handshake")), "{got:?}");
        assert_eq!(count.get(), 1);
    })
    .await;
}

fn certificates() -> CertificateCache<Names> {
    CertificateCache::new(shared_fetcher(), Clock::test(NOW))
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_fetched_once_and_again_a_day_later() {
    local(async {
        let (at, count) = server(|_, _| ok(&chain())).await;
        let (certificates, address) = (Rc::new(certificates()), url(at, "/a.pem"));
        // All requests run at the same time.
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let (certificates, address) = (Rc::clone(&certificates), address.clone());
                spawn_local(async move { certificates.get(&address).await.is_ok() })
            })
            .collect();
        for got in asked {
            assert!(got.await.unwrap());
        }
        assert_eq!(count.get(), 1);
        tokio::time::advance(CERTIFICATE_TTL.mul_f32(0.99)).await;
        assert!(certificates.get(&address).await.is_ok());
        assert_eq!(count.get(), 1);
        tokio::time::advance(CERTIFICATE_TTL.mul_f32(0.02)).await;
        assert!(certificates.get(&address).await.is_ok());
        assert_eq!(count.get(), 2);
        assert!(certificates.get(&url(at, "/b.pem")).await.is_ok());
        assert_eq!(count.get(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_fetch_is_taken_over_by_the_next_request() {
    local(async {
        let acceptor = acceptor();
        let (at, count) = receiver(move |n, socket| {
            let acceptor = acceptor.clone();
            async move {
                let mut socket = acceptor.accept(socket).await.unwrap();
                head(&mut socket).await;
                if n == 1 {
                    std::future::pending::<()>().await;
                }
                socket.write_all(&ok(&chain())).await.unwrap();
            }
        })
        .await;
        let (certificates, address) = (certificates(), url(at, "/a.pem"));
        let gone = tokio::time::timeout(Duration::from_secs(1), certificates.get(&address)).await;
        assert!(gone.is_err());
        assert!(certificates.get(&address).await.is_ok());
        assert_eq!(count.get(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_cached_for_a_while() {
    local(async {
        let (at, count) = server(|n, _| if n == 1 { answer(404) } else { ok(&chain()) }).await;
        let (certificates, address) = (certificates(), url(at, "/a.pem"));
        let missing = KeysUnavailable::Fetch(FetchError::Status(404));
        assert!(!missing.is_temporary());
        for _ in 0..3 {
            assert_eq!(certificates.get(&address).await.map(|_| ()), Err(missing.clone()));
        }
        assert_eq!(count.get(), 1);
        tokio::time::advance(CERTIFICATE_RETRY).await;
        assert!(certificates.get(&address).await.is_ok());
        assert_eq!(count.get(), 2);

        let (at, _) = server(|_, _| ok(b"<html>")).await;
        let got = certificates.get(&url(at, "/a.pem")).await.map(|_| ());
        assert!(matches!(got, Err(KeysUnavailable::Form(_))), "{got:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_cached_certificate_survives_temporary_failures_but_not_its_removal() {
    local(async {
        let (at, count) = server(|n, _| match n {
            1 => ok(&chain()),
            2 => answer(503),
            _ => answer(404),
        })
        .await;
        let (certificates, address) = (certificates(), url(at, "/a.pem"));
        assert!(certificates.get(&address).await.is_ok());
        tokio::time::advance(CERTIFICATE_TTL).await;
        for _ in 0..3 {
            assert!(certificates.get(&address).await.is_ok());
        }
        assert_eq!(count.get(), 2);
        tokio::time::advance(CERTIFICATE_RETRY).await;
        let gone = certificates.get(&address).await.map(|_| ());
        assert_eq!(gone, Err(KeysUnavailable::Fetch(FetchError::Status(404))));
        assert_eq!(count.get(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn invented_urls_neither_flood_the_host_nor_evict_certificates() {
    local(async {
        let (at, count) = server(|_, path| if path == "/good.pem" { ok(&chain()) } else { answer(404) }).await;
        let (certificates, good) = (certificates(), url(at, "/good.pem"));
        assert!(certificates.get(&good).await.is_ok());
        for n in 0..3 * CERTIFICATES_KEPT {
            assert!(certificates.get(&url(at, &format!("/{n}.pem"))).await.is_err());
        }
        assert_eq!(count.get(), 1 + CERTIFICATE_FAILURES_MAX);
        let other = url(at, "/other.pem");
        assert_eq!(certificates.get(&other).await.map(|_| ()), Err(KeysUnavailable::Busy));
        assert!(KeysUnavailable::Busy.is_temporary());
        assert!(certificates.get(&good).await.is_ok());
        assert_eq!(count.get(), 1 + CERTIFICATE_FAILURES_MAX, "the good one is still known");
        // This holds even when it is time to fetch again.
        tokio::time::advance(CERTIFICATE_TTL).await;
        for n in 0..CERTIFICATE_FAILURES_MAX {
            assert!(certificates.get(&url(at, &format!("/again-{n}.pem"))).await.is_err());
        }
        let before = count.get();
        assert!(certificates.get(&good).await.is_ok());
        assert_eq!(count.get(), before);
        tokio::time::advance(CERTIFICATE_RETRY).await;
        assert!(certificates.get(&good).await.is_ok());
        assert_eq!(count.get(), before + 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_number_of_concurrent_fetches_is_limited() {
    local(async {
        let acceptor = acceptor();
        let (at, count) = receiver(move |_, socket| {
            let acceptor = acceptor.clone();
            async move {
                let _held = acceptor.accept(socket).await;
                std::future::pending::<()>().await;
            }
        })
        .await;
        let certificates = Rc::new(certificates());
        let ask = |n: usize| {
            let (certificates, address) = (Rc::clone(&certificates), url(at, &format!("/{n}.pem")));
            async move { certificates.get(&address).await.map(|_| ()) }
        };
        let held: Vec<_> = (0..CERTIFICATE_FETCHES).map(|n| spawn_local(ask(n))).collect();
        tokio::task::yield_now().await;
        assert_eq!(ask(99).await, Err(KeysUnavailable::Busy));
        for held in held {
            assert_eq!(held.await.unwrap(), Err(KeysUnavailable::Fetch(FetchError::Timeout)));
        }
        assert_eq!(count.get(), CERTIFICATE_FETCHES);
        // `Busy` was not cached for this URL.
        assert_eq!(ask(99).await, Err(KeysUnavailable::Fetch(FetchError::Timeout)));
    })
    .await;
}

#[test]
fn certificates_are_shared_between_threads() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<CertificateCache>();
    is_shared::<Fetcher>();
    is_shared::<Certificate>();
}

fn set_of_keys(id: &str) -> Vec<u8> {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
    ok(format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}]}}"#).as_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_set_of_keys_is_fetched_again_for_a_new_key_but_not_for_every_invented_one() {
    local(async {
        let (at, count) = server(|n, _| set_of_keys(if n == 1 { "old" } else { "new" })).await;
        let sets = KeyDocumentCache::<KeySet, _>::new(shared_fetcher(), Clock::test(NOW));
        let address = url(at, "/keys");
        let ask = |id: &'static str| {
            let (sets, address) = (&sets, &address);
            async move {
                let has = move |set: &KeySet| set.has_key("EdDSA", Some(id));
                has(&sets.get_with("keys", (address, None), has).await.unwrap())
            }
        };
        assert!(ask("old").await && ask("old").await);
        assert!(!ask("new").await, "fetched just now");
        assert_eq!(count.get(), 1);
        tokio::time::advance(KEY_SET_REFRESH).await;
        assert!(ask("old").await, "a known key needs no fetch");
        assert_eq!(count.get(), 1);
        assert!(ask("new").await && !ask("invented").await && !ask("other").await);
        assert_eq!(count.get(), 2);
        tokio::time::advance(KEY_SET_TTL).await;
        assert!(ask("new").await);
        assert_eq!(count.get(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_asked_for_in_a_body_are_cached_by_the_body() {
    local(async {
        let (at, count) = server(|_, _| set_of_keys("one")).await;
        let sets = KeyDocumentCache::<KeySet, _>::new(shared_fetcher(), Clock::test(NOW));
        for (body, fetched) in [(Some("{\"a\":1}"), 1), (Some("{\"a\":1}"), 1), (Some("{}"), 2), (None, 3)] {
            let body = body.map(crate::model::Secret::new);
            let wanted = KeySetRequest { url: url(at, "/keys"), body, alg: "EdDSA".into(), key_id: None };
            let (name, ask) = (wanted.name(), (&wanted.url, wanted.body.as_ref()));
            assert!(!name.contains(['"', '{']), "no credentials: {name}");
            sets.get_with(&name, ask, |_| true).await.unwrap();
            assert_eq!(count.get(), fetched);
        }
    })
    .await;
}
