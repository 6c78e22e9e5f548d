//! Outgoing connections: one per peer and protocol, reused, bounded, with a time limit on every dial and a growing wait
//! after failures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{
    ConnectError, ConnectWithOptsError, ConnectingError, Connection, ConnectionError, VarInt,
};
use iroh::{Endpoint, EndpointAddr, RelayUrl};
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

use crate::limits::Limits;
use crate::peer::PeerAddr;
use crate::protocol::Protocol;
use crate::refusal::{Refusal, RefusalCode};

/// Connection close codes that carry a [`RefusalCode`] start here.
const CLOSE_BASE: u32 = 0x7477_0000;
/// QUIC's CONNECTION_REFUSED.
const QUIC_REFUSED: u64 = 0x2;
/// QUIC's code for TLS alert 120, `no_application_protocol`.
const QUIC_NO_PROTOCOL: u64 = 0x178;

/// Why a peer could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The key is no ed25519 public key.
    #[error("{0} is not a valid mesh key")]
    BadKey(MeshKey),
    /// There is no address to try.
    #[error("no address of {0} is known")]
    NoAddress(MeshKey),
    /// The peer can only be met through a relay that this node's operator did not name.
    #[error("{key} is only reachable through {relay}, a relay that this node's configuration does not name")]
    RelayNotNamed {
        /// The peer.
        key: MeshKey,
        /// Its relay.
        relay: RelayUrl,
    },
    /// A node does not dial itself.
    #[error("a node cannot dial itself")]
    Myself,
    /// The peer did not answer in time.
    #[error("{key} did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// The peer.
        key: MeshKey,
        /// How long this node waited.
        after: Duration,
    },
    /// Recent dials failed; the next one is due later.
    #[error("{key} could not be reached just now; the next try is due in {} ms", .retry_in.as_millis())]
    Backoff {
        /// The peer.
        key: MeshKey,
        /// How long until then.
        retry_in: Duration,
    },
    /// The peer does not speak the protocol, or not this version of it.
    #[error("{key} does not speak {protocol}")]
    UnknownProtocol {
        /// The peer.
        key: MeshKey,
        /// The protocol.
        protocol: Protocol,
    },
    /// The peer refused the connection.
    #[error("{key} refused the connection")]
    Refused {
        /// The peer.
        key: MeshKey,
        /// Its reason.
        #[source]
        refusal: Refusal,
    },
    /// This node's mesh was closed.
    #[error("the mesh is closed")]
    Closed,
    /// The handshake failed otherwise.
    #[error("{key} is unreachable")]
    Unreachable {
        /// The peer.
        key: MeshKey,
        /// What the transport said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

#[derive(Debug)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    relays: Vec<RelayUrl>,
    dial: Duration,
    idle: Duration,
    pooled: usize,
    backoff_min: Duration,
    backoff_max: Duration,
    slots: Mutex<HashMap<(MeshKey, Protocol), Arc<Slot>>>,
}

