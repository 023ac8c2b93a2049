//! http: what several layers need of HTTP. Listeners and connections, request heads and bodies, responses and problems.
//!
//! Promises: what one client can cost in bytes, time and connections is bounded before its request is read. Must never
//! know: what an event is, or what a handler does.
//!
//! Each worker is a thread with its own runtime, and a connection lives on one worker, so the path of a request takes no
//! lock. No request has a timer of its own: a connection records what it waits for and since when, and the worker compares
//! all its connections with the limits twice a second (`connection`).
//!
//! HTTP/1.1 only: without TLS nothing negotiates HTTP/2, and the proxies that terminate TLS in front of a gateway speak
//! HTTP/1.1 to it.

pub mod body;
pub mod call;
pub mod connection;
pub mod cors;
pub mod incoming;
pub mod listener;
pub mod manage;
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
pub use call::Call;
pub use incoming::BodyRoom;
pub use listener::{BindError, ListenerKind, Listeners, Running, Serve, Worker, bind};
pub use manage::{Background, Manage, ManageThreads};
pub use problem::{Problem, ProblemCode};
pub use route::{Route, Verb, Verbs};
pub use router::{Router, Target};

#[cfg(test)]
mod tests;

/// A response.
pub type Response = hyper::Response<Body>;
