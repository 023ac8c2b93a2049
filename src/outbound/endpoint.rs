//! Parses and checks the URL of a webhook once, when the webhook is created or changed.
//!
//! The WHATWG parser reads the URL. Input that this parser would silently repair (tabs, backslashes, `0x7f.1`,
//! `http:host`) is refused. Two programs can read such a URL differently, so that the check sees one host and the
//! connection reaches another.

use std::net::IpAddr;

use http::HeaderValue;
use http::uri::PathAndQuery;
use url::{Host, Url};

use super::egress_guard::{EgressGuard, ForbiddenAddress};
use crate::outbound::Endpoint;

/// Why a URL is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The scheme is not `http` or `https`.
    #[error("expected an absolute URL that starts with https:// or http://")]
    Scheme,
    /// A form that parsers read differently, or that no parser reads.
    #[error("{0}")]
    Malformed(&'static str),
    /// The text is not a URL.
    #[error("not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// The port belongs to another protocol (<https://fetch.spec.whatwg.org/#port-blocking>).
    #[error("port {0} belongs to another protocol")]
    BlockedPort(u16),
    /// The scheme is `http`, and `egress.require_https` is set.
    #[error("refused by the egress guard: only https is allowed here")]
    HttpsRequired,
    /// The host name belongs to this machine or a private network.
    #[error("refused by the egress guard: {0} is not a name of the public internet")]
    PrivateName(Box<str>),
    /// The egress guard forbids the address.
    #[error("refused by the egress guard: {0}")]
    ForbiddenAddress(#[from] ForbiddenAddress),
}

impl EndpointError {
    /// Whether the URL is well-formed and only the egress rules forbid it.
    pub fn is_egress(&self) -> bool {
        matches!(self, Self::HttpsRequired | Self::PrivateName(_) | Self::ForbiddenAddress(_))
    }
}

/// The maximum length of a URL in bytes.
const URL_BYTES_MAX: usize = 4096;
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// Suffixes of names of this machine (RFC 6761), of private networks (RFC 6762, 8375, 7686, names reserved by ICANN,
/// and names that routers and companies use), and of the reverse zones.
const PRIVATE_SUFFIXES: [&str; 13] = [
    "local",
    "localdomain",
    "internal",
    "intranet",
    "private",
    "corp",
    "home",
    "lan",
    "home.arpa",
    "in-addr.arpa",
    "ip6.arpa",
    "onion",
    "invalid",
];

/// The ports that browsers block, in ascending order.
const BLOCKED_PORTS: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

impl Endpoint {
    /// Parses and checks a URL.
    ///
    /// Addresses in the URL are checked here. Host names are resolved, and their addresses checked, at each connection.
    ///
    /// # Errors
    /// [`EndpointError`] if the URL is malformed or the egress rules forbid it.
    pub fn try_new(text: &str, guard: &EgressGuard) -> Result<Self, EndpointError> {
        let written_host = check_syntax(text)?;
        let url = Url::parse(text)?;
        let tls = url.scheme() == "https";
        let (host, ip) = match url.host() {
            None => return Err(EndpointError::Scheme),
            Some(Host::Domain(name)) => (check_name(name, guard)?.into(), None),
            Some(Host::Ipv4(ip)) if ip.to_string() != written_host => {
                return Err(EndpointError::Malformed("an IPv4 address is written as four decimal numbers"));
            }
            Some(Host::Ipv4(ip)) => (ip.to_string(), Some(IpAddr::V4(ip))),
            Some(Host::Ipv6(ip)) => (ip.to_canonical().to_string(), Some(IpAddr::V6(ip))),
        };
        let port = url.port_or_known_default().ok_or(EndpointError::Scheme)?;
        if BLOCKED_PORTS.binary_search(&port).is_ok() {
            return Err(EndpointError::BlockedPort(port));
        }
        if let Some(ip) = ip {
            guard.check_address(ip)?;
        }
        if guard.requires_https() && !tls {
            return Err(EndpointError::HttpsRequired);
        }
        let malformed = || EndpointError::Malformed("host, path or query holds a character that HTTP does not carry");
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        Ok(Self {
            url: text.into(),
            tls,
            host: host.into(),
            port,
            authority: HeaderValue::from_str(authority).map_err(|_| malformed())?,
            target: PathAndQuery::try_from(target).map_err(|_| malformed())?,
            subject: None,
        })
    }
}

/// Refuses a URL that the parser would repair. Returns the host as written.
fn check_syntax(text: &str) -> Result<&str, EndpointError> {
    let malformed = |why| Err(EndpointError::Malformed(why));
    if text.len() > URL_BYTES_MAX {
        return malformed("a URL has at most 4096 bytes");
    }
    if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return malformed("spaces, line breaks and control characters are not allowed");
    }
    if text.contains('#') {
        return malformed("a fragment (#…) is never sent; leave it out, or write %23 for a # in the path or query");
    }
    // In a query, a backslash is an ordinary character.
    if text.split('?').next().is_some_and(|before| before.contains('\\')) {
        return malformed("backslashes are not allowed");
    }
    let (scheme, rest) = text.split_once("://").ok_or(EndpointError::Scheme)?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return Err(EndpointError::Scheme);
    }
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    if authority.is_empty() {
        return malformed("the host is missing");
    }
    if authority.contains('@') {
        return malformed("user names and passwords are not allowed in a URL; use a header");
    }
    if authority.contains('%') {
        return malformed("percent signs are not allowed in a host");
    }
    match authority.strip_prefix('[').map(|inside| inside.split_once(']')) {
        Some(Some((inside, _))) if inside.parse::<std::net::Ipv6Addr>().is_ok() => Ok(inside),
        Some(_) => malformed("expected an IPv6 address in brackets"),
        None => Ok(authority.rsplit_once(':').map_or(authority, |(host, _)| host)),
    }
}

