//! The size of the future of a request, which is copied for each request.

use std::rc::Rc;

use hyper::Request;
use hyper::body::Incoming;

use super::{Echo, Fake};
use crate::admit::worker::Worker;
use crate::http::RequestHandler;
use crate::http::connection::ConnectionMonitor;
use crate::http::listener::ConnectionInfo;

type TestWorker = Worker<Fake, Fake, Echo>;

/// The size of the future that `answer` returns. It is not called.
fn size_of_future<F>(
    _answer: impl Fn(&'static TestWorker, ConnectionInfo, &'static Rc<ConnectionMonitor>, Request<Incoming>) -> F,
) -> usize {
    size_of::<F>()
}

#[test]
fn the_future_of_a_request_is_small() {
    let bytes = size_of_future(RequestHandler::answer);
    assert!(bytes <= 5_120, "{bytes} bytes");
}
