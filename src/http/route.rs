//! The words in which the routes of the server are described. The table itself is `api::routes::ROUTES`.

use std::fmt;

use hyper::Method;

use crate::model::Role;

/// One operation: a method of a path. `F` is what handles the operations of the management.
#[derive(Debug, Clone, Copy)]
pub struct Route<F> {
    /// The method; a GET answers HEAD too.
    pub method: Verb,
    /// The path. A segment in braces is a value, whose form the [`Router`](super::Router) knows by its name.
    pub path: &'static str,
    /// Who may call it.
    pub needs: Needs,
    /// The listener that answers it, where management has one of its own.
    pub on: Listener,
    /// Its `operationId` in `docs/openapi.yaml`. An alias has that of the path it stands for.
    pub operation: &'static str,
    /// What answers it.
    pub handler: Handler<F>,
}

/// What answers a route.
#[derive(Debug, Clone, Copy)]
pub enum Handler<F> {
    /// Routes that are answered where the request arrives, each in its own way.
    Ingest(IngestRoute),
    /// Routes of the management: the caller is known and the body is complete before the handler runs.
    Management(F),
}

/// The routes that do not belong to the management.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestRoute {
    /// An application's events.
    Publish,
    /// A partner's event; the token names the partner.
    Partner,
    /// A provider's request, below the path too: what follows is the source's topic. The place is shared with webhooks,
    /// and what names no source may be one.
    Source,
    /// State of the parts.
    Health,
    /// Whether requests should be sent here.
    Ready,
    /// Whether the process runs.
    Live,
    /// Figures.
    Metrics,
    /// A document that everybody may read.
    Document,
}

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Everybody.
    Nothing,
    /// Who shows a source's token or signature.
    Source,
    /// Every role that may publish: all but the viewer.
    Publish,
    /// This role, or one above.
    Role(Role),
}

/// A listener, where there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// `server.listen`.
    Public,
    /// `server.admin_listen`.
    Admin,
    /// Each of them.
    Both,
}

/// A method that routes have.
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
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Get, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// The verb of a request: HEAD is answered like GET.
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
    /// Only reading.
    pub const GET: Self = Self::NONE.with(Verb::Get);
    /// Only POST.
    pub const POST: Self = Self::NONE.with(Verb::Post);
    /// Reading and POST.
    pub const GET_POST: Self = Self::GET.with(Verb::Post);
    /// Every method that some route has.
    pub const ALL: Self = Self::GET_POST.with(Verb::Put).with(Verb::Patch).with(Verb::Delete);

    /// These and one more.
    #[must_use]
    pub const fn with(self, verb: Verb) -> Self {
        Self(self.0 | 1 << verb as u8)
    }

    /// Whether the method is among them.
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

impl Needs {
    /// Whether a caller of this role may, as far as roles decide.
    pub fn permits(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Source => true,
            Self::Publish => role != Role::Viewer,
            Self::Role(least) => role >= least,
        }
    }
}

impl Listener {
    /// Whether what is on this listener is on that surface.
    pub fn is_on(self, surface: super::ListenerKind) -> bool {
        use super::ListenerKind;
        matches!(
            (self, surface),
            (_, ListenerKind::Whole)
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
        let may =
            |needs: Needs| [Role::Publisher, Role::Viewer, Role::Member, Role::Admin].map(|role| needs.permits(role));
        assert_eq!(may(Needs::Publish), [true, false, true, true]);
        assert_eq!(may(Needs::Role(Role::Viewer)), [false, true, true, true]);
        assert_eq!(may(Needs::Role(Role::Admin)), [false, false, false, true]);
    }
}
