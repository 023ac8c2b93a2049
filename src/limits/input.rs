//! Bounds of what a person may write, and of what it then costs each request: keys and sites, secrets, rules, filters,
//! sources, profiles and event types.

use std::time::Duration;

// --- everywhere -----------------------------------------------------------------------------------------------------

/// Bytes of a URL that a person writes: what the servers of the world take.
pub const URL_BYTES_MAX: usize = 2_048;
/// The longest time that a setting may ask for: in effect for ever.
pub const SPAN_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

// --- auth ------------------------------------------------------------------------------------------------------------

/// How far the clocks of those who sign tokens may be off.
pub const JWT_LEEWAY: Duration = Duration::from_secs(60);
/// Keys of `auth.jwks_file`: a token that names none is tried with each of its algorithm, so they are few.
pub const JWKS_KEYS_MAX: usize = 16;
/// Bytes of that file; keys with their certificates have some KiB each.
pub const JWKS_BYTES_MAX: u64 = 256 * 1024;
/// Sites of `server.cors_origins`: each request's is compared with them one by one.
pub const CORS_ORIGINS_MAX: usize = 64;
/// How long a browser may remember that a site may ask.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(600);

// --- template: text with placeholders ---------------------------------------------------------------------------------

/// Bytes of a template. The longest of a known provider has some 400; every text between placeholders stays in memory.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Placeholders of a template and the texts between them: verification walks over them for each request. The most that a
/// known provider signs is 15.
pub const TEMPLATE_PARTS_MAX: usize = 1_024;

// --- signature: what a request may make us compute ------------------------------------------------------------------

/// Signatures in one request that are compared: a sender gives one for each secret in force, two or three while it rolls.
pub const SIGNATURES_MAX: usize = 8;
/// Bytes of an HMAC key below which anybody guesses it.
pub const HMAC_KEY_BYTES_MIN: usize = 8;
/// Bytes of an HMAC key below which its owner is warned (RFC 2104 asks for as many as the digest has; few providers do).
pub const HMAC_KEY_BYTES_WANTED: usize = 16;
/// How far a signed time may be off unless a source says otherwise: five minutes, as the Standard Webhooks specification asks.
pub const TOLERANCE_SECONDS_DEFAULT: u64 = 300;
/// The most that a signed time may be allowed to be off: a week, as long as the slowest provider repeats.
pub const TOLERANCE_SECONDS_MAX: u64 = 7 * 24 * 3600;

// --- source: what the rules of a partner may cost ------------------------------------------------------------------

/// Entries of a list in the short form of the rules.
pub const RULES_ENTRIES_MAX: usize = 256;
/// Bytes of a field's path in the rules.
pub const RULES_PATH_BYTES_MAX: usize = 256;
/// Parts of such a path.
pub const RULES_PATH_SEGMENTS_MAX: usize = 16;
/// Bytes of a JSON Schema.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Schemas in a schema with every reference written out: references that multiply would let one check run for hours.
pub const SCHEMA_NODES_MAX: usize = 2_048;
/// How deep they lie: the check recurses as deep.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Bytes that an expression of a schema may take compiled.
pub const SCHEMA_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Schemas times values of one check: about a second at worst. A schema of 50 parts takes a body of 10 MiB.
pub const SCHEMA_WORK_MAX: usize = 20_000_000;
/// Up to so much work all breaches are listed; beyond, the list itself could take more memory than the body.
pub const SCHEMA_LIST_WORK_MAX: usize = 250_000;
/// Characters of one breach's words.
pub const BREACH_CHARS_MAX: usize = 300;
/// Fields of a form: each costs far more memory than the three bytes it may take in a body.
pub const FORM_FIELDS_MAX: usize = 10_000;

// --- filter: what one may cost an event ----------------------------------------------------------------------------

/// Groups within groups of conditions: nobody reads more, and matching recurses as deep.
pub const FILTER_DEPTH_MAX: usize = 8;
/// Rules of a filter, fields and lists of ids included.
pub const FILTER_RULES_MAX: usize = 100;
/// Values in the lists of a filter, all together.
pub const FILTER_VALUES_MAX: usize = 1_000;
/// Bytes of a text in a filter.
pub const FILTER_TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a field's path.
pub const FILTER_PATH_BYTES_MAX: usize = 256;
/// Names in such a path.
pub const FILTER_PATH_STEPS_MAX: usize = 16;
/// Rules of a filter with a regular expression: each has memory of its own.
pub const FILTER_PATTERNS_MAX: usize = 16;
/// Bytes that such an expression may take compiled: a search takes at worst this times the text. It has room for `\w`,
/// which knows all of Unicode, four times, and for a class of ASCII hundreds of times.
pub const FILTER_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the table that makes a search fast; without room for it the search is slower, not wrong.
pub const FILTER_PATTERN_CACHE_BYTES: usize = 256 * 1024;
/// Groups within groups of an expression: the compiler recurses as deep.
pub const FILTER_PATTERN_DEPTH_MAX: u32 = 32;
/// Bytes of a text of an event that rules search; in a longer one nothing is found.
pub const FILTER_SEARCHED_BYTES_MAX: usize = 64 * 1024;
/// Names and elements of a payload whose places are remembered while its event is matched: more than the largest body of an
/// application's event has by default. What is beyond is looked up anew by each rule.
pub const DOCUMENT_MEMBERS_MAX: usize = 1_000_000;
/// Bytes of a found value that the test of a filter shows.
pub const FILTER_SHOWN_BYTES_MAX: usize = 1_024;

