//! Creates the stream of the webhooks if it does not exist, or checks that it has their subjects.

use std::sync::Arc;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, StorageType};

use super::connection::BusState;
use super::settings::{BusSettings, joined};
use crate::limits::BUS_CHECK_INTERVAL;
use crate::model::SubjectPattern;

/// Checks the stream after each connection, and again and again while it cannot be used.
pub(super) async fn keep_checked(state: Arc<BusState>) {
    let mut link = state.link();
    loop {
        link.borrow_and_update();
        let problem = if state.is_connected() { check(&state).await.err() } else { None };
        let is_usable = problem.is_none();
        state.set_problem("stream", problem);
        tokio::select! {
            changed = link.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(BUS_CHECK_INTERVAL), if !is_usable => {}
        }
    }
}

async fn check(state: &BusState) -> Result<(), String> {
    let settings = &*state.settings;
    let found = match state.manager.get_stream(&*settings.stream).await {
        Ok(stream) => stream.cached_info().config.subjects.clone(),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                return create(state).await;
            }
            _ => return Err(format!("the stream {} cannot be read: {error}", settings.stream)),
        },
    };
    check_subjects(settings, &found)
}

async fn create(state: &BusState) -> Result<(), String> {
    let settings = &*state.settings;
    let config = Config {
        name: settings.stream.to_string(),
        subjects: settings.subjects.iter().map(|pattern| pattern.as_str().to_owned()).collect(),
        storage: StorageType::File,
        ..Config::default()
    };
    match state.manager.create_stream(config).await {
        Ok(_) => {
            tracing::info!(
                target: "hooktide::bus",
                stream = &*settings.stream,
                subjects = joined(&settings.subjects),
                "the stream was created, with one replica and without limits"
            );
            Ok(())
        }
        // Another server created it at the same time.
        Err(error) if is_taken(&error.kind()) => Ok(()),
        Err(error) => Err(format!("the stream {} does not exist and cannot be created: {error}", settings.stream)),
    }
}

fn is_taken(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

/// Every subject that webhooks may publish to must belong to the stream.
fn check_subjects(settings: &BusSettings, found: &[String]) -> Result<(), String> {
    let has: Vec<SubjectPattern> = found.iter().filter_map(|text| SubjectPattern::try_new(text).ok()).collect();
    let missing = settings.subjects.iter().find(|wanted| !has.iter().any(|pattern| pattern.covers_pattern(wanted)));
    match missing {
        None => Ok(()),
        Some(missing) => Err(format!(
            "the stream {} has the subjects {}, which do not cover {missing} of nats.subjects: add it to the stream",
            settings.stream,
            joined(&has)
        )),
    }
}
