//! The HTTP receiver: reads requests, verifies their signatures, responds, and passes the requests on for printing.

use std::convert::Infallible;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::output::visible;
use crate::limits::{HEADER_TIMEOUT, LISTEN_BODY_BYTES_MAX, LISTEN_QUEUE};
use crate::model::EventPattern;
use crate::runtime::Clock;
use crate::signature::SigningKey;
use crate::signature::standard::{self, StandardVerifyError};

/// Verifies requests and determines the response status.
pub(super) struct Receiver {
    key: SigningKey,
    patterns: Vec<EventPattern>,
    fail: Option<StatusCode>,
    clock: Clock,
}

/// A received request and the result of its verification.
pub(super) struct ReceivedRequest {
    verdict: Result<(), StandardVerifyError>,
    id: String,
    event_type: String,
    body: Bytes,
}

/// The member of the standard envelope that is shown.
#[derive(Deserialize)]
struct Envelope {
    r#type: String,
}

impl Receiver {
    /// A receiver that shows events of these patterns. It responds with the status `fail` to every request, if given.
    pub(super) fn new(key: SigningKey, patterns: Vec<EventPattern>, fail: Option<u16>, clock: Clock) -> Self {
        Self { key, patterns, fail: fail.and_then(|status| StatusCode::from_u16(status).ok()), clock }
    }

    async fn receive(&self, request: Request<Incoming>, to: &mpsc::Sender<ReceivedRequest>) -> StatusCode {
        let (parts, incoming) = request.into_parts();
        let Some(body) = read(incoming).await else { return StatusCode::PAYLOAD_TOO_LARGE };
        let received = self.check(&parts.headers, body);
        let status = match &received.verdict {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::UNAUTHORIZED,
        };
        let wanted = self.patterns.iter().any(|pattern| matches(pattern, &received.event_type));
        if wanted || received.verdict.is_err() {
            // If the channel is closed, the command is ending and prints nothing more.
            let _ = to.send(received).await;
        }
        self.fail.unwrap_or(status)
    }

    fn check(&self, headers: &HeaderMap, body: Bytes) -> ReceivedRequest {
        let header = |name: &str| headers.get(name).map(hyper::header::HeaderValue::as_bytes);
        let signed = standard::StandardHeaders {
            id: header(standard::ID_HEADER),
            timestamp: header(standard::TIMESTAMP_HEADER),
            signatures: header(standard::SIGNATURE_HEADER),
        };
        let envelope = serde_json::from_slice::<Envelope>(&body);
        ReceivedRequest {
            verdict: standard::verify([&self.key], signed, &body, self.clock.now()),
            id: signed.id.map_or_else(|| "-".to_owned(), |id| String::from_utf8_lossy(id).into_owned()),
            event_type: envelope.map_or_else(|_| "-".to_owned(), |envelope| envelope.r#type),
            body,
        }
    }
}

impl ReceivedRequest {
    /// Prints one line, such as `verified order.created evt_… {…}`.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        match &self.verdict {
            Ok(()) => write!(out, "verified")?,
            Err(e) => write!(out, "NOT VERIFIED ({e})")?,
        }
        let body = String::from_utf8_lossy(&self.body);
        writeln!(out, " {} {} {}", visible(&self.event_type), visible(&self.id), visible(&body))?;
        out.flush()
    }

    /// Prints a JSON object on one line. `body` is the received JSON, or text.
    pub(super) fn print_json(&self, out: &mut dyn Write) -> io::Result<()> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Body<'a> {
            Json(&'a RawValue),
            Text(&'a str),
        }
        #[derive(Serialize)]
        struct Line<'a> {
            verified: bool,
            error: Option<String>,
            id: &'a str,
            r#type: &'a str,
            body: Body<'a>,
        }
        let text = String::from_utf8_lossy(&self.body);
        // A raw value keeps its line breaks. Such a body is printed as text.
        let json = serde_json::from_str::<&RawValue>(&text).ok().filter(|json| !json.get().contains(['\n', '\r']));
        let line = Line {
            verified: self.verdict.is_ok(),
            error: self.verdict.as_ref().err().map(ToString::to_string),
            id: &self.id,
            r#type: &self.event_type,
            body: json.map_or(Body::Text(&text), Body::Json),
        };
        serde_json::to_writer(&mut *out, &line)?;
        writeln!(out)?;
        out.flush()
    }
}