// --- sources: what a person may write of one -----------------------------------------------------------------------

/// Secrets of a source: one for each shop or account, each with a key in memory.
pub const SOURCE_SECRETS_MAX: usize = 1_000;
/// Characters of a secret: the longest are public keys and certificates.
pub const SOURCE_SECRET_CHARS_MAX: usize = 8 * 1024;
/// A secret of fewer characters can be guessed: the source is taken, with a warning, because some providers let a person
/// choose it.
pub const SOURCE_SECRET_CHARS_GOOD: usize = 16;
/// Bytes of a file that a secret is read from.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a description.
pub const SOURCE_DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Bytes of a body when a source does not say.
pub const SOURCE_BODY_BYTES_DEFAULT: usize = 10 << 20;
/// Bytes of a body that a source may allow: GitHub, the largest, sends up to 25 MB.
pub const SOURCE_BODY_BYTES_MAX: usize = 25 << 20;
/// Bytes of an answer that a source gives to each event.
pub const SOURCE_RESPOND_BYTES_MAX: usize = 1_024;
/// Bytes of an option: the longest is a certificate chain.
pub const SOURCE_OPTION_BYTES_MAX: usize = 64 * 1024;
/// The most that a signed time may be off, in seconds: a day, after which no duplicate is remembered either.
pub const SOURCE_TOLERANCE_MAX: u64 = 24 * 60 * 60;
/// Places that an id or a type is read from.
pub const SOURCE_PLACES_MAX: usize = 8;
/// Rules of an event map; Stripe has some 300 event types.
pub const MAP_RULES_MAX: usize = 1_000;
/// Values and nested objects in one rule's data.
pub const MAP_NODES_MAX: usize = 1_000;
/// Depth of one rule's data.
pub const MAP_DEPTH_MAX: usize = 16;
/// Bytes of the data that a rule builds: a rule that takes a large value many times would make far more than was sent.
pub const MAP_DATA_BYTES_MAX: usize = SOURCE_BODY_BYTES_MAX;
/// Bytes of a value that a provider's handshake has us give back; a stranger can ask for it, so it is short.
pub const HANDSHAKE_VALUE_BYTES_MAX: usize = 4 * 1024;

// --- webhooks: how their endpoints know us ---------------------------------------------------------------------------

/// Characters of a username.
pub const AUTH_USERNAME_CHARS_MAX: usize = 256;
/// Characters of a password: with the username it makes a header of some KiB at the most.
pub const AUTH_PASSWORD_CHARS_MAX: usize = 1_024;
/// Characters of a token, or of the value of a header: as many as any header of a webhook has.
pub const AUTH_VALUE_CHARS_MAX: usize = 4_096;
/// Bytes of the certificates that a webhook trusts: some thirty.
pub const TLS_CA_BYTES_MAX: usize = 48 * 1024;
/// Bytes of a client's certificate with those that lead to its authority, and of its key: RSA of 4,096 bits has 3 KiB.
pub const TLS_CLIENT_BYTES_MAX: usize = 16 * 1024;

// --- profiles: what a person may write of one ----------------------------------------------------------------------

/// Profiles of the configuration: each is looked for by name among all.
pub const PROFILES_MAX: usize = 256;
/// Bytes of a profile's name, as of a source's.
pub const PROFILE_NAME_BYTES_MAX: usize = 63;
/// Fields of an envelope; there are 14 values to put there.
pub const PROFILE_FIELDS_MAX: usize = 64;
/// Headers of a profile, as many as a webhook may have of its own.
pub const PROFILE_HEADERS_MAX: usize = 32;
/// Bytes of a field's name, a header's template or a user agent: with all of them a request's head stays small.
pub const PROFILE_TEXT_BYTES_MAX: usize = 256;
/// Characters of the secret of a profile with a scheme of its own: fewer can be guessed …
pub const PROFILE_SECRET_CHARS_MIN: usize = 16;
/// … and a private key on P-256 in PKCS #8 has 189.
pub const PROFILE_SECRET_CHARS_MAX: usize = 256;

// --- catalogue: what a person may write of event types ---------------------------------------------------------------

/// Characters of a category: a word or two, by which lists are narrowed.
pub const EVENT_TYPE_CATEGORY_CHARS_MAX: usize = 64;
/// Characters of a description.
pub const EVENT_TYPE_DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Bytes of an example as JSON: a page of a list shows up to 250 of them.
pub const EVENT_TYPE_EXAMPLE_BYTES_MAX: usize = 16 * 1024;
/// Types that a tenant makes through the interface: each change copies the tenant's list of pointers, and each schema is
/// compiled at start. The largest provider has some 300.
pub const EVENT_TYPES_PER_TENANT_MAX: usize = 2_000;
/// Bytes of a file of event types or of declared webhooks: thousands of them.
pub const DECLARED_FILE_BYTES_MAX: u64 = 16 << 20;

const _: () = assert!(PROFILE_TEXT_BYTES_MAX <= TEMPLATE_BYTES_MAX && PROFILE_TEXT_BYTES_MAX <= TEMPLATE_PARTS_MAX);
const _: () = assert!(TLS_CA_BYTES_MAX as u64 <= SECRET_FILE_BYTES_MAX && TLS_CLIENT_BYTES_MAX <= TLS_CA_BYTES_MAX);
const _: () = assert!(SCHEMA_LIST_WORK_MAX <= SCHEMA_WORK_MAX && SCHEMA_NODES_MAX <= SCHEMA_LIST_WORK_MAX);
