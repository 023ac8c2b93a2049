//! From the method and path of a request to its route, compiled once from the table.
//!
//! A request is matched in two steps. [`Router::target`] runs where the request arrives and knows the routes that are
//! answered there; it allocates nothing, and an event's path is its first comparison. Everything else is the management's,
//! whose templates [`Router::management`] matches segment by segment, when the caller is known and the body is complete.
//!
//! Paths are matched as they came: nothing is decoded and no dots are resolved, so no spelling leads past a check. Only the
//! management reads `%3A` and `%40`, because the ids of its things may hold these characters.

use hyper::Method;
use smallvec::SmallVec;

use super::route::{Handler, IngestRoute, Listener, Needs, Route, Verb, Verbs};
use super::{ListenerKind, Problem, ProblemCode};
use crate::model::Role;

/// Below this is the management.
const MANAGEMENT: &str = "/api/v1/";
/// Below these are documents, also those without a row: the style sheet of the pages.
const DOCUMENTS: [&str; 2] = ["/openapi.", "/docs/"];
/// How the id of a webhook begins, and that of a source.
const WEBHOOK_PREFIX: &str = "wh_";

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'p> {
    /// [`IngestRoute::Publish`].
    Publish,
    /// [`IngestRoute::Partner`].
    Partner(&'p str),
    /// [`IngestRoute::Source`], if there is a source of that name; else the management.
    Source {
        /// The source's name or id.
        name: &'p str,
        /// What follows it, without the slash before it.
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
    /// A path of the management, whether there is such a route or not.
    Management,
}

/// A form that a value in a path must have.
pub type Form = fn(&str) -> bool;

/// See the module.
#[derive(Debug)]
pub struct Router {
    /// The path of events, and what each listener has of it.
    events: Fixed,
    /// What precedes a partner's token.
    partners: &'static str,
    /// What precedes a source's name, and the words there that are none.
    sources: &'static str,
    words: Box<[&'static str]>,
    /// Paths without values of the routes that are answered where they arrive.
    fixed: Box<[(Fixed, Target<'static>)]>,
    places: Box<[Place]>,
}

/// A path without values.
#[derive(Debug)]
struct Fixed {
    path: &'static str,
    all: Verbs,
    public: Verbs,
    admin: Verbs,
}

/// A path with all its methods.
#[derive(Debug)]
struct Place {
    segments: SmallVec<[Segment; 6]>,
    allow: Verbs,
    /// The row of each method that the management answers.
    rows: [Option<Row>; Verb::ALL.len()],
}

#[derive(Debug, Clone, Copy)]
struct Row {
    /// In the table.
    at: usize,
    needs: Needs,
}

#[derive(Debug, Clone, Copy)]
enum Segment {
    Word(&'static str),
    Value(&'static str, Form),
}

/// The route of a management request.
#[derive(Debug, Clone)]
pub struct Found<'p> {
    /// Its row in the table.
    pub row: usize,
    /// Who may call it.
    pub needs: Needs,
    values: SmallVec<[(&'static str, &'p str); 2]>,
}

/// A table that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The path has a value whose form is not known.
    #[error("{path}: there is no form for {{{value}}}")]
    Form {
        /// The path.
        path: &'static str,
        /// The value's name.
        value: &'static str,
    },
    /// Two rows have one method and path.
    #[error("{0} is there twice")]
    Twice(&'static str),
    /// There is no route for events, partners or sources.
    #[error("the table has no row for {0:?}")]
    Missing(IngestRoute),
}

impl Router {
    /// Compiles the table. `forms` has each value that paths may have.
    ///
    /// # Errors
    /// The first row that does not fit.
    pub fn new<F>(table: &[Route<F>], forms: &[(&'static str, Form)]) -> Result<Self, RouteError> {
        let path_of = |wanted| {
            let is = |route: &&Route<F>| matches!(route.handler, Handler::Ingest(found) if found == wanted);
            table.iter().find(is).map(|route| route.path).ok_or(RouteError::Missing(wanted))
        };
        let before_value = |path: &'static str| path.split('{').next().unwrap_or(path);
        let sources = before_value(path_of(IngestRoute::Source)?);
        let mut words: Vec<_> =
            table.iter().filter_map(|route| first_word(route.path.strip_prefix(sources)?)).collect();
        words.sort_unstable();
        words.dedup();
        let fixed = table.iter().filter_map(|route| match route.handler {
            Handler::Ingest(ingest) => Some((Fixed::of(table, route.path), fixed_target(ingest)?)),
            Handler::Management(_) => None,
        });
        Ok(Self {
            events: Fixed::of(table, path_of(IngestRoute::Publish)?),
            partners: before_value(path_of(IngestRoute::Partner)?),
            sources,
            words: words.into(),
            fixed: fixed.collect(),
            places: places(table, forms)?.into(),
        })
    }

    /// Where a request goes.
    ///
    /// # Errors
    /// 404, and 405 with the methods that are allowed.
    pub fn target<'p>(&self, method: &Method, path: &'p str, surface: ListenerKind) -> Result<Target<'p>, Problem> {
        if path == self.events.path {
            return self.events(method, surface);
        }
        if matches!(*method, Method::CONNECT | Method::TRACE) {
            return Err(Problem::method_not_allowed(Verbs::ALL));
        }
        if surface != ListenerKind::Admin
            && let Some(inbound) = self.inbound(method, path)
        {
            return inbound;
        }
        let fixed = self.fixed.iter().find(|(fixed, _)| fixed.path == path);
        let fixed = fixed.filter(|(fixed, _)| fixed.on(surface) != Verbs::NONE);
        let is_document = || DOCUMENTS.iter().any(|prefix| path.starts_with(prefix));
        match fixed {
            Some((fixed, target)) => readable(method, fixed.all, *target),
            None if surface == ListenerKind::Public => Err(Problem::not_found("path")),
            None if is_document() => readable(method, Verbs::GET, Target::Document),
            None if path.starts_with(MANAGEMENT) => Ok(Target::Management),
            None => Err(Problem::not_found("path")),
        }
    }

    /// The path of events: to publish, or to list them.
    fn events<'p>(&self, method: &Method, surface: ListenerKind) -> Result<Target<'p>, Problem> {
        let here = self.events.on(surface);
        match Verb::of(method) {
            Some(Verb::Post) if here.has(Verb::Post) => Ok(Target::Publish),
            _ if matches!(*method, Method::CONNECT | Method::TRACE) => Err(Problem::method_not_allowed(Verbs::ALL)),
            Some(verb) if here.has(verb) => Ok(Target::Management),
            Some(verb) if self.events.all.has(verb) => Err(Problem::method_not_allowed(here)),
            _ if surface == ListenerKind::Public => Err(Problem::method_not_allowed(here)),
            _ => Ok(Target::Management),
        }
    }

    /// What may be a source's.
    fn inbound<'p>(&self, method: &Method, path: &'p str) -> Option<Result<Target<'p>, Problem>> {
        if let Some(token) = path.strip_prefix(self.partners) {
            let is_one = !token.is_empty() && !token.contains('/');
            return is_one.then(|| match *method {
                Method::POST => Ok(Target::Partner(token)),
                _ => Err(Problem::method_not_allowed(Verbs::POST)),
            });
        }
        let rest = path.strip_prefix(self.sources)?;
        let (name, path) = rest.split_once('/').map_or((rest, None), |(name, path)| (name, Some(path)));
        // No source has a webhook's id, and so only a source can be meant when one is posted to.
        let is_webhook = name.starts_with(WEBHOOK_PREFIX) && (path.is_some() || *method != Method::POST);
        let is_other = name.is_empty() || self.words.contains(&name) || is_webhook;
        (!is_other).then_some(Ok(Target::Source { name, path }))
    }

    /// The route of a management request.
    ///
    /// # Errors
    /// 404 for a path that no template has, text that is no id included, and 405 with the methods that are allowed.
    pub fn management<'p>(&self, method: &Method, path: &'p str) -> Result<Found<'p>, Problem> {
        let none = || Problem::not_found("path or id");
        let mut segments: SmallVec<[&str; 8]> = SmallVec::new();
        for segment in path.strip_prefix('/').ok_or_else(none)?.split('/') {
            if segments.len() == segments.inline_size() {
                return Err(none());
            }
            segments.push(segment);
        }
        let (place, values) = self
            .places
            .iter()
            .filter(|place| place.segments.len() == segments.len())
            .find_map(|place| Some((place, place.values(&segments)?)))
            .ok_or_else(none)?;
        match Verb::of(method).and_then(|verb| place.rows[verb as usize]) {
            Some(row) => Ok(Found { row: row.at, needs: row.needs, values }),
            None => Err(Problem::method_not_allowed(place.allow)),
        }
    }

    /// The words that stand where a source or a webhook is named, and name none.
    pub fn words(&self) -> &[&'static str] {
        &self.words
    }
}

impl<'p> Found<'p> {
    /// Refuses a caller whose role does not suffice.
    ///
    /// # Errors
    /// 403.
    pub fn authorise(&self, role: Role) -> Result<(), Problem> {
        if self.needs.permits(role) {
            return Ok(());
        }
        let detail = match (role, self.needs) {
            (Role::Publisher, _) => "a publisher may only publish events",
            (_, Needs::Role(Role::Admin)) => "only an admin may do this",
            _ => "a viewer may only read",
        };
        Err(Problem::new(ProblemCode::Forbidden, detail))
    }

    /// The text of a value in the path.
    pub fn value(&self, name: &str) -> Option<&'p str> {
        self.values.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }
}

impl Fixed {
    fn of<F>(table: &[Route<F>], path: &'static str) -> Self {
        let verbs = |is: fn(Listener) -> bool| {
            let rows = table.iter().filter(|route| route.path == path && is(route.on));
            rows.fold(Verbs::NONE, |verbs, route| verbs.with(route.method))
        };
        Self {
            path,
            all: verbs(|on| on.is_on(ListenerKind::Whole)),
            public: verbs(|on| on.is_on(ListenerKind::Public)),
            admin: verbs(|on| on.is_on(ListenerKind::Admin)),
        }
    }

    fn on(&self, surface: ListenerKind) -> Verbs {
        match surface {
            ListenerKind::Whole => self.all,
            ListenerKind::Public => self.public,
            ListenerKind::Admin => self.admin,
        }
    }
}

impl Place {
    /// The values of a path that has this template.
    fn values<'p>(&self, path: &[&'p str]) -> Option<SmallVec<[(&'static str, &'p str); 2]>> {
        let mut values = SmallVec::new();
        for (segment, text) in self.segments.iter().zip(path) {
            match *segment {
                Segment::Word(word) if word == *text => {}
                Segment::Value(name, form) if form(text) => values.push((name, *text)),
                _ => return None,
            }
        }
        Some(values)
    }

    /// Whether both match the same paths.
    fn has(&self, segments: &[Segment]) -> bool {
        let is_same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Word(a), Segment::Word(b)) | (Segment::Value(a, _), Segment::Value(b, _)) => a == b,
            _ => false,
        };
        self.segments.len() == segments.len() && self.segments.iter().zip(segments).all(is_same)
    }
}

