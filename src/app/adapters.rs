//! Builds the parts that answer requests: the service, the API, and the state that the listeners' workers share.

use std::sync::Arc;

use rustls::ClientConfig;

use super::delivery_backend::DeliveryAdapter;
use super::external_calls::NetworkCalls;
use super::server::SharedResources;
use super::statistics_backend::StatisticsAdapter;
use super::test_delivery::TestDeliverySender;
use crate::admit::{Admit, Management, ProcessHealth, RequestLimits, RuleCheckTurns};
use crate::api::{self, Api};
use crate::auth::SharedAccessRules;
use crate::bus::BusSettings;
use crate::commit;
use crate::config::Config;
use crate::handoff::CommitHandle;
use crate::http::{BodyBudget, ManagementRequest, ManagementThreads, Response, Router};
use crate::inbound::source::{RateLimiter, Rejections};
use crate::ingest::Ingest;
use crate::outbound::{Endpoint, SUBJECT_SCHEME, SharedEgressGuard};
use crate::registry::{self, Shared};
use crate::runtime::IngestPermits;
use crate::send::DnsResolver;
use crate::service::{self, Service, UrlProblem};
use crate::settle;

/// The running stages and other parts that the request handlers use.
pub(super) struct AdapterParts<'a> {
    pub(super) config: &'a Config,
    pub(super) resources: &'a SharedResources,
    pub(super) registry: &'a registry::RegistryThread,
    pub(super) state: &'a settle::SettleThread,
    pub(super) commit: &'a commit::CommitThreads,
    pub(super) health: &'a Arc<ProcessHealth>,
    pub(super) guard: &'a SharedEgressGuard,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) dns: DnsResolver,
    /// `None`: there is no event bus.
    pub(super) bus: Option<Arc<BusSettings>>,
    pub(super) tokens: &'a SharedAccessRules,
    pub(super) router: Arc<Router>,
    pub(super) manage: &'a ManagementThreads,
}

/// The parts that answer requests.
pub(super) struct RequestHandlers {
    /// The operations of the management API.
    pub(super) service: Arc<Service>,
    /// Submits operational events.
    pub(super) ingest: Ingest<Shared, CommitHandle>,
    /// The state that the workers of the listeners share.
    pub(super) admit: Arc<Admit<Shared, CommitHandle, ManagementApi>>,
}

/// Builds the request handlers on the running stages.
pub(super) fn build(parts: AdapterParts<'_>) -> RequestHandlers {
    let AdapterParts { config, resources, registry, commit, .. } = parts;
    let rejections = Arc::<Rejections>::default();
    let service = Arc::new(service(&parts, &rejections));
    let api = Api::new(Arc::clone(&service), Arc::clone(&parts.router), parts.manage.background());
    let ingest_permits = Arc::new(IngestPermits::new(config.dispatch.memory_bytes));
    let ingest =
        Ingest::new(Shared::clone(&registry.shared), commit.handle(), ingest_permits, Arc::clone(&resources.memory));
    let external_calls =
        NetworkCalls::new(parts.guard, parts.tls, parts.dns, registry.writer.clone(), resources.clock.clone());
    let admit = Admit {
        router: parts.router,
        access: Arc::clone(parts.tokens),
        registry: Shared::clone(&registry.shared),
        ingest: ingest.clone(),
        management: ManagementApi(Arc::new(api)),
        management_threads: parts.manage.handle(),
        health: Arc::clone(parts.health),
        bodies: BodyBudget::new(resources.clock.clone(), Arc::clone(&resources.metrics)),
        rule_checks: RuleCheckTurns::default(),
        clock: resources.clock.clone(),
        metrics: Arc::clone(&resources.metrics),
        limiter: RateLimiter::default(),
        rejections,
        external_calls: Arc::new(external_calls),
        limits: RequestLimits::of(config),
    };
    RequestHandlers { service, ingest, admit: Arc::new(admit) }
}

/// The problem with a `nats://` URL without an event bus.
const NO_BUS: &str = "a nats:// URL needs an event bus, and the configuration has none: set nats.url";

fn service(parts: &AdapterParts<'_>, rejections: &Arc<Rejections>) -> Service {
    let AdapterParts { config, resources, registry, state, .. } = parts;
    let (guard, bus) = (Arc::clone(parts.guard), parts.bus.clone());
    Service::new(service::ServiceParts {
        registry: Shared::clone(&registry.shared),
        writer: registry.writer.clone(),
        deliveries: Arc::new(DeliveryAdapter(state.records.clone())),
        statistics: Arc::new(StatisticsAdapter {
            records: state.records.clone(),
            metrics: Arc::clone(&resources.metrics),
        }),
        log: parts.commit.log(),
        has_bus: bus.is_some(),
        check_url: Box::new(move |url| match (url.starts_with(SUBJECT_SCHEME), &bus) {
            (false, _) => Endpoint::try_new(url, &guard.load())
                .map_err(|error| UrlProblem { egress: error.is_egress(), detail: error.to_string() }),
            (true, Some(bus)) => bus.endpoint(url).map_err(|detail| UrlProblem { egress: false, detail }),
            (true, None) => Err(UrlProblem { egress: false, detail: NO_BUS.to_owned() }),
        }),
        default_retry: config.delivery.retry_policy.clone(),
        rejections: Arc::clone(rejections),
        clock: resources.clock.clone(),
        test_sender: TestDeliverySender::new(&resources.shards, &resources.clock, &resources.memory),
    })
}

/// Passes management requests from admit to the API.
pub(super) struct ManagementApi(pub(super) Arc<Api>);

impl Management for ManagementApi {
    async fn handle(&self, call: ManagementRequest) -> Response {
        self.0.handle(call).await
    }

    fn document(&self, path: &str) -> Option<Response> {
        api::docs::response_for(path)
    }
}
