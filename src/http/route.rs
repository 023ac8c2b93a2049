//! The types that describe routes. The route table is `api::routes::ROUTES`.

use std::fmt;

use hyper::Method;

use crate::model::Role;

/// A route: a method of a path. `F` is the type of management handlers.
#[derive(Debug, Clone, Copy)]
pub struct Route<F> {
    /// The method. A GET route also answers HEAD.
    pub method: Verb,
    /// The path. A segment in braces is a value. The [`Router`](super::Router) validates it by its name.
    pub path: &'static str,
    /// The access that a caller needs.
    pub required_access: RequiredAccess,
    /// The listener that serves the route if there is a separate admin listener.
    pub listener: Listener,
    /// The `operationId` in `docs/openapi.yaml`. An alias has the `operationId` of its main path.
    pub operation: &'static str,
    /// The handler.
    pub handler: Handler<F>,
}

/// The handler of a route.
#[derive(Debug, Clone, Copy)]
pub enum Handler<F> {
    /// A route that the worker answers itself.
    Ingest(IngestRoute),
    /// A management route. The caller is authenticated and the body is complete before the handler runs.
    Management(F),
}

/// The routes that do not belong to the management API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestRoute {
    /// Receives events of an application.
    Publish,
    /// Receives an event of a partner. The token in the path identifies the partner.
    Partner,
    /// Receives a request of a provider. The rest of the path after the source is the topic. Webhooks have the same path
    /// prefix: a name that is not a source may be a webhook.
    Source,
    /// The state of the components.
    Health,
    /// Whether the server accepts requests.
    Ready,
    /// Whether the process runs.
    Live,
    /// Prometheus metrics.
    Metrics,
    /// A document that needs no authentication.
    Document,
}

/// The access that the caller of a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequiredAccess {
    /// The route is public.
    Anyone,
    /// A token or signature of a source.
    SourceCredentials,
    /// A role that may publish: every role but the viewer.
    Publish,
    /// This role or a higher one.
    Role(Role),
}

/// The listeners that serve a route if there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Admin,
    /// Both listeners.
    Both,
}

/// An HTTP method of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the methods of HTTP")]
pub enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    /// All methods.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The verb for the method of a request. HEAD maps to GET. `None` for methods that no route has.
    pub fn of(method: &Method) -> Option<Self> {
        Some(match *method {
            Method::GET | Method::HEAD => Self::Get,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => return None,
        })
    }

    /// The method's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A set of methods, as the `Allow` header shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verbs(u8);

impl Verbs {
    /// No method.
    pub const NONE: Self = Self(0);
    /// GET and HEAD.
    pub const GET: Self = Self::NONE.with(Verb::Get);
    /// Only POST.
    pub const POST: Self = Self::NONE.with(Verb::Post);
    /// GET, HEAD and POST.
    pub const GET_POST: Self = Self::GET.with(Verb::Post);
    /// All methods.
    pub const ALL: Self = Self::GET_POST.with(Verb::Put).with(Verb::Patch).with(Verb::Delete);

    /// This set with one more method.
    #[must_use]
    pub const fn with(self, verb: Verb) -> Self {
        Self(self.0 | 1 << verb as u8)
    }

    /// Whether the set contains the method.
    pub const fn has(self, verb: Verb) -> bool {
        self.0 & (1 << verb as u8) != 0
    }
}

impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for verb in Verb::ALL.into_iter().filter(|verb| self.has(*verb)) {
            write!(f, "{separator}{}", verb.as_str())?;
            if verb == Verb::Get {
                f.write_str(", HEAD")?;
            }
            separator = ", ";
        }
        Ok(())
    }
}

impl RequiredAccess {
    /// Whether a caller with this role has the access. Token and signature of a source are not checked here.
    pub fn permits(self, role: Role) -> bool {
        match self {
            Self::Anyone | Self::SourceCredentials => true,
            Self::Publish => role != Role::Viewer,
            Self::Role(least) => role >= least,
        }
    }
}

impl Listener {
    /// Whether a route of these listeners is served by the given listener.
    pub fn includes(self, listener: super::ListenerKind) -> bool {
        use super::ListenerKind;
        matches!(
            (self, listener),
            (_, ListenerKind::Combined)
                | (Self::Public | Self::Both, ListenerKind::Public)
                | (Self::Admin | Self::Both, ListenerKind::Admin)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_shown_in_one_order() {
        for (verbs, shown) in [
            (Verbs::NONE, ""),
            (Verbs::GET, "GET, HEAD"),
            (Verbs::POST, "POST"),
            (Verbs::GET_POST, "GET, HEAD, POST"),
            (Verbs::ALL, "GET, HEAD, POST, PUT, PATCH, DELETE"),
            (Verbs::NONE.with(Verb::Delete).with(Verb::Put), "PUT, DELETE"),
        ] {
            assert_eq!(verbs.to_string(), shown);
        }
    }

    #[test]
    fn a_viewer_may_not_publish_and_a_publisher_may_not_read() {
        let may = |required_access: RequiredAccess| {
            [Role::Publisher, Role::Viewer, Role::Member, Role::Admin].map(|role| required_access.permits(role))
        };
        assert_eq!(may(RequiredAccess::Publish), [true, false, true, true]);
        assert_eq!(may(RequiredAccess::Role(Role::Viewer)), [false, true, true, true]);
        assert_eq!(may(RequiredAccess::Role(Role::Admin)), [false, false, false, true]);
    }
}
