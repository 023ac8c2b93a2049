//! Resolves host names by DNS and the hosts file, for the whole process.
//!
//! One thread owns all lookups. So their number is bounded, names are looked up once for all shards, and no lookup
//! occupies a thread. [`DnsResolver`] is a handle to the thread. The thread ends when all handles are dropped.
//!
//! `lookups` decides what is looked up, `lane` shares the places out, `lookup` makes one lookup, and `system` reads the
//! files of the system. The egress guard checks the addresses at each connection, so a known address passes it too.

mod lane;
mod lookup;
mod lookups;
mod system;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use self::lookup::NameServers;
use self::lookups::{LookupResult, Lookups, Question};
use self::system::SystemFiles;
use super::resolve::Resolve;
use crate::limits::{DNS_FILES_INTERVAL, DNS_QUESTIONS_MAX, DNS_TTL_MIN};
use crate::runtime::{Clock, Metrics};

/// How often lookups are checked for what is due.
const TICK: Duration = Duration::from_millis(50);

/// A handle to the DNS thread.
#[derive(Debug, Clone)]
pub struct DnsResolver {
    requests: mpsc::Sender<DnsRequest>,
}

#[derive(Debug)]
enum DnsRequest {
    Resolve(Question),
    /// Use these servers from now on. An empty list stands for those of `resolv.conf`.
    SetServers(Vec<SocketAddr>),
}

/// The state of the DNS thread.
struct DnsThread {
    files: SystemFiles,
    /// The servers of the configuration.
    servers: Vec<SocketAddr>,
    name_servers: Result<Arc<NameServers>, Arc<str>>,
    lookups: Lookups,
    tasks: JoinSet<LookupResult>,
    running: HashMap<Arc<str>, RunningLookup>,
    names: HashMap<Id, Arc<str>>,
    clock: Clock,
}

struct RunningLookup {
    abort: AbortHandle,
    /// The configuration changed after the lookup started.
    is_outdated: bool,
}

impl DnsResolver {
    /// Starts the thread. `servers` replace the servers of `/etc/resolv.conf`, unless the list is empty.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(servers: &[SocketAddr], clock: Clock, metrics: Arc<Metrics>) -> io::Result<Self> {
        Self::start_with(SystemFiles::of_system(), servers, clock, metrics)
    }

    fn start_with(files: SystemFiles, servers: &[SocketAddr], clock: Clock, metrics: Arc<Metrics>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (requests, inbox) = mpsc::channel(DNS_QUESTIONS_MAX);
        let servers = servers.to_vec();
        thread::Builder::new().name("dns".into()).spawn(move || {
            runtime.block_on(async {
                let mut thread = DnsThread {
                    files,
                    servers,
                    name_servers: Err("not read yet".into()),
                    lookups: Lookups::new(metrics),
                    tasks: JoinSet::new(),
                    running: HashMap::new(),
                    names: HashMap::new(),
                    clock,
                };
                thread.read_configuration();
                thread.run(inbox).await;
            });
        })?;
        Ok(Self { requests })
    }

    /// Replaces the servers after a change of the configuration.
    pub async fn set_servers(&self, servers: &[SocketAddr]) {
        // The send fails only if the thread has ended, and then every lookup fails.
        let _ = self.requests.send(DnsRequest::SetServers(servers.to_vec())).await;
    }
}

impl Resolve for DnsResolver {
    async fn resolve(&self, host: &str, tenant: &Arc<str>) -> io::Result<Vec<IpAddr>> {
        let ended = || io::Error::other("the DNS thread has ended");
        let (reply, resolution) = oneshot::channel();
        let question = Question { name: host.into(), tenant: Arc::clone(tenant), reply };
        self.requests.send(DnsRequest::Resolve(question)).await.map_err(|_| ended())?;
        match resolution.await.map_err(|_| ended())? {
            Ok(addresses) => Ok(addresses.to_vec()),
            Err(why) => Err(io::Error::other(&*why)),
        }
    }
}

impl DnsThread {
    async fn run(&mut self, mut inbox: mpsc::Receiver<DnsRequest>) {
        let (mut ticks, mut checks) = (interval(TICK), interval(DNS_FILES_INTERVAL));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                request = inbox.recv() => match request {
                    Some(DnsRequest::Resolve(question)) => self.lookups.ask(question, self.clock.instant()),
                    Some(DnsRequest::SetServers(servers)) if servers == self.servers => {}
                    Some(DnsRequest::SetServers(servers)) => {
                        self.servers = servers;
                        self.read_configuration();
                    }
                    None => return,
                },
                Some(done) = self.tasks.join_next_with_id() => self.done(done),
                _ = ticks.tick(), if self.lookups.is_active() => self.tick(),
                _ = checks.tick() => if self.files.have_changed() {
                    self.read_configuration();
                },
            }
            while let Some(name) = self.lookups.start_next(self.clock.instant()) {
                self.start(name);
            }
        }
    }

    /// Reads the files of the system, and has all names looked up again.
    fn read_configuration(&mut self) {
        let config = self.files.read(&self.servers);
        tracing::info!(servers = ?config.servers.name_servers().iter().map(|s| s.ip).collect::<Vec<_>>(), "names are resolved");
        self.name_servers = NameServers::new(config).map(Arc::new).map_err(|why| why.to_string().into());
        self.lookups.expire_all(self.clock.instant());
        for running in self.running.values_mut() {
            running.is_outdated = true;
        }
    }

    fn start(&mut self, name: Arc<str>) {
        let (servers, host) = (self.name_servers.clone(), Arc::clone(&name));
        let abort = self.tasks.spawn(async move {
            match servers {
                Ok(servers) => servers.look_up(&host).await,
                Err(why) => LookupResult::Failed(why),
            }
        });
        self.names.insert(abort.id(), Arc::clone(&name));
        self.running.insert(name, RunningLookup { abort, is_outdated: false });
    }

    fn done(&mut self, done: Result<(Id, LookupResult), JoinError>) {
        let (id, result) = match done {
            Ok((id, result)) => (id, Some(result)),
            Err(why) => (why.id(), why.is_panic().then(|| LookupResult::Failed("the lookup failed inside".into()))),
        };
        let Some(name) = self.names.remove(&id) else { return };
        // A lookup that was given up has no result any longer, and the name may have another lookup by now.
        let (Some(mut result), true) = (result, self.running.get(&name).is_some_and(|r| r.abort.id() == id)) else {
            return;
        };
        let running = self.running.remove(&name);
        if let LookupResult::Found { ttl, .. } = &mut result
            && running.is_some_and(|running| running.is_outdated)
        {
            *ttl = DNS_TTL_MIN;
        }
        self.lookups.finish(&name, result, self.clock.instant());
    }

    fn tick(&mut self) {
        for name in self.lookups.tick(self.clock.instant()) {
            if let Some(running) = self.running.remove(&name) {
                running.abort.abort();
            }
        }
    }
}
