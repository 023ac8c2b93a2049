//! Tests of the whole registry: a folder, the writer thread, and readers.

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;

use data_encoding::BASE64;
use hyper::http::uri::PathAndQuery;
use hyper::http::{HeaderName, HeaderValue};
use redb::{BackendError, Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use tokio::sync::mpsc;

use super::*;
use crate::config::ApiKey;
use crate::filter::EventFields;
use crate::handoff::{DisableReason, SettleCommand, SettleHandle, Shards, StatusChange, ToSettle, ToShard};
use crate::model::{
    DeadReason, EventPattern, RateLimit, RetryPolicy, Role, Secret, Timestamp, WebhookId, WebhookNo, WebhookStatus,
};
use crate::outbound::profile::Profiles;
use crate::outbound::tls::{EndpointTls, TlsSettings};
use crate::outbound::{Credentials, Endpoint, EndpointAuth, SigningKeys, Webhook, WebhookSettings};
use crate::runtime::{Clock, Metrics, Random};
use crate::signature::{SigningKey, SigningKind};
use crate::storage::{Backend, Disk, FileSize, RealDisk};

pub(crate) fn draft(tenant: &str, patterns: &[&str], status: WebhookStatus) -> WebhookSettings {
    let endpoint = Endpoint {
        url: "https://example.com/hook?a=b".into(),
        tls: true,
        host: "example.com".into(),
        port: 443,
        authority: HeaderValue::from_static("example.com"),
        target: PathAndQuery::from_static("/hook?a=b"),
        subject: None,
    };
    let key = SigningKey::try_new(Secret::new(format!("whsec_{}", BASE64.encode(&[42; 24])))).unwrap();
    let keys = SigningKeys { current: Arc::new(key), previous: Vec::new() };
    WebhookSettings {
        status,
        events: patterns.iter().map(|text| EventPattern::try_new(text).unwrap()).collect(),
        ..WebhookSettings::new(tenant.into(), endpoint, keys)
    }
}

/// A webhook whose id follows from its number.
pub(crate) fn webhook(no: u32, tenant: &str, patterns: &[&str], status: WebhookStatus) -> Webhook {
    let id = WebhookId::from_u128(u128::from(no) + 1000);
    let (at, settings) = (Timestamp::default(), draft(tenant, patterns, status));
    Webhook { no: WebhookNo(no), id, settings, created_at: at, updated_at: at, version: 1, address_version: 1 }
}

pub(crate) struct TestRegistry {
    pub(crate) running: RegistryThread,
    pub(crate) shards: Vec<mpsc::Receiver<ToShard>>,
    pub(crate) settle: crossbeam_channel::Receiver<ToSettle>,
}

/// The time at the start of a test.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_711_015_200_120);

pub(crate) fn test_registry(dir: &Path, keys: Vec<ApiKey>) -> Result<TestRegistry, RegistryStoreError> {
    test_registry_on(Arc::new(RealDisk), dir, keys)
}

pub(super) fn test_registry_on(
    disk: Arc<dyn Disk>,
    dir: &Path,
    keys: Vec<ApiKey>,
) -> Result<TestRegistry, RegistryStoreError> {
    test_registry_with(disk, dir, keys, SourceSetup::default())
}

pub(super) fn test_registry_with(
    disk: Arc<dyn Disk>,
    dir: &Path,
    keys: Vec<ApiKey>,
    sources: SourceSetup,
) -> Result<TestRegistry, RegistryStoreError> {
    let (shards, inboxes) = Shards::channels(2);
    let (handle, messages, _wakeup) = SettleHandle::channel();
    let running = start(RegistryOptions {
        dir,
        disk,
        access: keys.into(),
        sources,
        event_types: catalogue::CatalogueSetup::default(),
        profiles: Profiles::default(),
        clock: Clock::test(NOW),
        // Not seeded: a registry that is started again within a millisecond would make the same ids again.
        random: Random::system(),
        shards,
        settle: handle,
        metrics: Metrics::new().unwrap(),
    })?;
    Ok(TestRegistry { running, shards: inboxes, settle: messages })
}

/// A text with all fields of a webhook, secrets included.
fn shown(webhook: &Webhook) -> String {
    let headers: Vec<_> = webhook.headers.iter().map(|(n, v)| (n, v.as_bytes(), v.is_sensitive())).collect();
    let secrets = webhook.keys.previous.iter().map(|(key, until)| (key.secret.reveal(), until)).collect::<Vec<_>>();
    let auth = webhook.auth.as_ref().map(|auth| (auth.header(), auth.header().1.is_sensitive()));
    let key = webhook.tls.as_ref().and_then(|tls| tls.settings().client_key.as_ref()).map(Secret::reveal);
    let value = webhook.auth.as_ref().map(|auth| auth.header().1.as_bytes());
    format!("{webhook:?} {headers:?} {} {secrets:?} {auth:?} {value:?} {key:?}", webhook.keys.current.secret.reveal())
}

const CLIENT_KEY: &str = include_str!("../../tests/data/tls/client-one.key");

fn full() -> WebhookSettings {
    let mut token = HeaderValue::from_static("Bearer canary-in-a-header");
    token.set_sensitive(true);
    let key =
        |byte: u8| Arc::new(SigningKey::try_new(Secret::new(format!("whsec_{}", BASE64.encode(&[byte; 32])))).unwrap());
    let credentials = Credentials::Header {
        name: HeaderName::from_static("x-api-key"),
        value: Secret::new("canary-in-the-credentials"),
    };
    let tls = TlsSettings {
        ca: Some(include_str!("../../tests/data/tls/ca.pem").into()),
        client_certificate: Some(include_str!("../../tests/data/tls/client-one.pem").into()),
        client_key: Some(Secret::new(CLIENT_KEY)),
    };
    WebhookSettings {
        keys: SigningKeys {
            current: key(1),
            previous: vec![(key(2), Timestamp::from_millis(99)), (key(3), Timestamp::from_millis(98))],
        },
        retry_policy: Some(RetryPolicy::Backoff {
            max_retries: 3,
            retry_delay: std::time::Duration::from_secs(60),
            backoff_permille: 1500,
            max_delay: std::time::Duration::from_secs(3600),
        }),
        timeout: Some(std::time::Duration::from_millis(2500)),
        max_in_flight: Some(3),
        rate_limit: Some(RateLimit { per_second: 2.5, burst: 5 }),
        headers: vec![
            (HeaderName::from_static("authorization"), token),
            (HeaderName::from_static("x-team"), HeaderValue::from_static("a \"b\"")),
        ],
        auth: Some(Arc::new(EndpointAuth::try_new(credentials).unwrap())),
        tls: Some(Arc::new(EndpointTls::try_new(tls).unwrap())),
        name: Some("name".into()),
        description: Some("\u{1F600}".into()),
        user_id: Some("7".into()),
        metadata: r#"{"a":[1,2.50]}"#.into(),
        ..draft("acme", &["order.*", "a", "*"], WebhookStatus::Paused)
    }
}

#[tokio::test]
async fn acknowledged_changes_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    let one = writer.create(full()).await.unwrap();
    let two = writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    let schedule = RetryPolicy::Schedule([std::time::Duration::from_millis(1)].into());
    let changed = WebhookSettings { retry_policy: Some(schedule), name: Some("new".into()), ..two.settings.clone() };
    let two = writer.replace(two.no, two.version, changed).await.unwrap();
    let gone = writer.create(draft("other", &["a"], WebhookStatus::Active)).await.unwrap();
    writer.remove(gone.no, None).await.unwrap();
    running.stop().unwrap();

    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let registry = running.shared.load();
    for webhook in [&one, &two] {
        assert_eq!(shown(registry.webhook_by_id(webhook.id).unwrap()), shown(webhook));
    }
    assert!(two.version > one.version && two.no == WebhookNo(1));
    assert!(registry.webhook_by_id(gone.id).is_none());
    assert_eq!(registry.webhook_entry_by_id(gone.id).map(|known| &**known.tenant()), Some("other"));
    assert_eq!(
        registry
            .matching(&EventFields { tenant: "acme", event_type: "order.created", ..EventFields::default() }, NOW)
            .receivers
            .to_vec(),
        [one.no]
    );
    let next = running.writer.create(draft("default", &[], WebhookStatus::Active)).await.unwrap();
    assert_eq!(next.no, WebhookNo(3), "the number of a removed webhook is not used again");
    running.stop().unwrap();
}

