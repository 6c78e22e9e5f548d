//! Brings a running job's snapshots here, so that its next attempt may go on from the newest.

use tokio::time::Instant;
use tradewind_mesh::blobs::{BlobHash, FetchOptions};
use tradewind_proto::manifest::JobManifest;
use tradewind_proto::report::OutputFile;
use tradewind_proto::saving;
use tradewind_proto::units::Timestamp;

use super::{Lease, SILENCE};
use crate::job::record::{Attempt, Checkpoint, JobRecord};
use crate::job::{conversation, saved};

/// Saved progress whose files are here.
struct Kept {
    /// The number that its label has; the next one where the job's own label keeps it.
    number: Option<u32>,
    files: Vec<OutputFile>,
    at: Timestamp,
    /// The provider's own number.
    snapshot: u64,
}

impl Lease {
    /// Fetches every newer snapshot of the job; never ends.
    pub(super) async fn follow_saved(&self) {
        let index = self.index;
        let is_news = |attempt: &Attempt| {
            let report = attempt.supervision.report.as_ref();
            // What a job leaves at its end comes with its outputs.
            let report = report.filter(|report| report.exit.is_none());
            report.and_then(|report| report.saved).is_some_and(|saved| saved.number > attempt.saved)
        };
        loop {
            let news = |record: &JobRecord| {
                record
                    .attempts
                    .get(index)
                    .is_some_and(|attempt| attempt.outcome.is_none() && is_news(attempt))
            };
            if self.job.view.subscribe().wait_for(news).await.is_err() {
                return std::future::pending().await;
            }
            let begun = Instant::now();
            if let Err(error) = self.bring_saved().await {
                tracing::debug!(job = %self.job.id, %error, "a snapshot did not come");
            }
            // A slow line is left to the job's own traffic half of the time.
            tokio::time::sleep(begun.elapsed().max(SILENCE)).await;
        }
    }

    async fn bring_saved(&self) -> Result<(), String> {
        let attempt = self.attempt().await;
        let Some(checkpoint) = &attempt.manifest.checkpoint else { return Ok(()) };
        let (transport, peer) = (self.inner.parts.transport.as_ref(), self.inner.address(&attempt));
        let asked = conversation::saved(transport, &peer, attempt.supervision.id).await;
        let (snapshot, files) = asked.map_err(|error| error.to_string())?;
        if snapshot.number <= attempt.saved {
            return Ok(());
        }
        let disk = attempt.manifest.share.disk;
        let size = saving::check(&files, checkpoint, disk).map_err(|error| error.to_string())?;
        let number = self.job.record.lock().await.checkpoints.saturating_add(1);
        let label = saved::label(self.job.id, number);
        for file in &files {
            let options = FetchOptions::new(file.size.get(), label.clone());
            let fetched = transport.fetch(&peer, BlobHash::from_bytes(file.hash), &options, &|_| {}).await;
            fetched.map_err(|error| format!("{}: {error}", file.path))?;
        }
        let kept = Kept { number: Some(number), files, at: snapshot.at, snapshot: snapshot.number };
        self.keep(kept).await?;
        tracing::info!(job = %self.job.id, number, %size, "what the job saved is here");
        Ok(())
    }

    /// What the job left in its checkpoint's place, for the attempt that follows where its owner took it back.
    pub(super) async fn keep_outputs(
        &self,
        manifest: &JobManifest,
        outputs: &[OutputFile],
    ) -> Result<(), String> {
        let Some(checkpoint) = &manifest.checkpoint else { return Ok(()) };
        let part = outputs.iter().filter(|file| saving::is_part(&file.path, checkpoint));
        let files: Vec<OutputFile> = part.cloned().collect();
        if files.is_empty() || saving::check(&files, checkpoint, manifest.share.disk).is_err() {
            return Ok(());
        }
        self.keep(Kept { number: None, files, at: self.inner.now(), snapshot: 0 }).await
    }

    /// Notes what is here, unless a later attempt runs already, or something newer came meanwhile.
    async fn keep(&self, kept: Kept) -> Result<(), String> {
        let (index, mut known) = (self.index, None);
        let keep = |record: &mut JobRecord| {
            let is_current = index + 1 == record.attempts.len();
            let next = record.checkpoints.saturating_add(1);
            let is_next = kept.number.is_none_or(|number| number == next);
            let attempt = record.attempts.get_mut(index).filter(|_| is_current && is_next);
            let Some(attempt) = attempt else { return };
            attempt.saved = attempt.saved.max(kept.snapshot);
            known = record.checkpoint.as_ref().map(|checkpoint| checkpoint.number);
            record.checkpoints = next;
            record.checkpoint =
                Some(Checkpoint { number: next, attempt: index, at: kept.at, files: kept.files });
        };
        let record = self.inner.update(&self.job, keep).await.map_err(|error| error.to_string())?;
        saved::release_stale(&self.inner, &record, known).await;
        Ok(())
    }
}
