//! Bounds of what users configure, and of what their configuration costs each request: keys and origins, secrets, rules,
//! filters, sources, profiles and event types.

use std::time::Duration;

use super::BODIES_IN_FLIGHT_BYTES;

// --- everywhere -----------------------------------------------------------------------------------------------------

/// Bytes of a configured URL. Common web servers accept this length.
pub const URL_BYTES_MAX: usize = 2_048;
/// Longest duration that a setting may have: ten years, which is effectively forever.
pub const SETTING_DURATION_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

// --- auth -----------------------------------------------------------------------------------------------------------

/// Allowed clock difference of the issuers of tokens.
pub const JWT_LEEWAY: Duration = Duration::from_secs(60);
/// Keys in `auth.jwks_file`. A token that names no key is tried with each key of its algorithm, so the number is small.
pub const JWKS_KEYS_MAX: usize = 16;
/// Bytes of `auth.jwks_file`. A key with its certificates has some KiB.
pub const JWKS_BYTES_MAX: u64 = 256 * 1024;
/// Bytes of a token that a source's sender adds to its requests. Tokens of Microsoft have about 2 KiB.
pub const JWT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the id of a published key.
pub const KEY_ID_BYTES_MAX: usize = 128;
/// Keys in a set that is fetched from a provider. Microsoft publishes about ten.
pub const FETCHED_KEYS_MAX: usize = 64;
/// Origins in `server.cors_origins`. The origin of each request is compared with all of them.
pub const CORS_ORIGINS_MAX: usize = 64;
/// Time that a browser may cache a CORS preflight response.
pub const CORS_MAX_AGE: Duration = Duration::from_secs(600);

// --- template: text with placeholders -------------------------------------------------------------------------------

/// Bytes of a template. The longest template of a known provider has about 400. Every text between placeholders stays
/// in memory.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Placeholders of a template and texts between them. Verification iterates over them for each request. The longest
/// template that a known provider signs has 15.
pub const TEMPLATE_PARTS_MAX: usize = 1_024;

// --- signature: what a request may make the server compute ----------------------------------------------------------

/// Signatures in one request that are compared. A sender includes one for each valid secret: two or three during a
/// rotation.
pub const SIGNATURES_MAX: usize = 8;
/// Headers that a request may list as signed (Contentful). Its own are fewer than ten; users may add some.
pub const SIGNED_HEADERS_MAX: usize = 64;
/// Minimum bytes of an HMAC key. A shorter key can be guessed.
pub const HMAC_KEY_BYTES_MIN: usize = 8;
/// Bytes of an HMAC key below which its owner gets a warning. (RFC 2104 recommends the length of the digest; few
/// providers comply.)
pub const HMAC_KEY_BYTES_RECOMMENDED: usize = 16;
/// Default tolerance for a signed time in seconds: five minutes, as the Standard Webhooks specification recommends.
pub const TOLERANCE_SECONDS_DEFAULT: u64 = 300;
/// Maximum tolerance for a signed time in seconds: a week, which is as long as the slowest provider retries.
pub const TOLERANCE_SECONDS_MAX: u64 = 7 * 24 * 3600;

// --- source: what the rules of a source may cost --------------------------------------------------------------------

