//! A UDP path with delay and loss.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;

/// How the path treats packets, both ways.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// One way.
    pub(crate) delay: Duration,
    /// Lost packets in a thousand.
    pub(crate) loss: u64,
}

/// Forwards datagrams between whoever sends to `listen` and `target`, until dropped.
pub(crate) async fn run(listen: UdpSocket, target: SocketAddr, path: Path) {
    let listen = Arc::new(listen);
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut tasks = tokio::task::JoinSet::new();
    let mut packet = vec![0; 65_536];
    let mut seed = 0x2545_f491_4f6c_dd1d;
    loop {
        let Ok((size, client)) = listen.recv_from(&mut packet).await else { continue };
        let upstream = match clients.entry(client) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => {
                let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
                let upstream = Arc::new(UdpSocket::bind(unspecified).await.expect("bound"));
                upstream.connect(target).await.expect("connected");
                tasks.spawn(back(upstream.clone(), listen.clone(), client, path));
                new.insert(upstream).clone()
            }
        };
        if lost(&mut seed, path.loss) {
            continue;
        }
        let bytes = packet[..size].to_vec();
        tasks.spawn(async move {
            tokio::time::sleep(path.delay).await;
            let _ = upstream.send(&bytes).await;
        });
    }
}

async fn back(upstream: Arc<UdpSocket>, listen: Arc<UdpSocket>, client: SocketAddr, path: Path) {
    let mut packet = vec![0; 65_536];
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    loop {
        let Ok(size) = upstream.recv(&mut packet).await else { continue };
        if lost(&mut seed, path.loss) {
            continue;
        }
        let (listen, bytes) = (listen.clone(), packet[..size].to_vec());
        tokio::spawn(async move {
            tokio::time::sleep(path.delay).await;
            let _ = listen.send_to(&bytes, client).await;
        });
    }
}

fn lost(seed: &mut u64, per_thousand: u64) -> bool {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed % 1000 < per_thousand
}
