//! The baseline: a bare hyper server that passes each body to a bare hyper client, without a log, matching, or
//! signatures. Its throughput is the ceiling of these libraries on this machine.
//!
//! The baseline does as little as possible. The threads share nothing, a body goes from a server connection to a client
//! connection within one thread, a client polls its own connection, and no task is spawned per request. If the queue
//! between server and client is full, the server delays its response. Every accepted body is therefore delivered.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::pin::{Pin, pin};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Connection, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::args::BaselinePlan;
use crate::model::header;

/// Maximum number of bodies that wait for a client, per thread.
const HANDOVER_CAPACITY: usize = 1_024;
/// Maximum number of new connections that wait for their thread.
const NEW_CONNECTIONS: usize = 64;
/// A response body of the same length as the server's.
const RESPONSE_BODY: &[u8] =
    br#"{"id":"evt_00000000000000000000000000","status":"accepted","duplicate":false,"webhooks":1}"#;
const JSON: HeaderValue = HeaderValue::from_static(header::JSON);

/// Runs the baseline until the process is killed.
pub(super) fn serve(plan: BaselinePlan) -> ExitCode {
    match run(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "hooktide: the baseline failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(plan: BaselinePlan) -> io::Result<()> {
    let listener = StdListener::bind(("127.0.0.1", 0))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let clients = (plan.in_flight as usize).div_ceil(threads);
    let mut workers = Vec::with_capacity(threads);
    for _ in 0..threads {
        let (give, take) = mpsc::channel(NEW_CONNECTIONS);
        let work = move || -> io::Result<()> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            LocalSet::new().block_on(&runtime, work(plan, clients, take))
        };
        std::thread::Builder::new().name("baseline".into()).spawn(work)?;
        workers.push(give);
    }
    writeln!(io::stdout(), "hooktide baseline ready listen={}", listener.local_addr()?)?;
    // Connections are distributed in turn, so all threads have the same number.
    for (stream, worker) in listener.incoming().zip(workers.iter().cycle()) {
        let stream = stream?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        worker.blocking_send(stream).map_err(io::Error::other)?;
    }
    Ok(())
}

async fn work(plan: BaselinePlan, clients: usize, mut streams: mpsc::Receiver<StdStream>) -> io::Result<()> {
    let handover = Rc::new(Handover::default());
    for _ in 0..clients {
        let client = deliver(Rc::clone(&handover), plan);
        tokio::task::spawn_local(async move {
            if let Err(error) = client.await {
                let _ = writeln!(io::stderr(), "a client failed: {error}");
            }
        });
    }
    while let Some(stream) = streams.recv().await {
        let io = TokioIo::new(TcpStream::from_std(stream)?);
        let handover = Rc::clone(&handover);
        let service = service_fn(move |request| accept(request, Rc::clone(&handover), plan.fanout));
        // An error only means that the peer closed the connection.
        let connection = hyper::server::conn::http1::Builder::new().pipeline_flush(true).serve_connection(io, service);
        tokio::task::spawn_local(async move { drop(connection.await) });
    }
    Ok(())
}

