//! How an order, and the secrets in it, get to a node without a secret ever lying on a disk or in Slurm's own records.
//!
//! ```text
//! shim   ──hello-<job>.json: a public key, made for this once──►  shared directory ──► agent
//! shim   ◄── launch-<job>: the order, sealed to that key ───────  shared directory ◄── agent
//! ```
//!
//! The shim's private key exists in its memory only and opens one message. The agent answers one job per lease, so a job that was
//! submitted twice runs once: the other waits in vain and leaves.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::SystemRandom;
use serde::{Deserialize, Serialize};
use tradewind_proto::workload::Secrets;

use super::queue::JobId;
use crate::process::job_dir::Order;

/// What the derived keys are for.
const PURPOSE: &[u8] = b"tradewind slurm handover 1";
/// The length of a public key.
const KEY: usize = 32;

/// A message that cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
#[error("the order is not sealed to this job")]
pub(super) struct NotForUs;

/// What a job's shim says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Hexadecimal.
    pub(super) key: String,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) order: Order,
    pub(super) secrets: Secrets,
}

/// Where the shim of a job says hello.
pub(super) fn hello_name(job: JobId) -> String {
    format!("hello-{job}.json")
}

/// Where it is answered.
pub(super) fn launch_name(job: JobId) -> String {
    format!("launch-{job}")
}

/// The key of one shim.
pub(super) struct Lock {
    private: EphemeralPrivateKey,
    public: Vec<u8>,
}

impl Lock {
    pub(super) fn new() -> Result<Self, NotForUs> {
        let (private, public) = pair()?;
        Ok(Self { private, public })
    }

    pub(super) fn hello(&self) -> Hello {
        Hello { key: hex::encode(&self.public) }
    }

    /// Opens the one message sealed to this key.
    pub(super) fn open(self, job: JobId, sealed: &[u8]) -> Result<Launch, NotForUs> {
        let (theirs, text) = sealed.split_at_checked(KEY).ok_or(NotForUs)?;
        let key = shared(self.private, theirs, &[theirs, &self.public].concat())?;
        let mut text = text.to_vec();
        let plain =
            key.open_in_place(nonce(), Aad::from(job.to_be_bytes()), &mut text).map_err(|_| NotForUs)?;
        let launch = postcard::from_bytes(plain).map_err(|_| NotForUs);
        text.fill(0);
        launch
    }
}

/// Seals `launch` to the job that said `hello`.
pub(super) fn seal(launch: &Launch, job: JobId, hello: &Hello) -> Result<Vec<u8>, NotForUs> {
    let theirs = hex::decode(&hello.key).map_err(|_| NotForUs)?;
    let (private, ours) = pair()?;
    let key = shared(private, &theirs, &[ours.as_slice(), &theirs].concat())?;
    let mut text = postcard::to_stdvec(launch).map_err(|_| NotForUs)?;
    let sealed = key.seal_in_place_append_tag(nonce(), Aad::from(job.to_be_bytes()), &mut text);
    sealed.map_err(|_| NotForUs)?;
    Ok([ours, text].concat())
}

fn pair() -> Result<(EphemeralPrivateKey, Vec<u8>), NotForUs> {
    let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).map_err(|_| NotForUs)?;
    let public = private.compute_public_key().map_err(|_| NotForUs)?.as_ref().to_vec();
    Ok((private, public))
}

fn shared(private: EphemeralPrivateKey, theirs: &[u8], both: &[u8]) -> Result<LessSafeKey, NotForUs> {
    let derive = |secret: &[u8]| {
        let extracted = Salt::new(HKDF_SHA256, PURPOSE).extract(secret);
        let info = [both];
        let expanded = extracted.expand(&info, &CHACHA20_POLY1305).map_err(|_| NotForUs)?;
        Ok(LessSafeKey::new(UnboundKey::from(expanded)))
    };
    agree_ephemeral(private, &UnparsedPublicKey::new(&X25519, theirs), derive).map_err(|_| NotForUs)?
}

/// Each key seals one message, so its number is always the first.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use tradewind_proto::ids::LeaseId;

    fn launch() -> Launch {
        let spec = crate::process::readiness::empty_job(LeaseId::default());
        let secrets = Secrets([("TOKEN".to_owned(), "hunter2".to_owned())].into());
        Launch { order: Order { spec, work: "/w".into(), user: None }, secrets }
    }

    #[test]
    fn an_order_reaches_the_job_that_asked_and_no_other() {
        let (lock, other) = (Lock::new().unwrap(), Lock::new().unwrap());
        let sealed = seal(&launch(), 7, &lock.hello()).unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
        assert!(other.open(7, &sealed).is_err());
        let opened = lock.open(7, &sealed).ok().unwrap();
        assert_eq!((opened.order, opened.secrets), (launch().order, launch().secrets));
    }

    #[test]
    fn what_was_altered_or_is_another_job_s_does_not_open() {
        for (job, byte) in [(8, 0), (7, 1)] {
            let lock = Lock::new().unwrap();
            let mut sealed = seal(&launch(), 7, &lock.hello()).unwrap();
            *sealed.last_mut().unwrap() ^= byte;
            assert!(lock.open(job, &sealed).is_err());
        }
        assert!(Lock::new().unwrap().open(7, &[0; 31]).is_err());
    }
}
