//! Brings a job's outputs home: every hash checked, every file whole or not there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tradewind_mesh::blobs::{BlobHash, FetchError, FetchOptions};
use tradewind_mesh::{PeerAddr, Transport};
use tradewind_proto::ids::JobId;
use tradewind_proto::manifest::check_path;
use tradewind_proto::report::OutputFile;
use tradewind_proto::units::Bytes;

use crate::buyer::label;

/// Why outputs did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("the provider named an output that leaves the directory: {0}")]
    Path(String),
    #[error("the outputs have more than the job's disk of {0}")]
    TooLarge(Bytes),
    #[error("the output {path} did not arrive: {source}")]
    Fetch { path: String, source: FetchError },
    #[error("the output {path} cannot be written: {reason}")]
    Write { path: String, reason: String },
}

/// Fetches all files into `directory`. What arrived earlier is not fetched again.
pub(super) async fn fetch(
    transport: &dyn Transport,
    peer: &PeerAddr,
    job: JobId,
    outputs: &[OutputFile],
    limit: Bytes,
    directory: &Path,
) -> Result<(), OutputError> {
    let total = outputs.iter().fold(0u64, |sum, output| sum.saturating_add(output.size.get()));
    if total > limit.get() {
        return Err(OutputError::TooLarge(limit));
    }
    for output in outputs {
        check_path(&output.path).map_err(|_| OutputError::Path(output.path.clone()))?;
        let hash = BlobHash::from_bytes(output.hash);
        let options = FetchOptions::new(output.size.get(), label(job));
        transport
            .fetch(peer, hash, &options, &|_| {})
            .await
            .map_err(|source| OutputError::Fetch { path: output.path.clone(), source })?;
        write(transport, output, directory).await?;
    }
    Ok(())
}

/// Writes a file that is in the blob store to its path below `directory`.
pub(super) async fn write(
    transport: &dyn Transport,
    output: &OutputFile,
    directory: &Path,
) -> Result<(), OutputError> {
    let failed = |reason: String| OutputError::Write { path: output.path.clone(), reason };
    let target = directory.join(&output.path);
    if let Some(parent) = target.parent() {
        tokio::fs::create_dir_all(parent).await.map_err(|error| failed(error.to_string()))?;
    }
    let target = std::path::absolute(&target).map_err(|error| failed(error.to_string()))?;
    let hash = BlobHash::from_bytes(output.hash);
    transport.export(hash, &target).await.map_err(|error| failed(error.to_string()))?;
    let mode = if output.executable { 0o755 } else { 0o644 };
    let permissions = std::fs::Permissions::from_mode(mode);
    tokio::fs::set_permissions(&target, permissions).await.map_err(|error| failed(error.to_string()))
}
