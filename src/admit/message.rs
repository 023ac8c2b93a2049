//! Messages of the event bus. A message is handled like a request of its source, except that the answer is an ack.

use std::pin::pin;

use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;

use super::inbound::{InboundRequest, content};
use super::publish::{refused, unavailable};
use super::refusal::InboundRefusal;
use super::{Admit, RegistryReader};
use crate::bus::{BusReceipt, InboundMessage, MessageFuture, MessageReceiver};
use crate::http::request::RequestHead;
use crate::http::{Problem, ProblemCode, catch_panic};
use crate::inbound::source::Source;
use crate::ingest::{IngestResult, Submit};
use crate::limits::BUS_RETRY_DELAY_MAX;
use crate::signature::RequestParts;

impl<D: RegistryReader, S: Submit, M: Send + Sync + 'static> MessageReceiver for Admit<D, S, M> {
    fn receive<'a>(&'a self, source: &'a Source, message: &'a InboundMessage) -> MessageFuture<'a> {
        Box::pin(async move {
            let mut request = http::Request::new(());
            *request.method_mut() = Method::POST;
            request.headers_mut().clone_from(&message.headers);
            let (parts, ()) = request.into_parts();
            let id = HeaderValue::from_str(&message.id).unwrap_or_else(|_| HeaderValue::from_static("message"));
            let head = RequestHead::of(&parts);
            let inbound = InboundRequest { head: &head, parts: &parts, id: &id, path: "", has_token: false };
            let count = |result: &str| self.metrics.inbound.with_label_values(&[&*source.name, result]).inc();
            let accepted = catch_panic(pin!(self.accept(source, inbound, &message.body))).await;
            let refusal = match accepted.map_err(InboundRefusal::from).flatten() {
                Ok(is_duplicate) => {
                    count(if is_duplicate { "duplicate" } else { "accepted" });
                    return BusReceipt::Accepted;
                }
                Err(refusal) => refusal,
            };
            let status = refusal.problem.code.status();
            if refusal.problem.code == ProblemCode::RateLimited {
                count("limited");
            } else if status.is_server_error() {
                count("error");
            } else {
                count("invalid");
                let name = format!("NATS {}", message.subject);
                self.list_refusal(inbound, source, &refusal, status, name, &message.body);
                return BusReceipt::Refused;
            }
            BusReceipt::Retry(refusal.problem.wait().unwrap_or(BUS_RETRY_DELAY_MAX))
        })
    }
}

impl<D: RegistryReader, S: Submit, M> Admit<D, S, M> {
    /// Accepts a message. Returns whether its event is a duplicate. The event is on the disk then.
    async fn accept(&self, source: &Source, inbound: InboundRequest<'_>, body: &Bytes) -> Result<bool, InboundRefusal> {
        if let Some(problem) = unavailable(&self.health) {
            return Err(problem.into());
        }
        if let Some(rate) = source.rate_limit {
            self.limiter.take(source.id, rate, self.clock.instant()).map_err(|wait| {
                Problem::new(ProblemCode::RateLimited, "this source sends too fast").retry_after(wait)
            })?;
        }
        if body.len() > source.max_body_bytes {
            let detail = format!("the message has {} bytes; allowed is {}", body.len(), source.max_body_bytes);
            return Err(Problem::new(ProblemCode::TooLarge, detail).into());
        }
        let _room = self.bodies.reserve(body.len())?;
        let content = source.content_kind(content(inbound.head)?, inbound.head.content_type());
        let request = RequestParts {
            method: inbound.parts.method.as_str(),
            url: &source.url,
            query: None,
            path: "",
            headers: &inbound.parts.headers,
            body,
        };
        let hops = inbound.head.hops()?;
        let intake = source.intake(&request, content, None, None)?;
        let _built = self.bodies.reserve(intake.built_bytes())?;
        if let Some(error) = &intake.map_error {
            self.metrics.map_failures.with_label_values(&[&*source.name]).inc();
            tracing::warn!(source = &*source.name, %error, "an event map could not be applied");
        }
        match self.submit_inbound(inbound, source, &intake, hops, body, None).await {
            IngestResult::Accepted { committed, .. } => Ok(committed.is_duplicate()),
            IngestResult::Refused(why) => Err(refused(why).into()),
        }
    }
}
