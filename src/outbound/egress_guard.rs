//! The egress guard, which decides to which addresses a delivery may connect.
//!
//! - IPv4: all addresses are allowed except the blocks of the IANA special-purpose registry
//!   (<https://www.iana.org/assignments/iana-ipv4-special-registry>), multicast, reserved addresses, and the host agent
//!   of Azure.
//! - IPv6: only global unicast (2000::/3) is allowed, without the blocks of the IANA special-purpose registry
//!   (<https://www.iana.org/assignments/iana-ipv6-special-registry>) and the blocks that carry an IPv4 address. An
//!   IPv4-mapped address is treated as the IPv4 address.
//!
//! Blocks of the registries are refused even where the registry calls them globally reachable (AS112, AMT, the anycast
//! addresses in 192.0.0.0/24 and 2001::/23), because no webhook endpoint is there.
//!
//! `egress.allow` allows further networks. A network of translated addresses (NAT64, 6to4) that it allows reaches only
//! IPv4 addresses that are allowed themselves. `egress.deny` forbids networks and takes precedence. The addresses of
//! Hooktide's own listeners are always forbidden.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use smallvec::{SmallVec, smallvec};

use crate::config::Egress;

/// The egress rules: which addresses and ports a delivery may connect to.
#[derive(Debug, Clone)]
pub struct EgressGuard {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
    require_https: bool,
    own_listeners: Vec<SocketAddr>,
}

/// An address that the egress rules forbid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{ip} is {reason}")]
pub struct ForbiddenAddress {
    /// The address.
    pub ip: IpAddr,
    /// Why the address is forbidden.
    pub reason: &'static str,
}

const V4_SPECIAL: [(Ipv4Net, &str); 19] = [
    (v4(0, 0, 0, 0, 8), "of this network (0.0.0.0/8)"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "shared (carrier-grade NAT)"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    (v4(169, 254, 0, 0, 16), "link-local, where cloud metadata is"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 31, 196, 0, 24), "reserved (AS112)"),
    (v4(192, 52, 193, 0, 24), "reserved (AMT)"),
    (v4(192, 88, 99, 0, 24), "reserved (6to4 relay)"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(192, 175, 48, 0, 24), "reserved (AS112)"),
    (v4(198, 18, 0, 0, 15), "for benchmarks"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    (v4(240, 0, 0, 0, 4), "reserved or broadcast"),
    // This address looks public, but a host agent responds to it on every Azure host.
    (v4(168, 63, 129, 16, 32), "a cloud's host agent"),
];

const V6_GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const V6_SPECIAL: [(Ipv6Net, &str); 5] = [
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "reserved for protocols (2001::/23)"),
    (v6([0x2001, 0x0db8, 0, 0, 0, 0, 0, 0], 32), "for documentation"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 address"),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48), "reserved (AS112)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "for documentation"),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(s: [u16; 8], bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]), bits)
}

/// The current egress rules. A reload of the configuration replaces them.
pub type SharedEgressGuard = Arc<ArcSwap<EgressGuard>>;

impl EgressGuard {
    /// Creates the rules from `[egress]`. `own_listeners` are the addresses that the listeners of this server are bound
    /// to.
    pub fn new(rules: &Egress, own_listeners: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            allow: rules.allow.clone(),
            deny: rules.deny.clone(),
            require_https: rules.require_https,
            own_listeners: own_listeners.into_iter().map(canonical).collect(),
        }
    }

    /// Checks an address, regardless of the port.
    ///
    /// # Errors
    /// [`ForbiddenAddress`] if a delivery may not connect to the address.
    pub fn check_address(&self, ip: IpAddr) -> Result<(), ForbiddenAddress> {
        let ip = ip.to_canonical();
        let forbidden = |reason| Err(ForbiddenAddress { ip, reason });
        if covers(&self.deny, ip) || possible_v4(ip).iter().any(|inner| covers(&self.deny, (*inner).into())) {
            return forbidden("in egress.deny");
        }
        match special(ip) {
            Some(why) if !covers(&self.allow, ip) => forbidden(why),
            Some(_) => embedded_v4(ip).map_or(Ok(()), |inner| match special(inner.into()) {
                Some(why) if !covers(&self.allow, inner.into()) => forbidden(why),
                _ => Ok(()),
            }),
            None => Ok(()),
        }
    }

    /// Checks an address and port before a connection is made.
    ///
    /// # Errors
    /// [`ForbiddenAddress`] if a delivery may not connect there.
    pub fn check_target(&self, target: SocketAddr) -> Result<(), ForbiddenAddress> {
        self.check_address(target.ip())?;
        self.check_own_listeners(target, None)
    }

    /// Checks the address that a socket is really connected to. `local` is the local address of the socket, which
    /// reveals whether the peer is this machine.
    ///
    /// # Errors
    /// [`ForbiddenAddress`] if the connection may not be used.
    pub fn check_connected(&self, peer: SocketAddr, local: SocketAddr) -> Result<(), ForbiddenAddress> {
        self.check_address(peer.ip())?;
        self.check_own_listeners(peer, Some(local.ip()))
    }

    /// Whether `http://` URLs are refused.
    pub fn requires_https(&self) -> bool {
        self.require_https
    }

    /// Whether `egress.allow` contains a loopback network, so that `localhost` is an ordinary name.
    pub fn allows_loopback(&self) -> bool {
        self.allow.iter().any(is_loopback)
    }

    /// Whether `egress.allow` contains a network other than loopback, so that names of private networks are ordinary
    /// names.
    pub fn allows_private(&self) -> bool {
        self.allow.iter().any(|net| !is_loopback(net))
    }

    /// Checks that the peer is not a listener of this server. A listener on all addresses is reachable at each address
    /// of this machine: at the loopback addresses, and at each address that is both ends of the socket.
    fn check_own_listeners(&self, peer: SocketAddr, local: Option<IpAddr>) -> Result<(), ForbiddenAddress> {
        let peer = canonical(peer);
        let is_this_machine = peer.ip().is_loopback()
            || peer.ip().is_unspecified()
            || local.is_some_and(|local| local.to_canonical() == peer.ip());
        let reaches = |own: &SocketAddr| {
            own.port() == peer.port()
                && (own.ip() == peer.ip()
                    || (own.ip().is_unspecified() && is_this_machine)
                    // Linux connects 0.0.0.0 to loopback.
                    || (own.ip().is_loopback() && peer.ip().is_unspecified()))
        };
        if self.own_listeners.iter().any(reaches) {
            return Err(ForbiddenAddress { ip: peer.ip(), reason: "where Hooktide itself listens" });
        }
        Ok(())
    }
}

