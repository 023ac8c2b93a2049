//! The stage as a whole: the queue protocol against a model, and shards on a paused clock.

mod flow;
mod protocol;
mod settle;
