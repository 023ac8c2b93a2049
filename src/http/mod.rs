//! http: listeners, connections, request heads and bodies, routing, responses and problems.
//!
//! - The bytes, the time and the connections that one client can use are limited before its request is read.
//! - This folder must never know what an event is or what a handler does.
//!
//! Each worker is a thread with its own runtime. A connection stays on one worker, so requests take no lock. Requests
//! have no timers: a connection records what it waits for and since when, and its worker checks the limits of all
//! connections twice a second (`connection`).
//!
//! Only HTTP/1.1 is supported. Without TLS there is no negotiation of HTTP/2, and the proxies that terminate TLS in front of
//! a gateway use HTTP/1.1 to reach it.

pub mod body;
mod body_budget;
pub mod connection;
mod connection_slots;
pub mod cors;
pub mod incoming;
pub mod listener;
pub mod management;
pub mod management_request;
mod panic;
pub mod problem;
pub mod reply;
pub mod request;
pub mod route;
pub mod router;
mod socket;
pub mod upgrade;
pub mod upload;

pub use crate::model::FieldError;
pub use body::{Body, BodySender};
pub use body_budget::{BodyBudget, BodyOwner};
pub use listener::{BindError, ListenerKind, ListenerThreads, Listeners, PassedSockets, RequestHandler, Serve, bind};
pub use management::{BackgroundTasks, ManagementHandle, ManagementThreads};
pub use management_request::ManagementRequest;
pub use panic::catch_panic;
pub use problem::{Problem, ProblemCode};
pub use route::{Route, Verb, Verbs};
pub use router::{RouteTarget, Router};

#[cfg(test)]
mod tests;

/// An HTTP response.
pub type Response = hyper::Response<Body>;
