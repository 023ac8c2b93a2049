//! Names and kinds of sources that the code refers to.

/// The source name of events that a client publishes through the API.
pub const API_SOURCE: &str = "api";
/// The source name of operational events, which the gateway itself creates. No configured source may have this name.
pub const OPERATIONAL_SOURCE: &str = "hooktide";

/// Kinds of sources that do not belong to a provider.
pub mod kind {
    /// A partner, identified by a token in the URL.
    pub const PARTNER: &str = "partner";
    /// A sender whose signature scheme is part of the settings of the source.
    pub const CUSTOM: &str = "custom";
    /// A sender that sends a shared token.
    pub const TOKEN: &str = "token";
    /// A sender that sends a user name and a password (RFC 7617).
    pub const BASIC: &str = "basic";
    /// A sender whose requests are not verified.
    pub const NONE: &str = "none";
    /// The event bus, whose messages the source consumes. The source takes no requests.
    pub const NATS: &str = "nats";
    /// A sender that signs according to the Standard Webhooks specification.
    pub const STANDARD_WEBHOOKS: &str = "standard-webhooks";
}
