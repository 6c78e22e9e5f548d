//! Anti-entropy: two nodes compare part digests; the asking one pulls what it lacks and pushes what the other lacks.

use std::collections::HashMap;
use std::sync::Arc;

use tradewind_proto::ids::MeshKey;

use super::link::{DirectoryServer, LinkError};
use super::record::{Record, RecordId};
use super::table::{PartSet, Summary, part_of};
use super::wire::{self, MAX_BATCH, MAX_LISTING, Message, Purpose};
use crate::causes::Causes;
use crate::frame::{FrameError, Kind};
use crate::peer::PeerAddr;
use crate::stream::FrameStream;

/// Messages of one comparison at most: a peer that lists forever is left.
const MAX_MESSAGES: usize = 100_000;

/// Pages of one listing at most.
const MAX_PAGES: usize = 2000;

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
            Message::GetListing { parts, after } => {
                let lines = server.directory.table().list(&parts, after, None, MAX_LISTING);
                let more = lines.len() == MAX_LISTING;
                Message::Listing { lines, more }.encode()?
            }
            Message::GetRecords(ids) => {
                let records: Vec<_> = {
                    let table = server.directory.table();
                    ids.iter().filter_map(|id| table.get(*id)).collect()
                };
                let fits = wire::batches(&records, server.limits.max_body).into_iter().next();
                fits.map_or_else(|| Message::Records(Vec::new()).encode(), Ok)?
            }
            Message::Digests(_) | Message::Listing { .. } => return Err(FrameError::Malformed.into()),
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
    let differing = PartSet::of_differences(&ours, &theirs);
    if !differing.is_empty() {
        session.reconcile(&differing).await?;
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

    /// Makes some parts alike on both sides, a page at a time, so that neither side holds a whole listing.
    async fn reconcile(&mut self, parts: &PartSet) -> Result<(), LinkError> {
        let mut after = None;
        for _ in 0..MAX_PAGES {
            let request = Message::GetListing { parts: *parts, after };
            let Message::Listing { lines, more } = self.ask(&request).await? else {
                return Err(FrameError::Malformed.into());
            };
            let place = |id: RecordId| (part_of(id), id);
            let forward = lines.is_sorted_by(|a, b| place(a.id) < place(b.id));
            let beyond =
                after.is_none_or(|after| lines.first().is_none_or(|line| place(line.id) > place(after)));
            if !forward || !beyond {
                return Err(FrameError::Malformed.into());
            }
            let until = lines.last().filter(|_| more).map(|line| line.id);
            let (wanted, lacking) = self.differences(parts, after, until, &lines);
            self.pull(wanted).await?;
            for message in wire::batches(&lacking, self.server.limits.max_body) {
                let limit = self.server.limits.write;
                self.stream.writer().send_frame_within(Kind::Data, &message, limit).await?;
            }
            if !more {
                return Ok(());
            }
            after = until;
        }
        Err(FrameError::Malformed.into())
    }

    /// What this node lacks of a page, and what the peer lacks of the same range.
    fn differences(
        &self,
        parts: &PartSet,
        after: Option<RecordId>,
        until: Option<RecordId>,
        lines: &[Summary],
    ) -> (Vec<RecordId>, Vec<Arc<Record>>) {
        let table = self.server.directory.table();
        let wanted = lines.iter().filter(|line| table.wants(line)).map(|line| line.id).collect();
        let theirs: HashMap<RecordId, &Summary> = lines.iter().map(|line| (line.id, line)).collect();
        let newer = |ours: &Summary| {
            theirs
                .get(&ours.id)
                .is_none_or(|line| (ours.sequence, ours.digest) > (line.sequence, line.digest))
        };
        let ours = table.list(parts, after, until, usize::MAX);
        let lacking = ours.iter().filter(|line| newer(line)).filter_map(|line| table.get(line.id)).collect();
        (wanted, lacking)
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
                tracing::debug!(peer = %peer.key, error = %Causes(&error), "a comparison failed");
            }
        }
    }
}
