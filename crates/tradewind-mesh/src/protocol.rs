//! The protocols of the mesh and their names in the TLS handshake (ALPN).

use std::fmt;

/// One protocol. Each has connections of its own, so that a busy one never blocks another's control.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Signed offers and heartbeats.
    Directory,
    /// Quotes, terms, workload commands, logs, usage, vouchers.
    Lease,
    /// Leases that a buyer has metered by another node.
    Meter,
    /// TCP streams to workload ports.
    Tunnel,
    /// Watchers' questions: pings, and the hardware challenge.
    Probe,
    /// How fast the line to a peer is.
    Speed,
    /// Inputs, checkpoints, results.
    Blobs,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Directory, Self::Lease, Self::Meter, Self::Tunnel, Self::Probe, Self::Speed, Self::Blobs];

    /// The name in the handshake.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::Directory => b"tradewind/directory/1",
            Self::Lease => b"tradewind/lease/1",
            Self::Meter => b"tradewind/meter/1",
            Self::Tunnel => b"tradewind/tunnel/1",
            Self::Probe => b"tradewind/probe/1",
            Self::Speed => b"tradewind/speed/1",
            Self::Blobs => iroh_blobs::ALPN,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.alpn()))
    }
}
