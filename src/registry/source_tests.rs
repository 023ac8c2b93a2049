//! Sources through the writer thread and the file: restarts, refused changes, and reloads.

use std::path::Path;

use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::json;

use super::tests::{FailingDisk, TestRegistry, test_registry_with};
use super::*;
use crate::inbound::source::{
    FileSource, ManagedBy, PartnerToken, Source, SourceSettings, SourceStatus, file_source_id,
};
use crate::model::{Secret, SourceId};
use crate::storage::RealDisk;

const TABLE: TableDefinition<'static, u128, &[u8]> = TableDefinition::new("sources");

fn settings(value: serde_json::Value) -> SourceSettings {
    serde_json::from_value(value).unwrap()
}

fn open(name: &str) -> SourceSettings {
    SourceSettings::new(name, "none")
}

fn token_kind(name: &str, secret: &str) -> SourceSettings {
    settings(json!({
        "name": name, "kind": "token", "secrets": [secret],
        "verify": { "scheme": "token", "sig": "header:X-Token" },
    }))
}

fn setup(files: Vec<FileSource>) -> SourceSetup {
    SourceSetup { public_url: "https://hooks.example.com".into(), max_body_bytes: None, files }
}

fn of_file(settings: SourceSettings, token: Option<&PartnerToken>) -> FileSource {
    FileSource { settings, tenant: "default".into(), token: token.map(PartnerToken::hash) }
}

fn test_registry(dir: &Path, files: Vec<FileSource>) -> RegistryThread {
    let TestRegistry { running, .. } = test_registry_with(Arc::new(RealDisk), dir, Vec::new(), setup(files)).unwrap();
    running
}

/// A text with all stored fields of a source, secrets included.
fn shown(source: &Source) -> String {
    let secrets: Vec<_> = source.settings.secrets.iter().map(|s| s.value().map(|s| s.reveal().to_owned())).collect();
    let Source { id, name, tenant, settings, status, managed_by, token, url, .. } = source;
    let times = (source.created_at, source.modified_at, source.deleted_at, source.version);
    format!("{id} {name} {tenant} {settings:?} {secrets:?} {status:?} {managed_by:?} {token:?} {url} {times:?}")
}

fn names(registry: &Registry, with_deleted: bool) -> Vec<String> {
    registry.sources(None, with_deleted).map(|source| source.name.to_string()).collect()
}

fn full(name: &str) -> SourceSettings {
    settings(json!({
        "name": name, "kind": "custom", "description": "\u{1F600}", "status": "SUSPENDED",
        "secrets": [
            "canary-secret-in-the-open",
            { "value": "canary-secret-with-an-end", "until": "2030-01-01T00:00:00Z", "when": "header:X-Shop=a" },
        ],
        "verify": { "scheme": "hmac", "sig": "header:X-Sig", "encoding": "hex" },
        "id": ["header:X-Id", "json:/id"], "type": "json:/type", "dedup": "id+body", "respond": "ok",
        "event_map": [{ "when": "*", "type": "order.created" }],
        "max_body_bytes": "2 MiB", "rate_limit_rps": 2.5, "burst": 5,
    }))
}

#[tokio::test]
async fn acknowledged_changes_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let writer = &running.writer;
    let token = PartnerToken::generate();
    let one = writer.create_source("acme", full("one"), None).await.unwrap();
    let two =
        writer.create_source("default", settings(json!({ "name": "two", "kind": "partner" })), Some(&token)).await;
    let two = two.unwrap();
    let three = writer.create_source("default", open("three"), None).await.unwrap();
    let three = writer.replace_source(three.id, Some(three.version), token_kind("drei", "canary-token")).await.unwrap();
    let gone = writer.create_source("default", open("gone"), None).await.unwrap();
    let made = gone.version;
    let gone = writer.delete_source(gone.id, Some(made)).await.unwrap();
    assert!(three.version < made && made < gone.version);
    running.stop().unwrap();

    let running = test_registry(dir.path(), Vec::new());
    let registry = running.shared.load();
    for source in [&one, &two, &three, &gone] {
        assert_eq!(shown(registry.source_including_deleted(source.id).unwrap()), shown(source));
    }
    assert_eq!(registry.source_by_token(token.reveal()).map(|source| source.id), Some(two.id));
    assert_eq!(registry.source("acme", "one").map(|source| source.id), Some(one.id));
    assert!(registry.source("default", "three").is_none(), "its name changed");
    assert!(registry.source("default", "gone").is_none() && registry.source_by_id(gone.id).is_none());
    assert!(registry.tenant("acme").is_some(), "a tenant with a source is a tenant");
    assert_eq!(names(&registry, false).len(), 3);
    assert_eq!(registry.sources(Some("acme"), true).count(), 1);
    running.stop().unwrap();
}

