//! What the system says about name resolution: `resolv.conf` and the hosts file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::parse_resolv_conf;

use crate::limits::{DNS_FILE_BYTES_MAX, DNS_QUERY_TIMEOUT, DNS_SEARCH_MAX};

/// Attempts at a query that `resolv.conf` may ask for. More would not fit into the time of a lookup.
const QUERY_ATTEMPTS_MAX: usize = 2;
/// Dots that `resolv.conf` may ask for in `ndots`, as in other resolvers.
const DOTS_MAX: usize = 15;

/// The addresses in the hosts file by name, in lower case.
pub(super) type HostsFile = HashMap<Box<str>, Vec<IpAddr>>;

/// The files of the system, and what is known of their last contents.
#[derive(Debug)]
pub(super) struct SystemFiles {
    resolv_conf: PathBuf,
    hosts: PathBuf,
    seen: [ReadFileVersion; 2],
}

/// A file's size and time of change. `None` if there is no such file.
type ReadFileVersion = Option<(u64, Option<SystemTime>)>;

/// The configuration of name resolution.
#[derive(Debug)]
pub(super) struct DnsConfig {
    pub(super) servers: ResolverConfig,
    pub(super) options: ResolverOpts,
    /// The domains in which names with few dots are searched.
    pub(super) search: Vec<Name>,
    pub(super) hosts: HostsFile,
}

impl SystemFiles {
    /// The files of this system.
    pub(super) fn of_system() -> Self {
        Self::at("/etc/resolv.conf", "/etc/hosts")
    }

    pub(super) fn at(resolv_conf: impl Into<PathBuf>, hosts: impl Into<PathBuf>) -> Self {
        Self { resolv_conf: resolv_conf.into(), hosts: hosts.into(), seen: [None, None] }
    }

    /// Whether a file has changed since the last [`Self::read`].
    pub(super) fn have_changed(&self) -> bool {
        self.states() != self.seen
    }

    /// Reads both files. A file that cannot be read counts as empty. `servers` replace the servers of `resolv.conf`,
    /// unless the list is empty.
    pub(super) fn read(&mut self, servers: &[SocketAddr]) -> DnsConfig {
        self.seen = self.states();
        let conf = read_file(&self.resolv_conf);
        let (config, mut options) =
            parse_resolv_conf(&conf).or_else(|_| without_servers(&conf)).unwrap_or_else(|why| {
                tracing::warn!(path = %self.resolv_conf.display(), %why, "the file is ignored");
                (ResolverConfig::default(), ResolverOpts::default())
            });
        options.ndots = options.ndots.min(DOTS_MAX);
        options.timeout = options.timeout.clamp(Duration::from_secs(1), DNS_QUERY_TIMEOUT);
        options.attempts = options.attempts.clamp(1, QUERY_ATTEMPTS_MAX);
        // `Lookups` keeps the addresses.
        options.cache_size = 0;
        options.use_hosts_file = hickory_resolver::config::ResolveHosts::Never;
        let (domain, mut search, from_file) = config.into_parts();
        if search.is_empty() {
            search.extend(domain.filter(|domain| !domain.is_root()));
        }
        search.truncate(DNS_SEARCH_MAX);
        let servers = if !servers.is_empty() {
            servers.iter().map(|at| name_server(*at)).collect()
        } else if from_file.is_empty() {
            // The server of this machine, as in other resolvers.
            vec![name_server(SocketAddr::from(([127, 0, 0, 1], 53)))]
        } else {
            from_file
        };
        let servers = ResolverConfig::from_parts(None, Vec::new(), servers);
        DnsConfig { servers, options, search, hosts: parse_hosts(&read_file(&self.hosts)) }
    }

    fn states(&self) -> [ReadFileVersion; 2] {
        [&self.resolv_conf, &self.hosts].map(|path| {
            let metadata = fs::metadata(path).ok()?;
            Some((metadata.len(), metadata.modified().ok()))
        })
    }
}

/// What `resolv.conf` says besides servers, if it names none.
fn without_servers(conf: &[u8]) -> Result<(ResolverConfig, ResolverOpts), hickory_resolver::net::NetError> {
    parse_resolv_conf([conf, b"\nnameserver 127.0.0.1\n"].concat())
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    (udp.port, tcp.port) = (at.port(), at.port());
    NameServerConfig::new(at.ip(), true, vec![udp, tcp])
}

fn read_file(path: &Path) -> Vec<u8> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(DNS_FILE_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().unwrap_or_else(|why| {
        tracing::warn!(path = %path.display(), %why, "the file cannot be read");
        Vec::new()
    })
}

/// Lines of an address and its names. Text after `#` and lines without an address are ignored.
fn parse_hosts(text: &[u8]) -> HostsFile {
    let mut hosts = HostsFile::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let name = name.trim_end_matches('.').to_ascii_lowercase().into_boxed_str();
            hosts.entry(name).or_default().push(ip);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(conf: &str, hosts: &str, servers: &[SocketAddr]) -> DnsConfig {
        let dir = tempfile::tempdir().unwrap();
        let (conf_at, hosts_at) = (dir.path().join("resolv.conf"), dir.path().join("hosts"));
        fs::write(&conf_at, conf).unwrap();
        fs::write(&hosts_at, hosts).unwrap();
        SystemFiles::at(conf_at, hosts_at).read(servers)
    }

    fn servers(config: &DnsConfig) -> Vec<SocketAddr> {
        config.servers.name_servers().iter().map(|s| SocketAddr::new(s.ip, s.connections[0].port)).collect()
    }

    #[test]
    fn servers_come_from_the_setting_or_the_file_or_are_the_local_one() {
        let conf = "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch a.test b.test\noptions ndots:3 timeout:30\n";
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let config = read(conf, "", &[]);
        assert_eq!(servers(&config), [at("192.0.2.1:53"), at("[2001:db8::1]:53")]);
        assert_eq!(config.search.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a.test", "b.test"]);
        assert_eq!((config.options.ndots, config.options.timeout), (3, DNS_QUERY_TIMEOUT));
        let config = read(conf, "", &[at("127.0.0.1:5353")]);
        assert_eq!((servers(&config), config.search.len()), (vec![at("127.0.0.1:5353")], 2));
        let config = read("search a.test\noptions ndots:99\n", "", &[]);
        assert_eq!((servers(&config), config.search.len()), (vec![at("127.0.0.1:53")], 1));
        assert_eq!(config.options.ndots, DOTS_MAX);
    }

    #[test]
    fn the_hosts_file_is_read_as_other_programs_read_it() {
        let hosts = "# all\n127.0.0.1 localhost\n192.0.2.7\tHooks.Internal. hooks # one\n2001:db8::7 hooks\nbad line\n";
        let config = read("", hosts, &[]);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(config.hosts["hooks"], [ip("192.0.2.7"), ip("2001:db8::7")]);
        assert_eq!(config.hosts["hooks.internal"], [ip("192.0.2.7")]);
        assert!(!config.hosts.contains_key("line"));
    }

    #[test]
    fn a_change_of_a_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("hosts");
        let mut files = SystemFiles::at(dir.path().join("resolv.conf"), &hosts);
        files.read(&[]);
        assert!(!files.have_changed());
        fs::write(&hosts, "192.0.2.7 hooks\n").unwrap();
        assert!(files.have_changed());
        assert!(files.read(&[]).hosts.contains_key("hooks"));
        assert!(!files.have_changed());
        fs::remove_file(&hosts).unwrap();
        assert!(files.have_changed());
    }
}