/// Checks a host name as normalised by the parser (lower case, punycode). Returns the name without the dot of the root.
fn check_name<'n>(name: &'n str, guard: &EgressGuard) -> Result<&'n str, EndpointError> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_label) {
        return Err(EndpointError::Malformed("not a host name"));
    }
    let open = if is_localhost(name) {
        guard.allows_loopback()
    } else if !name.contains('.') || PRIVATE_SUFFIXES.into_iter().any(|suffix| is_below(name, suffix)) {
        guard.allows_private()
    } else {
        true
    };
    if open { Ok(name) } else { Err(EndpointError::PrivateName(name.into())) }
}

/// Whether a name is `localhost` or a subdomain of `localhost`. Such a name means loopback, whatever a resolver returns
/// (RFC 6761 section 6.3).
pub fn is_localhost(name: &str) -> bool {
    is_below(name, "localhost")
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Egress;

    fn guard(allow: &[&str], require_https: bool) -> EgressGuard {
        let allow = allow.iter().map(|text| text.parse().unwrap()).collect();
        EgressGuard::new(&Egress { allow, deny: vec![], require_https, ca_file: None, dns_servers: vec![] }, [])
    }

    #[test]
    fn an_endpoint_has_what_the_request_needs() {
        let endpoint = Endpoint::try_new("https://Bücher.example:8443/a b?x=%2F#f", &guard(&[], false));
        assert!(matches!(endpoint, Err(EndpointError::Malformed(_))), "a space");
        let endpoint = Endpoint::try_new("https://Bücher.example:8443/hook?x=%2F", &guard(&[], false)).unwrap();
        assert!(endpoint.tls);
        assert_eq!(&*endpoint.host, "xn--bcher-kva.example");
        assert_eq!(endpoint.port, 8443);
        assert_eq!(endpoint.authority, "xn--bcher-kva.example:8443");
        assert_eq!(endpoint.target.as_str(), "/hook?x=%2F");
        let endpoint = Endpoint::try_new("http://[2606:4700:4700::1111]?q", &guard(&[], false)).unwrap();
        assert_eq!((&*endpoint.host, endpoint.port), ("2606:4700:4700::1111", 80));
        assert_eq!((endpoint.authority.to_str().unwrap(), endpoint.target.as_str()), ("[2606:4700:4700::1111]", "/?q"));
    }

    #[test]
    fn egress_errors_differ_from_malformed_urls() {
        for (text, egress) in [
            ("http://10.0.0.1/", true),
            ("http://localhost/", true),
            ("http://router/", true),
            ("http://0x7f.1/", false),
            ("ftp://example.com/", false),
            ("http://example.com:25/", false),
            ("https://example.com/a#b", false),
            ("https://example.com/a?b#", false),
            ("https://example.com#b", false),
            ("not a url", false),
        ] {
            let error = Endpoint::try_new(text, &guard(&[], false)).unwrap_err();
            assert_eq!(error.is_egress(), egress, "{text}: {error}");
        }
        let error = Endpoint::try_new("http://example.com/", &guard(&[], true)).unwrap_err();
        assert_eq!(error, EndpointError::HttpsRequired);
    }

    #[test]
    fn special_names_are_allowed_with_their_networks() {
        let loopback = guard(&["127.0.0.0/8"], false);
        let private = guard(&["10.0.0.0/8"], false);
        for (text, on_loopback, on_private) in [
            ("http://localhost:3000/", true, false),
            ("http://app.localhost/", true, false),
            ("http://receiver:8080/", false, true),
            ("http://db.internal/", false, true),
            ("http://localhost.example.com/", true, true),
        ] {
            assert_eq!(Endpoint::try_new(text, &loopback).is_ok(), on_loopback, "{text}");
            assert_eq!(Endpoint::try_new(text, &private).is_ok(), on_private, "{text}");
        }
    }

    #[test]
    fn blocked_ports_are_sorted() {
        assert!(BLOCKED_PORTS.is_sorted());
    }
}
