//! signature: makes and verifies signatures. The same scheme works in both directions.
//!
//! Invariants:
//!
//! - A body is signed and verified byte for byte as sent, in parts and without a copy.
//! - Every signature of a request is compared, in constant time.
//! - Every failure has a reason.
//!
//! This folder must never know webhooks, sources or callers.
//!
//! A [`Scheme`] is data: the location of the signature, its encoding, the signed content and the kind of key.
//! [`standard`] implements the Standard Webhooks specification in code, because each delivery of the default profile
//! uses it. `code` contains the few schemes that cannot be described as data.

mod scheme;

mod check;
mod code;
mod encoding;
mod error;
mod jwk;
mod jwt;
mod key;
mod multipart;
mod outbound_scheme;
mod request_parts;
mod sign;
mod signed_content;
mod signing_key;
pub mod standard;
mod time;
mod value_location;
mod verify;

pub use code::{Certificate, CertificateError};
pub use error::VerifyError;
pub use jwk::{JwksError, KeySet};
pub use jwt::KeySetRequest;
pub use key::VerifyingKey;
pub use multipart::{MultipartError, MultipartField, is_multipart, multipart_fields};
pub use outbound_scheme::{OutboundKey, OutboundScheme, UnsignedDelivery};
pub use request_parts::RequestParts;
pub use scheme::{Scheme, SchemeError};
pub use sign::{OutgoingRequest, SignError};
pub use signing_key::{SigningKey, SigningKind};
pub use value_location::{AmbiguousHeader, ValueLocation, ValueLocationError};

pub use crate::model::{OneOrMany, RawJwt, RawScheme};

#[cfg(test)]
mod proptests;
#[cfg(test)]
mod tests;
