//! provider: the table of those who send webhooks, as data: how each signs, names and repeats what it sends, and how it asks
//! whether an address is ours.
//!
//! Promises: what fits the model is an entry of `table.toml`, not code; every entry is checked by a test. Must never know:
//! sources, HTTP servers, the log.

mod guide;
mod handshake;
mod maps;
mod recipe;
mod samples;
mod table;

#[cfg(test)]
mod tests;

pub use guide::{FAMILIES, Family, guide_index, guide_page};
pub use handshake::{Answer, Effect, Handshake};
pub use maps::default_map;
pub use recipe::{Dedup, DedupError, RawRecipe, Recipe};
pub use samples::{Sample, sample_headers, samples};
pub use table::{recipe, recipes};
