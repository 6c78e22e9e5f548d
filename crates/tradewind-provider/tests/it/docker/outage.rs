//! A door between runtime and engine that a test can shut: the engine that restarts, hangs, or dies between two calls.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What becomes of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    /// They pass.
    Open,
    /// They are accepted, and nothing comes.
    Hangs,
    /// They are cut.
    Shut,
    /// Those whose request's first line contains the words hang; the others pass.
    HangsAt(String),
}

/// A socket that leads to the engine as long as its door is open.
pub(super) struct Outage {
    pub(super) host: String,
    door: watch::Sender<Door>,
    asked: Arc<AtomicUsize>,
}

impl Outage {
    pub(super) fn new(socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("listen");
        let (door, seen) = watch::channel(Door::Open);
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                tokio::spawn(serve(client, seen.clone(), Arc::clone(&counter)));
            }
        });
        Self { host: format!("unix://{}", socket.display()), door, asked }
    }

    /// How many requests came to the door so far.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn set(&self, door: Door) {
        self.door.send_replace(door);
    }
}

async fn serve(client: UnixStream, mut door: watch::Receiver<Door>, asked: Arc<AtomicUsize>) {
    let path = super::host().replacen("unix://", "", 1);
    let Ok(engine) = UnixStream::connect(path).await else { return };
    let ((from_client, to_client), (from_engine, to_engine)) = (client.into_split(), engine.into_split());
    let shut = async {
        // An error means that the test is over, and then the connection may as well end.
        let _ = door.clone().wait_for(|door| *door == Door::Shut).await;
    };
    let gate = Arc::new(door.clone());
    let there = pass(from_client, to_engine, Arc::clone(&gate), |line| {
        if line.ends_with("HTTP/1.1") {
            asked.fetch_add(1, Ordering::SeqCst);
        }
    });
    let back = pass(from_engine, to_client, gate, |_| {});
    tokio::select! {
        () = shut => {}
        () = async { tokio::join!(there, back); } => {}
    }
    door.mark_unchanged();
}

async fn pass(
    mut from: tokio::net::unix::OwnedReadHalf,
    mut to: tokio::net::unix::OwnedWriteHalf,
    door: Arc<watch::Receiver<Door>>,
    note: impl Fn(&str),
) {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let line = text.lines().next().unwrap_or_default().to_owned();
        note(&line);
        let opens = |door: &Door| match door {
            Door::Open => true,
            Door::HangsAt(words) => !line.contains(words.as_str()),
            Door::Hangs | Door::Shut => false,
        };
        if (*door).clone().wait_for(opens).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
