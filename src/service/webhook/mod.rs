//! Webhooks: how their settings are read from a document.

pub(crate) mod policy;
