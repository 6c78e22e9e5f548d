//! A job's saved progress: what is kept of it here, and what the next attempt gets of it.
//!
//! A checkpoint's files lie in the blob store under a label of their own until a newer one is here and no attempt
//! needs them any more.

use std::collections::BTreeSet;

use tradewind_mesh::blobs::Label;
use tradewind_proto::ids::JobId;
use tradewind_proto::manifest::Input;
use tradewind_proto::saving;

use super::outputs::{self, OutputError};
use super::record::JobRecord;
use crate::buyer::Inner;

/// The label that keeps a job's checkpoint.
pub(super) fn label(job: JobId, number: u32) -> Label {
    #[expect(clippy::expect_used, reason = "a job id, a word and a number are a label")]
    format!("{job}.saved-{number}").parse().expect("a label")
}

/// Every label that may still keep a checkpoint of the job, one that is on its way included.
pub(super) fn labels(record: &JobRecord) -> impl Iterator<Item = Label> {
    let mut numbers = resumed(record);
    numbers.extend([record.checkpoints, record.checkpoints.saturating_add(1)]);
    let job = record.id;
    numbers.into_iter().map(move |number| label(job, number))
}

fn resumed(record: &JobRecord) -> BTreeSet<u32> {
    record.attempts.iter().filter_map(|attempt| attempt.resumed).collect()
}

/// Lets go of checkpoints that neither the next attempt nor the current one needs; `known` is one that was the newest.
pub(super) async fn release_stale(inner: &Inner, record: &JobRecord, known: Option<u32>) {
    let newest = record.checkpoint.as_ref().map(|checkpoint| checkpoint.number);
    let current = record.attempts.last().and_then(|attempt| attempt.resumed);
    let mut stale = resumed(record);
    stale.extend(known);
    stale.retain(|number| Some(*number) != newest && Some(*number) != current);
    for number in stale {
        if let Err(error) = inner.parts.transport.release(&label(record.id, number)).await {
            tracing::warn!(job = %record.id, number, %error, "an old checkpoint stays in the blob store");
        }
    }
}

/// What the next attempt finds in its work directory, with these addresses of stored inputs.
pub(super) fn inputs(record: &JobRecord, stored: &[Input]) -> Vec<Input> {
    let all = [record.inputs.as_slice(), stored].concat();
    match (&record.spec.checkpoint, &record.checkpoint) {
        (Some(spec), Some(here)) => saving::resumed(&all, &here.files, &spec.path),
        _ => all,
    }
}

/// Writes the newest checkpoint to where outputs go. `false` where there is none.
pub(super) async fn export(inner: &Inner, record: &JobRecord) -> Result<bool, OutputError> {
    let Some(checkpoint) = &record.checkpoint else { return Ok(false) };
    for file in &checkpoint.files {
        outputs::write(inner.parts.transport.as_ref(), file, &record.output_dir).await?;
    }
    Ok(true)
}
