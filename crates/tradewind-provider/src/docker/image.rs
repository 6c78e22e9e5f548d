//! Which image a lease runs: found here, pulled, or imported; always pinned by its id before a container is made of it.
//!
//! ```text
//!  archive given ──► the image that was imported under that hash, else refused
//!  digest given  ──► an image here with that id or repository digest, else pulled by digest, else refused
//!  a name only   ──► the image here by that name, else pulled
//! ```
//!
//! An image that came by a login is not "here" for a lease until its registry gave it to that lease too: it is asked for every
//! lease anew, which costs little, as the layers are here.

use std::time::Duration;

use bollard::models::ImageInspect;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Image;

use super::archive::ImageLimits;
use super::cache::{Announced, Held, ImageCache};
use super::engine::{CallError, Engine};
use super::login::{Login, home};
use super::pull::{Pulled, ask, discard, pull};
use super::requirement;
use crate::runtime::RuntimeError;

/// The longest image reference that anyone needs.
const LONGEST_REFERENCE: usize = 512;
/// An image may be removed while it is looked at; so often in a row it is not.
const TRIES: usize = 3;

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Its id, which no later tag can change.
    pub(super) id: String,
    /// The paths that it declares as volumes.
    pub(super) volumes: Vec<String>,
    /// Where it looks for programs.
    pub(super) path: Option<String>,
    /// What it requires of NVIDIA's driver.
    pub(super) requirement: Option<String>,
}

impl Resolved {
    pub(super) fn read(found: ImageInspect) -> Self {
        let config = found.config.unwrap_or_default();
        let environment = config.env.unwrap_or_default();
        Self {
            id: found.id.unwrap_or_default(),
            volumes: config.volumes.unwrap_or_default(),
            path: environment.iter().find_map(|entry| entry.strip_prefix("PATH=").map(str::to_owned)),
            requirement: requirement::of_environment(&environment),
        }
    }
}

/// The name under which an archive with this hash is known to the engine.
pub(super) fn imported_name(archive: &[u8; 32]) -> String {
    format!("tradewind/import:{}", hex::encode(archive))
}

/// Where images come from, and within which bounds.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) engine: &'a Engine,
    pub(super) cache: &'a ImageCache,
    pub(super) pull_within: Duration,
    pub(super) limits: &'a ImageLimits,
    /// The lease's login to the registry.
    pub(super) login: Option<&'a Login>,
}

/// An image that was pulled.
struct Brought {
    announced: Announced,
    /// Its name was known to the engine before.
    was_here: bool,
}

/// An image that the lease may use, and that is held where it was just fetched.
type Found = (Resolved, Option<Held>);

