//! The client that pulls inputs from the web on behalf of strangers: https only, and nothing but the public Internet.
//!
//! A job names the URL, so the URL is hostile: it may point at the owner's router, at a metadata service, or redirect there. Addresses
//! are judged after resolution and used as judged, so a name that changes its mind in between reaches nothing either.

mod cache;
mod git;
mod pull;
mod sums;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect;

pub(crate) use self::cache::Cache;
pub(crate) use self::pull::{PullError, Puller};

/// Which sources inputs may come from.
#[derive(Debug, Clone, Default)]
pub struct SourcePolicy {
    /// Also addresses of the own network; for a consortium's internal stores.
    pub allow_private: bool,
    /// Certificate authorities besides the system's, in PEM.
    pub authorities: Vec<Vec<u8>>,
}

/// The client for inputs.
///
/// # Errors
/// When an authority is no certificate.
pub fn client(policy: &SourcePolicy) -> Result<reqwest::Client, reqwest::Error> {
    let allow_private = policy.allow_private;
    let mut builder = reqwest::Client::builder()
        .https_only(true)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(30))
        .redirect(redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() >= 5 {
                return attempt.error("more than 5 redirects");
            }
            if allow_private || is_public_url(attempt.url()) {
                attempt.follow()
            } else {
                attempt.error(Private)
            }
        }));
    if !allow_private {
        builder = builder.dns_resolver(Arc::new(PublicOnly)).no_proxy();
    }
    for authority in &policy.authorities {
        builder = builder.add_root_certificate(reqwest::Certificate::from_pem(authority)?);
    }
    builder.build()
}

/// Whether a URL's host is a name, or a public address: literals never reach the resolver.
#[must_use]
pub fn is_public_url(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.parse::<IpAddr>().map_or(!host.is_empty(), is_public)
}

/// An address that is not on the public Internet.
#[derive(Debug, thiserror::Error)]
#[error("the address is not on the public Internet; the provider fetches nothing from its own network")]
pub struct Private;

#[derive(Debug)]
struct PublicOnly;

impl Resolve for PublicOnly {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<SocketAddr> =
                found.into_iter().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(Private.into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether an address is on the public Internet.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            let special = v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4.is_multicast()
                || v4.is_broadcast()
                || v4.is_documentation()
                || a == 0
                || a >= 240
                || (a == 100 && (64..128).contains(&b))
                || (a == 198 && (b == 18 || b == 19))
                || (a == 192 && b == 0 && c == 0);
            !special
        }
        IpAddr::V6(v6) => {
            if let Some(v4) = v6.to_ipv4_mapped() {
                return is_public(IpAddr::V4(v4));
            }
            let [first, second, ..] = v6.segments();
            // Global unicast is 2000::/3; inside it, tunnels (2001::/32, 2002::/16) and documentation carry other addresses.
            let global = first & 0xe000 == 0x2000;
            let carried = (first == 0x2001 && (second == 0 || second == 0x0db8)) || first == 0x2002;
            global && !carried
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owners_network_is_not_public() {
        let refused = [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "192.168.1.1",
            "172.31.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "198.18.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::",
            "64:ff9b::a00:1",
        ];
        for address in refused {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in ["1.1.1.1", "172.32.0.1", "2606:4700::1111"] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_literal_address_in_a_url_is_judged_too() {
        let public = |url: &str| is_public_url(&reqwest::Url::parse(url).unwrap());
        assert!(!public("https://169.254.169.254/latest/meta-data"));
        assert!(!public("https://[::1]/"));
        assert!(!public("https://2130706433/"), "an address in decimal");
        assert!(public("https://example.org/data.csv"));
    }
}
