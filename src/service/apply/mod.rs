//! apply: webhooks, their subscriptions and event types as a file declares them, made on a server.
//!
//! Promises: applying a file twice changes nothing the second time; nothing of a file with a fault is made, and each fault is
//! named by file, line and key; a secret stands in no file, no report and no log, but for one that is made, which is reported
//! once. Must never know: how the server is reached ([`Target`]: over HTTP by the command, in process by the server).
//!
//! ```text
//! file ──► Declared ──► plan: read each thing, have its change previewed ──► carry out ──► Report
//! ```
//!
//! A webhook that was made or changed by a file carries the file's `set` in its metadata, [`MARK`]: that is how pruning knows
//! whose it is.

mod engine;
mod file;
mod in_process;
mod subscriptions;
mod target;

#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use engine::{Options, apply};
pub use file::{Declared, Webhook};
pub use in_process::InProcess;
pub use target::{CallFailed, Document, Refusal, Target, TargetError};

/// The member of a webhook's metadata that says which set of declared webhooks it belongs to.
pub const MARK: &str = "hooktide.apply";

/// Something that is wrong with what a file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `webhooks.toml:12`
    pub place: String,
    /// `webhooks[0].url`; empty where it is the file itself.
    pub key: String,
    /// What is wrong and what is allowed; never a secret.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.place, self.problem),
            key => write!(f, "{}: {key}: {}", self.place, self.problem),
        }
    }
}

/// Why a file was not applied, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What it declares is refused; nothing that was found wrong was made.
    #[error("{}", lines(.0))]
    Faults(Vec<Fault>),
    /// The server cannot be reached, or answers what it should not.
    #[error(transparent)]
    Call(#[from] CallFailed),
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What became of everything that a file declares, in its order, and of what it declares no more.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each thing.
    pub items: Vec<Item>,
}

/// A thing and what became of it, or in a dry run what would.
#[derive(Debug)]
pub struct Item {
    /// `webhook` or `event type`.
    pub kind: &'static str,
    /// Its uid or name.
    pub name: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// See [`Item`].
#[derive(Debug)]
pub enum Outcome {
    /// It is new.
    Added {
        /// The secret that was made for it, told this once.
        secret: Option<String>,
    },
    /// It was otherwise.
    Changed(Vec<Difference>),
    /// It was so.
    Unchanged,
    /// The file declares it no more.
    Removed,
    /// The file declares it no more, and nobody asked for it to be removed.
    Left,
}

/// A field that is otherwise.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// Its name, such as `url` or `subscription record.updated`.
    pub field: String,
    /// What it was; `None`: nothing, or nobody's to read.
    pub from: Option<Value>,
    /// What it is.
    pub to: Option<Value>,
}

impl Report {
    /// How many things are added, changed, unchanged, removed and left.
    pub fn counts(&self) -> [usize; 5] {
        let mut counts = [0; 5];
        for item in &self.items {
            counts[match item.outcome {
                Outcome::Added { .. } => 0,
                Outcome::Changed(_) => 1,
                Outcome::Unchanged => 2,
                Outcome::Removed => 3,
                Outcome::Left => 4,
            }] += 1;
        }
        counts
    }
}
