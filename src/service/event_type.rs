//! Event types: the catalogue of each tenant. Every role that may read sees it; only an admin changes it. An event type
//! of the configuration file can be changed only there.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{sees, tenant_of};
use super::fields::{pointer, unknown};
use super::{Error, ErrorKind, ExpectedVersion, ListPage, Operation, PageRequest, ResponseRecorder, Service};
use crate::inbound::source::ManagedBy;
use crate::model::{DEFAULT_TENANT, FieldError, Principal, is_tenant_name};
use crate::registry::catalogue::{EventType, EventTypeDefinition, Settings};
use crate::registry::{ChangedEventType, ChangedResource, EventTypeError, PutMode};

const ALLOWED: &str = "name, category, description, schema, example, deprecated, replaced_by, validate, tenant, org_id";
/// Fields that a client may send back unchanged.
const READ_ONLY: [&str; 3] = ["managed_by", "created_at", "updated_at"];

/// A reference to an event type.
#[derive(Debug, Clone, Copy)]
pub struct EventTypeKey<'a> {
    /// The name of the event type.
    pub name: &'a str,
    /// The tenant of the catalogue; `None`: the caller's own tenant, or `default` for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
}

/// A validated event type, ready to be created.
#[derive(Debug)]
pub struct EventTypeDraft {
    tenant: String,
    definition: Arc<EventTypeDefinition>,
    by: Principal,
}

/// A filter for event types. A field that is `None` matches everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTypeFilter<'a> {
    /// The tenant of the catalogue; `None`: the caller's own tenant, or `default` for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
    /// Event types of this category.
    pub category: Option<&'a str>,
    /// Event types that are deprecated, or that are not.
    pub deprecated: Option<bool>,
    /// Event types with this text in name, category or description, ignoring case.
    pub text: Option<&'a str>,
}

impl Service {
    /// Validates the document of a new event type. `named` is the tenant that the caller names outside the document.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant. Invalid fields are listed by JSON pointer.
    pub fn draft_event_type(
        &self,
        principal: &Principal,
        named: Option<&str>,
        document: Map<String, Value>,
    ) -> Result<EventTypeDraft, Error> {
        Operation::ChangeEventTypes.permit(principal.role)?;
        let (tenant, definition) = read(principal, named, document, None)?;
        Ok(EventTypeDraft { tenant, definition, by: principal.clone() })
    }

    /// Creates an event type.
    ///
    /// `record` stores the response for repeated requests.
    ///
    /// # Errors
    /// If the name is taken, or the registry accepts no changes.
    pub async fn create_event_type(
        &self,
        draft: EventTypeDraft,
        record: Option<ResponseRecorder<Arc<EventType>>>,
    ) -> Result<Arc<EventType>, Error> {
        let EventTypeDraft { tenant, definition, by } = draft;
        let answer = record.map(|record| {
            record.of_change(|changed| match changed {
                ChangedResource::EventType(changed) => Some(Arc::clone(&changed.event_type)),
                _ => None,
            })
        });
        let writer = self.writer.on_behalf_of(&by).recording(answer);
        let made = writer.put_event_type(&tenant, definition, PutMode::CreateOnly).await?;
        Ok(made.event_type)
    }

    /// Lists the event types that match the filter, by name, starting after the name `after`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not see the tenant.
    pub fn list_event_types(
        &self,
        principal: &Principal,
        filter: EventTypeFilter<'_>,
        page: PageRequest,
        after: Option<&str>,
    ) -> Result<ListPage<Arc<EventType>, Box<str>>, Error> {
        Operation::ReadEventTypes.permit(principal.role)?;
        let tenant = tenant_of_catalogue(principal, filter.tenant)?;
        let needle = filter.text.map(str::to_lowercase);
        let registry = self.registry.load();
        let is_wanted = |event_type: &&Arc<EventType>| {
            after.is_none_or(|after| event_type.name() > after)
                && filter.takes(&event_type.definition.settings, needle.as_deref())
        };
        let found = registry.event_types(tenant).filter(is_wanted).take(page.fetch_limit()).cloned().collect();
        Ok(page.rows(found, None, |event_type| event_type.name().into()))
    }