#[tokio::test]
async fn shards_and_settle_are_informed_of_changes() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, mut shards, settle } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    let mut webhooks = Vec::new();
    for _ in 0..4 {
        webhooks.push(writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap());
    }
    assert!(shards.iter_mut().all(|shard| shard.try_recv().is_err()), "a new webhook concerns no shard yet");
    let paused = WebhookSettings { status: WebhookStatus::Paused, ..webhooks[0].settings.clone() };
    let paused_at = writer.replace(WebhookNo(0), webhooks[0].version, paused.clone()).await.unwrap().version;
    let inactive = WebhookSettings { status: WebhookStatus::Inactive, ..paused };
    let inactive_at = writer.replace(WebhookNo(0), paused_at, inactive).await.unwrap().version;
    let active = writer.replace(WebhookNo(0), inactive_at, webhooks[0].settings.clone()).await.unwrap();
    let endpoint = Endpoint { url: "https://other.example/".into(), ..webhooks[0].settings.endpoint.clone() };
    let moved = WebhookSettings { endpoint, ..webhooks[0].settings.clone() };
    writer.replace(WebhookNo(0), active.version, moved).await.unwrap();
    assert!(writer.disable(WebhookNo(1), DisableReason::Gone) && writer.disable(WebhookNo(1), DisableReason::Failing));
    writer.remove(WebhookNo(3), None).await.unwrap();
    assert!(writer.disable(WebhookNo(3), DisableReason::Gone), "of a removed webhook it is no fault");
    assert_eq!(writer.remove(WebhookNo(3), None).await, Err(ChangeError::NotFound));

    let mut heard = Vec::new();
    for (at, shard) in shards.iter_mut().enumerate() {
        while let Ok(message) = shard.try_recv() {
            let ToShard::Changed(changed) = message else { panic!("{message:?}") };
            heard.extend(changed.into_iter().map(|no| (at, no.0)));
        }
    }
    assert_eq!(heard, [(0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 3)]);
    let (mut abandoned, mut changes) = (Vec::new(), Vec::new());
    for message in settle.try_iter() {
        match message {
            ToSettle::Command(SettleCommand::Abandon { webhook, reason }) => abandoned.push((webhook.0, reason)),
            ToSettle::Command(SettleCommand::StatusChanged { webhook, change }) => changes.push((webhook.0, change)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(abandoned, [(1, DeadReason::Disabled), (3, DeadReason::Removed)]);
    let restarted = (0, StatusChange::Restarted);
    let disabled = (1, StatusChange::Disabled(Some(DisableReason::Gone)));
    assert_eq!(changes, [restarted, restarted, disabled, (3, StatusChange::Removed)]);
    let registry = running.shared.load();
    assert_eq!(registry.webhook(WebhookNo(1)).map(|w| w.status), Some(WebhookStatus::Failed));
    assert_eq!(registry.abandon_reason(WebhookNo(1)), Some(DeadReason::Disabled));
    assert_eq!(registry.abandon_reason(WebhookNo(0)), None);
    drop(registry);
    running.stop().unwrap();
}

#[tokio::test]
async fn the_second_change_of_the_same_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let made = running.writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    let change = |name: &str| {
        let draft = WebhookSettings { name: Some(name.into()), ..made.settings.clone() };
        running.writer.replace(made.no, made.version, draft)
    };
    let (one, two) = tokio::join!(change("one"), change("two"));
    assert_eq!(one.unwrap().name.as_deref(), Some("one"));
    assert_eq!(two.err(), Some(ChangeError::Changed));
    assert_eq!(running.writer.remove(made.no, Some(1)).await, Err(ChangeError::Changed));
    assert_eq!(running.writer.remove(made.no, Some(2)).await, Ok(()));
    running.stop().unwrap();
}

#[tokio::test]
async fn readers_see_consistent_snapshots_during_writes() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let shared = Arc::clone(&running.shared);
    let reader = thread::spawn(move || {
        let mut seen = 0;
        while seen < 200 {
            let registry = shared.load();
            let matched = registry
                .matching(&EventFields { tenant: "default", event_type: "a", ..EventFields::default() }, NOW)
                .receivers;
            assert!(matched.len() >= seen, "a webhook that was there is gone");
            assert!(matched.windows(2).all(|pair| pair[0] < pair[1]));
            for no in &matched {
                let webhook = registry.webhook(*no).expect("what is matched is there");
                assert!(registry.webhook_by_id(webhook.id).is_some());
            }
            seen = matched.len();
        }
    });
    let mut created = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let writer = running.writer.clone();
        created
            .spawn(async move { writer.create(draft("default", &["a", "*"], WebhookStatus::Active)).await.unwrap() });
    }
    created.join_all().await;
    reader.join().unwrap();
    running.stop().unwrap();
}

