//! A job's checkpoints in a store of the buyer's, so that not even the loss of this node loses them.
//!
//! ```text
//! the newest checkpoint ─► its files from the blob store ─► tar ─► age, to the job file's recipient ─► s3://…/NAME-ID-000007.tar.age
//! ```
//!
//! This node encrypts and cannot decrypt: the key is its owner's, and so is what comes back with `age --decrypt`. The newest two stay.
//! A store that does not answer delays nothing; what is newest by then is put there later. What a job leaves at its end comes with its
//! outputs and is not put there.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tradewind_proto::ids::JobId;
use tradewind_proto::job::{self, JobSpec};
use tradewind_proto::report::OutputFile;
use tradewind_proto::workload::Secrets;

use super::outputs;
use super::record::{Checkpoint, JobRecord, Offsite};
use crate::buyer::{BuyerError, Inner, Tracked};
use crate::inputs::{InputError, PutError, Stores};

/// Of a job's checkpoints, so many stay.
const KEPT: usize = 2;
/// The pause after a failure, which doubles up to the last.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// Why a checkpoint is not in the store.
#[derive(Debug, thiserror::Error)]
enum OffsiteError {
    #[error(transparent)]
    Put(#[from] PutError),
    #[error("it cannot be packed: {0}")]
    Pack(#[from] io::Error),
    #[error("it is not here any more: {0}")]
    Export(#[from] outputs::OutputError),
    #[error("it cannot be noted: {0}")]
    Note(#[from] tradewind_store::StoreError),
    #[error("`checkpoint.encrypt_to`: {0}; `age-keygen -y key.txt` prints whom to encrypt to")]
    Recipient(&'static str),
}

impl OffsiteError {
    /// It will not get better.
    const fn is_final(&self) -> bool {
        matches!(self, Self::Recipient(_) | Self::Put(PutError::Store(InputError::Key(_))))
    }
}

/// Puts a note about what is to come where the checkpoints will lie: a store that takes nothing is found out before anything is paid.
pub(crate) async fn announce(
    spec: &JobSpec,
    id: JobId,
    secrets: &Secrets,
    dir: &Path,
) -> Result<(), BuyerError> {
    let Some(offsite) = spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.offsite.as_ref()) else {
        return Ok(());
    };
    recipient(offsite).map_err(|error| BuyerError::Offsite(error.to_string()))?;
    let path = spec.checkpoint.as_ref().map(|checkpoint| checkpoint.path.as_str()).unwrap_or_default();
    let note = format!(
        "Checkpoints of the job {} ({id}).\n\n  age --decrypt -i key.txt NAME.tar.age | tar x\n\n\
         gives its `{path}` back. To go on from it, submit the job again with that as an input: {{path: {path}, target: {path}}}.\n",
        spec.name
    );
    let stage = Stage(dir.join("offsite"));
    let put = async {
        stage.clear()?;
        let file = stage.0.join("README.txt");
        std::fs::write(&file, note)?;
        let mut stores = Stores::new(spec.s3.as_ref(), secrets);
        Ok(stores.put(&offsite.bucket, &key(offsite, spec, id, "README.txt"), &file).await?)
    };
    put.await.map_err(|error: OffsiteError| BuyerError::Offsite(error.to_string()))
}

/// Puts every checkpoint there that is the newest when its turn comes; ends with the job.
pub(crate) async fn follow(inner: Arc<Inner>, job: Arc<Tracked>) {
    let record = job.record.lock().await.clone();
    let wanted = record.spec.checkpoint.as_ref().and_then(|checkpoint| checkpoint.offsite.clone());
    let Some(offsite) = wanted else { return };
    // What a node that was killed while it packed has left.
    drop(Stage::of(&inner, job.id));
    let (mut view, mut pause) = (job.view.subscribe(), PAUSE.0);
    loop {
        let news = view.wait_for(|record| record.is_over() || is_news(record));
        let record = tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            Ok(record) = news => record.clone(),
            else => return,
        };
        let Some(checkpoint) = record.checkpoint.as_ref().filter(|_| !record.is_over()) else { return };
        let kept = tokio::select! {
            biased;
            () = inner.cancel.cancelled() => return,
            kept = keep(&inner, &job, &record, checkpoint, &offsite) => kept,
        };
        match kept {
            Ok(()) => pause = PAUSE.0,
            Err(error) => {
                let gives_up = error.is_final();
                tracing::warn!(job = %job.id, number = checkpoint.number, %error, gives_up, "a checkpoint is not in the store");
                if gives_up {
                    return;
                }
                tokio::select! {
                    biased;
                    () = inner.cancel.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = pause.saturating_mul(2).min(PAUSE.1),
                }
            }
        }
    }
}

fn is_news(record: &JobRecord) -> bool {
    let there = record.offsite.last().map_or(0, |offsite| offsite.number);
    record.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.number > there)
}

async fn keep(
    inner: &Inner,
    job: &Tracked,
    record: &JobRecord,
    checkpoint: &Checkpoint,
    offsite: &job::Offsite,
) -> Result<(), OffsiteError> {
    let recipient = recipient(offsite)?;
    let stage = Stage::of(inner, record.id);
    stage.clear()?;
    let plain = stage.0.join("files");
    for file in &checkpoint.files {
        outputs::write(inner.parts.transport.as_ref(), file, &plain).await?;
    }
    let (files, sealed) = (checkpoint.files.clone(), stage.0.join("sealed"));
    let target = sealed.clone();
    let packed = tokio::task::spawn_blocking(move || seal(&recipient, &plain, &files, &target)).await;
    packed.map_err(io::Error::other)??;
    let secrets = job.secrets.lock().await.clone();
    let mut stores = Stores::new(record.spec.s3.as_ref(), &secrets);
    let key = key(offsite, &record.spec, record.id, &format!("{:06}.tar.age", checkpoint.number));
    stores.put(&offsite.bucket, &key, &sealed).await?;
    let noted = Offsite { number: checkpoint.number, key, at: inner.now() };
    let record = inner.update(job, |record| record.offsite.push(noted)).await?;
    let stale = record.offsite.len().saturating_sub(KEPT);
    for old in record.offsite.iter().take(stale) {
        stores.delete(&offsite.bucket, &old.key).await.map_err(PutError::from)?;
    }
    inner.update(job, |record| record.offsite = record.offsite.split_off(stale)).await?;
    tracing::info!(job = %job.id, number = checkpoint.number, "what the job saved is in the store too");
    Ok(())
}

fn key(offsite: &job::Offsite, spec: &JobSpec, id: JobId, rest: &str) -> String {
    format!("{}{}-{}-{rest}", offsite.prefix, spec.name, id.short().trim_start_matches("0x"))
}

fn recipient(offsite: &job::Offsite) -> Result<age::x25519::Recipient, OffsiteError> {
    offsite.recipient.parse().map_err(OffsiteError::Recipient)
}

/// Where a checkpoint is packed; empty again afterwards.
struct Stage(PathBuf);

impl Stage {
    fn of(inner: &Inner, job: JobId) -> Self {
        Self(inner.job_dir(job).join("offsite"))
    }

    fn clear(&self) -> io::Result<()> {
        self.remove()?;
        std::fs::create_dir_all(self.0.join("files"))
    }

    fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, dir = %self.0.display(), "a packed checkpoint is left behind");
        }
    }
}

