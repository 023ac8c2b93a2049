//! Sources, event types, keys, tenants and the audit log: required roles, tenant isolation, limits on grants.

use super::*;
use crate::service::audit::AuditFilter;
use crate::service::event_type::{EventTypeFilter, EventTypeKey};
use crate::service::key::KeyFilter;
use crate::service::source::{SourceFilter, SourceKey};

/// A caller for each role, of tenant `default` and of tenant `*`.
fn callers() -> Vec<Principal> {
    let roles = [Role::Publisher, Role::Viewer, Role::Member, Role::Admin];
    roles.into_iter().flat_map(|role| [principal("default", role), Principal::new(None, role)]).collect()
}

/// A partner source without token and secret, which the server generates.
fn partner() -> Map<String, Value> {
    let verify = json!({"scheme": "hmac", "sig": "header:X-Signature", "encoding": "hex"});
    document(&json!({"name": "crm", "kind": "partner", "verify": verify}))
}

#[tokio::test]
async fn each_operation_on_tenant_resources_refuses_a_lesser_role() {
    use Operation::{
        ChangeEventTypes, ChangeKeys, ChangeSources, CreateTenant, ReadAudit, ReadEventTypes, ReadKeys, ReadSources,
        ReadTenants,
    };
    let world = world();
    let service = &world.service;
    let source = SourceKey { of: SourceRef::Name("absent"), tenant: None };
    let event_type = EventTypeKey { name: "absent", tenant: None };
    let key = crate::model::KeyId::from_u128(1);
    for by in &callers() {
        let none = Map::new;
        let answers = [
            (ReadSources, service.read_source(by, source).err()),
            (ReadSources, service.read_deleted_source(by, source).err()),
            (ReadSources, service.list_sources(by, SourceFilter::default(), PAGE, None).err()),
            (ReadSources, service.source_rejections(by, source, 1).err()),
            (ChangeSources, service.draft_source(by, none()).err()),
            (ChangeSources, service.may_change_source(by, source).err()),
            (ChangeSources, service.patch_source(by, source, none(), None).await.err()),
            (ChangeSources, service.delete_source(by, source, None).await.err()),
            (ChangeSources, service.restore_source(by, source, None, None).await.err()),
            (ChangeSources, service.draft_source_secret(by, source, none(), None).err()),
            (ChangeSources, service.draft_source_token(by, source, none(), None).err()),
            (ReadEventTypes, service.read_event_type(by, event_type).err()),
            (ReadEventTypes, service.list_event_types(by, EventTypeFilter::default(), PAGE, None).err()),
            (ChangeEventTypes, service.draft_event_type(by, None, none()).err()),
            (ChangeEventTypes, service.may_put_event_type(by, event_type).err()),
            (ChangeEventTypes, service.put_event_type(by, event_type, none(), None).await.err()),
            (ChangeEventTypes, service.preview_event_type(by, event_type, none(), None).err()),
            (ChangeEventTypes, service.delete_event_type(by, event_type, None).await.err()),
            (ReadKeys, service.read_key(by, key).err()),
            (ReadKeys, service.list_keys(by, KeyFilter::default(), PAGE, None).err()),
            (ChangeKeys, service.draft_key(by, none()).err()),
            (ChangeKeys, service.revoke_key(by, key).await.err()),
            (ReadTenants, service.list_tenants(by, None, PAGE, None).err()),
            (ReadAudit, service.list_audit(by, AuditFilter::default(), PAGE, None).await.err()),
        ];
        for (operation, error) in answers {
            let is_refused = error.is_some_and(|error| error.kind == ErrorKind::Forbidden);
            assert_eq!(is_refused, by.role < operation.required_role(), "{operation:?} by {:?}", by.role);
        }
        let may_create = by.tenant.is_none() && by.role >= CreateTenant.required_role();
        let refused = service.draft_tenant(by, none()).unwrap_err().kind == ErrorKind::Forbidden;
        assert_eq!(refused, !may_create, "{by:?}");
    }
}

#[tokio::test]
async fn a_key_grants_no_more_than_its_creator_has() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Admin));
    for (wrong, pointer) in [
        (json!({"role": "viewer", "tenant": "acme"}), "/tenant"),
        (json!({"role": "viewer", "tenant": "*"}), "/tenant"),
        (json!({"role": "viewer", "expires_at": "2020-01-01T00:00:00Z"}), "/expires_at"),
        (json!({}), "/role"),
    ] {
        let error = service.draft_key(&by, document(&wrong)).unwrap_err();
        assert_eq!(error.errors.iter().map(|error| &*error.pointer).collect::<Vec<_>>(), [pointer], "{wrong}");
    }
    let made = service.draft_key(&by, document(&json!({"role": "member"}))).unwrap();
    let made = service.create_key(made, None).await.unwrap();
    let registry = service.registry.load();
    let caller = registry.authenticate_api_key(made.secret.reveal(), service.clock.now()).unwrap();
    assert_eq!((caller.role, caller.tenant.as_deref()), (Role::Member, Some("default")));
}

