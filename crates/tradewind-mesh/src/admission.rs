//! Who may connect, and how much at once: decided before work is done.
//!
//! ```text
//!  packet ──▶ incoming filter ──▶ TLS handshake ──▶ connection permit ──▶ stream permit ──▶ handler
//!             rate, per address    key proven        ban, per peer         rate, per peer
//! ```
//!
//! The filter costs no cryptography, so a join storm is answered by cheap refusals while admitted peers are served. Under
//! pressure a newcomer is sent away once with a token (QUIC's retry), so that forged source addresses cost their sender
//! and nobody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iroh::endpoint::{Incoming, IncomingAddr};
use iroh::protocol::IncomingFilterOutcome;
use tokio::time::Instant;
use tradewind_proto::ids::MeshKey;

use crate::limits::Limits;
use crate::rate::Bucket;
use crate::refusal::{Refusal, RefusalCode};

/// How many peers and addresses are remembered; above, only known ones are admitted.
const REMEMBERED: usize = 65_536;
/// From how many remembered addresses on a newcomer must prove its own.
const PRESSED: usize = 1024;
/// How long an idle peer's account is kept, so that reconnecting does not refill its buckets.
const FORGET_AFTER: Duration = Duration::from_secs(60);
/// Refused streams that a connection survives at once, as a multiple of its allowance.
const PATIENCE: u32 = 4;

#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    started: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    handshakes: Bucket,
    addresses: HashMap<IpAddr, Account>,
    peers: HashMap<MeshKey, Account>,
    connections: usize,
}

#[derive(Debug)]
struct Account {
    connections: u32,
    streams: u32,
    allowance: Bucket,
    patience: Bucket,
    seen: Instant,
    banned_until: Option<Instant>,
}

/// One admitted connection; dropping it frees its place.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    admission: Arc<Admission>,
    peer: MeshKey,
}

/// One admitted stream; dropping it frees its place.
#[derive(Debug)]
pub(crate) struct StreamPermit {
    admission: Arc<Admission>,
    peer: MeshKey,
}

/// Why a stream was not admitted.
#[derive(Debug)]
pub(crate) enum StreamRefused {
    /// Say so and go on.
    Refuse(Refusal),
    /// The peer ignores refusals: close the connection.
    Close(Refusal),
}