    /// Reads an event type.
    ///
    /// # Errors
    /// If the role is too low, or the event type does not exist for the caller.
    pub fn read_event_type(&self, principal: &Principal, key: EventTypeKey<'_>) -> Result<Arc<EventType>, Error> {
        Operation::ReadEventTypes.permit(principal.role)?;
        let tenant = tenant_of_catalogue(principal, key.tenant)?;
        let found = self.registry.load().event_type(tenant, key.name).cloned();
        found.ok_or_else(|| Error::not_found("event type"))
    }

    /// Checks whether an event type can be created or changed through the API.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the tenant, or the configuration manages the event type.
    pub fn may_put_event_type(&self, principal: &Principal, key: EventTypeKey<'_>) -> Result<(), Error> {
        self.present_event_type(principal, key).map(drop)
    }

    /// Creates an event type, or replaces the existing one.
    ///
    /// # Errors
    /// If the role is too low, the caller may not see the tenant, a field is invalid, the configuration manages the
    /// event type, or its version is not the expected one.
    pub async fn put_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<ChangedEventType, Error> {
        let (tenant, definition, version) = self.check_event_type(principal, key, document, expected)?;
        match self
            .writer
            .on_behalf_of(principal)
            .put_event_type(&tenant, definition, PutMode::CreateOrReplace(version))
            .await
        {
            Err(EventTypeError::Changed) => Err(Error::changed_meanwhile()),
            changed => Ok(changed?),
        }
    }

    /// Returns the definition that [`put_event_type`](Self::put_event_type) would store.
    ///
    /// # Errors
    /// The errors of [`put_event_type`](Self::put_event_type), except those of the registry.
    pub fn preview_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Arc<EventTypeDefinition>, Error> {
        self.check_event_type(principal, key, document, expected).map(|(_, definition, _)| definition)
    }

    /// Deletes an event type from the catalogue.
    ///
    /// # Errors
    /// If the role is too low, the event type does not exist, the configuration manages it, or its version is not the
    /// expected one.
    pub async fn delete_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        let present = self.present_event_type(principal, key)?.ok_or_else(|| Error::not_found("event type"))?;
        let version = ExpectedVersion::bind(expected, present.version)?;
        let tenant = tenant_of_catalogue(principal, key.tenant)?;
        match self.writer.on_behalf_of(principal).remove_event_type(tenant, key.name, version).await {
            Err(EventTypeError::Changed) => Err(Error::changed_meanwhile()),
            removed => Ok(removed.map(drop)?),
        }
    }

    /// Validates a document. Returns the tenant, the definition, and the version to which the change is bound.
    fn check_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(String, Arc<EventTypeDefinition>, Option<u64>), Error> {
        let present = self.present_event_type(principal, key)?;
        let (tenant, definition) = read(principal, key.tenant, document, Some(key.name))?;
        let version = match (present, expected) {
            (Some(present), expected) => ExpectedVersion::bind(expected, present.version)?,
            (None, None) => None,
            (None, Some(_)) => return Err(Error::new(ErrorKind::VersionMismatch, "there is no such event type")),
        };
        Ok((tenant, definition, version))
    }

    /// Returns the existing event type, if there is one. An event type of the configuration is refused.
    fn present_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
    ) -> Result<Option<Arc<EventType>>, Error> {
        Operation::ChangeEventTypes.permit(principal.role)?;
        let tenant = tenant_of_catalogue(principal, key.tenant)?;
        match self.registry.load().event_type(tenant, key.name) {
            Some(found) if found.managed_by == ManagedBy::File => Err(EventTypeError::ManagedByFile.into()),
            found => Ok(found.cloned()),
        }
    }
}

impl EventTypeFilter<'_> {
    /// Whether the event type matches the filter. `needle` is the filter's text in lower case.
    fn takes(&self, settings: &Settings, needle: Option<&str>) -> bool {
        let texts = [Some(&settings.name), settings.category.as_ref(), settings.description.as_ref()];
        self.category.is_none_or(|category| settings.category.as_deref() == Some(category))
            && self.deprecated.is_none_or(|deprecated| deprecated == settings.deprecated)
            && needle.is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    }
}

