//! The accepting side of one protocol: admits connections and streams, and runs a task for each.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use iroh::endpoint::{Connection, RecvStream, SendStream, VarInt};
use iroh::protocol::{AcceptError, ProtocolHandler};
use tokio::task::JoinSet;
use tradewind_proto::ids::MeshKey;

use crate::admission::{Admission, StreamRefused};
use crate::dial::close_code;
use crate::protocol::Protocol;
use crate::refusal::Refusal;
use crate::stream::FrameWriter;

/// What one connection of a protocol that carries only small frames may have in flight.
const CONTROL_WINDOW: u32 = 4 << 20;

/// One admitted stream.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) peer: MeshKey,
    pub(crate) connection: Connection,
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// Serves the streams of one protocol.
#[async_trait]
pub(crate) trait StreamService: Debug + Send + Sync + 'static {
    async fn serve(&self, from: Incoming);
}

#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) protocol: Protocol,
    pub(crate) admission: Arc<Admission>,
    pub(crate) service: Arc<dyn StreamService>,
    pub(crate) max_body: u32,
}

impl ProtocolHandler for Gate {
    async fn accept(&self, connection: Connection) -> Result<(), AcceptError> {
        let peer = key_of(&connection);
        let _permit = match self.admission.connection(peer) {
            Ok(permit) => permit,
            Err(refusal) => {
                close(&connection, &refusal);
                return Ok(());
            }
        };
        if !matches!(self.protocol, Protocol::Tunnel | Protocol::Speed) {
            connection.set_receive_window(VarInt::from_u32(CONTROL_WINDOW));
        }
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                accepted = connection.accept_bi() => {
                    let Ok((send, recv)) = accepted else { break };
                    if !self.admit(&connection, peer, send, recv, &mut streams) {
                        break;
                    }
                }
                Some(ended) = streams.join_next() => {
                    // A panic costs its own stream; every other one goes on.
                    if let Err(error) = ended {
                        tracing::error!(%peer, protocol = %self.protocol, %error, "a stream's task failed");
                    }
                }
            }
        }
        // A call that is under way ends by itself, within its time limit; its caller may have left.
        streams.detach_all();
        Ok(())
    }
}

impl Gate {
    /// Starts one stream's task. False when the connection is to be given up.
    fn admit(
        &self,
        connection: &Connection,
        peer: MeshKey,
        send: SendStream,
        recv: RecvStream,
        streams: &mut JoinSet<()>,
    ) -> bool {
        match self.admission.stream(peer) {
            Ok(permit) => {
                let service = self.service.clone();
                let from = Incoming { peer, connection: connection.clone(), send, recv };
                streams.spawn(async move {
                    service.serve(from).await;
                    drop(permit);
                });
                true
            }
            Err(StreamRefused::Refuse(refusal)) => {
                let writer = FrameWriter::new(send, self.max_body);
                streams.spawn(async move {
                    // A refusal fits the smallest window; a peer that will not even take that gets nothing.
                    let wait = std::time::Duration::from_secs(1);
                    if tokio::time::timeout(wait, writer.refuse(&refusal)).await.is_err() {
                        tracing::debug!(%peer, "a refusal could not be delivered");
                    }
                });
                true
            }
            Err(StreamRefused::Close(refusal)) => {
                tracing::warn!(%peer, %refusal, "closing a connection that ignores refusals");
                close(connection, &refusal);
                false
            }
        }
    }
}

pub(crate) fn close(connection: &Connection, refusal: &Refusal) {
    connection.close(close_code(refusal.code()), refusal.message().as_bytes());
}

pub(crate) fn key_of(connection: &Connection) -> MeshKey {
    MeshKey::from_bytes(*connection.remote_id().as_bytes())
}