fn is_loopback(net: &IpNet) -> bool {
    match net {
        IpNet::V4(net) => v4(127, 0, 0, 0, 8).contains(net),
        IpNet::V6(net) => net.addr() == Ipv6Addr::LOCALHOST && net.prefix_len() == 128,
    }
}

fn covers(nets: &[IpNet], ip: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&ip))
}

fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

/// Why an address in canonical form is not public; `None` if the address is public.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => V4_SPECIAL.iter().find(|(net, _)| net.contains(&ip)).map(|(_, why)| *why),
        IpAddr::V6(ip) if !V6_GLOBAL.contains(&ip) => Some("not global unicast"),
        // ISATAP (RFC 5214) carries an IPv4 address below this interface id, with the universal bit set or not.
        IpAddr::V6(ip) if matches!(ip.segments(), [_, _, _, _, 0 | 0x0200, 0x5efe, _, _]) => Some("an ISATAP address"),
        IpAddr::V6(ip) => V6_SPECIAL.iter().find(|(net, _)| net.contains(&ip)).map(|(_, why)| *why),
    }
}

/// The IPv4 address that an IPv6 address translates to: NAT64 with the well-known prefix (RFC 6052) or 6to4 (RFC 3056).
fn embedded_v4(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => Some(joined(high, low)),
        _ => None,
    }
}

