//! Replays: a thread of its own finds the deliveries of the next step of a replay.
//!
//! A tenant chooses how many events a replay reads and how much the filters on them cost. So settle evaluates nothing:
//! it asks for one bounded step at a time, of one replay at a time, and writes what the step found. The state of a job
//! moves only with a written step, so a crash in between repeats the step.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use super::ReplayTargets;
use crate::filter::EventFields;
use crate::handoff::{ReplayFilter, ReplayStep, SettleHandle, ToSettle};
use crate::limits::{REPLAY_STEP_BYTES, REPLAY_STEP_HEADS, REPLAY_STEP_MATCHES};
use crate::model::{DeliveryId, EventHead, EventId, EventPattern, WebhookNo, Webhooks, data_of};
use crate::runtime::Heartbeat;
use crate::storage::delivery::{Job, JobKind, JobState};
use crate::storage::{ReadError, ReadLog};

/// A request for the next step of a replay.
#[derive(Debug)]
pub(super) struct ReplayStepRequest {
    job: u64,
    filter: ReplayFilter,
    /// The last event that is done.
    after: EventId,
    /// Webhooks below this number are done for the next event.
    from: u32,
    /// The last event of the replay.
    last: EventId,
    /// The maximum number of deliveries in the step.
    rows: usize,
}

/// The running replays and their turns. One step is evaluated at a time. Tenants take turns, and the replays of a tenant
/// take turns.
#[derive(Debug, Default)]
pub(super) struct ReplayTurns {
    /// The replay whose step is being evaluated.
    evaluating: Option<u64>,
    /// A step that is evaluated and not written yet.
    found: Option<ReplayStep>,
    /// When each running replay had its last turn.
    last_turns: BTreeMap<u64, u64>,
    turn: u64,
}

impl ReplayTurns {
    /// The next request, if no step is being evaluated or waits to be written.
    pub(super) fn next_request(&mut self, jobs: &BTreeMap<u64, Job>, rows: usize) -> Option<ReplayStepRequest> {
        if self.evaluating.is_some() || self.found.is_some() {
            return None;
        }
        let running = || {
            jobs.values().filter_map(|job| match &job.kind {
                JobKind::Replay(filter) if job.is_running() => Some((job, filter)),
                _ => None,
            })
        };
        self.last_turns.retain(|no, _| jobs.get(no).is_some_and(Job::is_running));
        let turn_of = |no: u64| self.last_turns.get(&no).copied().unwrap_or_default();
        let mut of_tenants: BTreeMap<&str, u64> = BTreeMap::new();
        for (job, filter) in running() {
            let turn = of_tenants.entry(&filter.tenant).or_default();
            *turn = (*turn).max(turn_of(job.no));
        }
        let (job, filter) = running().min_by_key(|(job, filter)| (of_tenants.get(&*filter.tenant), turn_of(job.no)))?;
        self.turn += 1;
        self.last_turns.insert(job.no, self.turn);
        self.evaluating = Some(job.no);
        Some(ReplayStepRequest {
            job: job.no,
            filter: filter.clone(),
            after: job.after,
            from: job.from,
            last: job.last,
            rows,
        })
    }

    /// Takes in an evaluated step. A step of a replay that was cancelled meanwhile is dropped.
    pub(super) fn evaluated(&mut self, step: ReplayStep, jobs: &BTreeMap<u64, Job>) {
        self.evaluating = None;
        let job = jobs.get(&step.job).filter(|job| job.is_running());
        self.found = job.map(|_| step);
    }

    /// Whether the next step of the job can be written.
    pub(super) fn can_step(&self, job: &Job) -> bool {
        let is_replay = matches!(job.kind, JobKind::Replay(_));
        !is_replay || self.found.as_ref().is_some_and(|step| step.job == job.no)
    }

    /// Removes the evaluated step of this job.
    pub(super) fn take(&mut self, job: u64) -> Option<ReplayStep> {
        self.found.take_if(|step| step.job == job)
    }
}

/// Evaluates the steps of replays. It reads the log and the registry's snapshot, and changes nothing.
pub(super) struct ReplayEvaluator {
    pub(super) log: Arc<dyn ReadLog>,
    pub(super) targets: Arc<dyn ReplayTargets>,
    /// Set to end a step at its next event.
    pub(super) is_stopped: Arc<AtomicBool>,
    pub(super) heartbeat: Heartbeat,
}

