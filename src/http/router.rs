//! Finds the route of a request by its method and path. The router is compiled once from the route table.
//!
//! A request is matched in two steps. [`Router::target`] runs on the worker that receives the request, and finds the
//! routes that the worker answers itself. It allocates nothing, and it compares with the path of events first. All other
//! paths belong to the management API. [`Router::management`] matches their templates segment by segment, after the
//! caller is authenticated and the body is complete.
//!
//! Paths are matched as received, without decoding and without resolving dots, so that no alternative spelling bypasses a
//! check. Only management paths decode `%3A` and `%40`, because ids of resources may contain these characters.

mod source_path;

use hyper::Method;
use smallvec::SmallVec;

use super::route::{Handler, IngestRoute, Listener, RequiredAccess, Route, Verb, Verbs};
use super::{ListenerKind, Problem, ProblemCode};
use crate::model::Role;

/// The path prefix of the management API.
const MANAGEMENT: &str = "/api/v1/";
/// The path prefixes of documents. They include documents without a row in the table, such as the style sheet.
const DOCUMENTS: [&str; 2] = ["/openapi.", "/docs/"];
/// The prefix of webhook ids.
const WEBHOOK_PREFIX: &str = "wh_";

/// The destination of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteTarget<'p> {
    /// [`IngestRoute::Publish`].
    Publish,
    /// [`IngestRoute::Partner`], with the token.
    Partner(&'p str),
    /// [`IngestRoute::Source`] if a source with this name exists, otherwise the management API.
    Source {
        /// The name or id of the source.
        name: &'p str,
        /// The path after the name, without the leading slash.
        path: Option<&'p str>,
    },
    /// [`IngestRoute::Health`].
    Health,
    /// [`IngestRoute::Ready`].
    Ready,
    /// [`IngestRoute::Live`].
    Live,
    /// [`IngestRoute::Metrics`].
    Metrics,
    /// [`IngestRoute::Document`].
    Document,
    /// A path of the management API. The route may not exist.
    Management,
}

/// Checks whether a text is valid for a value in a path, for example a webhook id.
pub type PathValueValidator = fn(&str) -> bool;