fn readable<'p>(method: &Method, allow: Verbs, target: Target<'p>) -> Result<Target<'p>, Problem> {
    match Verb::of(method) {
        Some(verb) if allow.has(verb) => Ok(target),
        _ => Err(Problem::method_not_allowed(allow)),
    }
}

/// The target of a route that has no values.
fn fixed_target(route: IngestRoute) -> Option<Target<'static>> {
    Some(match route {
        IngestRoute::Publish | IngestRoute::Partner | IngestRoute::Source => return None,
        IngestRoute::Health => Target::Health,
        IngestRoute::Ready => Target::Ready,
        IngestRoute::Live => Target::Live,
        IngestRoute::Metrics => Target::Metrics,
        IngestRoute::Document => Target::Document,
    })
}

fn first_word(rest: &'static str) -> Option<&'static str> {
    rest.split('/').next().filter(|word| !word.starts_with('{') && !word.is_empty())
}

/// The templates of the management, those with a word before those with a value in its place. A source shares the place of
/// a webhook, and so its method is among those that are allowed there.
fn places<F>(table: &[Route<F>], forms: &[(&'static str, Form)]) -> Result<Vec<Place>, RouteError> {
    let mut places: Vec<Place> = Vec::new();
    let is_management = |path| {
        let is_it = |route: &Route<F>| route.path == path && matches!(route.handler, Handler::Management(_));
        table.iter().any(is_it)
    };
    for (at, route) in table.iter().enumerate().filter(|(_, route)| is_management(route.path)) {
        let segments = template(route.path, forms)?;
        let known = places.iter().position(|place| place.has(&segments));
        let known = known.unwrap_or_else(|| {
            places.push(Place { segments, allow: Verbs::NONE, rows: [None; Verb::ALL.len()] });
            places.len() - 1
        });
        let place = &mut places[known];
        if place.allow.has(route.method) {
            return Err(RouteError::Twice(route.path));
        }
        place.allow = place.allow.with(route.method);
        if matches!(route.handler, Handler::Management(_)) {
            place.rows[route.method as usize] = Some(Row { at, needs: route.needs });
        }
    }
    let values = |place: &Place| place.segments.iter().map(|one| matches!(one, Segment::Value(..))).collect::<Vec<_>>();
    places.sort_by_key(values);
    Ok(places)
}

fn template(path: &'static str, forms: &[(&'static str, Form)]) -> Result<SmallVec<[Segment; 6]>, RouteError> {
    let segment = |text: &'static str| {
        let Some(value) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
            return Ok(Segment::Word(text));
        };
        let form = forms.iter().find(|(name, _)| *name == value);
        form.map(|(name, form)| Segment::Value(name, *form)).ok_or(RouteError::Form { path, value })
    };
    path.trim_start_matches('/').split('/').map(segment).collect()
}