#[tokio::test]
async fn keys_are_replaced_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let key = |text: &str| ApiKey { key: Secret::new(text), tenant: None, role: Role::Admin };
    let TestRegistry { running, .. } = test_registry(dir.path(), vec![key("first-key-of-the-file")]).unwrap();
    assert!(running.shared.load().authenticate_api_key("first-key-of-the-file", Timestamp::default()).is_some());
    running.writer.set_access(vec![key("second-key-of-the-file")].into()).await.unwrap();
    assert!(running.shared.load().authenticate_api_key("first-key-of-the-file", Timestamp::default()).is_none());
    assert!(running.shared.load().authenticate_api_key("second-key-of-the-file", Timestamp::default()).is_some());
    running.stop().unwrap();
}

const ROWS: TableDefinition<'static, u32, &[u8]> = TableDefinition::new("webhooks");

#[tokio::test]
async fn swapped_rows_and_swapped_secrets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    for _ in 0..2 {
        running.writer.create(full()).await.unwrap();
    }
    running.stop().unwrap();
    let path = dir.path().join("registry.redb");
    let file = fs::read(&path).unwrap();
    for whole_row in [true, false] {
        fs::write(&path, &file).unwrap();
        let database = Database::open(&path).unwrap();
        let rows: Vec<serde_json::Value> = {
            let read = database.begin_read().unwrap();
            let table = read.open_table(ROWS).unwrap();
            table.iter().unwrap().map(|row| serde_json::from_slice(row.unwrap().1.value()).unwrap()).collect()
        };
        let mut new = rows.clone();
        if whole_row {
            new.swap(0, 1);
        } else {
            new[0]["sealed"] = rows[1]["sealed"].clone();
        }
        let write = database.begin_write().unwrap();
        {
            let mut table = write.open_table(ROWS).unwrap();
            for (no, row) in new.iter().enumerate() {
                table.insert(no as u32, &*serde_json::to_vec(row).unwrap()).unwrap();
            }
        }
        write.commit().unwrap();
        drop(database);
        let refused = test_registry(dir.path(), Vec::new()).err().unwrap().to_string();
        assert!(refused.contains("webhook number 0: its secrets do not open"), "{refused}");
    }
}

