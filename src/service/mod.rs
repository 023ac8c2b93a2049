//! service: the typed operations of the management, without HTTP.

pub mod apply;