/// The compiled route table.
#[derive(Debug)]
pub struct Router {
    /// The path of events and its methods on each listener.
    events: FixedPath,
    /// The path prefix before the token of a partner.
    partners: &'static str,
    /// The path prefix before the name of a source.
    sources: &'static str,
    /// The literal segments after the prefix `sources`, which are not names of sources.
    reserved_names: Box<[&'static str]>,
    /// The paths without values that the worker answers itself.
    fixed: Box<[(FixedPath, RouteTarget<'static>)]>,
    templates: Box<[PathTemplate]>,
}

/// A path without values and its methods on each listener.
#[derive(Debug)]
struct FixedPath {
    path: &'static str,
    all: Verbs,
    public: Verbs,
    admin: Verbs,
}

/// A management path with all its methods.
#[derive(Debug)]
struct PathTemplate {
    segments: SmallVec<[TemplateSegment; 6]>,
    allow: Verbs,
    /// The route of each method that the management API answers.
    rows: [Option<MethodRoute>; Verb::ALL.len()],
}

#[derive(Debug, Clone, Copy)]
struct MethodRoute {
    /// The index in the route table.
    index: usize,
    required_access: RequiredAccess,
}

#[derive(Debug, Clone, Copy)]
enum TemplateSegment {
    Literal(&'static str),
    Value(&'static str, PathValueValidator),
}

/// The route that matches a management request, with the values of the path.
#[derive(Debug, Clone)]
pub struct RouteMatch<'p> {
    /// The index in the route table.
    pub row: usize,
    /// The access that the caller needs.
    pub required_access: RequiredAccess,
    values: SmallVec<[(&'static str, &'p str); 2]>,
}

/// The route table is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// A path has a value without a validator.
    #[error("{path}: there is no form for {{{value}}}")]
    UnknownPathValue {
        /// The path of the row.
        path: &'static str,
        /// The name of the value.
        value: &'static str,
    },
    /// Two rows have the same method and path. Contains the path.
    #[error("{0} is there twice")]
    Duplicate(&'static str),
    /// The table has no row for a required route: events, partners or sources.
    #[error("the table has no row for {0:?}")]
    Missing(IngestRoute),
}

impl Router {
    /// Compiles the route table. `validators` has an entry for each value that paths may contain.
    ///
    /// # Errors
    /// The first invalid or missing row.
    pub fn new<F>(table: &[Route<F>], validators: &[(&'static str, PathValueValidator)]) -> Result<Self, RouteError> {
        let path_of = |wanted| {
            let is = |route: &&Route<F>| matches!(route.handler, Handler::Ingest(found) if found == wanted);
            table.iter().find(is).map(|route| route.path).ok_or(RouteError::Missing(wanted))
        };
        let before_value = |path: &'static str| path.split('{').next().unwrap_or(path);
        let sources = before_value(path_of(IngestRoute::Source)?);
        let mut reserved_names: Vec<_> =
            table.iter().filter_map(|route| first_word(route.path.strip_prefix(sources)?)).collect();
        reserved_names.sort_unstable();
        reserved_names.dedup();
        let fixed = table.iter().filter_map(|route| match route.handler {
            Handler::Ingest(ingest) => Some((FixedPath::of(table, route.path), fixed_target(ingest)?)),
            Handler::Management(_) => None,
        });
        Ok(Self {
            events: FixedPath::of(table, path_of(IngestRoute::Publish)?),
            partners: before_value(path_of(IngestRoute::Partner)?),
            sources,
            reserved_names: reserved_names.into(),
            fixed: fixed.collect(),
            templates: templates(table, validators)?.into(),
        })
    }

    /// Finds the destination of a request.
    ///
    /// # Errors
    /// 404 for an unknown path, 405 with the allowed methods.
    pub fn target<'p>(
        &self,
        method: &Method,
        path: &'p str,
        listener: ListenerKind,
    ) -> Result<RouteTarget<'p>, Problem> {
        if path == self.events.path {
            return self.events(method, listener);
        }
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Problem::method_not_allowed(Verbs::ALL));
        }
        if listener != ListenerKind::Admin
            && let Some(inbound) = self.inbound(method, path)
        {
            return inbound;
        }
        let fixed = self.fixed.iter().find(|(fixed, _)| fixed.path == path);
        let fixed = fixed.filter(|(fixed, _)| fixed.verbs_on(listener) != Verbs::NONE);
        let is_document = || DOCUMENTS.iter().any(|prefix| path.starts_with(prefix));
        match fixed {
            Some((fixed, target)) => readable(method, fixed.all, *target),
            None if listener == ListenerKind::Public => Err(Problem::not_found("path")),
            None if is_document() => readable(method, Verbs::GET, RouteTarget::Document),
            None if path.starts_with(MANAGEMENT) => Ok(RouteTarget::Management),
            None => Err(Problem::not_found("path")),
        }
    }

    /// The destination of a request for the path of events: POST publishes events, GET lists them.
    fn events<'p>(&self, method: &Method, listener: ListenerKind) -> Result<RouteTarget<'p>, Problem> {
        let here = self.events.verbs_on(listener);
        match Verb::of(method) {
            Some(Verb::Post) if here.has(Verb::Post) => Ok(RouteTarget::Publish),
            _ if matches!(*method, Method::CONNECT | Method::TRACE) => Err(Problem::method_not_allowed(Verbs::ALL)),
            Some(verb) if here.has(verb) => Ok(RouteTarget::Management),
            Some(verb) if self.events.all.has(verb) => Err(Problem::method_not_allowed(here)),
            _ if listener == ListenerKind::Public => Err(Problem::method_not_allowed(here)),
            _ => Ok(RouteTarget::Management),
        }
    }

    /// The destination of a request that may be for a source. `None` if it cannot be.
    fn inbound<'p>(&self, method: &Method, path: &'p str) -> Option<Result<RouteTarget<'p>, Problem>> {
        let target = self.named_source(path)?;
        match target {
            // No path follows a token.
            RouteTarget::Partner(token) if path.len() > self.partners.len() + token.len() => None,
            RouteTarget::Partner(_) if *method != Method::POST => Some(Err(Problem::method_not_allowed(Verbs::POST))),
            // A source never has the id of a webhook. A POST to the bare path can only be for a source.
            RouteTarget::Source { name, path }
                if name.starts_with(WEBHOOK_PREFIX) && (path.is_some() || *method != Method::POST) =>
            {
                None
            }
            target => Some(Ok(target)),
        }
    }

    /// Finds the route of a management request.
    ///
    /// # Errors
    /// 404 for a path that matches no template, including an invalid id, and 405 with the allowed methods.
    pub fn management<'p>(&self, method: &Method, path: &'p str) -> Result<RouteMatch<'p>, Problem> {
        let none = || Problem::not_found("path or id");
        let mut segments: SmallVec<[&str; 8]> = SmallVec::new();
        for segment in path.strip_prefix('/').ok_or_else(none)?.split('/') {
            if segments.len() == segments.inline_size() {
                return Err(none());
            }
            segments.push(segment);
        }
        let (template, values) = self
            .templates
            .iter()
            .filter(|template| template.segments.len() == segments.len())
            .find_map(|template| Some((template, template.values(&segments)?)))
            .ok_or_else(none)?;
        match Verb::of(method).and_then(|verb| template.rows[verb as usize]) {
            Some(row) => Ok(RouteMatch { row: row.index, required_access: row.required_access, values }),
            None => Err(Problem::method_not_allowed(template.allow)),
        }
    }

    /// The path segments that cannot be the name of a source or a webhook, because routes use them.
    pub fn reserved_names(&self) -> &[&'static str] {
        &self.reserved_names
    }
}