/// Entries of a list in the short form of the rules.
pub const RULES_ENTRIES_MAX: usize = 256;
/// Bytes of a field path in the rules.
pub const RULES_PATH_BYTES_MAX: usize = 256;
/// Segments of a field path in the rules.
pub const RULES_PATH_SEGMENTS_MAX: usize = 16;
/// Bytes of a JSON Schema.
pub const SCHEMA_BYTES_MAX: usize = 64 * 1024;
/// Subschemas of a schema with all references expanded. References that multiply could make one validation run for
/// hours.
pub const SCHEMA_NODES_MAX: usize = 2_048;
/// Nesting depth of subschemas. Validation recurses to this depth.
pub const SCHEMA_DEPTH_MAX: usize = 64;
/// Bytes of one compiled regular expression of a schema.
pub const SCHEMA_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the table that makes a search for a regular expression of a schema fast. It is kept for each thread that
/// checks bodies.
pub const SCHEMA_PATTERN_CACHE_BYTES: usize = 64 * 1024;
/// Bytes of all compiled regular expressions of a schema together, about, with their tables. Enough for some 60
/// expressions without a small table of all states, and for hundreds of usual ones.
pub const SCHEMA_COMPILED_BYTES_MAX: usize = 8 << 20;
/// Subschemas multiplied by values of one validation: about a second in the worst case, in which each part of the schema
/// applies to each value.
pub const SCHEMA_WORK_MAX: usize = 20_000_000;
/// Bytes of memory that the parsed body may take, about. A body of short objects takes up to a hundred times its length.
pub const SCHEMA_TREE_BYTES_MAX: usize = BODIES_IN_FLIGHT_BYTES / 2;
/// Units of work (see [`FILTER_EVENT_WORK_MAX`]) of one of [`SCHEMA_WORK_MAX`]. Usually a part of the schema applies to
/// few values.
pub const SCHEMA_STEP_WORK: u64 = 4;
/// Bytes of the parsed body that cost a unit of work.
pub const SCHEMA_TREE_BYTES_PER_UNIT: usize = 16;
/// Units of work of a validation up to which it runs on the thread of the request. More work runs on another thread.
pub const SCHEMA_INLINE_WORK_MAX: u64 = 1_000_000;
/// Validations with more work that run at the same time. Further ones wait.
pub const SCHEMA_CHECKS_AT_ONCE: usize = 1;
/// Time that such a validation waits for its turn before its request gets a 503 response.
pub const SCHEMA_CHECK_WAIT: Duration = Duration::from_secs(2);
/// Work (see [`SCHEMA_WORK_MAX`]) up to which all violations are listed. With more work, the list itself could use more
/// memory than the body.
pub const SCHEMA_LIST_WORK_MAX: usize = 250_000;
/// Characters of the text of one violation.
pub const VIOLATION_CHARS_MAX: usize = 300;
/// Fields of a form. A field uses far more memory than the three bytes that it may have in a body.
pub const FORM_FIELDS_MAX: usize = 10_000;
/// Parts of a multipart form: fields and files. Mail providers send some tens.
pub const MULTIPART_PARTS_MAX: usize = 1_000;
/// Bytes of the head of a part of a multipart form.
pub const MULTIPART_HEAD_BYTES_MAX: usize = 8 * 1024;

// --- filter: what a filter may cost an event ------------------------------------------------------------------------

/// Nesting depth of condition groups. Deeper filters are not readable, and matching recurses to this depth.
pub const FILTER_DEPTH_MAX: usize = 8;
/// Rules of a filter, including fields and lists of ids.
pub const FILTER_RULES_MAX: usize = 100;
/// Values in all lists of a filter together.
pub const FILTER_VALUES_MAX: usize = 1_000;
/// Bytes of a text in a filter.
pub const FILTER_TEXT_BYTES_MAX: usize = 1_024;
/// Bytes of a field path.
pub const FILTER_PATH_BYTES_MAX: usize = 256;
/// Names in a field path.
pub const FILTER_PATH_SEGMENTS_MAX: usize = 16;
/// Rules of a filter with a regular expression. Each of them has its own memory.
pub const FILTER_PATTERNS_MAX: usize = 16;
/// Bytes of one compiled regular expression of a filter. A search takes in the worst case this number multiplied by the
/// length of the text. The bound is enough for four `\w`, which include all of Unicode, and for hundreds of ASCII
/// classes.
pub const FILTER_PATTERN_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the table that makes a regular expression search fast. Without enough room for the table the search is
/// slower, but correct.
pub const FILTER_PATTERN_CACHE_BYTES: usize = 256 * 1024;
/// Bytes of all such tables of a thread. The table that was not used for the longest time gives way.
pub const FILTER_SEARCH_BYTES_PER_THREAD: usize = 8 << 20;
/// Nesting depth of groups in a regular expression. The compiler recurses to this depth.
pub const FILTER_PATTERN_DEPTH_MAX: u32 = 32;
/// Bytes of the table of a regular expression that is searched with one step for each byte. An expression whose table
/// would be larger is searched with the general engine, and its work for each byte depends on its size.
pub const FILTER_PATTERN_TABLE_BYTES_MAX: usize = 64 * 1024;
/// Units of work for each byte that the general engine searches, in addition to the size of the expression: making one
/// state takes some 100 ns.
pub const FILTER_PATTERN_BASE_WORK: u32 = 32;
/// Units of work for each byte that a new regular expression may need. With this number, 5 KiB of text use up the work
/// of an event.
pub const FILTER_PATTERN_WORK_MAX: u32 = 1_024;
/// Bytes of memory of the webhooks, sources and event types of a tenant that the API made, about. Enough for 100,000
/// usual webhooks.
pub const TENANT_DEFINITIONS_BYTES_MAX: usize = 256 << 20;
/// Bytes of memory of all webhooks, sources and event types that the API made, about.
pub const DEFINITIONS_BYTES_MAX: usize = 1 << 30;
/// Bytes of memory of a webhook, a source or an event type with nothing in it, about.
pub const DEFINITION_BASE_BYTES: usize = 1_024;
/// Bytes of all compiled regular expressions of a new or changed webhook together, with its subscriptions. Enough for 64
/// expressions that are searched with the general engine, and for thousands of usual ones.
pub const WEBHOOK_COMPILED_BYTES_MAX: usize = 8 << 20;