#[derive(Debug)]
struct Slot {
    state: tokio::sync::Mutex<SlotState>,
    used: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct SlotState {
    connection: Option<Connection>,
    failures: u32,
    retry_at: Option<Instant>,
    tried: Option<PeerAddr>,
}

/// A connection from the pool.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(crate) connection: Connection,
    /// Whether it was made for this call: a reused one may be dead without knowing it.
    pub(crate) fresh: bool,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint, relays: Vec<RelayUrl>, limits: &Limits) -> Self {
        Self {
            endpoint,
            relays,
            dial: limits.dial,
            idle: limits.idle,
            pooled: limits.pooled,
            backoff_min: limits.backoff_min,
            backoff_max: limits.backoff_max,
            slots: Mutex::new(HashMap::new()),
        }
    }

    /// A live connection to `peer`, reused or new. Callers that want the same one at once wait for one dial.
    pub(crate) async fn connection(&self, peer: &PeerAddr, protocol: Protocol) -> Result<Dialed, DialError> {
        let slot = self.slot(peer.key, protocol);
        let mut state = slot.state.lock().await;
        if let Some(connection) = state.connection.take_if(|connection| connection.close_reason().is_none()) {
            state.connection = Some(connection.clone());
            return Ok(Dialed { connection, fresh: false });
        }
        state.connection = None;
        let known_address = state.tried.as_ref() == Some(peer);
        if let Some(retry_at) = state.retry_at.filter(|at| known_address && *at > Instant::now()) {
            let retry_in = retry_at.duration_since(Instant::now());
            return Err(DialError::Backoff { key: peer.key, retry_in });
        }
        let dialed = self.dial(peer, protocol).await;
        state.tried = Some(peer.clone());
        match dialed {
            Ok(connection) => {
                (state.failures, state.retry_at) = (0, None);
                state.connection = Some(connection.clone());
                Ok(Dialed { connection, fresh: true })
            }
            Err(error) => {
                state.retry_at = Instant::now().checked_add(self.backoff(state.failures));
                state.failures = state.failures.saturating_add(1);
                Err(error)
            }
        }
    }

    /// Forgets a connection that did not answer, so that the next call dials anew.
    pub(crate) async fn forget(&self, peer: MeshKey, protocol: Protocol, dead: &Connection) {
        let slot = self.lock().get(&(peer, protocol)).cloned();
        let Some(slot) = slot else { return };
        let mut state = slot.state.lock().await;
        state.connection.take_if(|known| known.stable_id() == dead.stable_id());
    }

    /// Drops connections that nobody used for a while. Streams that are still open keep theirs alive.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let idle = self.idle;
        self.lock().retain(|_, slot| now.duration_since(slot.used()) < idle || Arc::strong_count(slot) > 1);
    }

    async fn dial(&self, peer: &PeerAddr, protocol: Protocol) -> Result<Connection, DialError> {
        let key = peer.key;
        let address = self.address(peer)?;
        if self.endpoint.is_closed() {
            return Err(DialError::Closed);
        }
        match tokio::time::timeout(self.dial, self.endpoint.connect(address, protocol.alpn())).await {
            Err(_) => Err(DialError::TimedOut { key, after: self.dial }),
            Ok(Err(error)) => Err(explain(key, protocol, self.dial, error)),
            Ok(Ok(connection)) => Ok(connection),
        }
    }

    /// What iroh may try. A relay is contacted only if the operator named it: a peer's word is not enough.
    fn address(&self, peer: &PeerAddr) -> Result<EndpointAddr, DialError> {
        let key = peer.key;
        let id = iroh::PublicKey::from_bytes(key.as_bytes()).map_err(|_| DialError::BadKey(key))?;
        if id == self.endpoint.id() {
            return Err(DialError::Myself);
        }
        let mut address = EndpointAddr::new(id);
        for direct in &peer.direct {
            address = address.with_ip_addr(*direct);
        }
        match &peer.relay {
            Some(relay) if self.relays.contains(relay) => address = address.with_relay_url(relay.clone()),
            Some(relay) if address.is_empty() => {
                return Err(DialError::RelayNotNamed { key, relay: relay.clone() });
            }
            None if address.is_empty() => {
                // Only the key is known: it may listen on any relay of the network profile.
                for relay in &self.relays {
                    address = address.with_relay_url(relay.clone());
                }
            }
            Some(_) | None => {}
        }
        if address.is_empty() { Err(DialError::NoAddress(key)) } else { Ok(address) }
    }

    /// Doubles with each failure, plus up to a half at random so that a crowd does not return at once.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled = self.backoff_min.saturating_mul(1u32 << failures.min(16)).min(self.backoff_max);
        doubled + doubled.mul_f64(rand::random::<f64>() / 2.0)
    }

    fn slot(&self, key: MeshKey, protocol: Protocol) -> Arc<Slot> {
        let now = Instant::now();
        let mut slots = self.lock();
        if slots.len() >= self.pooled && !slots.contains_key(&(key, protocol)) {
            let oldest = slots.iter().min_by_key(|(_, slot)| slot.used()).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                slots.remove(&oldest);
            }
        }
        let slot = slots.entry((key, protocol)).or_insert_with(|| {
            Arc::new(Slot { state: tokio::sync::Mutex::default(), used: Mutex::new(now) })
        });
        *slot.used.lock().unwrap_or_else(PoisonError::into_inner) = now;
        slot.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(MeshKey, Protocol), Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The close code that tells a peer why its connection ends.
pub(crate) fn close_code(code: RefusalCode) -> VarInt {
    VarInt::from_u32(CLOSE_BASE + u32::from(code.number()))
}

/// The peer's refusal, if that is what ended the connection.
pub(crate) fn refusal_of(error: &ConnectionError) -> Option<Refusal> {
    if let ConnectionError::ApplicationClosed(close) = error {
        let number = close.error_code.into_inner().checked_sub(u64::from(CLOSE_BASE))?;
        let code = RefusalCode::from_number(u16::try_from(number).ok()?);
        return Some(Refusal::new(code, String::from_utf8_lossy(&close.reason)));
    }
    if let ConnectionError::ConnectionClosed(close) = error
        && u64::from(close.error_code) == QUIC_REFUSED
    {
        return Some(Refusal::new(RefusalCode::Busy, "the node takes no more connections now"));
    }
    None
}

fn explain(key: MeshKey, protocol: Protocol, limit: Duration, error: ConnectError) -> DialError {
    let unreachable =
        |source: Box<dyn std::error::Error + Send + Sync>| DialError::Unreachable { key, source };
    if let ConnectError::Connect { source: ConnectWithOptsError::EndpointClosed { .. }, .. } = error {
        return DialError::Closed;
    }
    if let ConnectError::Connect { source: ConnectWithOptsError::NoAddress { .. }, .. } = error {
        return DialError::NoAddress(key);
    }
    let (ConnectError::Connection { source: connection, .. }
    | ConnectError::Connecting {
        source: ConnectingError::ConnectionError { source: connection, .. },
        ..
    }) = error
    else {
        return unreachable(format!("{error:#}").into());
    };
    if let Some(refusal) = refusal_of(&connection) {
        return DialError::Refused { key, refusal };
    }
    if let ConnectionError::ConnectionClosed(close) = &connection
        && u64::from(close.error_code) == QUIC_NO_PROTOCOL
    {
        return DialError::UnknownProtocol { key, protocol };
    }
    if connection == ConnectionError::TimedOut {
        return DialError::TimedOut { key, after: limit };
    }
    unreachable(Box::new(connection))
}
