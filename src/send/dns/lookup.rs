//! One lookup of one name: the hosts file, then DNS over the search list.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};

use super::lookups::LookupResult;
use super::system::{DnsConfig, HostsFile};
use crate::limits::{DNS_ADDRESSES_MAX, DNS_NOT_FOUND_TTL_MAX, DNS_TTL_MAX};

/// Time that the query for the other kind of addresses has after one kind was found. Some servers do not answer
/// queries for IPv6 addresses at all.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(200);

/// Looks names up with one configuration.
#[derive(Debug)]
pub(super) struct NameServers {
    resolver: TokioResolver,
    search: Vec<Name>,
    dots_min: usize,
    hosts: HostsFile,
}

/// The addresses of one family, or why there are none.
type FamilyResult = Result<(Vec<IpAddr>, Duration), DnsLookupError>;

enum DnsLookupError {
    /// The name does not exist or has no such address.
    NotFound(Duration),
    Failed(Box<str>),
}

impl NameServers {
    pub(super) fn new(config: DnsConfig) -> Result<Self, NetError> {
        let DnsConfig { servers, options, search, hosts } = config;
        let dots_min = options.ndots;
        let resolver = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        Ok(Self { resolver: resolver.with_options(options).build()?, search, dots_min, hosts })
    }

    /// The addresses of a host name.
    pub(super) async fn look_up(&self, host: &str) -> LookupResult {
        if let Some(known) = self.hosts.get(host.trim_end_matches('.')) {
            return LookupResult::Found { addresses: in_order(known.clone()), ttl: DNS_TTL_MAX };
        }
        let Ok(name) = Name::from_ascii(host) else {
            return LookupResult::NotFound { why: "not a name that DNS can have".into(), ttl: DNS_NOT_FOUND_TTL_MAX };
        };
        let mut shortest = DNS_NOT_FOUND_TTL_MAX;
        for name in self.candidates(&name) {
            match self.both_families(&name).await {
                Ok((addresses, ttl)) => return LookupResult::Found { addresses: in_order(addresses), ttl },
                Err(DnsLookupError::NotFound(ttl)) => shortest = shortest.min(ttl),
                Err(DnsLookupError::Failed(why)) => return LookupResult::Failed(why.into()),
            }
        }
        LookupResult::NotFound { why: "the name does not exist or has no address".into(), ttl: shortest }
    }

    /// The full names that are tried: the name as it is, before or after the same name in each search domain.
    fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let searched = self.search.iter().filter_map(|domain| {
            let mut name = name.clone().append_domain(domain).ok()?;
            name.set_fqdn(true);
            Some(name)
        });
        let mut names: Vec<_> = searched.collect();
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let at = if dots >= self.dots_min { 0 } else { names.len() };
        names.insert(at, absolute);
        names
    }

    /// Queries both families at the same time. When one has answered with addresses, the other one gets a short time.
    async fn both_families(&self, name: &Name) -> FamilyResult {
        let mut v6 = pin!(self.family(name, RecordType::AAAA));
        let mut v4 = pin!(self.family(name, RecordType::A));
        let (first, second) = tokio::select! {
            first = &mut v6 => { let second = finish_after(&first, v4).await; (first, second) }
            first = &mut v4 => { let second = finish_after(&first, v6).await; (first, second) }
        };
        match (first, second) {
            (Ok((mut addresses, ttl)), Some(Ok((more, other_ttl)))) => {
                addresses.extend(more);
                Ok((addresses, ttl.min(other_ttl)))
            }
            (Ok(found), _) | (Err(_), Some(Ok(found))) => Ok(found),
            (Err(DnsLookupError::NotFound(ttl)), Some(Err(DnsLookupError::NotFound(other)))) => {
                Err(DnsLookupError::NotFound(ttl.min(other)))
            }
            // If one family failed, the name may still have addresses.
            (Err(DnsLookupError::NotFound(_)), Some(Err(why @ DnsLookupError::Failed(_)))) | (Err(why), _) => Err(why),
        }
    }

    async fn family(&self, name: &Name, family: RecordType) -> FamilyResult {
        match self.resolver.lookup(name.clone(), family).await {
            Ok(lookup) => {
                let answers = lookup.answers();
                let ips: Vec<_> =
                    answers.iter().filter_map(|record| record.data.ip_addr()).take(DNS_ADDRESSES_MAX).collect();
                let ttl = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
                let ttl = Duration::from_secs(ttl.into());
                if ips.is_empty() { Err(DnsLookupError::NotFound(ttl)) } else { Ok((ips, ttl)) }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                let ttl = none.negative_ttl.unwrap_or_default();
                Err(DnsLookupError::NotFound(Duration::from_secs(ttl.into())))
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Err(DnsLookupError::Failed(format!("the DNS server answers {}", none.response_code).into()))
            }
            Err(NetError::Dns(DnsError::ResponseCode(code))) => {
                Err(DnsLookupError::Failed(format!("the DNS server answers {code}").into()))
            }
            Err(NetError::Timeout) => Err(DnsLookupError::Failed("the DNS servers do not answer".into())),
            Err(why) => Err(DnsLookupError::Failed(why.to_string().into())),
        }
    }
}

/// The result of the other family: without a limit if the first one has no addresses.
async fn finish_after(first: &FamilyResult, other: impl Future<Output = FamilyResult>) -> Option<FamilyResult> {
    match first {
        Ok(_) => tokio::time::timeout(OTHER_FAMILY_WAIT, other).await.ok(),
        Err(_) => Some(other.await),
    }
}

/// The order in which addresses are tried (RFC 6724, its first rules): IPv6 first if this machine has a global IPv6
/// address to send from, and last if not.
fn in_order(mut addresses: Vec<IpAddr>) -> Arc<[IpAddr]> {
    let first_v6 = addresses.iter().find(|ip| ip.is_ipv6()).copied();
    let is_v6_first = first_v6.is_some_and(can_send_to);
    addresses.sort_by_key(|ip| ip.is_ipv6() != is_v6_first);
    addresses.truncate(DNS_ADDRESSES_MAX);
    addresses.into()
}

/// Whether this machine has a source address of the same scope for this address. Connecting a UDP socket sends nothing.
fn can_send_to(ip: IpAddr) -> bool {
    let any = if ip.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 53))?;
        socket.local_addr()
    });
    let is_global = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xe000 == 0x2000);
    source.is_ok_and(|source| is_global(source.ip()) == is_global(ip))
}
