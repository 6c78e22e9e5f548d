//! Which image a lease runs: found here, pulled, or imported; always pinned by its id before a container is made of it.
//!
//! ```text
//!  archive given ──► the image that was imported under that hash, else refused
//!  digest given  ──► an image here with that id or repository digest, else pulled by digest, else refused
//!  a name only   ──► the image here by that name, else pulled
//! ```

use std::time::Duration;

use bollard::models::ImageInspect;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Image;

use super::archive::ImageLimits;
use super::engine::{CallError, Engine};
use super::pull::{discard, pull};
use crate::runtime::RuntimeError;

/// The longest image reference that anyone needs.
const LONGEST_REFERENCE: usize = 512;

/// An image that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    /// Its id, which no later tag can change.
    pub(super) id: String,
    /// The paths that it declares as volumes.
    pub(super) volumes: Vec<String>,
    /// Where it looks for programs.
    pub(super) path: Option<String>,
}

/// The name under which an archive with this hash is known to the engine.
pub(super) fn imported_name(archive: &[u8; 32]) -> String {
    format!("tradewind/import:{}", hex::encode(archive))
}

/// Finds or fetches the image that the spec names.
pub(super) async fn resolve(
    engine: &Engine,
    image: &Image,
    pull_within: Duration,
    limits: &ImageLimits,
) -> Result<Resolved, RuntimeError> {
    if let Some(archive) = &image.archive {
        let name = imported_name(archive);
        let found = inspect(engine, &name).await?.ok_or_else(|| {
            RuntimeError::Start(format!("the image archive {} was not imported here", hex::encode(archive)))
        })?;
        return accept(image, found, limits);
    }
    check_reference(&image.reference)?;
    if let Some(digest) = &image.digest {
        check_digest(digest)?;
        for name in [digest.clone(), by_digest(&image.reference, digest)] {
            if let Some(found) = inspect(engine, &name).await? {
                return accept(image, found, limits);
            }
        }
    }
    let here = inspect(engine, &image.reference).await?;
    match (here, &image.digest) {
        (Some(found), None) => accept(image, found, limits),
        (Some(found), Some(digest)) => {
            let mismatch = accept(image, found, limits);
            if mismatch.is_ok() {
                return mismatch;
            }
            // The tag moved here or there; the buyer's image may still be had by its digest.
            match pull(engine, &by_digest(&image.reference, digest), pull_within, limits).await {
                Ok(()) => fetched(engine, image, &by_digest(&image.reference, digest), limits).await,
                Err(_) => mismatch,
            }
        }
        (None, digest) => {
            let name =
                digest.as_ref().map_or_else(|| image.reference.clone(), |d| by_digest(&image.reference, d));
            pull(engine, &name, pull_within, limits).await?;
            fetched(engine, image, &name, limits).await
        }
    }
}

async fn fetched(
    engine: &Engine,
    image: &Image,
    name: &str,
    limits: &ImageLimits,
) -> Result<Resolved, RuntimeError> {
    let found = inspect(engine, name).await?.ok_or_else(|| {
        RuntimeError::Unavailable(format!("{name} was pulled, but the engine does not have it"))
    })?;
    let accepted = accept(image, found, limits);
    if accepted.is_err() {
        discard(engine, name).await;
    }
    accepted
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

fn accept(image: &Image, found: ImageInspect, limits: &ImageLimits) -> Result<Resolved, RuntimeError> {
    let id = found.id.unwrap_or_default();
    if let Some(digest) = &image.digest {
        let pulled = found.repo_digests.unwrap_or_default();
        let known = pulled.iter().filter_map(|name| name.rsplit_once('@')).any(|(_, known)| known == digest);
        if id != *digest && !known {
            return Err(RuntimeError::Start(format!(
                "image {} is {id} here, and the buyer chose {digest}",
                image.reference
            )));
        }
    }
    let size = u64::try_from(found.size.unwrap_or(0)).unwrap_or(0);
    let most = limits.unpacked;
    if size > most.get() {
        let (size, reference) = (Bytes::new(size), &image.reference);
        return Err(RuntimeError::Start(format!(
            "image {reference} has {size}; this provider takes {most} at most"
        )));
    }
    let config = found.config.unwrap_or_default();
    let path = config
        .env
        .unwrap_or_default()
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH=").map(str::to_owned));
    Ok(Resolved { id, volumes: config.volumes.unwrap_or_default(), path })
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

fn check_reference(reference: &str) -> Result<(), RuntimeError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._/:@".contains(c);
    let traversal = reference.split('/').any(|part| matches!(part, "" | "." | ".."));
    if reference.len() > LONGEST_REFERENCE || !reference.chars().all(allowed) || traversal {
        return Err(RuntimeError::Start(format!("`{}` is no image reference", reference.escape_default())));
    }
    Ok(())
}

fn check_digest(digest: &str) -> Result<(), RuntimeError> {
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