/// Packs `files` below `dir`, encrypted, into the file `to`.
fn seal(recipient: &age::x25519::Recipient, dir: &Path, files: &[OutputFile], to: &Path) -> io::Result<()> {
    let recipients = std::iter::once(recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(recipients).map_err(io::Error::other)?;
    let mut tar = tar::Builder::new(encryptor.wrap_output(BufWriter::new(File::create(to)?))?);
    for file in files {
        let mut source = File::open(dir.join(&file.path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(source.metadata()?.len());
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        tar.append_data(&mut header, &file.path, &mut source)?;
    }
    tar.into_inner()?.finish()?.flush()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use tradewind_proto::units::Bytes;

    use super::*;

    const MARK: &str = "the weights after a week";

    #[test]
    fn what_is_packed_is_read_by_its_recipient_alone() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("state/{}/step", "a-directory".repeat(12));
        let file = |path: &str, executable| OutputFile {
            path: path.into(),
            hash: [0; 32],
            size: Bytes::new(1),
            executable,
        };
        let files = [file("state/weights", false), file(&long, false), file("state/run", true)];
        for file in &files {
            let path = dir.path().join(&file.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, MARK.repeat(9_000)).unwrap();
        }
        let (own, other) = (age::x25519::Identity::generate(), age::x25519::Identity::generate());
        let sealed = dir.path().join("sealed");
        seal(&own.to_public(), dir.path(), &files, &sealed).unwrap();
        let bytes = std::fs::read(&sealed).unwrap();
        let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!holds(MARK) && !holds("state/weights") && bytes.len() > 3 * 9_000 * MARK.len());
        let open = |identity: &age::x25519::Identity| {
            let decryptor = age::Decryptor::new(&bytes[..]).unwrap();
            decryptor.decrypt(std::iter::once(identity as &dyn age::Identity))
        };
        assert!(open(&other).is_err());
        let mut archive = tar::Archive::new(open(&own).unwrap());
        let mut found = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            assert_eq!(content, MARK.repeat(9_000));
            found.push((entry.path().unwrap().display().to_string(), entry.header().mode().unwrap()));
        }
        let wanted = [("state/weights".to_owned(), 0o644), (long, 0o644), ("state/run".into(), 0o755)];
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_recipient_with_a_slip_of_the_pen_is_none() {
        let good = age::x25519::Identity::generate().to_public().to_string();
        let offsite = |recipient: &str| job::Offsite {
            bucket: "data".into(),
            prefix: String::new(),
            recipient: recipient.into(),
        };
        assert!(recipient(&offsite(&good)).is_ok());
        let last = if good.ends_with('q') { "p" } else { "q" };
        let slip = format!("{}{last}", &good[..good.len() - 1]);
        assert!(matches!(recipient(&offsite(&slip)), Err(error) if error.is_final()));
    }
}
