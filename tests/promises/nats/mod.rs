//! The event bus: webhooks publish to NATS JetStream, with the server that `./test` installs.

mod broker;
mod consume;
mod faults;
mod publish;
mod rights;
