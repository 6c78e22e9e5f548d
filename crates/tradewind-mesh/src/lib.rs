//! The mesh: how nodes find each other, talk, and move data, without a server that anyone must trust.
//!
//! ```text
//!        lease/1, meter/1  directory/1     tunnel/1     probe/1    speed/1, iroh-blobs
//!          calls, streams   records      TCP streams   questions   raw bytes, ranges
//!              │               │              │            │           │
//!  frames ─────┴───────────────┴──────────────┴────────────┘           │   version, sequence, length on each
//!  admission ──────────────────────────────────────────────────────────┤   limits before work
//!  iroh (QUIC, keys, hole punching) ───────────────────────────────────┘   direct, or by a relay one names
//! ```
//!
//! **Private by default.** A [`Mesh`] contacts the peers, bootstrap nodes and relays that its configuration names, and
//! addresses that verified records or callers give for a peer. No public relay, no DNS or DHT lookup, no port mapping.
//!
//! **Every peer is hostile until shown otherwise.** Frames have a version, a sequence and a size limit; queues, streams,
//! connections and waits are bounded; a "no" is a [`Refusal`] with a code and a sentence.
//!
//! Buyer and provider are written against [`Transport`], which the simulator implements too.
//!
//! ```
//! use std::sync::Arc;
//! use async_trait::async_trait;
//! use bytes::Bytes;
//! use tradewind_mesh::{FrameStream, LeaseService, Mesh, MeshConfig, MeshSecret, Refusal, Transport};
//! use tradewind_proto::ids::MeshKey;
//!
//! struct Echo;
//!
//! #[async_trait]
//! impl LeaseService for Echo {
//!     async fn call(&self, _peer: MeshKey, request: Bytes) -> Result<Bytes, Refusal> {
//!         Ok(request)
//!     }
//!     async fn open(&self, _peer: MeshKey, _header: Bytes, stream: FrameStream) {
//!         let _ = stream.finish().await;
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let local = |secret| MeshConfig { bind: ([127, 0, 0, 1], 0).into(), ..MeshConfig::new(secret) };
//! let provider = Mesh::bind(local(MeshSecret::generate())).await?;
//! provider.serve_leases(Arc::new(Echo));
//!
//! let buyer = Mesh::bind(local(MeshSecret::generate())).await?;
//! let answer = buyer.call(&provider.address(), Bytes::from_static(b"quote, please")).await?;
//! assert_eq!(&answer[..], b"quote, please");
//!
//! buyer.close().await;
//! provider.close().await;
//! # Ok(())
//! # }
//! ```

mod admission;
pub mod blobs;
mod call;
mod causes;
mod dial;
pub mod directory;
pub mod frame;
mod gate;
mod lease;
mod limits;
mod mesh;
mod pacing;
mod peer;
mod probe;
mod protocol;
pub mod rate;
mod refusal;
pub mod relay;
mod secret;
mod speed;
mod stream;
mod transport;
pub mod tunnel;

pub use call::CallError;
pub use dial::DialError;
pub use frame::FrameError;
pub use iroh::RelayUrl;
pub use lease::LeaseService;
pub use limits::{DirectoryLimits, Limits, SpeedLimits};
pub use mesh::{BlobsConfig, Mesh, MeshConfig, MeshError, quic_settings};
pub use peer::{MAX_DIRECT_ADDRS, PeerAddr, PeerAddrError};
pub use probe::{ProbeService, Probed};
pub use protocol::Protocol;
pub use refusal::{Refusal, RefusalCode};
pub use secret::{MeshSecret, SecretError};
pub use speed::{Flow, Measured, SpeedError};
pub use stream::{FrameReader, FrameStream, FrameWriter};
pub use transport::Transport;
pub use tunnel::TunnelTarget;