/// Units of filter work of one event, for all webhooks together. A unit takes 2 ns on a fast processor and 4 ns on a
/// slow one, so the work of an event stays below 20 ms.
pub const FILTER_EVENT_WORK_MAX: u64 = 5_000_000;
/// Units of work that each webhook may use before the webhooks that need more are evaluated. Usual filters need far
/// less, so a costly filter of one webhook does not take the work of the others.
pub const FILTER_FIRST_WORK: u64 = 4_096;
/// Units of filter work of an event that are not charged to its tenant. Accepting an event costs more than this.
pub const FILTER_UNCHARGED_WORK: u64 = 4_096;
/// Units of filter work and of schema work that a tenant may use in each second: a tenth to a fifth of a core.
pub const TENANT_WORK_PER_SECOND: u64 = 50_000_000;
/// Units of such work that a tenant may use at once: 50 to 100 ms.
pub const TENANT_WORK_BURST: u64 = 25_000_000;
/// Units of work to compile a regular expression, which a filter test charges.
pub const FILTER_COMPILE_WORK: u64 = 500_000;
/// Units of work of a rule, without the bytes that it reads.
pub const FILTER_RULE_WORK: u64 = 8;
/// Units of work for each byte of an array whose elements a rule compares with its values.
pub const FILTER_ARRAY_BYTE_WORK: u64 = 8;
/// Bytes of an event's text that rules search. A search finds nothing in a longer text.
pub const FILTER_SEARCHED_BYTES_MAX: usize = 64 * 1024;
/// Names and elements of a payload whose positions are cached while its event is matched. More than the largest body
/// that an application's event may have by default. Each rule looks up the others again.
pub const DOCUMENT_MEMBERS_MAX: usize = 1_000_000;
/// Bytes that the filter test shows of a value found in the event.
pub const FILTER_TEST_VALUE_BYTES_MAX: usize = 1_024;

// --- sources: what a user may configure -----------------------------------------------------------------------------

/// Secrets of a source: one for each shop or account. Each secret has a key in memory.
pub const SOURCE_SECRETS_MAX: usize = 1_000;
/// Characters of a secret. The longest secrets are public keys and certificates.
pub const SOURCE_SECRET_CHARS_MAX: usize = 8 * 1024;
/// Characters of a secret below which it can be guessed. A source with a shorter secret is accepted with a warning,
/// because some providers let users choose the secret.
pub const SOURCE_SECRET_CHARS_RECOMMENDED: usize = 16;
/// Bytes of a file from which a secret is read.
pub const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;
/// Characters of a source's description.
pub const SOURCE_DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Default for the bytes of a request body of a source.
pub const SOURCE_BODY_BYTES_DEFAULT: usize = 10 << 20;
/// Maximum bytes of a request body that a source may allow. GitHub sends the largest bodies, up to 25 MB.
pub const SOURCE_BODY_BYTES_MAX: usize = 25 << 20;
/// Bytes of the response body that a source sends for each event.
pub const SOURCE_RESPOND_BYTES_MAX: usize = 1_024;
/// Bytes of a source option. The longest option is a certificate chain.
pub const SOURCE_OPTION_BYTES_MAX: usize = 64 * 1024;
/// Maximum tolerance for a signed time in seconds: a day, after which duplicates are not remembered either.
pub const SOURCE_TOLERANCE_MAX: u64 = 24 * 60 * 60;
/// Places of a request from which an id or a type is read.
pub const SOURCE_PLACES_MAX: usize = 8;
/// Rules of an event map. Stripe has about 300 event types.
pub const MAP_RULES_MAX: usize = 1_000;
/// Values and nested objects in the data of one event map rule.
pub const MAP_DATA_NODES_MAX: usize = 1_000;
/// Nesting depth of the data of one event map rule.
pub const MAP_DATA_DEPTH_MAX: usize = 16;
/// Bytes of the data that an event map rule builds. A rule that uses a large value many times could build far more data
/// than was sent.
pub const MAP_DATA_BYTES_MAX: usize = SOURCE_BODY_BYTES_MAX;
/// Times the bytes of its event that the data of a rule may have. A rule that uses each value twice needs two.
pub const MAP_DATA_GROWTH_MAX: usize = 4;
/// Bytes of data that a rule may build from the shortest event.
pub const MAP_DATA_BYTES_ALWAYS: usize = 64 * 1024;
/// Bytes of a value that a provider's handshake makes the server return. Anyone can send such a request, so the value
/// is short.
pub const HANDSHAKE_VALUE_BYTES_MAX: usize = 4 * 1024;