impl<'p> RouteMatch<'p> {
    /// Checks the role of the caller.
    ///
    /// # Errors
    /// 403 when the role does not permit the route.
    pub fn authorise(&self, role: Role) -> Result<(), Problem> {
        if self.required_access.permits(role) {
            return Ok(());
        }
        let detail = match (role, self.required_access) {
            (Role::Publisher, _) => "a publisher may only publish events",
            (_, RequiredAccess::Role(Role::Admin)) => "only an admin may do this",
            _ => "a viewer may only read",
        };
        Err(Problem::new(ProblemCode::Forbidden, detail))
    }

    /// The text of a value in the path. `None` if the path has no value with this name.
    pub fn value(&self, name: &str) -> Option<&'p str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }
}

impl FixedPath {
    fn of<F>(table: &[Route<F>], path: &'static str) -> Self {
        let verbs = |is: fn(Listener) -> bool| {
            let rows = table.iter().filter(|route| route.path == path && is(route.listener));
            rows.fold(Verbs::NONE, |verbs, route| verbs.with(route.method))
        };
        Self {
            path,
            all: verbs(|on| on.includes(ListenerKind::Combined)),
            public: verbs(|on| on.includes(ListenerKind::Public)),
            admin: verbs(|on| on.includes(ListenerKind::Admin)),
        }
    }

    fn verbs_on(&self, listener: ListenerKind) -> Verbs {
        match listener {
            ListenerKind::Combined => self.all,
            ListenerKind::Public => self.public,
            ListenerKind::Admin => self.admin,
        }
    }
}

