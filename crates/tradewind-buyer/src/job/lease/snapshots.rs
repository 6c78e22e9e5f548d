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

/// A snapshot that took long to come is followed by a pause of so many times as long.
const PAUSE: u32 = 4;

impl Lease {
    /// Fetches every newer snapshot of the job; never ends.
    pub(super) async fn follow_saved(&self) {
        let index = self.index;
        let is_news = |attempt: &Attempt| {
            let report = attempt.supervision.report.as_ref();
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
            tokio::time::sleep((begun.elapsed() * PAUSE).max(SILENCE)).await;
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
        let label = saved::label(self.job.id, self.job.record.lock().await.checkpoints.saturating_add(1));
        for file in &files {
            let options = FetchOptions::new(file.size.get(), label.clone());
            let fetched = transport.fetch(&peer, BlobHash::from_bytes(file.hash), &options, &|_| {}).await;
            fetched.map_err(|error| format!("{}: {error}", file.path))?;
        }
        self.keep(files, snapshot.at, Some(snapshot.number)).await?;
        tracing::info!(job = %self.job.id, number = snapshot.number, %size, "what the job saved is here");
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
        self.keep(files, self.inner.now(), None).await
    }

    /// Notes that `files` are here, unless a later attempt runs already.
    async fn keep(&self, files: Vec<OutputFile>, at: Timestamp, snapshot: Option<u64>) -> Result<(), String> {
        let (index, mut known) = (self.index, None);
        let keep = |record: &mut JobRecord| {
            let is_current = index + 1 == record.attempts.len();
            let Some(attempt) = record.attempts.get_mut(index).filter(|_| is_current) else { return };
            attempt.saved = snapshot.unwrap_or(attempt.saved);
            known = record.checkpoint.as_ref().map(|checkpoint| checkpoint.number);
            record.checkpoints = record.checkpoints.saturating_add(1);
            record.checkpoint = Some(Checkpoint { number: record.checkpoints, attempt: index, at, files });
        };
        let record = self.inner.update(&self.job, keep).await.map_err(|error| error.to_string())?;
        saved::release_stale(&self.inner, &record, known).await;
        Ok(())
    }
}
