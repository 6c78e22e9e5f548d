//! The owner's rules: to whom a machine is leased, and what may run on it.
//!
//! They are asked twice: when terms are requested, so that a no costs nobody anything, and when the job arrives, because a
//! request may have named another image than the job does.

use std::collections::BTreeSet;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::BuyerId;
use crate::negotiation::{Refusal, RefusalCode};
use crate::workload::Image;

/// The longest pattern, in bytes.
const MAX_PATTERN: usize = 256;

/// Whom and what the owner allows. Empty rules allow everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnerRules {
    /// Only these, when not empty.
    pub allow_buyers: BTreeSet<BuyerId>,
    /// Never these.
    pub deny_buyers: BTreeSet<BuyerId>,
    /// Only these, when not empty; jobs without an image are not among them.
    pub allow_images: Vec<ImagePattern>,
    /// Never these.
    pub deny_images: Vec<ImagePattern>,
    /// Only images that are named by what they contain: by their digest, or as an archive. Jobs without an image are not meant.
    #[serde(default)]
    pub pinned_images: bool,
    /// The most leases that one account has at a time.
    #[serde(default)]
    pub leases_per_buyer: Option<u16>,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no image pattern: write an image's name, with `*` for any characters, such as `ghcr.io/acme/*`"
)]
pub struct PatternError(String);

/// An image's name with `*` for any characters. Names are compared as the engine completes them: `alpine` is
/// `docker.io/library/alpine`, whatever its tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImagePattern(String);

impl OwnerRules {
    /// Whether `buyer` may run `image` here.
    ///
    /// # Errors
    /// The refusal that the buyer gets. It names what was asked for, never the rules.
    pub fn judge(&self, buyer: BuyerId, image: Option<&Image>) -> Result<(), Refusal> {
        let listed = self.allow_buyers.is_empty() || self.allow_buyers.contains(&buyer);
        if !listed || self.deny_buyers.contains(&buyer) {
            let reason = format!("the owner does not lease to the account {buyer}");
            return Err(no(reason));
        }
        let Some(image) = image else {
            let only_images = !self.allow_images.is_empty();
            return if only_images { Err(no("the owner runs certain images only".into())) } else { Ok(()) };
        };
        if self.pinned_images && !is_pinned(image) {
            let reason =
                format!("the owner runs images by their digest only, and `{}` may change", image.reference);
            let hint = "name it like `repository@sha256:…`, as `docker inspect` and registries show it, or try another provider";
            return Err(Refusal::new(RefusalCode::Policy, reason, hint));
        }
        let any_rule = !self.allow_images.is_empty() || !self.deny_images.is_empty();
        if any_rule && image.archive.is_some() {
            // The buyer names an archive as it likes.
            return Err(no("the owner's rules are about images by name, and an archive proves none".into()));
        }
        let matches =
            |patterns: &[ImagePattern]| patterns.iter().any(|pattern| pattern.matches(&image.reference));
        let listed = self.allow_images.is_empty() || matches(&self.allow_images);
        if listed && !matches(&self.deny_images) {
            return Ok(());
        }
        Err(no(format!("the owner does not run the image `{}`", image.reference)))
    }
}

impl OwnerRules {
    /// Whether a buyer that has so many leases here may have one more.
    ///
    /// # Errors
    /// The refusal that the buyer gets.
    pub fn has_room(&self, leases: usize) -> Result<(), Refusal> {
        let Some(most) = self.leases_per_buyer.filter(|most| leases >= usize::from(*most)) else {
            return Ok(());
        };
        let noun = if most == 1 { "lease" } else { "leases" };
        let reason = format!("the owner gives an account {most} {noun} at a time");
        Err(Refusal::new(RefusalCode::Busy, reason, "end one of yours here, or try another provider"))
    }
}

/// A tag can be moved; a digest and an archive's hash cannot.
fn is_pinned(image: &Image) -> bool {
    image.archive.is_some() || image.digest.is_some() || image.reference.contains("@sha256:")
}

fn no(reason: String) -> Refusal {
    Refusal::new(RefusalCode::Policy, reason, "try another provider")
}

impl ImagePattern {
    /// Whether an image's reference is meant, with its tag and digest or without.
    #[must_use]
    pub fn matches(&self, reference: &str) -> bool {
        let reference = complete(reference);
        let named = reference.split_once('@').map_or(reference.as_str(), |(name, _)| name);
        let untagged = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => name,
            Some(_) | None => named,
        };
        [reference.as_str(), named, untagged].into_iter().any(|text| is_like(&self.0, text))
    }
}

impl FromStr for ImagePattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let fine =
            (1..=MAX_PATTERN).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fine {
            return Err(PatternError(text.chars().filter(|c| !c.is_control()).take(MAX_PATTERN).collect()));
        }
        Ok(Self(if text.starts_with('*') { text.into() } else { complete(text) }))
    }
}

impl TryFrom<String> for ImagePattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        text.parse()
    }
}

impl From<ImagePattern> for String {
    fn from(pattern: ImagePattern) -> Self {
        pattern.0
    }
}