impl ReplayEvaluator {
    /// Starts the thread, which sends each step to settle. It ends when the sender of the requests is dropped.
    pub(super) fn start(
        self,
        requests: Receiver<ReplayStepRequest>,
        settle: SettleHandle,
    ) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("replay".into()).spawn(move || {
            while let Ok(request) = requests.recv() {
                self.heartbeat.working();
                let step = catch_unwind(AssertUnwindSafe(|| self.evaluate(&request)));
                let step = step.unwrap_or_else(|_| {
                    tracing::error!(job = request.job, "a replay stops: its evaluation panicked");
                    ReplayStep { state: JobState::Failed, ..request.step() }
                });
                settle.send(ToSettle::ReplayStep(step));
                self.heartbeat.idle();
            }
        })
    }

    /// Finds the next deliveries of a replay. A read error of the log ends only the replay.
    pub(super) fn evaluate(&self, request: &ReplayStepRequest) -> ReplayStep {
        let mut step = request.step();
        if let Err(error) = self.find(request, &mut step) {
            tracing::error!(job = request.job, %error, "a replay stops: the log cannot be read");
            step.state = JobState::Failed;
        }
        step
    }

    fn find(&self, request: &ReplayStepRequest, step: &mut ReplayStep) -> Result<(), ReadError> {
        let filter = &request.filter;
        let patterns: Vec<_> = filter.types.iter().filter_map(|text| EventPattern::try_new(text).ok()).collect();
        let most = if filter.include_unmatched { REPLAY_STEP_MATCHES } else { REPLAY_STEP_HEADS };
        let heads = if step.after >= request.last { Vec::new() } else { self.log.heads_after(step.after, most)? };
        if heads.is_empty() {
            step.state = JobState::Done;
        }
        let (mut room, mut bytes) = (request.rows, 0);
        for (event, head) in heads {
            if event > request.last {
                step.state = JobState::Done;
                break;
            }
            if bytes >= REPLAY_STEP_BYTES || self.is_stopped.load(Ordering::Relaxed) {
                break;
            }
            self.heartbeat.working();
            let parsed = EventHead::parse(&head).map_err(|_| ReadError::Damaged(event))?;
            if is_included(filter, &patterns, &parsed) {
                let webhooks = self.webhooks(filter, event, &head, &parsed, &mut bytes)?;
                for webhook in webhooks.into_iter().filter(|no| no.0 >= step.from) {
                    if room == 0 {
                        step.from = webhook.0;
                        return Ok(());
                    }
                    room -= 1;
                    step.deliveries.push(DeliveryId { event, webhook });
                }
            }
            (step.after, step.from) = (event, 0);
            step.events += 1;
        }
        Ok(())
    }

    /// The webhooks that a replay delivers an event to, ascending. Adds the bytes of the body to `bytes` if it is read.
    fn webhooks(
        &self,
        filter: &ReplayFilter,
        event: EventId,
        head: &[u8],
        parsed: &EventHead<'_>,
        bytes: &mut usize,
    ) -> Result<Webhooks, ReadError> {
        let mut webhooks = parsed.webhooks();
        if filter.include_unmatched
            && let Some((_, body)) = self.log.read(&[event])?.pop().flatten()
        {
            *bytes += body.len();
            let data = data_of(head, &body);
            webhooks.extend(self.targets.matching(&EventFields::of(&parsed.event, &data)));
            webhooks.sort_unstable();
            webhooks.dedup();
        }
        match filter.webhook.map(WebhookNo) {
            // A request that names one event and one webhook always delivers it.
            Some(no) if filter.event.is_some() => webhooks = [no].into_iter().collect(),
            Some(no) => webhooks.retain(|webhook| *webhook == no),
            None => {}
        }
        if !filter.include_paused {
            webhooks.retain(|webhook| !self.targets.is_held(*webhook));
        }
        Ok(webhooks)
    }
}

impl ReplayStepRequest {
    /// A step that has found nothing yet.
    fn step(&self) -> ReplayStep {
        ReplayStep {
            job: self.job,
            deliveries: Vec::new(),
            after: self.after,
            from: self.from,
            events: 0,
            state: JobState::Running,
        }
    }
}

/// Whether a replay includes an event. `patterns` are the parsed types of the filter; an empty list matches every type.
fn is_included(filter: &ReplayFilter, patterns: &[EventPattern], head: &EventHead<'_>) -> bool {
    let event = &head.event;
    *filter.tenant == *event.tenant
        && filter.since.is_none_or(|since| event.received_at >= since)
        && filter.until.is_none_or(|until| event.received_at < until)
        && (filter.types.is_empty() || patterns.iter().any(|pattern| pattern.matches(event.event_type)))
}
