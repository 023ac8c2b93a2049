//! Names of sources and kinds of sources that the code itself refers to.

/// The source of events that a client publishes through the API.
pub const API_SOURCE: &str = "api";
/// The source of the gateway's own events. No configured source may have this name.
pub const OWN_SOURCE: &str = "hooktide";

/// Kinds of sources that belong to no provider.
pub mod kind {
    /// A partner, who is known by a token in the URL.
    pub const PARTNER: &str = "partner";
    /// A sender whose verification is written out in the source's settings.
    pub const CUSTOM: &str = "custom";
    /// A sender who sends a shared token.
    pub const TOKEN: &str = "token";
    /// A sender who sends a name and a password (RFC 7617).
    pub const BASIC: &str = "basic";
    /// A sender who is not verified.
    pub const NONE: &str = "none";
    /// A sender who signs by the Standard Webhooks specification.
    pub const STANDARD_WEBHOOKS: &str = "standard-webhooks";
}