async fn accept(
    request: Request<Incoming>,
    handover: Rc<Handover>,
    fanout: u32,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::from(RESPONSE_BODY));
    match collect_body(request.into_body()).await {
        Ok(body) => {
            for webhook in 0..fanout {
                handover.give(webhook, body.clone()).await;
            }
            *response.status_mut() = StatusCode::ACCEPTED;
            response.headers_mut().insert(CONTENT_TYPE, JSON);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    Ok(response)
}

/// Collects a body into one buffer. The bytes are copied only if the body arrives in several frames.
async fn collect_body(mut body: Incoming) -> Result<Bytes, hyper::Error> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

/// Runs a client: one connection, one request at a time.
async fn deliver(handover: Rc<Handover>, plan: BaselinePlan) -> io::Result<()> {
    let stream = TcpStream::connect(plan.sink).await?;
    stream.set_nodelay(true)?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(io::Error::other)?;
    let mut client = BaselineClient { sender, connection };
    let host = HeaderValue::try_from(plan.sink.to_string()).map_err(io::Error::other)?;
    let uris: Vec<_> =
        (0..plan.fanout).map(|n| Uri::try_from(format!("/{n}"))).collect::<Result<_, _>>().map_err(io::Error::other)?;
    loop {
        let (webhook, body) = handover.take().await;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uris[webhook as usize].clone();
        request.headers_mut().insert(HOST, host.clone());
        request.headers_mut().insert(CONTENT_TYPE, JSON);
        client.exchange(request).await?;
    }
}

/// A client connection that the caller polls itself.
struct BaselineClient {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<TokioIo<TcpStream>, Full<Bytes>>,
}

impl BaselineClient {
    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> io::Result<()> {
        let Self { sender, connection } = self;
        if !sender.is_ready() {
            poll_fn(|cx| {
                drive(connection, cx)?;
                sender.poll_ready(cx).map_err(io::Error::other)
            })
            .await?;
        }
        let mut answer = pin!(sender.send_request(request));
        let answered = poll_fn(|cx| {
            drive(connection, cx)?;
            answer.as_mut().poll(cx).map_err(io::Error::other)
        });
        let mut body = answered.await?.into_body();
        while !body.is_end_stream() {
            let read = poll_fn(|cx| {
                drive(connection, cx)?;
                Pin::new(&mut body).poll_frame(cx).map(|frame| frame.transpose().map_err(io::Error::other))
            });
            if read.await?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

fn drive(connection: &mut Connection<TokioIo<TcpStream>, Full<Bytes>>, cx: &mut Context<'_>) -> io::Result<()> {
    match Pin::new(connection).poll(cx) {
        Poll::Pending => Ok(()),
        Poll::Ready(Ok(())) => Err(io::ErrorKind::ConnectionAborted.into()),
        Poll::Ready(Err(error)) => Err(io::Error::other(error)),
    }
}

/// The queue of bodies between the server and client tasks of one thread.
#[derive(Debug, Default)]
struct Handover(RefCell<BaselineQueue>);

#[derive(Debug, Default)]
struct BaselineQueue {
    bodies: VecDeque<(u32, Bytes)>,
    /// Idle clients. The most recent one is woken first, because its caches are warm.
    takers: Vec<Waker>,
    /// Server tasks that wait for free space.
    givers: VecDeque<Waker>,
}

impl Handover {
    async fn give(&self, webhook: u32, body: Bytes) {
        let mut body = Some(body);
        poll_fn(|cx| {
            let mut waiting = self.0.borrow_mut();
            if waiting.bodies.len() >= HANDOVER_CAPACITY {
                waiting.givers.push_back(cx.waker().clone());
                return Poll::Pending;
            }
            waiting.bodies.extend(body.take().map(|body| (webhook, body)));
            if let Some(taker) = waiting.takers.pop() {
                taker.wake();
            }
            Poll::Ready(())
        })
        .await;
    }

    async fn take(&self) -> (u32, Bytes) {
        poll_fn(|cx| {
            let mut waiting = self.0.borrow_mut();
            let Some(body) = waiting.bodies.pop_front() else {
                waiting.takers.push(cx.waker().clone());
                return Poll::Pending;
            };
            if let Some(giver) = waiting.givers.pop_front() {
                giver.wake();
            }
            Poll::Ready(body)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_hand_over_waits_and_loses_nothing() {
        let handover = Handover::default();
        let bodies = HANDOVER_CAPACITY as u32 * 2;
        let give = async {
            for n in 0..bodies {
                handover.give(n, Bytes::new()).await;
                assert!(handover.0.borrow().bodies.len() <= HANDOVER_CAPACITY);
            }
        };
        let take = async {
            let mut taken = Vec::new();
            while taken.len() < bodies as usize {
                taken.push(handover.take().await.0);
            }
            taken
        };
        let ((), taken) = tokio::join!(give, take);
        assert!(taken.into_iter().eq(0..bodies));
    }
}
