//! Ports of a running job as ports of this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tradewind_proto::ids::JobId;

use super::exec::find;
use crate::client::{NodeClient, Told};
use crate::printer::Printer;

/// Connections that one port carries at once; more wait.
const CONNECTIONS: usize = 128;
/// What is copied at once in each direction.
const COPY: usize = 64 << 10;

/// A port of the job and where it appears here: `8888`, `9000:8888`, or `192.0.2.1:9000:8888`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forward {
    /// Where it appears; port 0 is any.
    pub(crate) local: SocketAddr,
    /// The job's port.
    pub(crate) remote: u16,
}

impl FromStr for Forward {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is none of PORT, LOCAL:PORT and ADDRESS:LOCAL:PORT");
        let (place, remote) = text.rsplit_once(':').unwrap_or(("", text));
        let remote: u16 = remote.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let local = match (place, place.parse::<u16>()) {
            ("", _) if !text.contains(':') => SocketAddr::new(loopback, remote),
            (_, Ok(port)) => SocketAddr::new(loopback, port),
            (_, Err(_)) => place.parse().map_err(|_| wrong())?,
        };
        Ok(Self { local, remote })
    }
}

/// A port that is forwarded.
#[derive(Debug, Serialize)]
struct Forwarded {
    job: JobId,
    port: u16,
    local: SocketAddr,
}

pub(super) async fn forward(
    named: &str,
    ports: &[Forward],
    node: &NodeClient,
    printer: Printer,
) -> anyhow::Result<u8> {
    let job = find(named, node).await?.id;
    let mut listeners = Vec::new();
    for port in ports {
        listeners.push((bind(port.local).await?, port.remote));
    }
    for (_, port) in &listeners {
        // Said now rather than at the first use. The connection ends at once.
        drop(node.connect(job, *port).await?);
    }
    let mut running = JoinSet::new();
    for (listener, port) in listeners {
        let local = listener.local_addr()?;
        if !local.ip().is_loopback() {
            printer.step(&format!("{local} is open to everybody who reaches this machine"));
        }
        printer.data(&Forwarded { job, port, local }, |_| format!("{local} is port {port} of the job"))?;
        running.spawn(serve(listener, node.clone(), job, port, printer));
    }
    tokio::select! {
        Some(ended) = running.join_next() => ended?.map(|()| 0),
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| 0).map_err(Into::into),
    }
}

/// Takes a local address.
pub(super) async fn bind(local: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(local).await.map_err(|error| {
        let hint = format!("take another one, such as `0:{}` for any that is free", local.port());
        Told::error(format!("cannot listen on {local}: {error}"), hint)
    })
}

/// Carries each connection to the job's port, for ever.
pub(super) async fn serve(
    listener: TcpListener,
    node: NodeClient,
    job: JobId,
    port: u16,
    printer: Printer,
) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut running = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let local = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            Some(_) = running.join_next() => continue,
        };
        let node = node.clone();
        running.spawn(async move {
            if let Err(error) = carry(local, &node, job, port).await {
                printer.step(&format!("a connection to port {port} failed: {error:#}"));
            }
            drop(place);
        });
    }
}

async fn carry(mut local: TcpStream, node: &NodeClient, job: JobId, port: u16) -> anyhow::Result<()> {
    local.set_nodelay(true)?;
    match node.connect(job, port).await {
        Ok(mut far) => {
            // A client that breaks off is no failure of ours.
            let _ = tokio::io::copy_bidirectional_with_sizes(&mut local, &mut far, COPY, COPY).await;
            Ok(())
        }
        Err(error) => {
            // The client sees an error at once, and not an empty answer.
            let _ = local.set_zero_linger();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_appears_on_the_loopback_unless_an_address_is_named() {
        let read = |text: &str| text.parse::<Forward>().map(|it| (it.local.to_string(), it.remote));
        assert_eq!(read("8888"), Ok(("127.0.0.1:8888".into(), 8888)));
        assert_eq!(read("0:8888"), Ok(("127.0.0.1:0".into(), 8888)));
        assert_eq!(read("9000:80"), Ok(("127.0.0.1:9000".into(), 80)));
        assert_eq!(read("192.0.2.1:9000:80"), Ok(("192.0.2.1:9000".into(), 80)));
        assert_eq!(read("[::1]:9000:80"), Ok(("[::1]:9000".into(), 80)));
        for wrong in ["", "0", "x", ":80", "80:", "70000", "host:1:2", "1:2:3"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
