//! The states of the endpoints that are paused or failing, as the shards report them. state.redb has a row for each, so
//! that a restart does not forget a pause.
//!
//! The flush that writes an attempt also writes the pause that the attempt caused.

use std::collections::{BTreeSet, HashMap};

use crate::model::{EndpointState, WebhookNo};

/// The states of all endpoints that are paused or failing.
#[derive(Debug, Default)]
pub(super) struct EndpointStates {
    states: HashMap<WebhookNo, EndpointState>,
    dirty: BTreeSet<WebhookNo>,
}

impl EndpointStates {
    /// Starts with the rows of the store.
    pub(super) fn new(rows: impl IntoIterator<Item = (WebhookNo, EndpointState)>) -> Self {
        Self { states: rows.into_iter().collect(), dirty: BTreeSet::new() }
    }

    /// The webhooks that have a state.
    pub(super) fn webhooks(&self) -> impl Iterator<Item = WebhookNo> {
        self.states.keys().copied()
    }

    /// Stores the state of a webhook's endpoint. A clear state is removed.
    pub(super) fn set(&mut self, webhook: WebhookNo, state: &EndpointState) {
        if state.is_clear() {
            return self.remove(webhook);
        }
        self.states.insert(webhook, *state);
        self.dirty.insert(webhook);
    }

    /// Removes the state of a webhook's endpoint.
    pub(super) fn remove(&mut self, webhook: WebhookNo) {
        if self.states.remove(&webhook).is_some() {
            self.dirty.insert(webhook);
        }
    }

    /// Moves the changed states into a flush. `None` deletes a row.
    pub(super) fn take_changed(&mut self, changed: &mut Vec<(WebhookNo, Option<EndpointState>)>) {
        while let Some(webhook) = self.dirty.pop_first() {
            changed.push((webhook, self.states.get(&webhook).copied()));
        }
    }
}