#[tokio::test]
async fn resources_of_another_tenant_are_not_found() {
    let world = world();
    let (service, own, other) = (&world.service, principal("default", Role::Admin), principal("acme", Role::Admin));
    let all = Principal::new(None, Role::Admin);

    let new = partner();
    let created = service.create_source(service.draft_source(&own, new).unwrap(), None).await.unwrap();
    assert!(created.token.is_some() && created.secret.is_some(), "both are made here");
    let of = |of| SourceKey { of, tenant: None };
    for key in [of(SourceRef::Id(created.source.id)), of(SourceRef::Name("crm"))] {
        assert_eq!(service.read_source(&own, key).unwrap().id, created.source.id);
        assert_eq!(service.read_source(&other, key).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(service.delete_source(&other, key, None).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    let named = SourceKey { of: SourceRef::Name("crm"), tenant: Some("default") };
    assert_eq!(service.read_source(&all, named).unwrap().id, created.source.id);
    assert_eq!(service.read_source(&other, named).unwrap_err().detail, "there is no such tenant");

    let new = document(&json!({"name": "order.created"}));
    service.create_event_type(service.draft_event_type(&own, None, new).unwrap(), None).await.unwrap();
    let key = EventTypeKey { name: "order.created", tenant: None };
    assert!(service.read_event_type(&own, key).is_ok());
    assert_eq!(service.read_event_type(&other, key).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(service.delete_event_type(&other, key, None).await.unwrap_err().kind, ErrorKind::NotFound);

    let new = service.draft_key(&own, document(&json!({"role": "viewer"}))).unwrap();
    let made = service.create_key(new, None).await.unwrap().key.id;
    assert!(service.read_key(&own, made).is_ok() && service.read_key(&all, made).is_ok());
    assert_eq!(service.revoke_key(&other, made).await.unwrap_err().kind, ErrorKind::NotFound);

    let seen = service.list_audit(&other, AuditFilter::default(), PAGE, None).await.unwrap();
    assert!(seen.rows.is_empty(), "{seen:?}");
    let filter = AuditFilter { action: Some("key.*"), ..AuditFilter::default() };
    assert_eq!(service.list_audit(&own, filter, PAGE, None).await.unwrap().rows.len(), 1);
    let filter = AuditFilter { tenant: Some("default"), ..AuditFilter::default() };
    let error = service.list_audit(&other, filter, PAGE, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_source_changes_only_from_the_expected_version() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Member));
    let new = partner();
    let made = service.create_source(service.draft_source(&by, new).unwrap(), None).await.unwrap();
    let key = SourceKey { of: SourceRef::Id(made.source.id), tenant: None };
    let (wrong, right) = (ExpectedVersion::OneOf(vec![99]), ExpectedVersion::OneOf(vec![made.source.version]));
    let patch = || document(&json!({"description": "CRM"}));
    let error = service.patch_source(&by, key, patch(), Some(&wrong)).await.unwrap_err();
    assert_eq!((error.kind, error.current_version), (ErrorKind::VersionMismatch, Some(made.source.version)));
    let changed = service.patch_source(&by, key, patch(), Some(&right)).await.unwrap();
    assert_eq!(changed.settings.description.as_deref(), Some("CRM"));

    let draft = service.draft_source_secret(&by, key, Map::new(), Some(&ExpectedVersion::Current)).unwrap();
    let token = service.draft_source_token(&by, key, Map::new(), None).unwrap();
    let rotated = service.rotate_source_token(token, None).await.unwrap();
    assert!(rotated.token.is_some() && rotated.secret.is_none());
    let error = service.rotate_source_secret(draft, None).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "another change came between");
    let given = document(&json!({"token": "a-token-of-22-characters"}));
    assert_eq!(service.draft_source_token(&by, key, given, None).unwrap_err().kind, ErrorKind::Forbidden);
}

#[tokio::test]
async fn a_list_continues_where_it_stopped() {
    let world = world();
    let (service, by) = (&world.service, principal("default", Role::Admin));
    for name in ["a", "b", "c"] {
        let new = document(&json!({"name": name}));
        service.create_event_type(service.draft_event_type(&by, None, new).unwrap(), None).await.unwrap();
    }
    let page = PageRequest { limit: 2, skip: 0 };
    let first = service.list_event_types(&by, EventTypeFilter::default(), page, None).unwrap();
    let rest = service.list_event_types(&by, EventTypeFilter::default(), page, first.next.as_deref()).unwrap();
    let names = |rows: &ListPage<_, _>| {
        rows.rows
            .iter()
            .map(|row: &Arc<crate::registry::catalogue::EventType>| row.name().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!((names(&first), names(&rest)), (vec!["a".into(), "b".into()], vec!["c".to_owned()]));
    assert_eq!((first.next.as_deref(), rest.next.as_deref()), (Some("b"), None));
}