#[tokio::test]
async fn secrets_and_tokens_are_on_the_disk_only_sealed_or_hashed() {
    let dir = tempfile::tempdir().unwrap();
    let token = PartnerToken::try_new("canary-token-of-a-partner").unwrap();
    let running = test_registry(dir.path(), vec![of_file(SourceSettings::new("file", "asana"), None)]);
    let writer = &running.writer;
    writer.create_source("default", full("one"), None).await.unwrap();
    let partner = settings(json!({ "name": "two", "kind": "partner" }));
    writer.create_source("default", partner, Some(&token)).await.unwrap();
    let asana = writer.create_source("default", SourceSettings::new("three", "asana"), None).await.unwrap();
    writer.learn_secret(asana.id, Secret::new("canary-secret-learned")).await.unwrap();
    writer.learn_secret(file_source_id("default", "file"), Secret::new("canary-secret-of-the-file")).await.unwrap();
    running.stop().unwrap();
    let bytes = std::fs::read(dir.path().join("registry.redb")).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("header:X-Sig"), "settings are in the open");
    assert!(!has("canary"), "secrets are not");
    assert!(!has("header:X-Shop"), "nor whom they are for");
}

#[tokio::test]
async fn an_invalid_change_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let token = PartnerToken::generate();
    let running = test_registry(dir.path(), vec![of_file(open("file"), None)]);
    let writer = &running.writer;
    let partner = |name: &str| settings(json!({ "name": name, "kind": "partner" }));
    let one = writer.create_source("default", open("one"), None).await.unwrap();
    writer.create_source("default", partner("two"), Some(&token)).await.unwrap();
    writer.create_source("acme", open("one"), None).await.expect("another tenant's names are its own");

    let before = names(&running.shared.load(), true);
    let refused = |answer: Result<Arc<Source>, SourceError>| answer.err().unwrap();
    assert_eq!(refused(writer.create_source("default", open("one"), None).await), SourceError::NameTaken);
    assert_eq!(refused(writer.create_source("default", open("file"), None).await), SourceError::NameTaken);
    assert_eq!(refused(writer.create_source("default", partner("three"), Some(&token)).await), SourceError::TokenTaken);
    assert_eq!(refused(writer.replace_source(one.id, Some(7), open("uno")).await), SourceError::Changed);
    assert_eq!(refused(writer.replace_source(one.id, None, open("two")).await), SourceError::NameTaken);
    assert_eq!(refused(writer.rotate_token(one.id, None, &PartnerToken::generate()).await), SourceError::NoToken);
    assert_eq!(refused(writer.delete_source(SourceId::from_u128(1), None).await), SourceError::NotFound);
    assert_eq!(refused(writer.restore_source(SourceId::from_u128(1)).await), SourceError::NotFound);
    let file = file_source_id("default", "file");
    assert_eq!(refused(writer.replace_source(file, None, open("x")).await), SourceError::ManagedByFile);
    assert_eq!(refused(writer.delete_source(file, None).await), SourceError::ManagedByFile);
    for (settings, token, pointers) in [
        (open("events"), None, &["/name"][..]),
        (open("wh_1"), None, &["/name"]),
        (partner("x"), None, &["/kind"]),
        (open("x"), Some(PartnerToken::generate()), &["/token"]),
        (settings(json!({ "name": "A", "kind": "nobody" })), None, &["/name", "/kind"]),
    ] {
        let SourceError::Invalid(errors) = refused(writer.create_source("default", settings, token.as_ref()).await)
        else {
            panic!("the settings are wrong")
        };
        assert_eq!(errors.iter().map(|error| &*error.pointer).collect::<Vec<_>>(), pointers);
    }
    assert_eq!(names(&running.shared.load(), true), before);
    running.stop().unwrap();
}

#[tokio::test]
async fn only_one_of_several_changes_of_the_same_version_succeeds() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let one = running.writer.create_source("default", open("one"), None).await.unwrap();
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..20 {
        let (writer, id) = (running.writer.clone(), one.id);
        changes.spawn(async move { writer.replace_source(id, Some(1), open(&format!("name{n}"))).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = changes.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 19));
    assert!(refused.iter().all(|answer| matches!(answer, Err(SourceError::Changed))));
    let made = made[0].as_ref().unwrap();
    assert_eq!(running.shared.load().source("default", &made.name).map(|source| source.version), Some(2));
    assert_eq!(names(&running.shared.load(), true).len(), 1);
    running.stop().unwrap();
}

