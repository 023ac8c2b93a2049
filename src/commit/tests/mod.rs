//! Tests of the log as a whole, on a simulated disk and on threads.

mod crash;
mod model;
mod threads;
pub(super) mod world;
