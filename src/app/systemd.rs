//! systemd: sockets that it passes, the ready notice, and its watchdog. Without systemd each function does nothing.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, after};
use listenfd::ListenFd;
use sd_notify::NotifyState;

use crate::handoff::CommitHandle;
use crate::limits::COMMIT_SILENCE_MAX;
use crate::runtime::Clock;

/// Takes the listening sockets of the socket unit (`LISTEN_FDS`). They stay open while the service restarts, so that no
/// connection is refused.
pub(super) fn sockets() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let sockets = (0..passed.len()).map(|at| passed.take_tcp_listener(at));
    sockets.filter_map(Result::transpose).collect()
}

/// Reports that the server accepts requests.
pub(super) fn ready() {
    notify(NotifyState::Ready);
}

/// Reports that the server stops.
pub(super) fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}

/// Starts the thread that feeds systemd's watchdog (`WatchdogSec`), if it is on.
pub(super) fn feed_watchdog(commit: CommitHandle, clock: Clock) -> io::Result<()> {
    let Some(interval) = sd_notify::watchdog_enabled() else { return Ok(()) };
    let pause = interval / 3;
    std::thread::Builder::new().name("sd-watchdog".into()).spawn(move || {
        let mut feeder = WatchdogFeeder { commit, clock, ping: None };
        // Ends with the process.
        loop {
            if feeder.is_alive(pause) {
                notify(NotifyState::Watchdog);
            }
        }
    })?;
    Ok(())
}

/// Asks the commit thread for signs of life. A full disk does not silence the thread, and a slow fsync silences it only
/// until the fsync ends.
struct WatchdogFeeder {
    commit: CommitHandle,
    clock: Clock,
    /// The request that is not answered yet, and when it was sent.
    ping: Option<(Receiver<()>, crate::runtime::Instant)>,
}

impl WatchdogFeeder {
    /// Waits for `pause`. Returns whether the commit thread answered, or has been silent for less than
    /// [`COMMIT_SILENCE_MAX`].
    fn is_alive(&mut self, pause: Duration) -> bool {
        let began = self.clock.instant();
        let (answer, since) = self.ping.take().unwrap_or_else(|| (self.commit.ping(), began));
        match answer.recv_timeout(pause) {
            Ok(()) => {
                let rest = pause.saturating_sub(self.clock.instant().duration_since(began));
                let _ = after(rest).recv();
                true
            }
            Err(RecvTimeoutError::Timeout) => {
                self.ping = Some((answer, since));
                self.clock.instant().duration_since(since) < COMMIT_SILENCE_MAX
            }
            // The thread has ended. A stop has a time limit of its own.
            Err(RecvTimeoutError::Disconnected) => {
                let _ = after(pause).recv();
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crossbeam_channel::bounded;

    use super::*;
    use crate::handoff::HandoverState;
    use crate::model::Timestamp;
    use crate::storage::Poison;

    #[test]
    fn only_a_long_silence_of_the_commit_thread_stops_the_feeding() {
        let (to, _submissions) = bounded(1);
        let (pings, pinged) = bounded(1);
        let commit = CommitHandle { to, pings, poison: Poison::default(), handover: Arc::<HandoverState>::default() };
        let clock = Clock::system(Timestamp::default());
        let mut feeder = WatchdogFeeder { commit, clock, ping: None };
        let pause = Duration::from_millis(5);
        assert!(feeder.is_alive(pause), "silent for a short time");
        let ping = pinged.recv().unwrap();
        assert!(feeder.is_alive(pause) && pinged.is_empty(), "it waits for the same answer");
        let (answer, since) = feeder.ping.take().unwrap();
        feeder.ping = Some((answer, since - COMMIT_SILENCE_MAX));
        assert!(!feeder.is_alive(pause), "silent for too long");
        ping.send(()).unwrap();
        assert!(feeder.is_alive(pause), "it answers again");
        assert!(feeder.ping.is_none());
        drop(pinged);
        assert!(!feeder.is_alive(pause), "it has ended");
    }
}
