//! Event types: the catalogue. Everybody reads it, an admin changes it. What the configuration names is changed there alone.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::access::{sees, tenant_of};
use super::fields::{pointer, unknown};
use super::{Error, ErrorKind, ExpectedVersion, Operation, Page, Rows, Service};
use crate::inbound::source::{Breach, ManagedBy};
use crate::model::{DEFAULT_TENANT, FieldError, Principal, is_tenant_name};
use crate::registry::catalogue::{Definition, EventType, Settings};
use crate::registry::{ChangedType, EventTypeError, Replaces};

const ALLOWED: &str = "name, category, description, schema, example, deprecated, replaced_by, validate, tenant, org_id";
/// Fields that a client may send back as it read them.
const READ_ONLY: [&str; 3] = ["managed_by", "created_at", "updated_at"];

/// How a caller names an event type.
#[derive(Debug, Clone, Copy)]
pub struct EventTypeKey<'a> {
    /// Its name.
    pub name: &'a str,
    /// The tenant whose catalogue is meant; `None`: the caller's own, or `default` for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
}

/// An event type that was checked and can be made.
#[derive(Debug)]
pub struct EventTypeDraft {
    tenant: String,
    definition: Arc<Definition>,
    by: Principal,
}

/// Which event types are listed; an absent field takes all.
#[derive(Debug, Clone, Copy, Default)]
pub struct EventTypeFilter<'a> {
    /// Of the catalogue of this tenant; `None`: the caller's own, or `default` for a caller of tenant `*`.
    pub tenant: Option<&'a str>,
    /// Of this category.
    pub category: Option<&'a str>,
    /// Deprecated, or not.
    pub deprecated: Option<bool>,
    /// With this text in name, category or description, whatever its case.
    pub text: Option<&'a str>,
}

impl Service {
    /// Checks the document of a new event type. `named` is the tenant that the caller names beside the document.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the tenant; each field that is wrong, by its JSON pointer.
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

    /// Makes an event type.
    ///
    /// # Errors
    /// If the name is taken, or the registry takes no change.
    pub async fn create_event_type(&self, draft: EventTypeDraft) -> Result<Arc<EventType>, Error> {
        let EventTypeDraft { tenant, definition, by } = draft;
        let made = self.writer.by(&by).put_event_type(&tenant, definition, Replaces::Nothing).await?;
        Ok(made.event_type)
    }

    /// A page of the event types that the filter takes, by name, from the first name after `after`.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the tenant.
    pub fn list_event_types(
        &self,
        principal: &Principal,
        filter: EventTypeFilter<'_>,
        page: Page,
        after: Option<&str>,
    ) -> Result<Rows<Arc<EventType>, Box<str>>, Error> {
        Operation::ReadEventTypes.permit(principal.role)?;
        let tenant = tenant_of_catalogue(principal, filter.tenant)?;
        let needle = filter.text.map(str::to_lowercase);
        let registry = self.registry.load();
        let is_wanted = |event_type: &&Arc<EventType>| {
            after.is_none_or(|after| event_type.name() > after)
                && filter.takes(&event_type.definition.settings, needle.as_deref())
        };
        let found = registry.event_types(tenant).filter(is_wanted).take(page.wanted()).cloned().collect();
        Ok(page.rows(found, None, |event_type| event_type.name().into()))
    }

    /// Reads an event type.
    ///
    /// # Errors
    /// If the role is too low, or the event type is not there for the caller.
    pub fn read_event_type(&self, principal: &Principal, key: EventTypeKey<'_>) -> Result<Arc<EventType>, Error> {
        Operation::ReadEventTypes.permit(principal.role)?;
        let tenant = tenant_of_catalogue(principal, key.tenant)?;
        let found = self.registry.load().event_type(tenant, key.name).cloned();
        found.ok_or_else(|| Error::not_found("event type"))
    }

    /// Looks whether an event type can be made or changed by the API.
    ///
    /// # Errors
    /// If the role is too low, the caller may not know of the tenant, or the configuration manages the event type.
    pub fn may_put_event_type(&self, principal: &Principal, key: EventTypeKey<'_>) -> Result<(), Error> {
        self.present_event_type(principal, key).map(drop)
    }

