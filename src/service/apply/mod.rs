//! apply: creates and changes webhooks, their subscriptions and event types as a file declares them.
//!
//! Invariants:
//! - Applying the same file twice changes nothing the second time.
//! - A file with an error in its structure changes nothing. If the server refuses a webhook, no webhook is changed.
//!   Each error names file, line and key.
//! - A secret is in no file, report or log. The only exception is a secret that the server generates, which is reported
//!   once.
//!
//! This module must never know: how the server is reached. [`ApplyTarget`] hides it: the command uses HTTP, the server
//! calls its own service.
//!
//! ```text
//! file ──► DeclarationFile ──► plan: read each resource, preview its change ──► apply plan ──► ApplyReport
//! ```
//!
//! A webhook that a file created or changed has the file's `set` in its metadata, under [`SET_METADATA_KEY`]. Pruning
//! deletes only webhooks of the same set.

mod engine;
mod file;
mod in_process;
mod subscriptions;
mod target;

#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

pub use engine::{ApplyOptions, apply};
pub use file::{DeclarationFile, DeclaredWebhook};
pub use in_process::InProcessTarget;
pub use target::{ApplyTarget, JsonObject, TargetCallFailed, TargetError, TargetRefusal};

/// The key in a webhook's metadata that holds the `set` of the file that declares the webhook.
pub const SET_METADATA_KEY: &str = "hooktide.apply";

/// An error in a declaration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclarationError {
    /// File and line, such as `webhooks.toml:12`.
    pub location: String,
    /// The key, such as `webhooks[0].url`; empty if the error concerns the file itself.
    pub key: String,
    /// What is wrong and what is allowed. It never contains a secret.
    pub problem: String,
}

impl fmt::Display for DeclarationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.location, self.problem),
            key => write!(f, "{}: {key}: {}", self.location, self.problem),
        }
    }
}

/// Why a file was not applied, or only partially applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The declarations are invalid or refused. None of the invalid resources was created.
    #[error("{}", lines(.0))]
    Invalid(Vec<DeclarationError>),
    /// The server cannot be reached, or its response is unexpected.
    #[error(transparent)]
    Call(#[from] TargetCallFailed),
}

fn lines(errors: &[DeclarationError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The outcomes of an apply: one for each declared resource, in the order of the file, then one for each webhook that
/// the file no longer declares.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// One item for each resource.
    pub items: Vec<ApplyItem>,
}

/// A resource and its outcome. In a dry run the outcome is what would happen.
#[derive(Debug)]
pub struct ApplyItem {
    /// `webhook` or `event type`.
    pub kind: &'static str,
    /// The uid of a webhook, or the name of an event type.
    pub name: String,
    /// What happened to the resource.
    pub outcome: ApplyOutcome,
}

/// What happened to a resource, or in a dry run what would happen.
#[derive(Debug)]
pub enum ApplyOutcome {
    /// The resource was created.
    Added {
        /// The secret that the server generated. It is returned only here.
        secret: Option<String>,
    },
    /// The resource was changed in these fields.
    Changed(Vec<Difference>),
    /// The resource was already as declared.
    Unchanged,
    /// The file no longer declares the resource, and it was deleted.
    Removed,
    /// The file no longer declares the resource. It was kept, because pruning was not requested.
    NotPruned,
}

/// A field that differs from the declaration.
#[derive(Debug, PartialEq)]
pub struct Difference {
    /// The name of the field, such as `url` or `subscription record.updated`.
    pub field: String,
    /// The value before the change; `None` if there was none or if it is secret.
    pub from: Option<Value>,
    /// The value after the change; `None` if there is none or if it is secret.
    pub to: Option<Value>,
}

impl ApplyReport {
    /// The number of resources that were added, changed, unchanged, removed and not pruned, in this order.
    pub fn counts(&self) -> [usize; 5] {
        let mut counts = [0; 5];
        for item in &self.items {
            counts[match item.outcome {
                ApplyOutcome::Added { .. } => 0,
                ApplyOutcome::Changed(_) => 1,
                ApplyOutcome::Unchanged => 2,
                ApplyOutcome::Removed => 3,
                ApplyOutcome::NotPruned => 4,
            }] += 1;
        }
        counts
    }
}
