//! json: where a value stands in a body, without a tree of the body.
//!
//! Promises: nothing is built in memory but what is asked for; of a name that is there twice the last one counts, here as in
//! every other reader of this program. Must never know: what the values mean.

mod depth;
mod pointer;

pub use depth::is_deeper;
pub use pointer::{Found, Pointer, PointerError, PointerSet};
