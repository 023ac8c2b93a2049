//! signature: makes and checks signatures, the same scheme in both directions.
//!
//! Promises: a body is signed and checked byte for byte as it travels, in parts and without a copy; every signature
//! given is looked at, in constant time; a failure is named. Must never know: webhooks, sources, who calls.
//!
//! A [`Scheme`] is data: where the signature stands, how it is encoded, what is signed, by which key. [`standard`] is the
//! Standard Webhooks specification in code, because each delivery of the default profile goes through it; `code` holds the
//! few schemes that no data says.

mod scheme;

mod check;
mod code;
mod encoding;
mod error;
mod key;
mod outbound;
mod place;
mod request;
mod sign;
mod signing_key;
pub mod standard;
mod template;
mod time;
mod verify;

pub use code::{Certificate, CertificateError};
pub use error::VerifyError;
pub use key::Key;
pub use outbound::{Outbound, OutboundKey, ToSign};
pub use place::{Ambiguous, Place, PlaceError};
pub use request::Request;
pub use scheme::{Scheme, SchemeError};
pub use sign::{Outgoing, SignError};
pub use signing_key::{SigningKey, SigningKind};

pub use crate::model::{OneOrMany, RawScheme};

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