/// A reference with the registry and the namespace that engines add to it.
fn complete(reference: &str) -> String {
    let reference = reference.to_ascii_lowercase();
    let (first, rest) = reference.split_once('/').unwrap_or((&reference, ""));
    let is_host = !rest.is_empty() && (first.contains(['.', ':', '*']) || first == "localhost");
    match (is_host, rest.is_empty()) {
        (true, _) if matches!(first, "index.docker.io" | "registry-1.docker.io") => {
            format!("docker.io/{rest}")
        }
        (true, _) => reference,
        (false, true) => format!("docker.io/library/{reference}"),
        (false, false) => format!("docker.io/{reference}"),
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any characters.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use alloy_primitives::Address;

    use super::*;

    fn buyer(number: u8) -> BuyerId {
        BuyerId::new(Address::repeat_byte(number))
    }

    fn image(reference: &str) -> Image {
        Image { reference: reference.into(), digest: None, archive: None }
    }

    fn pattern(text: &str) -> ImagePattern {
        text.parse().unwrap()
    }

    #[test]
    fn an_account_has_so_many_leases_at_a_time() {
        assert_eq!(OwnerRules::default().has_room(1_000), Ok(()));
        let rules = OwnerRules { leases_per_buyer: Some(2), ..OwnerRules::default() };
        assert_eq!(rules.has_room(1), Ok(()));
        let refusal = rules.has_room(2).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Busy);
        assert!(refusal.reason.contains("2 leases at a time"), "{refusal}");
    }

    #[test]
    fn without_rules_everybody_runs_everything() {
        let rules = OwnerRules::default();
        assert_eq!(rules.judge(buyer(1), None), Ok(()));
        assert_eq!(rules.judge(buyer(1), Some(&image("alpine"))), Ok(()));
    }

    #[test]
    fn an_image_that_can_change_is_refused_where_the_owner_wants_that() {
        let rules = OwnerRules { pinned_images: true, ..OwnerRules::default() };
        let digest = format!("sha256:{}", "a".repeat(64));
        for pinned in [
            Image { digest: Some(digest.clone()), ..image("alpine:3.23") },
            Image { archive: Some([7; 32]), ..image("alpine") },
            image(&format!("alpine@{digest}")),
        ] {
            assert_eq!(rules.judge(buyer(1), Some(&pinned)), Ok(()), "{pinned:?}");
        }
        assert_eq!(rules.judge(buyer(1), None), Ok(()), "what runs in no image");
        let refusal = rules.judge(buyer(1), Some(&image("alpine:3.23"))).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Policy);
        assert!(refusal.reason.contains("`alpine:3.23` may change"), "{refusal}");
    }

    #[test]
    fn a_buyer_is_refused_by_either_list_and_told_so() {
        let denying = OwnerRules { deny_buyers: [buyer(1)].into(), ..OwnerRules::default() };
        let refusal = denying.judge(buyer(1), None).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Policy);
        assert!(refusal.reason.contains(&buyer(1).to_string()), "{refusal}");
        assert_eq!(denying.judge(buyer(2), None), Ok(()));
        let allowing = OwnerRules { allow_buyers: [buyer(1)].into(), ..denying };
        assert!(allowing.judge(buyer(1), None).is_err(), "denied wins over allowed");
        assert!(allowing.judge(buyer(2), None).is_err());
    }

    #[test]
    fn an_image_is_known_under_all_its_spellings() {
        for spelling in [
            "alpine",
            "alpine:3",
            "library/alpine",
            "docker.io/library/alpine@sha256:00",
            "index.docker.io/library/alpine",
            "Alpine",
        ] {
            assert!(pattern("alpine").matches(spelling), "{spelling}");
        }
        for other in ["alpine2", "ghcr.io/library/alpine", "acme/alpine", "localhost:5000/alpine"] {
            assert!(!pattern("alpine").matches(other), "{other}");
        }
        assert!(pattern("ghcr.io/acme/*").matches("ghcr.io/acme/train:v1"));
        assert!(!pattern("ghcr.io/acme/*").matches("ghcr.io/acme-evil/train"));
        assert!(pattern("*/miner*").matches("docker.io/x/miner:1"));
        assert!("".parse::<ImagePattern>().is_err() && "a b".parse::<ImagePattern>().is_err());
    }

    #[test]
    fn rules_about_images_cannot_be_evaded_by_an_archive_or_by_no_image() {
        let allowing = OwnerRules { allow_images: vec![pattern("ghcr.io/acme/*")], ..OwnerRules::default() };
        assert_eq!(allowing.judge(buyer(1), Some(&image("ghcr.io/acme/x"))), Ok(()));
        assert!(allowing.judge(buyer(1), Some(&image("alpine"))).is_err());
        assert!(allowing.judge(buyer(1), None).is_err());
        let archive = Image { archive: Some([1; 32]), ..image("ghcr.io/acme/x") };
        assert!(allowing.judge(buyer(1), Some(&archive)).is_err());
        let denying = OwnerRules { deny_images: vec![pattern("*/miner")], ..OwnerRules::default() };
        assert!(denying.judge(buyer(1), Some(&archive)).is_err());
        assert_eq!(denying.judge(buyer(1), Some(&image("acme/trainer"))), Ok(()));
        assert!(denying.judge(buyer(1), Some(&image("acme/miner:2"))).is_err());
    }
}
