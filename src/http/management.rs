//! The management threads, which run no part of the ingest and delivery of events.
//!
//! The caller chooses how expensive a management request is: a long list, the metrics of a webhook, a filter on a large
//! event. Therefore the worker that reads the request hands the work to these threads, and serves its other connections
//! while it waits for the response. The threads `manage-N` have a lower priority than all others.
//!
//! If the client disconnects, the worker drops its [`TaskHandle`], and the future is dropped on its thread. Work that must
//! complete without a client is spawned in [`BackgroundTasks`], and the drain waits for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::{Problem, ProblemCode};
use crate::limits::{
    MANAGE_BLOCKING_THREADS, MANAGE_REQUESTS_MAX, MANAGE_REQUESTS_PER_TENANT, MANAGE_RETRY_AFTER, MANAGE_THREADS,
};
use crate::runtime::{TenantBudget, TenantBudgetError, TenantShare};

/// The management threads. Dropping this value without [`Self::stop`] waits for blocking work.
#[derive(Debug)]
pub struct ManagementThreads {
    runtime: Runtime,
    manage: ManagementHandle,
}

/// A handle that runs work on the management threads.
#[derive(Debug, Clone)]
pub struct ManagementHandle {
    runtime: Handle,
    /// One for each request that waits for its response.
    requests: Arc<TenantBudget>,
    background: BackgroundTasks,
}

/// Tasks that complete even if their client has disconnected.
#[derive(Debug, Clone)]
pub struct BackgroundTasks {
    running: Arc<watch::Sender<usize>>,
}

/// A task on the management threads. Resolves to its result, or to a 500 problem if the task panicked. Dropping the handle
/// cancels the task.
#[derive(Debug)]
pub struct TaskHandle<T>(oneshot::Receiver<T>);

impl ManagementThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system cannot create the runtime.
    pub fn start() -> io::Result<Self> {
        let threads = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(MANAGE_THREADS)
            .max_blocking_threads(MANAGE_BLOCKING_THREADS)
            .thread_name_fn(move || format!("manage-{}", threads.fetch_add(1, Ordering::Relaxed)))
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        let manage = ManagementHandle {
            runtime: runtime.handle().clone(),
            requests: TenantBudget::new(MANAGE_REQUESTS_MAX, MANAGE_REQUESTS_PER_TENANT),
            background: BackgroundTasks::default(),
        };
        Ok(Self { runtime, manage })
    }

    /// The background tasks of these threads.
    pub fn background(&self) -> BackgroundTasks {
        self.manage.background.clone()
    }

    /// A handle to these threads.
    pub fn handle(&self) -> ManagementHandle {
        self.manage.clone()
    }

    /// Stops the threads. Waits for background tasks and blocking work for at most the time that `left` returns. All other
    /// tasks end at their next await point.
    pub fn stop(self, left: impl Fn() -> Duration) {
        let mut running = self.manage.background.running.subscribe();
        let limit = left();
        let completed = async { tokio::time::timeout(limit, running.wait_for(|running| *running == 0)).await.is_ok() };
        if !self.runtime.block_on(completed) {
            tracing::warn!(running = self.manage.background.count(), "management work cut off at the end of the drain");
        }
        self.runtime.shutdown_timeout(left());
    }
}

impl ManagementHandle {
    /// A permit for the work of a request. The caller holds it until the work is done.
    ///
    /// # Errors
    /// 503 when [`MANAGE_REQUESTS_MAX`] requests are waiting already, 429 when [`MANAGE_REQUESTS_PER_TENANT`] requests of the
    /// tenant are.
    pub fn permit(&self, tenant: Option<&str>) -> Result<TenantShare, Problem> {
        self.requests.take(tenant, 1).map_err(|error| {
            let (code, detail) = match error {
                TenantBudgetError::Exhausted => (ProblemCode::Overloaded, "too many management requests wait"),
                TenantBudgetError::TenantExhausted => {
                    (ProblemCode::RateLimited, "too many management requests of this tenant wait")
                }
            };
            Problem::new(code, detail).retry_after(MANAGE_RETRY_AFTER)
        })
    }

    /// Runs a future on the management threads.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> TaskHandle<T> {
        let (mut answer, task) = oneshot::channel();
        self.runtime.spawn(async move {
            let done = tokio::select! {
                biased;
                () = answer.closed() => None,
                done = work => Some(done),
            };
            if let Some(done) = done {
                // The receiver may have been dropped in the meantime.
                let _ = answer.send(done);
            }
        });
        TaskHandle(task)
    }

    /// Runs blocking work on a separate thread. `None` if the work panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.spawn_blocking(work).await.ok()
    }
}