impl Source<'_> {
    /// Finds or fetches the image that the spec names. It stays at least as long as it is held.
    pub(super) async fn resolve(&self, image: &Image) -> Result<(Resolved, Held), RuntimeError> {
        for _ in 0..TRIES {
            let Some((resolved, _fetched)) = self.find(image).await? else { continue };
            let held = self.cache.hold(&resolved.id).await;
            if inspect(self.engine, &resolved.id).await?.is_some() {
                return Ok((resolved, held));
            }
        }
        let reference = &image.reference;
        Err(RuntimeError::Unavailable(format!("image {reference} was removed whenever it was found")))
    }

    /// Nothing where an image was removed that was another buyer's, to be fetched anew.
    async fn find(&self, image: &Image) -> Result<Option<Found>, RuntimeError> {
        if let Some(archive) = &image.archive {
            let name = imported_name(archive);
            let found = inspect(self.engine, &name).await?.ok_or_else(|| {
                RuntimeError::Start(format!(
                    "the image archive {} was not imported here",
                    hex::encode(archive)
                ))
            })?;
            return self.accept_here(image, found).await;
        }
        check_reference(&image.reference)?;
        if let Some(digest) = &image.digest {
            check_digest(digest)?;
            for name in [digest.clone(), by_digest(&image.reference, digest)] {
                if let Some(found) = self.here(&name).await? {
                    return self.accept_here(image, found).await;
                }
            }
        }
        let here = self.here(&image.reference).await?;
        match (here, &image.digest) {
            (Some(found), None) => self.accept_here(image, found).await,
            (Some(found), Some(digest)) => {
                let mismatch = self.accept_here(image, found).await;
                if mismatch.is_ok() {
                    return mismatch;
                }
                // The tag moved here or there; the buyer's image may still be had by its digest.
                let name = by_digest(&image.reference, digest);
                match self.bring(&name).await {
                    Ok(brought) => self.fetched(brought, image, &name).await,
                    Err(_) => mismatch,
                }
            }
            (None, digest) => {
                let name = digest
                    .as_ref()
                    .map_or_else(|| image.reference.clone(), |d| by_digest(&image.reference, d));
                let brought = self.bring(&name).await?;
                self.fetched(brought, image, &name).await
            }
        }
    }

    /// What the engine has under this name, for everybody.
    async fn here(&self, name: &str) -> Result<Option<ImageInspect>, RuntimeError> {
        let Some(found) = inspect(self.engine, name).await? else { return Ok(None) };
        Ok((!self.cache.is_private(&found).await?).then_some(found))
    }

    async fn accept_here(&self, image: &Image, found: ImageInspect) -> Result<Option<Found>, RuntimeError> {
        Ok(Some((accept(image, found, self.limits, self.engine.architecture().await?)?, None)))
    }

    /// Pulls what is not here, or not for everybody.
    async fn bring(&self, name: &str) -> Result<Brought, RuntimeError> {
        let was_here = inspect(self.engine, name).await?.is_some();
        let announced = self.cache.announce(self.engine, name, self.login.is_some()).await?;
        match pull(self.engine, name, self.login, self.pull_within, self.limits).await? {
            Pulled::Whole => Ok(Brought { announced, was_here }),
            Pulled::Failed(error) => {
                self.cache.did_not_come(announced).await?;
                Err(error)
            }
            // What is announced is looked for until it cannot come any more.
            Pulled::GivenUp(error) => Err(error),
        }
    }

    async fn fetched(
        &self,
        Brought { announced, was_here }: Brought,
        image: &Image,
        name: &str,
    ) -> Result<Option<Found>, RuntimeError> {
        let found = inspect(self.engine, name).await?.ok_or_else(|| {
            RuntimeError::Unavailable(format!("{name} was pulled, but the engine does not have it"))
        })?;
        if let Err(refused) = self.confirm(name, &found).await {
            if was_here {
                // Those whom the registry gives it have it under this name.
                self.cache.did_not_come(announced).await?;
            } else {
                self.take_back(announced, name).await?;
            }
            return Err(refused);
        }
        match accept(image, found.clone(), self.limits, self.engine.architecture().await?) {
            Ok(resolved) => {
                let held = self.cache.hold(&resolved.id).await;
                let is_open = self.login.is_none();
                if self.cache.was_given(&announced, &found, &image.reference, is_open).await? {
                    return Ok(Some((resolved, Some(held))));
                }
                drop(held);
                self.take_back(announced, name).await?;
                self.make_room(image, &resolved.id).await?;
                Ok(None)
            }
            Err(error) => {
                self.take_back(announced, name).await?;
                Err(error)
            }
        }
    }

    /// What is private and was chosen by its digest may have come without its registry's consent.
    async fn confirm(&self, name: &str, found: &ImageInspect) -> Result<(), RuntimeError> {
        if name.contains('@') && self.cache.is_private(found).await? {
            ask(self.engine, name, self.login).await?;
        }
        Ok(())
    }

    async fn take_back(&self, announced: Announced, name: &str) -> Result<(), RuntimeError> {
        discard(self.engine, name).await;
        match inspect(self.engine, name).await? {
            Some(left) => self.cache.arrived(announced, &left, None).await,
            None => self.cache.did_not_come(announced).await,
        }
    }

    /// Removes what another buyer's login brought from elsewhere: an engine that has an image takes a registry's word for it, which
    /// proves nothing.
    async fn make_room(&self, image: &Image, id: &str) -> Result<(), RuntimeError> {
        self.cache.evict(self.engine, id).await?;
        if inspect(self.engine, id).await?.is_none() {
            return Ok(());
        }
        let (reference, (host, path)) = (&image.reference, home(&image.reference));
        Err(RuntimeError::Unavailable(format!(
            "image {reference} is here for a login to another repository than {host}/{path}; it is fetched anew once nobody uses it"
        )))
    }
}

/// What the engine knows of an image.
pub(super) async fn inspect(engine: &Engine, name: &str) -> Result<Option<ImageInspect>, RuntimeError> {
    match engine.call("inspect an image", |docker| async move { docker.inspect_image(name).await }).await {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_missing() => Ok(None),
        // A reference that the engine cannot parse is the buyer's.
        Err(CallError::Refused { status: 400, message }) => Err(RuntimeError::Start(message)),
        Err(error) => Err(error.into()),
    }
}

