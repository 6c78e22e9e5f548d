//! An image that the owner wants signed is looked up before it is pulled, and pulled by the digest that is signed.

use std::time::Duration;

use tradewind_proto::workload::Image;

use super::image::{check_digest, check_reference, repository};
use super::login::{Login, home};
use super::repository::Repository;
use super::signature::{MOST_PAYLOAD, SignedImages, claims, digest, tag};
use crate::runtime::RuntimeError;

/// How long the whole look at an image's signatures may take.
const LOOKS_WITHIN: Duration = Duration::from_secs(120);

/// The image, pinned by the digest that is signed where a rule wants that.
pub(super) async fn vouched(
    rules: &[SignedImages],
    image: &Image,
    login: Option<&Login>,
) -> Result<Image, RuntimeError> {
    if rules.is_empty() {
        return Ok(image.clone());
    }
    if image.archive.is_some() {
        let why = "the owner runs images that are signed in their registry, and an archive has no registry";
        return Err(RuntimeError::Start(why.into()));
    }
    let covering: Vec<&SignedImages> = rules.iter().filter(|rule| rule.covers(&image.reference)).collect();
    if covering.is_empty() {
        return Ok(image.clone());
    }
    let looked = tokio::time::timeout(LOOKS_WITHIN, look(&covering, image, login)).await;
    let slow =
        |_| RuntimeError::Unavailable(format!("the signatures of {} come too slowly", image.reference));
    let digest = looked.map_err(slow)??;
    Ok(Image { digest: Some(digest), ..image.clone() })
}

/// The digest of the image that every rule finds signed.
async fn look(rules: &[&SignedImages], image: &Image, login: Option<&Login>) -> Result<String, RuntimeError> {
    check_reference(&image.reference)?;
    let mut repository = Repository::of(&image.reference, login)?;
    let chosen = match image.digest.as_deref().or(pinned(&image.reference)) {
        Some(digest) => digest.to_owned(),
        None => {
            let missing = || RuntimeError::Start(format!("its registry has no image {}", image.reference));
            digest(&repository.manifest(tag_of(&image.reference)).await?.ok_or_else(missing)?)
        }
    };
    check_digest(&chosen)?;
    let at = tag(&chosen).unwrap_or_default();
    let Some(manifest) = repository.manifest(&at).await? else {
        return Err(refused(image, &chosen, "it has no signature"));
    };
    let claims = claims(&manifest).map_err(|why| refused(image, &chosen, &why))?;
    let mut unmet = rules.to_vec();
    let mut why = "it has no signature of the kind that is read here";
    for claim in claims {
        let Some(payload) = repository.blob(&claim.payload, MOST_PAYLOAD).await? else { continue };
        unmet.retain(|rule| match claim.check(&payload, &chosen, &rule.keys) {
            Ok(()) => false,
            Err(found) => {
                why = found;
                true
            }
        });
        if unmet.is_empty() {
            return Ok(chosen);
        }
    }
    Err(refused(image, &chosen, why))
}

fn refused(image: &Image, digest: &str, why: &str) -> RuntimeError {
    let (host, path) = home(&image.reference);
    RuntimeError::Start(format!(
        "the owner runs {} with a signature only: {why}; who has one of the owner's keys signs it by \
         `cosign sign --key KEY --tlog-upload=false {host}/{path}@{digest}` (cosign 3: with --new-bundle-format=false --use-signing-config=false)",
        image.reference
    ))
}

/// The digest in a reference.
fn pinned(reference: &str) -> Option<&str> {
    reference.split_once('@').map(|(_, digest)| digest)
}

/// The tag in a reference; the one that engines add where there is none.
fn tag_of(reference: &str) -> &str {
    let rest = &reference[repository(reference).len()..];
    rest.strip_prefix(':').filter(|tag| !tag.is_empty()).unwrap_or("latest")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_its_tag_or_digest() {
        for (reference, tag, digest) in [
            ("a/b", "latest", None),
            ("host:5000/a/b", "latest", None),
            ("host:5000/a/b:1.2", "1.2", None),
            ("a/b@sha256:00", "latest", Some("sha256:00")),
        ] {
            assert_eq!((tag_of(reference), pinned(reference)), (tag, digest), "{reference}");
        }
    }
}
