//! No acknowledged event is lost in a crash, and no event is stored twice. After a crash, only deliveries whose outcome
//! was not yet recorded are repeated.

use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::load::{CONNECTIONS, LoadedServer, RATE, RepeatedEvents};
use crate::support::scaled;

#[test]
fn kill_9_under_load_loses_nothing_acknowledged() {
    let kills = scaled(25);
    let mut load = LoadedServer::start(&[]);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(random.u64(150..900)));
        load.server.restart(Signal::SIGKILL);
        load.redirect();
    }
    let result = load.finish();
    assert!(result.acknowledged > kills * 10, "the load was too small to tell anything: {}", result.acknowledged);
    // A healthy webhook receives a delivery twice if the server died between the attempt and the record of its outcome.
    // That is about one second of deliveries.
    let bound = kills * (RATE + CONNECTIONS) as usize;
    assert!(result.repeated <= bound, "{} delivered again after {kills} kills, more than {bound}", result.repeated);
    println!("{} acknowledged, 0 lost, {} delivered again over {kills} kills", result.acknowledged, result.repeated);
}

#[test]
fn an_event_that_is_sent_again_and_again_is_stored_once_over_kills() {
    let kills = scaled(4);
    let mut load = RepeatedEvents::start();
    for _ in 0..kills {
        thread::sleep(Duration::from_millis(400));
        load.server.restart(Signal::SIGKILL);
        load.redirect();
    }
    thread::sleep(Duration::from_millis(400));
    let acknowledged = load.finish();
    assert!(acknowledged > kills * 10, "the load was too small to tell anything: {acknowledged}");
    println!("{acknowledged} requests over {kills} kills made one event for each id");
}