    /// Makes an event type, or replaces the one that is there.
    ///
    /// # Errors
    /// If the role is too low, or the caller may not know of the tenant; each field that is wrong; an event type of the
    /// configuration, or not of the expected version.
    pub async fn put_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<ChangedType, Error> {
        let (tenant, definition, version) = self.check_event_type(principal, key, document, expected)?;
        match self.writer.by(principal).put_event_type(&tenant, definition, Replaces::Any(version)).await {
            Err(EventTypeError::Changed) => Err(Error::changed_meanwhile()),
            changed => Ok(changed?),
        }
    }

    /// The definition that [`put_event_type`](Self::put_event_type) would put in force.
    ///
    /// # Errors
    /// The same.
    pub fn preview_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<Arc<Definition>, Error> {
        self.check_event_type(principal, key, document, expected).map(|(_, definition, _)| definition)
    }

    /// Removes an event type from the catalogue.
    ///
    /// # Errors
    /// If the role is too low; an event type that is not there, of the configuration, or not of the expected version.
    pub async fn delete_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(), Error> {
        let present = self.present_event_type(principal, key)?.ok_or_else(|| Error::not_found("event type"))?;
        let version = ExpectedVersion::bind(expected, present.version)?;
        let tenant = tenant_of_catalogue(principal, key.tenant)?;
        match self.writer.by(principal).remove_event_type(tenant, key.name, version).await {
            Err(EventTypeError::Changed) => Err(Error::changed_meanwhile()),
            removed => Ok(removed.map(drop)?),
        }
    }

    /// The tenant and the definition that a document puts in force, and the version that the change is bound to.
    fn check_event_type(
        &self,
        principal: &Principal,
        key: EventTypeKey<'_>,
        document: Map<String, Value>,
        expected: Option<&ExpectedVersion>,
    ) -> Result<(String, Arc<Definition>, Option<u64>), Error> {
        let present = self.present_event_type(principal, key)?;
        let (tenant, definition) = read(principal, key.tenant, document, Some(key.name))?;
        let version = match (present, expected) {
            (Some(present), expected) => ExpectedVersion::bind(expected, present.version)?,
            (None, None) => None,
            (None, Some(_)) => return Err(Error::new(ErrorKind::VersionMismatch, "there is no such event type")),
        };
        Ok((tenant, definition, version))
    }

    /// The event type, if it is there. One of the configuration is refused.
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
    /// `needle` is the text in lower case.
    fn takes(&self, settings: &Settings, needle: Option<&str>) -> bool {
        let texts = [Some(&settings.name), settings.category.as_ref(), settings.description.as_ref()];
        self.category.is_none_or(|category| settings.category.as_deref() == Some(category))
            && self.deprecated.is_none_or(|deprecated| deprecated == settings.deprecated)
            && needle.is_none_or(|needle| texts.iter().flatten().any(|text| text.to_lowercase().contains(needle)))
    }
}

/// The tenant whose catalogue is meant.
fn tenant_of_catalogue<'a>(principal: &'a Principal, named: Option<&'a str>) -> Result<&'a str, Error> {
    Ok(tenant_of(principal, named)?.unwrap_or(DEFAULT_TENANT))
}

/// The tenant and the definition that a document holds. `name` is the name that stands beside the document.
fn read(
    principal: &Principal,
    named: Option<&str>,
    mut document: Map<String, Value>,
    name: Option<&str>,
) -> Result<(String, Arc<Definition>), Error> {
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
    match Definition::try_new(settings) {
        Ok(definition) if errors.is_empty() => Ok((tenant, Arc::new(definition))),
        built => {
            let of = |Breach { pointer, detail }| FieldError { pointer, detail };
            let known = |error: &FieldError, errors: &[FieldError]| errors.iter().any(|e| e.pointer == error.pointer);
            for error in built.err().unwrap_or_default().into_iter().map(of) {
                if !known(&error, &errors) {
                    errors.push(error);
                }
            }
            Err(Error::invalid_body(errors))
        }
    }
}

/// The tenant that the document names, else the tenant that is named beside it, else the caller's own.
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

/// The fields by their kinds. A field that is not of its kind is named and left out; `null` counts as absent.
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