// --- webhooks: authentication at their endpoints --------------------------------------------------------------------

/// Characters of a username.
pub const AUTH_USERNAME_CHARS_MAX: usize = 256;
/// Characters of a password. Together with the username it makes a header of a few KiB at most.
pub const AUTH_PASSWORD_CHARS_MAX: usize = 1_024;
/// Characters of a token or of a header's value. The same as for any header of a webhook.
pub const AUTH_VALUE_CHARS_MAX: usize = 4_096;
/// Bytes of the certificates that a webhook trusts: about thirty certificates.
pub const TLS_CA_BYTES_MAX: usize = 48 * 1024;
/// Bytes of a client certificate with its chain, and bytes of its key. An RSA key of 4,096 bits has 3 KiB.
pub const TLS_CLIENT_BYTES_MAX: usize = 16 * 1024;

// --- profiles: what a user may configure ----------------------------------------------------------------------------

/// Profiles in the configuration. A profile is found by name among all of them.
pub const PROFILES_MAX: usize = 256;
/// Bytes of a profile's name. The same as for a source's name.
pub const PROFILE_NAME_BYTES_MAX: usize = 63;
/// Fields of an envelope. There are 14 values to put into fields.
pub const PROFILE_FIELDS_MAX: usize = 64;
/// Headers of a profile. The same as for the own headers of a webhook.
pub const PROFILE_HEADERS_MAX: usize = 32;
/// Bytes of a field's name, a header's template or a user agent. With all of them a request's head stays small.
pub const PROFILE_TEXT_BYTES_MAX: usize = 256;
/// Minimum characters of the secret of a profile with its own signing scheme. A shorter secret can be guessed.
pub const PROFILE_SECRET_CHARS_MIN: usize = 16;
/// Maximum characters of the secret of a profile with its own signing scheme. A private key on P-256 in PKCS #8 has
/// 189.
pub const PROFILE_SECRET_CHARS_MAX: usize = 256;

// --- catalogue: what a user may configure of event types ------------------------------------------------------------

/// Characters of a category: one or two words, by which lists are filtered.
pub const EVENT_TYPE_CATEGORY_CHARS_MAX: usize = 64;
/// Characters of an event type's description.
pub const EVENT_TYPE_DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Bytes of an example as JSON. A list page shows up to 250 examples.
pub const EVENT_TYPE_EXAMPLE_BYTES_MAX: usize = 16 * 1024;
/// Event types that a tenant creates by the API. Each change copies the tenant's list of pointers, and each schema is
/// compiled at startup. The largest provider has about 300 types.
pub const EVENT_TYPES_PER_TENANT_MAX: usize = 2_000;
/// Bytes of a file with event types or declared webhooks: thousands of them.
pub const DECLARED_FILE_BYTES_MAX: u64 = 16 << 20;

const _: () = assert!(PROFILE_TEXT_BYTES_MAX <= TEMPLATE_BYTES_MAX && PROFILE_TEXT_BYTES_MAX <= TEMPLATE_PARTS_MAX);
const _: () = assert!(TLS_CA_BYTES_MAX as u64 <= SECRET_FILE_BYTES_MAX && TLS_CLIENT_BYTES_MAX <= TLS_CA_BYTES_MAX);
const _: () = assert!(FILTER_EVENT_WORK_MAX <= TENANT_WORK_BURST && FILTER_FIRST_WORK <= FILTER_EVENT_WORK_MAX);
const _: () = assert!(SCHEMA_LIST_WORK_MAX <= SCHEMA_WORK_MAX && SCHEMA_NODES_MAX <= SCHEMA_LIST_WORK_MAX);
