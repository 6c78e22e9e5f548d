//! The mesh over real sockets: on loopback, and between network namespaces.
//!
//! The namespace tests need root (`CAP_NET_ADMIN`) and `ip` from iproute2, and say so when they lack it.

#![expect(clippy::expect_used, clippy::panic, reason = "what a test cannot set up has failed it")]

mod blobs;
mod directory;
mod hostile;
mod lease;
mod namespaces;
mod nodes;
mod probe;
mod proxy;
mod records;
mod speed;
mod tunnel;
