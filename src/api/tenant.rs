//! Tenants: list, make.

use hyper::StatusCode;
use serde::Serialize;
use serde_json::Value;

use super::page::Query;
use super::source_body::text;
use super::webhook::tenant_of;
use super::webhook_fields::Fields;
use super::webhook_view::Policy;
use super::{Api, Call, body, reply};
use crate::http::{Problem, ProblemCode, Response};
use crate::model::path::TENANTS;
use crate::model::{RetryOn, TENANT_NAME_ALLOWED, TenantSettings, Timestamp, Visibility, is_tenant_name};
use crate::outbound::profile::Profiles;
use crate::registry::TenantInfo;

const ALLOWED: &str = "name, profile, retry_policy, visibility";

#[derive(Serialize)]
struct View<'a> {
    name: &'a str,
    /// Absent: `standard`.
    profile: Option<&'a str>,
    /// Absent: the configured one.
    retry_policy: Option<Policy<'a>>,
    visibility: Visibility,
    managed_by: &'static str,
    /// Absent of one that came into being because something is its.
    created_at: Option<Timestamp>,
}

impl<'a> View<'a> {
    fn of(tenant: &'a TenantInfo) -> Self {
        Self {
            name: &tenant.name,
            profile: tenant.settings.profile.as_deref(),
            retry_policy: tenant.settings.retry_policy.as_ref().map(|policy| Policy(policy, RetryOn::ALL)),
            visibility: tenant.settings.visibility,
            managed_by: if tenant.is_of_file { "file" } else { "api" },
            created_at: tenant.created_at,
        }
    }
}

impl Api {
    pub(super) async fn create_tenant(&self, call: &Call) -> Result<Response, Problem> {
        if call.principal.tenant.is_some() {
            return Err(Problem::new(ProblemCode::Forbidden, "only a key of tenant * may make tenants"));
        }
        let mut fields = Fields::new(body::object(&call.parts.headers, &call.body, false)?);
        let (name, settings) = new_tenant(&mut fields, self.registry.load().profiles());
        fields.finish(ALLOWED)?;
        let writer = self.writer.by(&call.principal);
        let make = async move {
            let tenant = writer.create_tenant(&name, settings).await?;
            Ok(reply::made(StatusCode::CREATED, TENANTS, &View::of(&tenant))?.into())
        };
        self.make(call, make).await
    }

    /// In the order of their names: all for a key of tenant `*`, else the caller's own.
    pub(super) fn list_tenants(&self, call: &Call) -> Result<Response, Problem> {
        let query = Query::of(&call.parts.uri);
        let page = query.page()?;
        let only = tenant_of(&call.principal, &query)?;
        let after = query.cursor::<String>()?;
        let tenants = self.registry.load().tenants(only);
        let wanted = tenants.iter().filter(|tenant| after.as_deref().is_none_or(|after| &*tenant.name > after));
        let (rows, more) = page.cut(wanted.take(page.wanted()).collect());
        let next = rows.last().filter(|_| more).map(|tenant| query.next(&tenant.name));
        let rows: Vec<_> = rows.into_iter().map(View::of).collect();
        reply::list(&rows, next.as_ref())
    }
}

fn new_tenant(fields: &mut Fields, profiles: &Profiles) -> (String, TenantSettings) {
    let name = text(fields, "name").unwrap_or_default();
    if !is_tenant_name(&name) {
        fields.wrong("/name", format!("expected {TENANT_NAME_ALLOWED}"));
    }
    let profile = text(fields, "profile").map(String::into_boxed_str);
    if profile.as_deref().is_some_and(|name| profiles.get(name).is_none()) {
        let names = profiles.names().collect::<Vec<_>>().join(", ");
        fields.wrong("/profile", format!("is no profile; there are: {names}"));
    }
    let visibility = match fields.left.remove("visibility") {
        None | Some(Value::Null) => Visibility::default(),
        Some(value) => serde_json::from_value(value).unwrap_or_else(|_| {
            fields.wrong("/visibility", "expected tenant or owner");
            Visibility::default()
        }),
    };
    let retry_policy = fields.retry_policy(None).value().and_then(|retry| retry.policy);
    (name, TenantSettings { profile, retry_policy, visibility })
}