/// All IPv4 addresses that an IPv6 address may translate to. The local prefix of NAT64 (RFC 8215) has any of the
/// layouts of RFC 6052, and Teredo (RFC 4380) has the address of the client inverted.
fn possible_v4(ip: IpAddr) -> SmallVec<[Ipv4Addr; 4]> {
    let IpAddr::V6(v6) = ip else { return SmallVec::new() };
    let bytes = v6.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| bytes[place]));
    match v6.segments() {
        [0x64, 0xff9b, 1, ..] => {
            [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]].into_iter().map(at).collect()
        }
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            smallvec![joined(high, low), joined(!client_high, !client_low)]
        }
        [_, _, _, _, 0 | 0x0200, 0x5efe, high, low] => smallvec![joined(high, low)],
        _ => embedded_v4(ip).into_iter().collect(),
    }
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str], deny: &[&str], own: &[&str]) -> EgressGuard {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let rules =
            Egress { allow: nets(allow), deny: nets(deny), require_https: false, ca_file: None, dns_servers: vec![] };
        EgressGuard::new(&rules, own.iter().map(|text| text.parse().unwrap()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_special_block_is_refused_from_its_first_to_its_last_address() {
        let guard = guard(&[], &[], &[]);
        for (net, _) in V4_SPECIAL {
            for ip in [net.network(), net.broadcast()] {
                assert!(guard.check_address(ip.into()).is_err(), "{ip}");
                assert!(guard.check_address(ip.to_ipv6_mapped().into()).is_err(), "mapped {ip}");
            }
        }
        for (net, _) in V6_SPECIAL {
            assert!(
                guard.check_address(net.network().into()).is_err()
                    && guard.check_address(net.broadcast().into()).is_err()
            );
        }
        for text in ["2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::", "3ffe::", "3fff:1000::", "2000::1"] {
            assert_eq!(guard.check_address(ip(text)), Ok(()), "{text}");
        }
        for text in ["1fff::1", "4000::1", "::", "::1", "2606:4700::5efe:7f00:1", "2606:4700:0:0:200:5efe:808:808"] {
            assert!(guard.check_address(ip(text)).is_err(), "{text}");
        }
    }

    /// The registries of 2025-10, with the blocks that they call globally reachable.
    #[test]
    fn no_address_of_the_iana_registries_is_reached() {
        let guard = guard(&[], &[], &[]);
        let v4 = "0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 \
                  192.0.0.0/29 192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 \
                  192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 \
                  198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4 255.255.255.255/32";
        let v6 = "::1/128 ::/128 ::ffff:0:0/120 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 \
                  2001:1::1/128 2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 \
                  2001:20::/28 2001:30::/28 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 \
                  fe80::/10";
        for text in v4.split_whitespace().chain(v6.split_whitespace()) {
            let net: IpNet = text.parse().unwrap();
            for ip in [net.network(), net.broadcast()] {
                assert!(guard.check_address(ip).is_err(), "{ip} of {text}");
            }
        }
        for text in ["2620:4f:7fff:ffff::", "2620:4f:8001::", "192.31.195.255", "192.175.49.0", "1.1.1.1"] {
            assert_eq!(guard.check_address(ip(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn an_allowed_translation_reaches_only_allowed_ipv4_addresses() {
        let open = guard(&["64:ff9b::/96", "2002::/16"], &[], &[]);
        assert_eq!(open.check_address(ip("64:ff9b::1.1.1.1")), Ok(()));
        for text in ["64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254", "64:ff9b::10.0.0.1", "2002:a00:1::"] {
            assert!(open.check_address(ip(text)).is_err(), "{text}");
        }
        let private = guard(&["64:ff9b::/96", "10.0.0.0/8"], &[], &[]);
        assert_eq!(private.check_address(ip("64:ff9b::10.0.0.1")), Ok(()));
    }

    #[test]
    fn allow_opens_and_deny_wins() {
        let guard = guard(&["10.0.0.0/8", "fd00::/8"], &["10.1.0.0/16", "8.8.8.0/24"], &[]);
        for (text, open) in [
            ("10.2.0.1", true),
            ("::ffff:10.2.0.1", true),
            ("fd00::1", true),
            ("10.1.0.1", false),
            ("8.8.8.8", false),
            ("::ffff:8.8.8.8", false),
            ("192.168.0.1", false),
        ] {
            assert_eq!(guard.check_address(ip(text)).is_ok(), open, "{text}");
        }
    }

    #[test]
    fn deny_reaches_into_translated_forms() {
        let guard = guard(&["64:ff9b::/96", "2002::/16"], &["8.8.8.0/24"], &[]);
        assert_eq!(guard.check_address(ip("64:ff9b::1.1.1.1")), Ok(()));
        assert!(guard.check_address(ip("64:ff9b::8.8.8.8")).is_err());
        assert!(guard.check_address(ip("2002:808:808::1")).is_err());
    }

    #[test]
    fn deny_reaches_into_each_layout_that_carries_an_ipv4_address() {
        let guard = guard(&["64:ff9b:1::/48", "2001::/32", "fd00::/8"], &["8.8.8.0/24"], &[]);
        for text in [
            "64:ff9b:1:808:8:800::",
            "64:ff9b:1:8:8:808::",
            "64:ff9b:1::8:808:800:0",
            "64:ff9b:1::8.8.8.8",
            "2001:0:808:808::",
            "2001:0:101:101::f7f7:f7f7",
            "fd00::5efe:808:808",
        ] {
            assert!(guard.check_address(ip(text)).is_err(), "{text}");
        }
        for text in ["64:ff9b:1::1.1.1.1", "2001:0:101:101::fefe:fefe", "fd00::5efe:101:101"] {
            assert_eq!(guard.check_address(ip(text)), Ok(()), "{text}");
        }
    }

    #[test]
    fn our_own_listeners_are_closed_by_address_and_port() {
        let guard = guard(&["127.0.0.0/8", "10.0.0.0/8"], &[], &["127.0.0.1:8080", "0.0.0.0:9090"]);
        let target = |text: &str| guard.check_target(text.parse().unwrap());
        assert!(target("127.0.0.1:8080").is_err());
        assert!(target("[::ffff:127.0.0.1]:8080").is_err());
        assert!(target("127.0.0.5:9090").is_err());
        assert_eq!(target("127.0.0.1:8081"), Ok(()));
        assert_eq!(target("127.0.0.2:8080"), Ok(()));
        // Only a connected socket shows whether this is an address of this machine.
        assert_eq!(target("10.0.0.1:9090"), Ok(()));
        let connected = |peer: &str, local: &str| guard.check_connected(peer.parse().unwrap(), local.parse().unwrap());
        assert!(connected("10.0.0.1:9090", "10.0.0.1:40000").is_err());
        assert_eq!(connected("10.0.0.1:9090", "10.0.0.2:40000"), Ok(()));
    }
}