/// Accepts connections until `stop`. Passes each request to `print`, in order of arrival.
pub(super) async fn serve(
    receiver: Arc<Receiver>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
    mut print: impl FnMut(ReceivedRequest) -> io::Result<()>,
) -> io::Result<()> {
    let (to, mut queue) = mpsc::channel(LISTEN_QUEUE);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            // This task holds `to`, so the channel stays open.
            Some(request) = queue.recv() => print(request)?,
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                drop(tokio::spawn(connection(Arc::clone(&receiver), stream, to.clone())));
            }
        }
    }
    queue.close();
    while let Ok(request) = queue.try_recv() {
        print(request)?;
    }
    Ok(())
}

async fn connection(receiver: Arc<Receiver>, stream: TcpStream, to: mpsc::Sender<ReceivedRequest>) {
    let service = service_fn(|request| async {
        let status = receiver.receive(request, &to).await;
        let mut response = Response::new(Empty::<Bytes>::new());
        *response.status_mut() = status;
        Ok::<_, Infallible>(response)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    // The sender sees a broken connection and retries.
    let _ = server.serve_connection(TokioIo::new(stream), service).await;
}

/// Reads the whole body; `None` if it is too large or the connection breaks.
async fn read(mut incoming: Incoming) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        if body.len() + data.len() > LISTEN_BODY_BYTES_MAX {
            return None;
        }
        body.extend_from_slice(&data);
    }
    Some(body.freeze())
}

fn matches(pattern: &EventPattern, event_type: &str) -> bool {
    match pattern {
        EventPattern::All => true,
        EventPattern::Exact(text) => **text == *event_type,
        EventPattern::Prefix(prefix) => event_type.len() > prefix.len() && event_type.starts_with(&**prefix),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;

    use super::*;
    use crate::model::{Secret, Timestamp};

    /// The example of the libraries of the Standard Webhooks specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SIGNED_AT: i64 = 1_614_265_330;
    const BODY: &str = r#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn request(signature: &str, body: &str) -> String {
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nwebhook-id: msg_p5jXN8AQM9LWM0D4loKWxJek\r\n\
             webhook-timestamp: {SIGNED_AT}\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    /// Sends each request over its own connection. Returns the status lines and the printed text.
    async fn exchange(fail: Option<u16>, json: bool, requests: &[String]) -> (Vec<String>, String) {
        let key = SigningKey::try_new(Secret::new(SECRET)).unwrap();
        let clock = Clock::test(Timestamp::from_millis((SIGNED_AT + 60) * 1000));
        let receiver = Arc::new(Receiver::new(key, vec![EventPattern::All], fail, clock));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (end, ended) = oneshot::channel::<()>();
        let send = async {
            let mut answers = Vec::new();
            for request in requests {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answers.push(answer.lines().next().unwrap().to_owned());
            }
            end.send(()).unwrap();
            answers
        };
        let mut out = Vec::new();
        let stop = async { ended.await.unwrap() };
        let print =
            |received: ReceivedRequest| if json { received.print_json(&mut out) } else { received.print(&mut out) };
        let (served, answers) = tokio::join!(serve(receiver, listener, stop, print), send);
        served.unwrap();
        (answers, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_request_signed_by_another_implementation_is_verified() {
        let (answers, printed) = exchange(None, false, &[request(SIGNATURE, BODY)]).await;
        assert_eq!(answers, ["HTTP/1.1 204 No Content"]);
        assert_eq!(printed, format!("verified - msg_p5jXN8AQM9LWM0D4loKWxJek {BODY}\n"));
    }

    #[tokio::test]
    async fn changed_requests_are_refused_and_shown() {
        let changed = request(SIGNATURE, r#"{"test": 2432232315}"#);
        let unsigned = request("v1,", BODY);
        let (answers, printed) = exchange(None, false, &[changed, unsigned]).await;
        assert_eq!(answers, ["HTTP/1.1 401 Unauthorized", "HTTP/1.1 401 Unauthorized"]);
        assert_eq!(printed.matches("NOT VERIFIED (").count(), 2, "{printed}");
    }

    #[tokio::test]
    async fn fail_sets_the_status_and_the_verification_is_still_shown() {
        let (answers, printed) = exchange(Some(503), true, &[request(SIGNATURE, BODY)]).await;
        assert_eq!(answers, ["HTTP/1.1 503 Service Unavailable"]);
        let line: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(line["verified"], true);
        assert_eq!(line["body"]["test"], 2_432_232_314_u64);
    }

    #[test]
    fn a_prefix_pattern_needs_more_text() {
        let pattern = EventPattern::try_new("order.*").unwrap();
        assert!(matches(&pattern, "order.created") && matches(&pattern, "order.a.b"));
        assert!(!matches(&pattern, "order.") && !matches(&pattern, "orders.created"));
    }
}