#[tokio::test]
async fn a_record_of_a_later_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    test_registry(dir.path(), Vec::new()).unwrap().running.stop().unwrap();
    let database = Database::open(dir.path().join("registry.redb")).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(ROWS).unwrap().insert(0, br#"{"v":2,"form":"unknown"}"#.as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = test_registry(dir.path(), Vec::new()).err().unwrap().to_string();
    assert!(refused.contains("of version 2; this program reads version 1"), "{refused}");
}

#[tokio::test]
async fn secrets_are_in_no_file_and_in_no_debug_output() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let made = running.writer.create(full()).await.unwrap();
    let debug = format!("{made:?} {:?} {:?}", running, running.shared.load());
    running.stop().unwrap();
    let secret = made.keys.current.secret.reveal();
    let key = CLIENT_KEY.lines().nth(1).unwrap().as_bytes();
    let given = [b"canary-in-a-header".as_slice(), b"canary-in-the-credentials", key];
    for canary in [secret.as_bytes(), &secret.as_bytes()[6..30], &[1; 24]].into_iter().chain(given) {
        assert!(!debug.as_bytes().windows(canary.len()).any(|window| window == canary), "in debug output");
        for file in fs::read_dir(dir.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(canary.len()).any(|window| window == canary), "in {}", path.display());
        }
    }
}

