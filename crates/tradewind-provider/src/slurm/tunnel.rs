//! A job's ports seen from the agent's machine: a local listener each, whose connections go to the job's node and show the key.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::AbortHandle;
use tradewind_proto::ids::LeaseId;

use crate::process::ports::door;
use crate::process::reins;

/// Connections of one port at a time; more wait.
const CONNECTIONS_MAX: usize = 128;
/// How long a node may take to answer.
const CONNECT: Duration = Duration::from_secs(5);
/// After an accept that failed, before the next.
const BREATH: Duration = Duration::from_millis(50);

/// Where a port of a job really is.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The node's name or address.
    pub(super) host: String,
    pub(super) port: u16,
    /// The file with the key.
    pub(super) door: PathBuf,
}

/// The listeners of this agent. They end with it; the next agent opens its own.
#[derive(Debug, Default)]
pub(super) struct Tunnels(Mutex<BTreeMap<(LeaseId, u16), (SocketAddr, AbortHandle)>>);

impl Tunnels {
    /// The local address that leads to `port` of the lease, opened where needed.
    pub(super) async fn open(&self, lease: LeaseId, port: u16, target: Target) -> io::Result<SocketAddr> {
        let mut open = self.0.lock().await;
        if let Some((address, task)) = open.get(&(lease, port))
            && !task.is_finished()
        {
            return Ok(*address);
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(serve(listener, target));
        open.insert((lease, port), (address, task.abort_handle()));
        Ok(address)
    }

    /// Closes what the lease has open.
    pub(super) async fn close(&self, lease: LeaseId) {
        let mut open = self.0.lock().await;
        open.retain(|(of, _), (_, task)| {
            if *of == lease {
                task.abort();
            }
            *of != lease
        });
    }
}

impl Drop for Tunnels {
    fn drop(&mut self) {
        self.0.get_mut().values().for_each(|(_, task)| task.abort());
    }
}

async fn serve(listener: TcpListener, target: Target) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((outside, _)) = listener.accept().await else {
            tokio::time::sleep(BREATH).await;
            continue;
        };
        let target = target.clone();
        tokio::spawn(async move {
            if let Err(error) = forward(outside, &target).await {
                tracing::debug!(%error, node = target.host, "a connection to a job's port ended");
            }
            drop(place);
        });
    }
}

async fn forward(mut outside: TcpStream, target: &Target) -> io::Result<()> {
    let key = reins::door_key(&target.door)?;
    let connecting = TcpStream::connect((target.host.as_str(), target.port));
    let mut inside = tokio::time::timeout(CONNECT, connecting).await??;
    inside.set_nodelay(true)?;
    outside.set_nodelay(true)?;
    door::knock(&mut inside, &key).await?;
    tokio::io::copy_bidirectional(&mut outside, &mut inside).await.map(drop)
}
