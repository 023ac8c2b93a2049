//! signature: makes and checks signatures, the same scheme in both directions.
//!
//! Promises: a body is signed and checked byte for byte as it travels, in parts and without a copy; every signature
//! given is looked at, in constant time; a failure is named. Must never know: HTTP, webhooks, sources, who calls.
//!
//! [`standard`] is the Standard Webhooks specification, in code because each delivery of the default profile goes
//! through it. Schemes that are data (ten fields, DESIGN section 4) stand beside it as `scheme` and `builtin`.

pub mod standard;