#[tokio::test]
async fn a_rotated_token_is_invalid_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let (old, new) = (PartnerToken::generate(), PartnerToken::generate());
    let partner = settings(json!({ "name": "acme", "kind": "partner", "status": "inactive" }));
    let acme = running.writer.create_source("default", partner, Some(&old)).await.unwrap();
    let id = |token: &PartnerToken| running.shared.load().source_by_token(token.reveal()).map(|source| source.id);
    assert_eq!((id(&old), id(&new)), (Some(acme.id), None), "it is found whatever its status");
    let rotated = running.writer.rotate_token(acme.id, Some(1), &new).await.unwrap();
    assert_eq!((id(&old), id(&new)), (None, Some(acme.id)));
    assert_eq!(&*rotated.token.as_ref().unwrap().hint, &new.reveal()[20..]);
    let changed = running.writer.replace_source(acme.id, None, settings(json!({ "name": "acme", "kind": "partner" })));
    assert_eq!(changed.await.unwrap().token, rotated.token, "other changes keep it");
    assert_eq!(id(&new), Some(acme.id));
    running.writer.replace_source(acme.id, None, open("acme")).await.unwrap();
    assert_eq!(id(&new), None, "who is no partner any more has none");
    running.stop().unwrap();
}

#[tokio::test]
async fn a_deleted_source_can_be_restored_while_its_name_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let writer = &running.writer;
    let token = PartnerToken::generate();
    let partner = settings(json!({ "name": "acme", "kind": "partner" }));
    let acme = writer.create_source("default", partner, Some(&token)).await.unwrap();
    writer.delete_source(acme.id, None).await.unwrap();
    assert!(running.shared.load().source_by_token(token.reveal()).is_none());
    assert_eq!(writer.delete_source(acme.id, None).await.err(), Some(SourceError::NotFound));
    assert_eq!(writer.replace_source(acme.id, None, open("acme")).await.err(), Some(SourceError::NotFound));
    assert_eq!(names(&running.shared.load(), false), Vec::<String>::new());
    assert_eq!(names(&running.shared.load(), true), ["acme"]);

    let other = writer.create_source("default", open("acme"), None).await.unwrap();
    assert_eq!(writer.restore_source(acme.id).await.err(), Some(SourceError::NameTaken));
    let other = writer.replace_source(other.id, None, open("other")).await.unwrap();
    let restored = writer.restore_source(acme.id).await.unwrap();
    assert_eq!(restored.deleted_at, None);
    assert!(restored.version > other.version, "one counter for all");
    assert_eq!(writer.restore_source(acme.id).await.unwrap().version, restored.version, "it is there already");
    let registry = running.shared.load();
    assert_eq!(registry.source_by_token(token.reveal()).map(|source| source.id), Some(acme.id));
    assert_eq!(registry.source("default", "acme").map(|source| source.id), Some(acme.id));
    assert_eq!(registry.source("default", "other").map(|source| source.id), Some(other.id));
    drop(registry);
    running.stop().unwrap();
}

#[tokio::test]
async fn a_reload_adds_the_sources_of_the_file_which_hide_sources_with_their_name() {
    let dir = tempfile::tempdir().unwrap();
    let token = PartnerToken::generate();
    let partner = || of_file(settings(json!({ "name": "partner", "kind": "partner" })), Some(&token));
    let running =
        test_registry(dir.path(), vec![of_file(token_kind("one", "one-secret-of-the-file"), None), partner()]);
    let writer = &running.writer;
    let shared = &running.shared;
    let of_api = writer.create_source("default", open("two"), None).await.unwrap();
    let one = Arc::clone(shared.load().source("default", "one").unwrap());
    assert_eq!((one.id, one.managed_by), (file_source_id("default", "one"), ManagedBy::File));
    assert_eq!(&*one.url, "https://hooks.example.com/api/v1/webhooks/one");
    assert!(shared.load().source_by_token(token.reveal()).is_some());

    // An unchanged source, a changed secret, and a source that hides one of the API.
    let same = token_kind("one", "one-secret-of-the-file");
    writer.set_sources(setup(vec![of_file(same, None), of_file(open("two"), None)])).await.unwrap();
    assert_eq!(shared.load().source("default", "one").map(|source| source.version), Some(one.version));
    assert_eq!(shared.load().source("default", "two").map(|source| source.id), Some(file_source_id("default", "two")));
    assert_eq!(shared.load().source_by_id(of_api.id).map(|source| source.id), Some(of_api.id));
    assert!(shared.load().source_by_token(token.reveal()).is_none(), "the partner is gone");

    // The source can still be changed if it keeps its name.
    let two =
        writer.replace_source(of_api.id, None, SourceSettings { description: Some("x".into()), ..open("two") }).await;
    let changed = two.unwrap().version;
    assert_ne!(changed, of_api.version);

    let elsewhere = SourceSetup { public_url: "https://other.example.com".into(), ..setup(Vec::new()) };
    let another = token_kind("one", "two-secret-of-the-file");
    writer.set_sources(SourceSetup { files: vec![of_file(another, None)], ..elsewhere }).await.unwrap();
    assert!(shared.load().source("default", "one").is_some_and(|source| source.version > one.version));
    let two = Arc::clone(shared.load().source("default", "two").unwrap());
    assert_eq!((two.id, &*two.url), (of_api.id, "https://other.example.com/api/v1/webhooks/two"));
    assert_eq!(two.version, changed, "another URL is no change of its own");
    running.stop().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    assert_eq!(names(&running.shared.load(), true), ["two"], "what the file names is not stored");
    running.stop().unwrap();
}