/// The real disk, on which every write fails with an error that the test chooses (`0`: none).
#[derive(Debug, Clone, Default)]
pub(super) struct FailingDisk(Arc<AtomicI32>);

impl FailingDisk {
    pub(super) fn fail(&self, error: nix::errno::Errno) {
        self.0.store(error as i32, Ordering::SeqCst);
    }

    pub(super) fn mend(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    fn check(&self) -> io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[derive(Debug)]
struct FailingFile(Backend, FailingDisk);

impl StorageBackend for FailingFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.1.check()?;
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.1.check()?;
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.1.check()?;
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), io::Error> {
        self.0.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.query_lock_range(start, end)
    }
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path) -> io::Result<Backend> {
        Ok(Backend::new(FailingFile(RealDisk.open(path)?, self.clone())))
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.create_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        RealDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.truncate(path, len)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn size(&self, path: &Path) -> io::Result<FileSize> {
        RealDisk.size(path)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
    fn reserve(&self, path: &Path, len: u64) -> io::Result<()> {
        RealDisk.reserve(path, len)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_changes_and_takes_them_again_once_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let key = ApiKey { key: Secret::new("a-key-of-the-file"), tenant: None, role: Role::Admin };
    let TestRegistry { running, .. } = test_registry_on(Arc::new(disk.clone()), dir.path(), vec![key]).unwrap();
    let one = running.writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    disk.fail(nix::errno::Errno::ENOSPC);
    for _ in 0..3 {
        let refused = running.writer.create(draft("default", &["a"], WebhookStatus::Active)).await;
        assert_eq!(refused.err(), Some(ChangeError::DiskFull));
        assert_eq!(
            running
                .shared
                .load()
                .matching(&EventFields { tenant: "default", event_type: "a", ..EventFields::default() }, NOW)
                .receivers
                .to_vec(),
            [one.no],
            "readers see what was"
        );
    }
    disk.0.store(0, Ordering::SeqCst);
    let two = running.writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    assert_eq!(
        running
            .shared
            .load()
            .matching(&EventFields { tenant: "default", event_type: "a", ..EventFields::default() }, NOW)
            .receivers
            .to_vec(),
        [one.no, two.no]
    );
    assert!(running.shared.load().authenticate_api_key("a-key-of-the-file", Timestamp::default()).is_some());
    running.stop().unwrap();
}

#[tokio::test]
async fn another_failure_of_the_disk_ends_the_thread() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FailingDisk::default();
    let TestRegistry { running, .. } = test_registry_on(Arc::new(disk.clone()), dir.path(), Vec::new()).unwrap();
    let one = running.writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    disk.fail(nix::errno::Errno::EIO);
    let draft = draft("default", &["a"], WebhookStatus::Active);
    assert_eq!(running.writer.create(draft.clone()).await.err(), Some(ChangeError::Stopped));
    assert_eq!(running.writer.create(draft).await.err(), Some(ChangeError::Stopped));
    assert!(matches!(running.stop(), Err(RegistryStoreError::Storage(_))));
    disk.0.store(0, Ordering::SeqCst);
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    assert!(running.shared.load().webhook_by_id(one.id).is_some(), "what was answered is there");
    running.stop().unwrap();
}

#[tokio::test]
async fn a_webhook_keeps_its_number_and_its_secret_while_its_profile_is_missing() {
    let mine = |key: &str| {
        let toml = format!(
            "[mine]\nsign = {{ scheme = \"hmac\", key = \"{key}\", sig = \"header:X-S\", encoding = \"hex\" }}"
        );
        Profiles::try_new(&toml_edit::de::from_str(&toml).unwrap(), None).unwrap()
    };
    let secret = "a secret of people";
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, mut shards, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let writer = &running.writer;
    writer.set_profiles(mine("utf8")).await.unwrap();
    let profile = running.shared.load().profiles().resolve("mine");
    let keys = SigningKeys { current: Arc::new(profile.key(Secret::new(secret)).unwrap()), previous: Vec::new() };
    let settings = WebhookSettings { profile, keys, ..draft("default", &["a"], WebhookStatus::Active) };
    let no = writer.create(settings).await.unwrap().no;
    let other = writer.create(draft("default", &["a"], WebhookStatus::Active)).await.unwrap();
    let now = |running: &RegistryThread| Arc::clone(running.shared.load().webhook(no).unwrap());
    let mut notified = || shards.iter_mut().filter_map(|inbox| inbox.try_recv().ok()).count();
    assert!(matches!(now(&running).keys.current.kind, SigningKind::Scheme(_)));
    assert_eq!(notified(), 0);

    // The secret does not fit the changed profile; then the profile is missing; then the first profile is back.
    for (profiles, fits) in [(mine("hex"), false), (Profiles::default(), false), (mine("utf8"), true)] {
        writer.set_profiles(profiles).await.unwrap();
        let webhook = now(&running);
        assert_eq!(matches!(webhook.keys.current.kind, SigningKind::Scheme(_)), fits);
        assert_eq!((webhook.keys.current.secret.reveal(), webhook.profile.name()), (secret, "mine"));
        assert_eq!(webhook.version, 1);
        assert_eq!(notified(), 1, "the shard of the one webhook that is concerned");
        assert!(Arc::ptr_eq(running.shared.load().webhook(other.no).unwrap(), &other), "built anew for nothing");
    }
    // An unchanged profile changes no webhook.
    writer.set_profiles(mine("utf8")).await.unwrap();
    assert_eq!(notified(), 0);
    // A change that was prepared before a reload gets the current profile.
    let draft = now(&running).settings.clone();
    writer.set_profiles(mine("hex")).await.unwrap();
    let webhook = writer.replace(no, 1, draft).await.unwrap();
    assert!(matches!(webhook.keys.current.kind, SigningKind::Unusable(_)));
    running.stop().unwrap();

    // A start without the profile.
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let webhook = now(&running);
    assert!(!webhook.profile.is_known() && matches!(webhook.keys.current.kind, SigningKind::Unusable(_)));
    assert_eq!((webhook.keys.current.secret.reveal(), webhook.profile.name()), (secret, "mine"));
    running.writer.set_profiles(mine("utf8")).await.unwrap();
    assert!(matches!(now(&running).keys.current.kind, SigningKind::Scheme(_)));
}

#[tokio::test]
async fn an_expired_secret_is_dropped_by_the_next_change() {
    let dir = tempfile::tempdir().unwrap();
    let TestRegistry { running, .. } = test_registry(dir.path(), Vec::new()).unwrap();
    let key = || Arc::new(SigningKey::generate());
    for (until, stays) in [(NOW, false), (NOW.plus(std::time::Duration::from_secs(3600)), true)] {
        let keys = SigningKeys { current: key(), previous: vec![(key(), until)] };
        let made = WebhookSettings { keys, ..draft("default", &["a"], WebhookStatus::Active) };
        let made = running.writer.create(made).await.unwrap();
        let changed = running.writer.replace(made.no, made.version, made.settings.clone()).await.unwrap();
        assert_eq!(!changed.keys.previous.is_empty(), stays);
    }
}