impl<T> Future for TaskHandle<T> {
    type Output = Result<T, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_err(|_| Problem::new(ProblemCode::Internal, "the request could not be answered"))
    }
}

impl Default for BackgroundTasks {
    fn default() -> Self {
        Self { running: Arc::new(watch::Sender::new(0)) }
    }
}

impl BackgroundTasks {
    /// Runs a task to its end on the caller's runtime.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let running = RunningGuard::new(Arc::clone(&self.running));
        tokio::spawn(async move {
            let _running = running;
            work.await
        })
    }

    fn count(&self) -> usize {
        *self.running.borrow()
    }
}

/// Counts a background task as running until this value is dropped.
struct RunningGuard(Arc<watch::Sender<usize>>);

impl RunningGuard {
    fn new(all: Arc<watch::Sender<usize>>) -> Self {
        all.send_modify(|running| *running += 1);
        Self(all)
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// Lowers the priority of this thread. Only on Linux: on other systems the call would affect the whole process.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(crate::limits::MANAGE_NICENESS) {
        tracing::debug!(%error, "a management thread keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn work_runs_on_the_management_threads() {
        let threads = ManagementThreads::start().unwrap();
        let manage = threads.handle();
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        runtime().block_on(async {
            let task = manage.spawn(async move { name() }).await.unwrap();
            let blocking = manage.blocking(name).await.unwrap();
            assert!(task.starts_with("manage-") && blocking.starts_with("manage-"), "{task} {blocking}");
        });
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn dropping_the_handle_cancels_the_work() {
        let threads = ManagementThreads::start().unwrap();
        let (manage, (kept, gone)) = (threads.handle(), oneshot::channel::<()>());
        let task = manage.spawn(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        drop(task);
        assert!(runtime().block_on(gone).is_err(), "the future was dropped");
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn the_number_of_waiting_requests_is_limited_for_each_tenant_and_for_all() {
        let threads = ManagementThreads::start().unwrap();
        let manage = threads.handle();
        let of = |tenant| (0..MANAGE_REQUESTS_PER_TENANT).map(move |_| tenant);
        let mut held: Vec<_> = of("a").map(|tenant| manage.permit(Some(tenant)).unwrap()).collect();
        assert_eq!(manage.permit(Some("a")).unwrap_err().code, ProblemCode::RateLimited);
        held.extend((held.len()..MANAGE_REQUESTS_MAX).map(|n| manage.permit(Some(&format!("b{n}"))).unwrap()));
        assert_eq!(manage.permit(Some("c")).unwrap_err().code, ProblemCode::Overloaded);
        held.pop();
        assert!(manage.permit(Some("c")).is_ok());
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        let threads = ManagementThreads::start().unwrap();
        let task = threads.handle().spawn(async { panic!("of the test") });
        let answer: Result<(), _> = runtime().block_on(task);
        assert_eq!(answer.unwrap_err().code, ProblemCode::Internal);
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn the_stop_waits_for_background_tasks() {
        let threads = ManagementThreads::start().unwrap();
        let (manage, go) = (threads.handle(), Arc::new(Notify::new()));
        let (done, finished) = oneshot::channel();
        let (background, waits) = (threads.background(), Arc::clone(&go));
        let task = manage.spawn(async move {
            let made = background.spawn(async move {
                waits.notified().await;
                let _ = done.send(());
            });
            let _ = made.await;
        });
        runtime().block_on(async {
            while manage.background.count() == 0 {
                tokio::task::yield_now().await;
            }
        });
        // The client disconnects, and the background task continues.
        drop(task);
        go.notify_one();
        threads.stop(|| Duration::from_secs(20));
        assert_eq!(runtime().block_on(finished), Ok(()));
    }

    #[test]
    fn the_stop_cancels_background_tasks_after_its_time_limit() {
        let threads = ManagementThreads::start().unwrap();
        let background = threads.background();
        let entered = threads.runtime.enter();
        let hangs = background.spawn(std::future::pending::<()>());
        drop(entered);
        threads.stop(|| Duration::from_millis(1));
        assert!(runtime().block_on(hangs).unwrap_err().is_cancelled());
    }
}
