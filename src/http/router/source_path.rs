//! Paths that name a source, or contain the token of a partner.

use super::{RouteTarget, Router};
use crate::http::ListenerKind;

impl Router {
    /// The source or the partner that a path names, also if no request with this path or another method is accepted. `None`
    /// on the admin listener, which serves no sources.
    pub fn source_target<'p>(&self, path: &'p str, listener: ListenerKind) -> Option<RouteTarget<'p>> {
        if listener == ListenerKind::Admin { None } else { self.named_source(path) }
    }

    pub(super) fn named_source<'p>(&self, path: &'p str) -> Option<RouteTarget<'p>> {
        if let Some(rest) = path.strip_prefix(self.partners) {
            let token = rest.split('/').next().unwrap_or(rest);
            return (!token.is_empty()).then_some(RouteTarget::Partner(token));
        }
        let rest = path.strip_prefix(self.sources)?;
        let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
        let is_other = name.is_empty() || self.reserved_names.contains(&name);
        (!is_other).then_some(RouteTarget::Source { name, path })
    }
}
