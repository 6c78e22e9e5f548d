//! The way to the ledger's JSON-RPC, which can be shut: to whoever takes it, the endpoint is down then.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The pause before a port is taken again that is still busy.
const BUSY: Duration = Duration::from_millis(50);

/// A listening proxy; it ends with this value.
pub(super) struct Proxy {
    address: SocketAddr,
    wanted: watch::Sender<bool>,
    /// What holds now, as far as the task has come.
    held: watch::Receiver<bool>,
    _end: DropGuard,
}

impl Proxy {
    /// Forwards from a free port of this machine to `target`.
    pub(super) async fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(super::market::loopback()).await?;
        let address = listener.local_addr()?;
        let (wanted, asked) = watch::channel(true);
        let (holds, held) = watch::channel(true);
        let end = CancellationToken::new();
        let work = forward(listener, target, asked, holds, end.clone());
        tokio::spawn({
            let end = end.clone();
            async move { end.run_until_cancelled(work).await }
        });
        Ok(Self { address, wanted, held, _end: end.drop_guard() })
    }

    /// Where it listens.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Drops every connection and refuses new ones, or takes them again; returns once that holds.
    pub(super) async fn set_open(&mut self, open: bool) {
        self.wanted.send_replace(open);
        // The task ends with this value alone.
        let _ = self.held.wait_for(|held| *held == open).await;
    }
}

async fn forward(
    listener: TcpListener,
    target: SocketAddr,
    mut asked: watch::Receiver<bool>,
    holds: watch::Sender<bool>,
    end: CancellationToken,
) {
    let Ok(address) = listener.local_addr() else { return };
    let mut listener = listener;
    loop {
        let open = end.child_token();
        loop {
            tokio::select! {
                biased;
                _ = asked.wait_for(|open| !open) => break,
                accepted = listener.accept() => if let Ok((client, _)) = accepted {
                    let open = open.clone();
                    tokio::spawn(async move { open.run_until_cancelled(copy(client, target)).await });
                },
            }
        }
        drop(listener);
        open.cancel();
        holds.send_replace(false);
        if asked.wait_for(|open| *open).await.is_err() {
            return;
        }
        listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(BUSY).await,
            }
        };
        holds.send_replace(true);
    }
}

async fn copy(mut client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers every byte with the same byte.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind(super::super::market::loopback()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        stream.write_u8(byte).await.ok()?;
        stream.read_u8().await.ok()
    }

    #[tokio::test]
    async fn a_shut_proxy_drops_and_refuses_connections_and_an_open_one_takes_them() {
        let mut proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(says(&mut stream, 1).await, Some(1));
        proxy.set_open(false).await;
        assert_eq!(says(&mut stream, 2).await, None, "an open connection is dropped");
        assert!(TcpStream::connect(proxy.address).await.is_err());
        proxy.set_open(true).await;
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(says(&mut stream, 3).await, Some(3));
    }
}
