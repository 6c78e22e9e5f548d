//! Every bound of the mesh in one place.

use std::time::Duration;

use crate::directory::TableLimits;
use crate::frame;

/// What this node gives to one peer, to all peers, and how long it waits for any of them.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest frame body, both ways.
    pub max_body: u32,
    /// Open incoming connections in all.
    pub connections: usize,
    /// Open incoming connections of one peer, over all protocols.
    pub connections_per_peer: u32,
    /// Streams of one peer that are being served, over all connections.
    pub streams_per_peer: u32,
    /// Streams that one peer may open at once.
    pub stream_burst: u32,
    /// Streams that one peer may open a second.
    pub streams_per_second: u32,
    /// Handshakes that are accepted at once.
    pub handshake_burst: u32,
    /// Handshakes that are accepted a second.
    pub handshakes_per_second: u32,
    /// Handshakes that one source address may start a second, with ten times that at once.
    pub handshakes_per_address: u32,
    /// How long a dial may take.
    pub dial: Duration,
    /// How long a call's answer may take.
    pub call: Duration,
    /// How long the first frame of an incoming stream may take.
    pub first_frame: Duration,
    /// How long one frame may take to be written.
    pub write: Duration,
    /// When an unused outgoing connection is closed.
    pub idle: Duration,
    /// Outgoing connections that are kept for reuse.
    pub pooled: usize,
    /// The first wait after a failed dial; doubles up to `backoff_max`.
    pub backoff_min: Duration,
    /// The longest wait after failed dials.
    pub backoff_max: Duration,
    /// How long a peer that forged is shut out.
    pub ban: Duration,
    /// The directory's own bounds.
    pub directory: DirectoryLimits,
    /// What measurements of lines may cost.
    pub speed: SpeedLimits,
}

/// Bounds of `tradewind/speed/1`. Who asks keeps to `bytes` and `time` too.
#[derive(Debug, Clone)]
pub struct SpeedLimits {
    /// Bytes of one measurement, each way.
    pub bytes: u64,
    /// How long they may flow, each way.
    pub time: Duration,
    /// What lies between two measurements of one key.
    pub pause: Duration,
    /// Bytes of all measurements of an hour, both ways together.
    pub hourly: u64,
}

/// Bounds of the directory's exchange.
#[derive(Debug, Clone)]
pub struct DirectoryLimits {
    /// What the table holds.
    pub table: TableLimits,
    /// Nodes that this node connects to.
    pub links_out: usize,
    /// Nodes that may connect to this one.
    pub links_in: usize,
    /// Batches that wait for one slow peer before it is dropped.
    pub link_queue: usize,
    /// How often to compare tables with another node.
    pub compare_every: Duration,
    /// Nodes compared with each time.
    pub compare_with: usize,
    /// Nodes remembered as candidates to link and compare with.
    pub known_peers: usize,
    /// Events that wait for one slow watcher before it must read a new snapshot.
    pub watch_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: frame::DEFAULT_MAX_BODY,
            connections: 4096,
            connections_per_peer: 16,
            streams_per_peer: 256,
            stream_burst: 4096,
            streams_per_second: 2048,
            handshake_burst: 512,
            handshakes_per_second: 256,
            handshakes_per_address: 32,
            dial: Duration::from_secs(5),
            call: Duration::from_secs(15),
            first_frame: Duration::from_secs(5),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            pooled: 1024,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            ban: Duration::from_secs(600),
            directory: DirectoryLimits::default(),
            speed: SpeedLimits::default(),
        }
    }
}

impl Default for SpeedLimits {
    fn default() -> Self {
        Self {
            bytes: 256 << 20,
            time: Duration::from_secs(3),
            pause: Duration::from_secs(60),
            hourly: 8 << 30,
        }
    }
}

impl Default for DirectoryLimits {
    fn default() -> Self {
        Self {
            table: TableLimits::default(),
            links_out: 8,
            links_in: 256,
            link_queue: 64,
            compare_every: Duration::from_secs(30),
            compare_with: 3,
            known_peers: 256,
            watch_queue: 4096,
        }
    }
}
