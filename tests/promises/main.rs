//! Tests the promises of Hooktide on the real binary over real sockets, one module per promise.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says so by failing")]
#![expect(clippy::disallowed_methods, reason = "these tests wait for another process, on the real clock")]
#![expect(clippy::needless_pass_by_value, clippy::format_push_string, reason = "brevity; nothing here is hot")]
#![expect(unreachable_pub, clippy::print_stdout, reason = "a test binary has no interface")]

mod load;
mod support;

mod accept;
mod access;
mod backlog;
mod configure;
mod contract;
mod crash;
mod declare;
mod deliver;
mod dialects;
mod disk;
mod drain;
mod egress;
mod endpoint_auth;
mod endpoint_pause;
mod etags;
mod filters;
mod folders;
mod fuzz;
mod handshakes;
mod hostile;
mod hostile_connections;
mod hostile_dns;
mod hostile_filters;
mod hostile_idempotency;
mod hostile_lists;
mod hostile_rules;
mod hostile_stall;
mod isolation;
mod json;
mod listen;
mod malformed;
mod nats;
mod openapi;
mod operational;
mod order;
mod profiles;
mod provider_requests;
mod providers;
mod recover;
mod refusals;
mod rejections;
mod retry;
mod scale;
mod secrecy;
mod systemd;
mod tidy;
mod timing;
mod tokens;
