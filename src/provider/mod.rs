//! provider: the table of those who send webhooks, as data: how each signs, names and repeats what it sends, and how it asks
//! whether an address is ours.
//!
//! Promises: what fits the model is an entry of `table.toml`, not code; every entry is checked by a test. Must never know:
//! sources, HTTP servers, the log.

mod handshake;
mod recipe;
mod samples;

pub use handshake::{Answer, Effect, Handshake};
pub use recipe::{Dedup, RawRecipe, Recipe, recipe, recipes};
pub use samples::{Sample, sample_headers, samples};
