//! Tests of the whole log, on a simulated disk and with threads.

mod crash;
mod model;
mod threads;
pub(super) mod world;
