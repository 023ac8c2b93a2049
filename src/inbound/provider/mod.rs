//! The table of webhook providers: their signature schemes, event ids and types, deduplication, and handshakes that verify
//! the endpoint.
//!
//! Invariants: a provider that fits the model is an entry of `table.toml`, not code. A test checks every entry. This module
//! must never know sources, HTTP servers or the log.

mod guide;
mod handshake;
mod maps;
mod recipe;
mod samples;
mod table;

#[cfg(test)]
mod tests;

pub use guide::{FAMILIES, Family, guide_index, guide_page};
pub use handshake::{Handshake, HandshakeEffect, HandshakeResponse};
pub use maps::default_map;
pub use recipe::{DedupMode, DedupModeError, RawRecipe, Recipe};
pub use samples::{SamplePayload, sample_headers, samples};
pub use table::{recipe, recipes, search_words};