#[tokio::test]
async fn the_default_body_limit_is_not_stored_with_a_source() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let one = running.writer.create_source("default", open("one"), None).await.unwrap();
    assert_eq!(one.max_body_bytes, crate::limits::SOURCE_BODY_BYTES_DEFAULT);
    running.writer.set_sources(SourceSetup { max_body_bytes: Some(2 << 20), ..setup(Vec::new()) }).await.unwrap();
    let one = Arc::clone(running.shared.load().source_by_id(one.id).unwrap());
    assert_eq!((one.max_body_bytes, &one.settings.max_body_bytes), (2 << 20, &None));
    running.stop().unwrap();
}

/// A stored kind that this version does not know, such as one of a later or an earlier version.
#[tokio::test]
async fn a_source_that_no_longer_compiles_is_kept_as_inactive() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let id = running.writer.create_source("default", full("one"), None).await.unwrap().id;
    running.stop().unwrap();
    rewrite(dir.path(), id, "\"kind\":\"custom\"", "\"kind\":\"vanished\"");

    let running = test_registry(dir.path(), Vec::new());
    let one = Arc::clone(running.shared.load().source("default", "one").unwrap());
    assert_eq!((one.status, one.settings.kind.as_str(), one.secrets.len()), (SourceStatus::Inactive, "vanished", 0));
    assert!(one.warnings[0].contains("/kind"), "{:?}", one.warnings);
    assert_eq!(one.settings.secrets.len(), 2, "its settings are whole");
    let taken = running.writer.create_source("default", open("one"), None).await.err();
    assert_eq!(taken, Some(SourceError::NameTaken));
    running.writer.delete_source(id, None).await.unwrap();
    running.writer.restore_source(id).await.unwrap();
    running.stop().unwrap();
    rewrite(dir.path(), id, "\"kind\":\"vanished\"", "\"kind\":\"custom\"");

    let running = test_registry(dir.path(), Vec::new());
    let one = Arc::clone(running.shared.load().source("default", "one").unwrap());
    assert_eq!((one.status, one.secrets.len()), (SourceStatus::Suspended, 2));
    running.stop().unwrap();
}

#[tokio::test]
async fn a_record_that_was_moved_to_another_source_cannot_be_decrypted() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let one = running.writer.create_source("default", full("one"), None).await.unwrap().id;
    running.stop().unwrap();
    let database = Database::open(dir.path().join("registry.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut table = write.open_table(TABLE).unwrap();
        let bytes = table.remove(one.as_u128()).unwrap().unwrap().value().to_vec();
        table.insert(one.as_u128() + 1, &*bytes).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    let refused = test_registry_with(Arc::new(RealDisk), dir.path(), Vec::new(), setup(Vec::new())).err().unwrap();
    assert!(matches!(refused, RegistryStoreError::Source { id, .. } if id.as_u128() == one.as_u128() + 1), "{refused}");
}

fn rewrite(dir: &Path, id: SourceId, from: &str, to: &str) {
    let database = Database::open(dir.join("registry.redb")).unwrap();
    let read = database.begin_read().unwrap();
    let row = read.open_table(TABLE).unwrap().get(id.as_u128()).unwrap().unwrap().value().to_vec();
    drop(read);
    let text = String::from_utf8(row).unwrap();
    assert!(text.contains(from), "{text}");
    let write = database.begin_write().unwrap();
    write.open_table(TABLE).unwrap().insert(id.as_u128(), text.replace(from, to).as_bytes()).unwrap();
    write.commit().unwrap();
}

#[tokio::test]
async fn a_file_of_an_earlier_version_gets_the_new_tables() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    running.stop().unwrap();
    let database = Database::open(dir.path().join("registry.redb")).unwrap();
    let tables = database.begin_read().unwrap().list_tables().unwrap().count();
    assert_eq!(tables, 3, "webhooks, tombstones, and the format: as it is before the first source");
    drop(database);
    let running = test_registry(dir.path(), Vec::new());
    running.writer.create_source("default", open("one"), None).await.unwrap();
    running.stop().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    assert_eq!(names(&running.shared.load(), true), ["one"]);
    running.stop().unwrap();
}

