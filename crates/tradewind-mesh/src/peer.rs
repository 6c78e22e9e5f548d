//! Where a peer is: its key, the addresses it was seen at, the relay it can be met through.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use iroh::RelayUrl;
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::MeshKey;

/// The most direct addresses that one peer may name.
pub const MAX_DIRECT_ADDRS: usize = 16;
/// The longest relay URL that is accepted.
const MAX_RELAY_URL: usize = 512;

/// Why a peer's address could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddrError {
    /// The part before `@` is no mesh key.
    #[error("`{0}` does not start with a mesh key (64 hex digits)")]
    Key(String),
    /// A direct address is not `ip:port`.
    #[error("`{0}` is neither an address (ip:port) nor a relay (http:// or https://)")]
    Address(String),
    /// More direct addresses than a peer may name, or several relays.
    #[error("a peer names at most {MAX_DIRECT_ADDRS} addresses and one relay")]
    TooMany,
}

/// A peer's key and where to reach it.
///
/// As text: `key@address,address,relay-url`, for instance `5f…e1@192.0.2.7:4433,https://relay.example`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PeerAddr {
    /// The peer's public key.
    pub key: MeshKey,
    /// Addresses that may reach it directly.
    pub direct: Vec<SocketAddr>,
    /// The relay that it listens on.
    pub relay: Option<RelayUrl>,
}

impl PeerAddr {
    /// A peer known by its key alone.
    #[must_use]
    pub const fn new(key: MeshKey) -> Self {
        Self { key, direct: Vec::new(), relay: None }
    }

    /// The same peer, also reachable at `address`.
    #[must_use]
    pub fn with_direct(mut self, address: SocketAddr) -> Self {
        self.direct.push(address);
        self
    }

    /// The same peer, also reachable through `relay`.
    #[must_use]
    pub fn with_relay(mut self, relay: RelayUrl) -> Self {
        self.relay = Some(relay);
        self
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@", self.key)?;
        let mut separator = "";
        for address in &self.direct {
            write!(f, "{separator}{address}")?;
            separator = ",";
        }
        match &self.relay {
            Some(relay) => write!(f, "{separator}{relay}"),
            None => Ok(()),
        }
    }
}

impl FromStr for PeerAddr {
    type Err = PeerAddrError;

    fn from_str(text: &str) -> Result<Self, PeerAddrError> {
        let (key, places) = text.split_once('@').unwrap_or((text, ""));
        let key = key.parse().map_err(|_| PeerAddrError::Key(text.chars().take(80).collect()))?;
        let mut peer = Self::new(key);
        for place in places.split(',').map(str::trim).filter(|place| !place.is_empty()) {
            let error = || PeerAddrError::Address(place.chars().take(80).collect());
            if place.starts_with("http://") || place.starts_with("https://") {
                if peer.relay.is_some() {
                    return Err(PeerAddrError::TooMany);
                }
                if place.len() > MAX_RELAY_URL {
                    return Err(error());
                }
                peer.relay = Some(place.parse().map_err(|_| error())?);
            } else {
                if peer.direct.len() == MAX_DIRECT_ADDRS {
                    return Err(PeerAddrError::TooMany);
                }
                peer.direct.push(place.parse().map_err(|_| error())?);
            }
        }
        Ok(peer)
    }
}

impl TryFrom<String> for PeerAddr {
    type Error = PeerAddrError;
    fn try_from(text: String) -> Result<Self, PeerAddrError> {
        text.parse()
    }
}

impl From<PeerAddr> for String {
    fn from(peer: PeerAddr) -> Self {
        peer.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> MeshKey {
        MeshKey::from_bytes([7; 32])
    }

    #[test]
    fn an_address_survives_its_text() {
        let peer = PeerAddr::new(key())
            .with_direct("192.0.2.7:4433".parse().expect("address"))
            .with_direct("[2001:db8::1]:9".parse().expect("address"))
            .with_relay("https://relay.example".parse().expect("url"));
        assert_eq!(peer.to_string().parse::<PeerAddr>().expect("parses"), peer);
        let bare = PeerAddr::new(key());
        assert_eq!(bare.to_string().parse::<PeerAddr>().expect("parses"), bare);
    }

    #[test]
    fn a_bad_address_says_which_part_is_wrong() {
        let place = format!("{}@nowhere", key()).parse::<PeerAddr>().expect_err("no address");
        assert_eq!(place, PeerAddrError::Address("nowhere".into()));
        assert!(matches!("xyz@1.2.3.4:5".parse::<PeerAddr>(), Err(PeerAddrError::Key(_))));
    }

    #[test]
    fn a_peer_cannot_name_an_unbounded_list() {
        let many = vec!["192.0.2.7:1"; MAX_DIRECT_ADDRS + 1].join(",");
        assert_eq!(format!("{}@{many}", key()).parse::<PeerAddr>(), Err(PeerAddrError::TooMany));
    }
}
