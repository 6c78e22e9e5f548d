//! What shim, launcher and PID 1 say to each other over one sequenced-packet socket pair.
//!
//! ```text
//! shim ──Launch, GO──► launcher    shim ──signal number──► PID 1
//!                                  shim ──SESSION, a connection──► PID 1
//! shim ◄─────────── Event ──────── launcher, PID 1
//! ```
//!
//! The end of the shim's side means that the shim is gone, and PID 1 takes the workload along.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tradewind_proto::workload::{Secrets, WorkloadSpec};

use super::cgroup::Cgroup;
use crate::inventory::Threads;

/// The largest packet; below the kernel's default send buffer.
pub(super) const PACKET_MAX: usize = 160 << 10;

/// Lets the launcher go on: it is on disk that this workload was started.
pub(super) const GO: u8 = b'g';

/// In place of a signal's number: a session's connection comes with it.
pub(super) const SESSION: u8 = 0;

/// What the launcher needs. It travels in memory only, since it carries the secrets.
#[derive(Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) spec: WorkloadSpec,
    pub(super) secrets: Secrets,
    pub(super) work: PathBuf,
    pub(super) user: Option<u32>,
    /// An empty directory for the sandbox's root, used when there is no `user`.
    pub(super) root: PathBuf,
    pub(super) cgroup: Cgroup,
    /// The hardware threads that it runs on, where they are chosen.
    pub(super) threads: Option<Threads>,
}

/// What happened to the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Event {
    /// The sandbox stands; this process of the host is in its namespaces.
    Sandboxed {
        pid: u32,
    },
    /// The workload's first process was executed.
    Started,
    /// A program could not be executed.
    NotExecuted {
        message: String,
        code: u8,
    },
    Exited {
        code: u8,
    },
    /// The sandbox could not be made.
    NoSandbox {
        message: String,
    },
}

/// The shim's end and the workload's.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

pub(super) fn send<T: Serialize>(socket: impl AsFd, message: &T) -> io::Result<()> {
    let packet = postcard::to_stdvec(message).map_err(io::Error::other)?;
    if packet.len() > PACKET_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the packet is too large"));
    }
    send_raw(socket, &packet)
}

pub(super) fn send_raw(socket: impl AsFd, packet: &[u8]) -> io::Result<()> {
    rustix::net::send(socket, packet, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Passes a session's connection on. Never waits: a workload that is frozen, or takes no more, gets none.
pub(super) fn pass(socket: impl AsFd, connection: &OwnedFd) -> io::Result<()> {
    let fds = [connection.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(&[SESSION])], &mut ancillary, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(())
}

/// The next packet for PID 1: a signal's number, or [`SESSION`] with a connection; `None` at the end.
pub(super) fn receive_order(socket: impl AsFd) -> io::Result<Option<(u8, Option<OwnedFd>)>> {
    let mut packet = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let slices = &mut [IoSliceMut::new(&mut packet)];
    let received = recvmsg(socket, slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let connection = ancillary.drain().find_map(|message| {
        let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
        fds.next()
    });
    Ok((received.bytes == 1).then_some((packet[0], connection)))
}

/// Waits for [`GO`]; `false` when the shim is gone.
pub(super) fn may_go(socket: impl AsFd) -> io::Result<bool> {
    let mut packet = [0u8; 1];
    let (length, _) = recv(socket, &mut packet[..], RecvFlags::empty())?;
    Ok(length == 1 && packet == [GO])
}

/// The next message, or `None` at the end.
pub(super) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<T>> {
    let mut buffer = vec![0u8; PACKET_MAX];
    let (length, _) = recv(socket, &mut buffer[..], RecvFlags::empty())?;
    let packet = buffer.get(..length).unwrap_or_default();
    if packet.is_empty() {
        return Ok(None);
    }
    postcard::from_bytes(packet).map(Some).map_err(io::Error::other)
}