impl PathTemplate {
    /// The values of a path. `None` if the path does not match the template.
    fn values<'p>(&self, path: &[&'p str]) -> Option<SmallVec<[(&'static str, &'p str); 2]>> {
        let mut values = SmallVec::new();
        for (segment, text) in self.segments.iter().zip(path) {
            match *segment {
                TemplateSegment::Literal(word) if word == *text => {}
                TemplateSegment::Value(name, validator) if validator(text) => values.push((name, *text)),
                _ => return None,
            }
        }
        Some(values)
    }

    /// Whether the template matches the same paths as `segments`.
    fn has(&self, segments: &[TemplateSegment]) -> bool {
        let is_same = |(a, b): (&TemplateSegment, &TemplateSegment)| match (a, b) {
            (TemplateSegment::Literal(a), TemplateSegment::Literal(b))
            | (TemplateSegment::Value(a, _), TemplateSegment::Value(b, _)) => a == b,
            _ => false,
        };
        self.segments.len() == segments.len() && self.segments.iter().zip(segments).all(is_same)
    }
}

fn readable<'p>(method: &Method, allow: Verbs, target: RouteTarget<'p>) -> Result<RouteTarget<'p>, Problem> {
    match Verb::of(method) {
        Some(verb) if allow.has(verb) => Ok(target),
        _ => Err(Problem::method_not_allowed(allow)),
    }
}

/// The target of a route whose path has no values.
fn fixed_target(route: IngestRoute) -> Option<RouteTarget<'static>> {
    Some(match route {
        IngestRoute::Publish | IngestRoute::Partner | IngestRoute::Source => return None,
        IngestRoute::Health => RouteTarget::Health,
        IngestRoute::Ready => RouteTarget::Ready,
        IngestRoute::Live => RouteTarget::Live,
        IngestRoute::Metrics => RouteTarget::Metrics,
        IngestRoute::Document => RouteTarget::Document,
    })
}

fn first_word(rest: &'static str) -> Option<&'static str> {
    rest.split('/').next().filter(|word| !word.starts_with('{') && !word.is_empty())
}

/// The templates of management paths. At the same position, a literal segment is tried before a value. Sources and webhooks
/// share a path, so the method of a source is among the allowed methods of that path.
fn templates<F>(
    table: &[Route<F>],
    validators: &[(&'static str, PathValueValidator)],
) -> Result<Vec<PathTemplate>, RouteError> {
    let mut templates: Vec<PathTemplate> = Vec::new();
    let is_management = |path| {
        let is_it = |route: &Route<F>| route.path == path && matches!(route.handler, Handler::Management(_));
        table.iter().any(is_it)
    };
    for (index, route) in table.iter().enumerate().filter(|(_, route)| is_management(route.path)) {
        let segments = parse_template(route.path, validators)?;
        let known = templates.iter().position(|template| template.has(&segments));
        let known = known.unwrap_or_else(|| {
            templates.push(PathTemplate { segments, allow: Verbs::NONE, rows: [None; Verb::ALL.len()] });
            templates.len() - 1
        });
        let template = &mut templates[known];
        if template.allow.has(route.method) {
            return Err(RouteError::Duplicate(route.path));
        }
        template.allow = template.allow.with(route.method);
        if matches!(route.handler, Handler::Management(_)) {
            template.rows[route.method as usize] = Some(MethodRoute { index, required_access: route.required_access });
        }
    }
    let values = |template: &PathTemplate| {
        template.segments.iter().map(|one| matches!(one, TemplateSegment::Value(..))).collect::<Vec<_>>()
    };
    templates.sort_by_key(values);
    Ok(templates)
}

fn parse_template(
    path: &'static str,
    validators: &[(&'static str, PathValueValidator)],
) -> Result<SmallVec<[TemplateSegment; 6]>, RouteError> {
    let segment = |text: &'static str| {
        let Some(value) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            return Ok(TemplateSegment::Literal(text));
        };
        let validator = validators.iter().find(|(name, _)| *name == value);
        validator
            .map(|(name, validator)| TemplateSegment::Value(name, *validator))
            .ok_or(RouteError::UnknownPathValue { path, value })
    };
    path.trim_start_matches('/').split('/').map(segment).collect()
}
