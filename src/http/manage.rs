//! The threads of the management, on which nothing of the way of an event runs.
//!
//! A management request may cost what its caller chooses: a deep list, the metrics of a webhook, a filter on a large event.
//! So the worker that reads it hands the work over, and goes on with its other connections while it waits for the answer.
//! The threads `manage-N` give way to all others where there are fewer cores than work.
//!
//! Work ends with the client: when the worker drops its [`Handed`], the future is dropped on its thread. What must be
//! completed although nobody waits for it is spawned as [`Background`], and the drain waits for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;

use super::{Problem, ProblemCode};
use crate::limits::{MANAGE_BLOCKING_THREADS, MANAGE_REQUESTS_MAX, MANAGE_THREADS, RETRY_SOON};

/// The threads. Dropping them without [`Self::stop`] waits for what blocks.
#[derive(Debug)]
pub struct ManageThreads {
    runtime: Runtime,
    manage: Manage,
}

/// The way to the threads.
#[derive(Debug, Clone)]
pub struct Manage {
    runtime: Handle,
    /// One for each request that waits for its response.
    places: Arc<Semaphore>,
    background: Background,
}

/// Work that is completed also when nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct Background {
    running: Arc<watch::Sender<usize>>,
}

/// Work that was handed over. Dropping it ends the work.
#[derive(Debug)]
pub struct Handed<T>(oneshot::Receiver<T>);

impl ManageThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system gives no thread, or none that can wait for sockets.
    pub fn start() -> io::Result<Self> {
        let threads = AtomicUsize::new(0);
        let runtime = Builder::new_multi_thread()
            .worker_threads(MANAGE_THREADS)
            .max_blocking_threads(MANAGE_BLOCKING_THREADS)
            .thread_name_fn(move || format!("manage-{}", threads.fetch_add(1, Ordering::Relaxed)))
            .on_thread_start(give_way)
            .enable_all()
            .build()?;
        let manage = Manage {
            runtime: runtime.handle().clone(),
            places: Arc::new(Semaphore::new(MANAGE_REQUESTS_MAX)),
            background: Background::default(),
        };
        Ok(Self { runtime, manage })
    }

    /// The background of these threads.
    pub fn background(&self) -> Background {
        self.manage.background.clone()
    }

    /// The way to them.
    pub fn handle(&self) -> Manage {
        self.manage.clone()
    }

    /// Ends the threads. What runs in the background is completed, and a read that blocks is waited for, as long as `left`
    /// says that there is time; everything else ends at its next await.
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

impl Manage {
    /// Hands work over that answers a request.
    ///
    /// # Errors
    /// 503 when [`MANAGE_REQUESTS_MAX`] requests wait already.
    pub fn hand_over<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<Handed<T>, Problem> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Problem::new(ProblemCode::Overloaded, "too many management requests wait").retry_after(RETRY_SOON)
        })?;
        let (mut answer, handed) = oneshot::channel();
        self.runtime.spawn(async move {
            let done = tokio::select! {
                biased;
                () = answer.closed() => None,
                done = work => Some(done),
            };
            drop(place);
            if let Some(done) = done {
                // Whoever asked may have left just now.
                let _ = answer.send(done);
            }
        });
        Ok(Handed(handed))
    }

    /// Runs what blocks on a thread of its own. `None` if it panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.runtime.spawn_blocking(work).await.ok()
    }
}

impl<T> Future for Handed<T> {
    type Output = Result<T, Problem>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0)
            .poll(cx)
            .map_err(|_| Problem::new(ProblemCode::Internal, "the request could not be answered"))
    }
}

impl Default for Background {
    fn default() -> Self {
        Self { running: Arc::new(watch::Sender::new(0)) }
    }
}

impl Background {
    /// Runs work to its end, on the caller's runtime.
    pub fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        let running = Running::new(Arc::clone(&self.running));
        tokio::spawn(async move {
            let _running = running;
            work.await
        })
    }

    fn count(&self) -> usize {
        *self.running.borrow()
    }
}

/// Counts as running until it is dropped.
struct Running(Arc<watch::Sender<usize>>);

impl Running {
    fn new(all: Arc<watch::Sender<usize>>) -> Self {
        all.send_modify(|running| *running += 1);
        Self(all)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|running| *running -= 1);
    }
}

/// Lowers the priority of this thread. On other systems than Linux it would be that of the whole process.
fn give_way() {
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
    fn work_runs_on_threads_of_the_management() {
        let threads = ManageThreads::start().unwrap();
        let manage = threads.handle();
        let name = || std::thread::current().name().unwrap_or_default().to_owned();
        runtime().block_on(async {
            let handed = manage.hand_over(async move { name() }).unwrap().await.unwrap();
            let blocking = manage.blocking(name).await.unwrap();
            assert!(handed.starts_with("manage-") && blocking.starts_with("manage-"), "{handed} {blocking}");
        });
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn work_ends_with_whoever_waits_for_it() {
        let threads = ManageThreads::start().unwrap();
        let (manage, (kept, gone)) = (threads.handle(), oneshot::channel::<()>());
        let handed = manage.hand_over(async move {
            let _kept = kept;
            std::future::pending::<()>().await;
        });
        drop(handed);
        assert!(runtime().block_on(gone).is_err(), "the future was dropped");
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn so_many_requests_wait_and_no_more() {
        let threads = ManageThreads::start().unwrap();
        let manage = threads.handle();
        let mut waiting: Vec<_> =
            (0..MANAGE_REQUESTS_MAX).map(|_| manage.hand_over(std::future::pending::<()>()).unwrap()).collect();
        assert_eq!(manage.hand_over(async {}).unwrap_err().code, ProblemCode::Overloaded);
        waiting.pop();
        runtime().block_on(async {
            // The place comes back when its future is dropped.
            while manage.hand_over(async {}).is_err() {
                tokio::task::yield_now().await;
            }
        });
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn a_panic_is_an_answer() {
        let threads = ManageThreads::start().unwrap();
        let handed = threads.handle().hand_over(async { panic!("of the test") }).unwrap();
        let answer: Result<(), _> = runtime().block_on(handed);
        assert_eq!(answer.unwrap_err().code, ProblemCode::Internal);
        threads.stop(|| Duration::ZERO);
    }

    #[test]
    fn the_stop_waits_for_what_runs_in_the_background() {
        let threads = ManageThreads::start().unwrap();
        let (manage, go) = (threads.handle(), Arc::new(Notify::new()));
        let (done, finished) = oneshot::channel();
        let (background, waits) = (threads.background(), Arc::clone(&go));
        let handed = manage.hand_over(async move {
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
        // The client leaves, and the work goes on.
        drop(handed);
        go.notify_one();
        threads.stop(|| Duration::from_secs(20));
        assert_eq!(runtime().block_on(finished), Ok(()));
    }

    #[test]
    fn the_stop_waits_so_long_and_no_longer() {
        let threads = ManageThreads::start().unwrap();
        let background = threads.background();
        let entered = threads.runtime.enter();
        let hangs = background.spawn(std::future::pending::<()>());
        drop(entered);
        threads.stop(|| Duration::from_millis(1));
        assert!(runtime().block_on(hangs).unwrap_err().is_cancelled());
    }
}
