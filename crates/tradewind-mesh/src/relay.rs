//! A relay of one's own: where two nodes meet that cannot reach each other.
//!
//! A node with the relay role starts it in-process; the network profile names its URL. It forwards sealed QUIC packets
//! between keys and can read none of them. Without TLS it serves on loopback and private networks only; in public, put
//! it behind a proxy that terminates TLS and name the `https://` URL.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use iroh::RelayUrl;
use iroh_relay::server::{ClientRateLimit, RelayConfig as ServerRelay, Server, ServerConfig};

/// How to serve a relay.
#[derive(Debug, Clone)]
pub struct RelayConfig {
    /// Where to listen; port 0 picks one.
    pub bind: SocketAddr,
    /// The URL that the network profile will name, if it is not `http://` and the bound address.
    pub url: Option<RelayUrl>,
    /// What one client may send, in bytes a second. `None`: no limit.
    pub client_rate: Option<NonZeroU32>,
}

impl RelayConfig {
    /// A relay at `bind` without a rate limit.
    #[must_use]
    pub const fn new(bind: SocketAddr) -> Self {
        Self { bind, url: None, client_rate: None }
    }
}

/// Why a relay could not be served.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The URL is plain HTTP to a public place.
    #[error(
        "{url} is plain HTTP outside loopback and private networks; put the relay behind TLS and name its https URL"
    )]
    PlainHttp {
        /// The URL.
        url: String,
    },
    /// The relay listens on every address and no URL was given.
    #[error("a relay that listens on {bind} needs the URL that others reach it by")]
    NeedsUrl {
        /// Where it would listen.
        bind: SocketAddr,
    },
    /// The server did not start or did not stop.
    #[error("the relay failed")]
    Server(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A running relay; dropping it stops the relay at once.
#[derive(Debug)]
pub struct RelayGuard {
    server: Server,
    url: RelayUrl,
    address: SocketAddr,
}

impl RelayGuard {
    /// The URL for the network profile.
    #[must_use]
    pub const fn url(&self) -> &RelayUrl {
        &self.url
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops the relay and waits for its tasks.
    ///
    /// # Errors
    /// When a task of the relay failed.
    pub async fn shutdown(self) -> Result<(), RelayError> {
        self.server.shutdown().await.map_err(|error| RelayError::Server(Box::new(error)))
    }
}

/// Starts a relay in this process.
///
/// # Errors
/// When the URL would be plain HTTP in public, is missing, or the address cannot be bound.
pub async fn serve(config: RelayConfig) -> Result<RelayGuard, RelayError> {
    match &config.url {
        Some(url) if url.scheme() != "https" && !is_private_host(url.host_str().unwrap_or_default()) => {
            return Err(RelayError::PlainHttp { url: url.to_string() });
        }
        None if config.bind.ip().is_unspecified() => return Err(RelayError::NeedsUrl { bind: config.bind }),
        None if !is_private(config.bind.ip()) => {
            return Err(RelayError::PlainHttp { url: format!("http://{}", config.bind) });
        }
        Some(_) | None => {}
    }
    let mut relay = ServerRelay::new(config.bind);
    relay.limits.client_rx = config.client_rate.map(ClientRateLimit::new);
    let mut server = ServerConfig::default();
    server.relay = Some(relay);
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| RelayError::Server(error);
    let server = Server::spawn(server).await.map_err(|error| failed(Box::new(error)))?;
    let address = server.http_addr().ok_or_else(|| failed("the relay bound no address".into()))?;
    let url = match config.url {
        Some(url) => url,
        None => format!("http://{address}").parse().map_err(|error| failed(Box::new(error)))?,
    };
    Ok(RelayGuard { server, url, address })
}

fn is_private_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse().is_ok_and(is_private)
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plain_http_never_serves_the_public() {
        let public = serve(RelayConfig::new("203.0.113.5:80".parse().expect("address"))).await;
        assert!(matches!(public, Err(RelayError::PlainHttp { .. })));
        let everywhere = serve(RelayConfig::new("0.0.0.0:0".parse().expect("address"))).await;
        assert!(matches!(everywhere, Err(RelayError::NeedsUrl { .. })));
        let named = RelayConfig {
            url: Some("http://relay.example".parse().expect("url")),
            ..RelayConfig::new("0.0.0.0:0".parse().expect("address"))
        };
        assert!(matches!(serve(named).await, Err(RelayError::PlainHttp { .. })));
    }

    #[test]
    fn private_hosts_are_told_from_public_ones() {
        for host in ["127.0.0.1", "10.1.2.3", "192.168.0.9", "[::1]", "[fd00::1]", "localhost"] {
            assert!(is_private_host(host), "{host}");
        }
        for host in ["8.8.8.8", "relay.example", "[2001:db8::1]", ""] {
            assert!(!is_private_host(host), "{host}");
        }
    }
}
