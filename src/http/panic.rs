//! A panic in a request ends this request only.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use super::{Problem, ProblemCode};

/// Runs the work of a request. The values of the work, such as its permits, are dropped while its panic unwinds. The
/// worker's own state is valid after a panic: it has counters, and values that are borrowed only within one call.
///
/// The caller pins the work, because a moved future is copied, and the future of a request has several KiB.
///
/// # Errors
/// 500 when the work panicked.
pub async fn catch_panic<T>(mut work: Pin<&mut impl Future<Output = T>>) -> Result<T, Problem> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(_) => Poll::Ready(Err(Problem::new(ProblemCode::Internal, "the request could not be answered"))),
    })
    .await
}