/// The tenant of the catalogue that the caller refers to.
fn tenant_of_catalogue<'a>(principal: &'a Principal, named: Option<&'a str>) -> Result<&'a str, Error> {
    Ok(tenant_of(principal, named)?.unwrap_or(DEFAULT_TENANT))
}

/// Reads the tenant and the definition from a document. `name` is the name that the caller gives outside the document.
fn read(
    principal: &Principal,
    named: Option<&str>,
    mut document: Map<String, Value>,
    name: Option<&str>,
) -> Result<(String, Arc<EventTypeDefinition>), Error> {
    let mut errors = Vec::new();
    let tenant = tenant(principal, named, &mut document, &mut errors)?;
    for key in READ_ONLY {
        document.remove(key);
    }
    if let Some(name) = name {
        match document.get("name") {
            Some(given) if given != name => errors.push(FieldError::new("/name", "cannot be changed")),
            _ => drop(document.insert("name".to_owned(), name.into())),
        }
    }
    let settings = settings(document, &mut errors);
    match EventTypeDefinition::try_new(settings) {
        Ok(definition) if errors.is_empty() && definition.costly_patterns().is_empty() => {
            Ok((tenant, Arc::new(definition)))
        }
        built => {
            let built = built.and_then(|definition| Err::<(), _>(definition.costly_patterns().to_vec()));
            let known = |error: &FieldError, errors: &[FieldError]| errors.iter().any(|e| e.pointer == error.pointer);
            for error in built.err().unwrap_or_default() {
                if !known(&error, &errors) {
                    errors.push(error);
                }
            }
            Err(Error::invalid_body(errors))
        }
    }
}

/// The tenant that the document names, else the tenant that is named outside it, else the caller's own.
fn tenant(
    principal: &Principal,
    named: Option<&str>,
    document: &mut Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> Result<String, Error> {
    let mut tenant = named.map(str::to_owned);
    for (key, value) in ["tenant", "org_id"].map(|key| (key, document.remove(key))) {
        let wrong = match value {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if !is_tenant_name(&text) => "is no tenant",
            Some(Value::String(text)) if tenant.as_ref().is_some_and(|tenant| *tenant != text) => {
                "contradicts another name of the tenant"
            }
            Some(Value::String(text)) if !sees(principal, &text) => "only a key of tenant * may name another tenant",
            Some(Value::String(text)) => {
                tenant = Some(text);
                continue;
            }
            Some(_) => "expected text",
        };
        errors.push(FieldError::new(pointer(key), wrong));
    }
    let tenant = tenant.or(principal.tenant.as_deref().map(str::to_owned)).unwrap_or_else(|| DEFAULT_TENANT.to_owned());
    if sees(principal, &tenant) { Ok(tenant) } else { Err(Error::not_found("tenant")) }
}

/// Reads the fields by their types. A field of the wrong type is reported and left out. `null` counts as absent.
fn settings(mut fields: Map<String, Value>, errors: &mut Vec<FieldError>) -> Settings {
    fields.retain(|key, value| !value.is_null() || key == "example");
    let mut text = |key: &str| {
        let value = fields.remove(key)?;
        if !value.is_string() {
            errors.push(FieldError::new(pointer(key), "expected text"));
        }
        value.as_str().map(str::to_owned)
    };
    let (name, category) = (text("name").unwrap_or_default(), text("category"));
    let (description, replaced_by) = (text("description"), text("replaced_by"));
    let mut flag = |key: &str| match fields.remove(key) {
        None => false,
        Some(Value::Bool(flag)) => flag,
        Some(_) => {
            errors.push(FieldError::new(pointer(key), "expected true or false"));
            false
        }
    };
    let (deprecated, validate) = (flag("deprecated"), flag("validate"));
    let (schema, example) = (fields.remove("schema"), fields.remove("example").filter(|example| !example.is_null()));
    errors.extend(unknown(&fields, ALLOWED));
    Settings { name, tenant: None, category, description, schema, example, deprecated, replaced_by, validate }
}
