//! Anti-entropy: two nodes compare part digests; the asking one pulls what it lacks and pushes what the other lacks.

use std::collections::HashMap;
use std::sync::Arc;

use tradewind_proto::ids::MeshKey;

use super::link::{Chain, DirectoryServer, LinkError};
use super::record::RecordId;
use super::table::Summary;
use super::wire::{self, MAX_BATCH, MAX_LISTING, Message, Purpose};
use crate::frame::{FrameError, Kind};
use crate::peer::PeerAddr;
use crate::stream::FrameStream;

/// Messages of one comparison at most: a peer that lists forever is left.
const MAX_MESSAGES: usize = 100_000;

/// Answers one comparison.
pub(crate) async fn serve(
    server: &DirectoryServer,
    peer: MeshKey,
    mut stream: FrameStream,
) -> Result<(), LinkError> {
    for _ in 0..MAX_MESSAGES {
        let request = match stream.reader().recv_frame_within(server.limits.call).await? {
            None => return Ok(stream.finish().await?),
            Some(frame) if frame.kind == Kind::Data => Message::decode(&frame.body)?,
            Some(frame) => return Err(FrameError::Kind { got: frame.kind as u8 }.into()),
        };
        let answer = match request {
            Message::Records(records) => {
                server.accept_from(peer, None, records).await?;
                continue;
            }
            Message::GetDigests => {
                server.directory.purge();
                Message::Digests(server.directory.table().digests()).encode()?
            }
            Message::GetListing { part, after } => {
                Message::Listing(server.directory.table().list(part, after, MAX_LISTING)).encode()?
            }
            Message::GetRecords(ids) => {
                let records: Vec<_> = {
                    let table = server.directory.table();
                    ids.iter().filter_map(|id| table.get(*id)).collect()
                };
                let fits = wire::batches(&records, server.limits.max_body).into_iter().next();
                fits.map_or_else(|| Message::Records(Vec::new()).encode(), Ok)?
            }
            Message::Digests(_) | Message::Listing(_) => return Err(FrameError::Malformed.into()),
        };
        stream.writer().send_frame_within(Kind::Data, &answer, server.limits.write).await?;
    }
    Err(FrameError::Malformed.into())
}

/// Compares with `peer` once.
pub(crate) async fn compare(server: &DirectoryServer, peer: &PeerAddr) -> Result<(), LinkError> {
    let mut session = Session { server, peer: peer.key, stream: server.open(peer, Purpose::Compare).await? };
    let Message::Digests(theirs) = session.ask(&Message::GetDigests).await? else {
        return Err(FrameError::Malformed.into());
    };
    server.directory.purge();
    let ours = server.directory.table().digests();
    for (part, _) in (0..=u8::MAX).zip(ours.iter().zip(&theirs)).filter(|(_, (ours, theirs))| ours != theirs)
    {
        session.reconcile(part).await?;
    }
    Ok(session.stream.finish().await?)
}

struct Session<'a> {
    server: &'a DirectoryServer,
    peer: MeshKey,
    stream: FrameStream,
}

impl Session<'_> {
    async fn ask(&mut self, request: &Message) -> Result<Message, LinkError> {
        let limit = self.server.limits.call;
        self.stream.writer().send_frame_within(Kind::Data, &request.encode()?, limit).await?;
        match self.stream.reader().recv_frame_within(limit).await? {
            Some(frame) if frame.kind == Kind::Data => Ok(Message::decode(&frame.body)?),
            Some(frame) => Err(FrameError::Kind { got: frame.kind as u8 }.into()),
            None => Err(FrameError::Truncated.into()),
        }
    }

    /// Makes one part alike on both sides.
    async fn reconcile(&mut self, part: u8) -> Result<(), LinkError> {
        let theirs = self.listing(part).await?;
        let (wanted, lacking) = {
            let table = self.server.directory.table();
            let wanted: Vec<RecordId> =
                theirs.values().filter(|line| table.wants(line)).map(|line| line.id).collect();
            let newer = |ours: &Summary| {
                theirs
                    .get(&ours.id)
                    .is_none_or(|line| (ours.sequence, ours.digest) > (line.sequence, line.digest))
            };
            let ours = table.list(part, None, usize::MAX);
            let lacking: Vec<_> =
                ours.iter().filter(|line| newer(line)).filter_map(|line| table.get(line.id)).collect();
            (wanted, lacking)
        };
        self.pull(wanted).await?;
        for message in wire::batches(&lacking, self.server.limits.max_body) {
            self.stream.writer().send_frame_within(Kind::Data, &message, self.server.limits.write).await?;
        }
        Ok(())
    }

    async fn listing(&mut self, part: u8) -> Result<HashMap<RecordId, Summary>, LinkError> {
        let most = self.server.limits.directory.table.records;
        let mut lines = HashMap::new();
        let mut after = None;
        loop {
            let Message::Listing(page) = self.ask(&Message::GetListing { part, after }).await? else {
                return Err(FrameError::Malformed.into());
            };
            let Some(last) = page.last() else { return Ok(lines) };
            // Lists go forward and stay bounded, or the peer is not listing.
            if after.is_some_and(|after| last.id <= after) || lines.len() > most {
                return Err(FrameError::Malformed.into());
            }
            after = Some(last.id);
            lines.extend(page.iter().map(|line| (line.id, *line)));
        }
    }

    async fn pull(&mut self, wanted: Vec<RecordId>) -> Result<(), LinkError> {
        for ids in wanted.chunks(MAX_BATCH) {
            let mut ids = ids.to_vec();
            while !ids.is_empty() {
                let Message::Records(records) = self.ask(&Message::GetRecords(ids.clone())).await? else {
                    return Err(FrameError::Malformed.into());
                };
                if records.is_empty() {
                    break;
                }
                let before = ids.len();
                ids.retain(|id| records.iter().all(|record| record.id != *id));
                if ids.len() == before {
                    return Err(FrameError::Malformed.into());
                }
                self.server.accept_from(self.peer, None, records).await?;
            }
        }
        Ok(())
    }
}

/// Compares with a few random known nodes, again and again.
pub(crate) async fn keep_comparing(server: Arc<DirectoryServer>) {
    loop {
        let every = server.limits.directory.compare_every;
        tokio::time::sleep(every.mul_f64(0.5 + rand::random::<f64>())).await;
        let mut candidates = server.known().clone();
        for _ in 0..server.limits.directory.compare_with.min(candidates.len()) {
            let peer = candidates.swap_remove(rand::random_range(0..candidates.len()));
            if let Err(error) = compare(&server, &peer).await {
                tracing::debug!(peer = %peer.key, error = %Chain(&error), "a comparison failed");
            }
        }
    }
}