fn accept(
    image: &Image,
    found: ImageInspect,
    limits: &ImageLimits,
    machine: &str,
) -> Result<Resolved, RuntimeError> {
    let id = found.id.clone().unwrap_or_default();
    if let Some(digest) = &image.digest {
        let pulled = found.repo_digests.clone().unwrap_or_default();
        let known = pulled.iter().filter_map(|name| name.rsplit_once('@')).any(|(_, known)| known == digest);
        if id != *digest && !known {
            return Err(RuntimeError::Start(format!(
                "image {} is {id} here, and the buyer chose {digest}",
                image.reference
            )));
        }
    }
    let architecture = found.architecture.clone().unwrap_or_default();
    if !runs_on(&architecture, machine) {
        let reference = &image.reference;
        return Err(RuntimeError::Start(format!(
            "image {reference} is for {architecture} and this machine is {machine}; choose one for {machine}"
        )));
    }
    let size = u64::try_from(found.size.unwrap_or(0)).unwrap_or(0);
    let most = limits.unpacked;
    if size > most.get() {
        let (size, reference) = (Bytes::new(size), &image.reference);
        return Err(RuntimeError::Start(format!(
            "image {reference} has {size}; this provider takes {most} at most"
        )));
    }
    Ok(Resolved::read(found))
}

/// Whether a machine runs an image's programs, both in the words of images. Many a processor runs its line's 32-bit ones too; an
/// image that names nothing may suit.
fn runs_on(image: &str, machine: &str) -> bool {
    let older = matches!((image, machine), ("386", "amd64") | ("arm", "arm64"));
    image.is_empty() || machine.is_empty() || image == machine || older
}

fn by_digest(reference: &str, digest: &str) -> String {
    format!("{}@{digest}", repository(reference))
}

/// A reference without its tag or digest; a colon before the last slash is a registry's port.
pub(super) fn repository(reference: &str) -> &str {
    let named = reference.split_once('@').map_or(reference, |(name, _)| name);
    let last = named.rfind('/').map_or(0, |slash| slash + 1);
    named[last..].find(':').map_or(named, |colon| &named[..last + colon])
}

pub(super) fn check_reference(reference: &str) -> Result<(), RuntimeError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    let traversal = reference.split('/').any(|part| matches!(part, "" | "." | ".."));
    if reference.len() > LONGEST_REFERENCE || !reference.chars().all(allowed) || traversal {
        return Err(RuntimeError::Start(format!("`{}` is no image reference", reference.escape_default())));
    }
    Ok(())
}

pub(super) fn check_digest(digest: &str) -> Result<(), RuntimeError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(RuntimeError::Start(format!(
            "`{}` is no image digest (sha256:…)",
            digest.escape_default()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_port_is_no_tag() {
        for (reference, expected) in [
            ("busybox", "busybox"),
            ("busybox:1", "busybox"),
            ("host:5000/a/b", "host:5000/a/b"),
            ("host:5000/a/b:tag", "host:5000/a/b"),
            ("ghcr.io/a/b:tag@sha256:00", "ghcr.io/a/b"),
        ] {
            assert_eq!(repository(reference), expected);
        }
    }

    #[test]
    fn an_image_runs_on_its_own_architecture() {
        for (image, machine) in [("amd64", "amd64"), ("386", "amd64"), ("arm", "arm64"), ("", "amd64")] {
            assert!(runs_on(image, machine), "{image} on {machine}");
        }
        for (image, machine) in
            [("arm64", "amd64"), ("amd64", "arm64"), ("amd64", "386"), ("riscv64", "amd64")]
        {
            assert!(!runs_on(image, machine), "{image} on {machine}");
        }
    }

    #[test]
    fn a_reference_cannot_leave_its_place_in_the_api() {
        for reference in ["../containers", "a/../b", "a b", "a?x=1", "a//b", "", "é"] {
            assert!(check_reference(reference).is_err(), "{reference}");
        }
        assert!(check_reference("ghcr.io/org/name:v1.2").is_ok());
    }

    #[test]
    fn a_digest_is_a_whole_sha256() {
        assert!(check_digest(&format!("sha256:{}", "0a".repeat(32))).is_ok());
        for digest in ["sha256:", "sha256:zz", "md5:00", "0a"] {
            assert!(check_digest(digest).is_err(), "{digest}");
        }
    }
}