impl Admission {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        let state = State {
            handshakes: Bucket::new(limits.handshake_burst, limits.handshakes_per_second),
            addresses: HashMap::new(),
            peers: HashMap::new(),
            connections: 0,
        };
        Arc::new(Self { limits, started: Instant::now(), state: Mutex::new(state) })
    }

    /// Decides on a handshake before any cryptography.
    pub(crate) fn filter(&self, incoming: &Incoming) -> IncomingFilterOutcome {
        let address = match incoming.remote_addr() {
            IncomingAddr::Ip(address) => Some(address.ip()),
            // A relay vouches for the key, so the per-peer limits hold there; there is no address to count.
            IncomingAddr::Relay { .. } | IncomingAddr::Custom(_) => None,
            _ => None,
        };
        if address.is_some() && !incoming.remote_addr_validated() && self.is_pressed() {
            return IncomingFilterOutcome::Retry;
        }
        if !self.admits_handshake(address) {
            return IncomingFilterOutcome::Reject;
        }
        IncomingFilterOutcome::Accept
    }

    /// Whether newcomers must first show that they receive at the address they write from. Otherwise forged addresses
    /// would use up the room for honest ones.
    fn is_pressed(&self) -> bool {
        let state = self.lock();
        state.addresses.len() >= PRESSED || state.handshakes.is_low()
    }

    fn admits_handshake(&self, address: Option<IpAddr>) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        if state.connections >= self.limits.connections {
            return false;
        }
        let per_second = self.limits.handshakes_per_address;
        if let Some(address) = address {
            let full = state.addresses.len() >= REMEMBERED;
            if full && !state.addresses.contains_key(&address) {
                return false;
            }
            let account = state
                .addresses
                .entry(address)
                .or_insert_with(|| Account::new(now, per_second.saturating_mul(10), per_second));
            account.seen = now;
            if !account.allowance.take(self.millis(now)) {
                return false;
            }
        }
        state.handshakes.take(self.millis(now))
    }

    /// Takes a place for a connection of `peer`.
    pub(crate) fn connection(self: &Arc<Self>, peer: MeshKey) -> Result<ConnectionPermit, Refusal> {
        let now = Instant::now();
        let mut state = self.lock();
        if state.connections >= self.limits.connections {
            return Err(Refusal::new(RefusalCode::Busy, "this node has as many connections as it serves"));
        }
        if state.peers.len() >= REMEMBERED && !state.peers.contains_key(&peer) {
            return Err(Refusal::new(RefusalCode::Busy, "this node knows as many peers as it serves"));
        }
        let limits = &self.limits;
        let account = state
            .peers
            .entry(peer)
            .or_insert_with(|| Account::new(now, limits.stream_burst, limits.streams_per_second));
        account.seen = now;
        if account.banned_until.is_some_and(|until| until > now) {
            return Err(Refusal::new(RefusalCode::Forbidden, "this node shut you out for a while"));
        }
        if account.connections >= limits.connections_per_peer {
            let limit = limits.connections_per_peer;
            return Err(Refusal::new(
                RefusalCode::Busy,
                format_args!("you have {limit} connections already"),
            ));
        }
        account.connections += 1;
        state.connections += 1;
        Ok(ConnectionPermit { admission: self.clone(), peer })
    }

    /// Takes a place for a stream of `peer`.
    pub(crate) fn stream(self: &Arc<Self>, peer: MeshKey) -> Result<StreamPermit, StreamRefused> {
        let now = Instant::now();
        let millis = self.millis(now);
        let mut state = self.lock();
        let Some(account) = state.peers.get_mut(&peer) else {
            return Err(StreamRefused::Close(Refusal::new(RefusalCode::Internal, "no such connection")));
        };
        account.seen = now;
        let refusal = if account.banned_until.is_some_and(|until| until > now) {
            let refusal = Refusal::new(RefusalCode::Forbidden, "this node shut you out for a while");
            return Err(StreamRefused::Close(refusal));
        } else if account.streams >= self.limits.streams_per_peer {
            let limit = self.limits.streams_per_peer;
            Refusal::new(RefusalCode::Busy, format_args!("{limit} of your streams are being served already"))
        } else if !account.allowance.take(millis) {
            let rate = self.limits.streams_per_second;
            Refusal::new(RefusalCode::RateLimited, format_args!("more than {rate} streams a second"))
        } else {
            account.streams += 1;
            return Ok(StreamPermit { admission: self.clone(), peer });
        };
        Err(if account.patience.take(millis) {
            StreamRefused::Refuse(refusal)
        } else {
            StreamRefused::Close(refusal)
        })
    }

    /// Shuts a peer out for a while.
    pub(crate) fn ban(&self, peer: MeshKey) {
        let now = Instant::now();
        let mut state = self.lock();
        let limits = &self.limits;
        let account = state
            .peers
            .entry(peer)
            .or_insert_with(|| Account::new(now, limits.stream_burst, limits.streams_per_second));
        account.banned_until = now.checked_add(limits.ban);
    }

    /// Whether a peer is shut out now.
    pub(crate) fn is_banned(&self, peer: MeshKey) -> bool {
        let until = self.lock().peers.get(&peer).and_then(|account| account.banned_until);
        until.is_some_and(|until| until > Instant::now())
    }

    /// Forgets who was idle for a while.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        let keep = |account: &Account| {
            account.connections > 0
                || account.streams > 0
                || account.banned_until.is_some_and(|until| until > now)
                || now.duration_since(account.seen) < FORGET_AFTER
        };
        let mut state = self.lock();
        state.peers.retain(|_, account| keep(account));
        state.addresses.retain(|_, account| keep(account));
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn new(now: Instant, burst: u32, per_second: u32) -> Self {
        let patience = Bucket::new(burst.saturating_mul(PATIENCE), per_second.saturating_mul(PATIENCE));
        let allowance = Bucket::new(burst, per_second);
        Self { connections: 0, streams: 0, allowance, patience, seen: now, banned_until: None }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        state.connections = state.connections.saturating_sub(1);
        if let Some(account) = state.peers.get_mut(&self.peer) {
            account.connections = account.connections.saturating_sub(1);
        }
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = self.admission.lock();
        if let Some(account) = state.peers.get_mut(&self.peer) {
            account.streams = account.streams.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u8) -> MeshKey {
        MeshKey::from_bytes([number; 32])
    }

    fn small() -> Limits {
        Limits {
            connections: 3,
            connections_per_peer: 2,
            streams_per_peer: 2,
            stream_burst: 4,
            streams_per_second: 1,
            handshake_burst: 50,
            handshakes_per_second: 10,
            handshakes_per_address: 1,
            ..Limits::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_peer_cannot_take_every_place() {
        let admission = Admission::new(small());
        let held: Vec<_> = (0..2).map(|_| admission.connection(peer(1)).expect("admitted")).collect();
        let refusal = admission.connection(peer(1)).expect_err("the third");
        assert_eq!(refusal.message(), "you have 2 connections already");
        let other = admission.connection(peer(2)).expect("another peer has its own places");
        assert_eq!(admission.connection(peer(3)).expect_err("full").code(), RefusalCode::Busy);
        drop((held, other));
        admission.connection(peer(3)).expect("places were freed");
    }

    #[tokio::test(start_paused = true)]
    async fn streams_are_limited_at_once_and_over_time() {
        let admission = Admission::new(small());
        let _connection = admission.connection(peer(1)).expect("admitted");
        let held: Vec<_> = (0..2).map(|_| admission.stream(peer(1)).expect("admitted")).collect();
        let Err(StreamRefused::Refuse(busy)) = admission.stream(peer(1)) else { panic!("admitted") };
        assert_eq!(busy.code(), RefusalCode::Busy);
        drop(held);
        for _ in 0..2 {
            admission.stream(peer(1)).expect("the rest of the burst");
        }
        let Err(StreamRefused::Refuse(slow)) = admission.stream(peer(1)) else { panic!("admitted") };
        assert_eq!(slow.code(), RefusalCode::RateLimited);
        tokio::time::advance(Duration::from_secs(1)).await;
        admission.stream(peer(1)).expect("the rate");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_ignores_refusals_loses_its_connection() {
        let admission = Admission::new(small());
        let _connection = admission.connection(peer(1)).expect("admitted");
        let closed = (0..100).any(|_| matches!(admission.stream(peer(1)), Err(StreamRefused::Close(_))));
        assert!(closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_from_one_address_leaves_room_for_others() {
        let admission = Admission::new(small());
        let storm: IpAddr = [192, 0, 2, 1].into();
        assert_eq!((0..1000).filter(|_| admission.admits_handshake(Some(storm))).count(), 10);
        assert!(admission.admits_handshake(Some([192, 0, 2, 2].into())));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_from_many_addresses_makes_newcomers_prove_theirs() {
        let admission = Admission::new(Limits::default());
        assert!(!admission.is_pressed());
        for number in 0..1024u32 {
            tokio::time::advance(Duration::from_millis(10)).await;
            admission.admits_handshake(Some(number.to_be_bytes().into()));
        }
        assert!(admission.is_pressed());
        tokio::time::advance(FORGET_AFTER).await;
        admission.sweep();
        assert!(!admission.is_pressed());
        for _ in 0..300 {
            admission.admits_handshake(None);
        }
        assert!(admission.is_pressed(), "the handshakes of a second are nearly used up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_ends_and_survives_the_sweep_until_then() {
        let admission = Admission::new(small());
        admission.ban(peer(1));
        tokio::time::advance(Duration::from_secs(300)).await;
        admission.sweep();
        assert!(admission.is_banned(peer(1)));
        assert_eq!(admission.connection(peer(1)).expect_err("banned").code(), RefusalCode::Forbidden);
        tokio::time::advance(Duration::from_secs(301)).await;
        admission.connection(peer(1)).expect("the ban ended");
    }
}