#[tokio::test]
async fn many_sources_are_listed_newest_first_and_found_by_token() {
    let dir = tempfile::tempdir().unwrap();
    let running = test_registry(dir.path(), Vec::new());
    let mut made = tokio::task::JoinSet::new();
    for n in 0..300 {
        let writer = running.writer.clone();
        made.spawn(async move {
            let token = PartnerToken::generate();
            let partner = settings(json!({ "name": format!("p{n}"), "kind": "partner" }));
            (writer.create_source("default", partner, Some(&token)).await.unwrap().id, token)
        });
    }
    let made = made.join_all().await;
    let registry = running.shared.load();
    for (id, token) in &made {
        assert_eq!(registry.source_by_token(token.reveal()).map(|source| source.id), Some(*id));
        let name = registry.source_by_id(*id).unwrap().name.clone();
        assert_eq!(registry.source("default", &name).map(|source| source.id), Some(*id));
    }
    let times: Vec<_> = registry.sources(Some("default"), false).map(|source| source.created_at).collect();
    assert_eq!(times.len(), 300);
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]));
    drop(registry);
    running.stop().unwrap();
}

#[tokio::test]
async fn a_handshake_secret_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let files = || vec![of_file(SourceSettings::new("file", "asana"), None)];
    let running = test_registry(dir.path(), files());
    let writer = &running.writer;
    let of_api = writer.create_source("default", SourceSettings::new("api", "asana"), None).await.unwrap().id;
    let of_file = file_source_id("default", "file");
    for id in [of_api, of_file] {
        let secret = || Secret::new("a-secret-of-a-handshake");
        let learned = writer.learn_secret(id, secret()).await.unwrap();
        assert_eq!(learned.secrets.len(), 1);
        assert_eq!(writer.learn_secret(id, secret()).await.err(), Some(SourceError::HasSecret));
    }
    let blank = writer.create_source("default", SourceSettings::new("blank", "asana"), None).await.unwrap().id;
    assert!(matches!(writer.learn_secret(blank, Secret::new(" ")).await, Err(SourceError::Invalid(_))));
    writer.set_sources(setup(files())).await.unwrap();
    let version =
        |running: &RegistryThread, id| running.shared.load().source_by_id(id).map(|s| (s.secrets.len(), s.version));
    let reloaded = version(&running, of_file);
    writer.set_sources(setup(files())).await.unwrap();
    assert_eq!(version(&running, of_file), reloaded, "a reload changes nothing");
    let learned = version(&running, of_api);
    running.stop().unwrap();

    let running = test_registry(dir.path(), files());
    assert_eq!(version(&running, of_api), learned);
    assert_eq!(version(&running, of_file).map(|(secrets, _)| secrets), Some(1));
    running.stop().unwrap();
}

#[tokio::test]
async fn a_change_on_a_full_disk_changes_nothing_and_the_sources_of_the_file_stay() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let files = setup(vec![of_file(open("file"), None)]);
    let TestRegistry { running, .. } =
        test_registry_with(Arc::new(disk.clone()), dir.path(), Vec::new(), files).unwrap();
    let writer = &running.writer;
    let one = writer.create_source("default", open("one"), None).await.unwrap();
    disk.fail(nix::errno::Errno::ENOSPC);
    for _ in 0..2 {
        let refused = writer.replace_source(one.id, None, open("uno")).await.err();
        assert_eq!(refused, Some(SourceError::Unavailable(ChangeError::DiskFull)));
        assert_eq!(names(&running.shared.load(), true), ["file", "one"]);
    }
    disk.mend();
    let uno = writer.replace_source(one.id, None, open("uno")).await.unwrap();
    assert!(uno.version > one.version);
    assert_eq!(names(&running.shared.load(), true), ["file", "uno"]);
    running.stop().unwrap();
}
