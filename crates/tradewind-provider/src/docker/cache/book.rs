//! Which images the runtime brought, and what is said of them: a value without I/O.
//!
//! ```text
//!  expect ─► coming ─┬─ arrive ─► listed ─┬─ strike (removed by us)
//!                    │                    └─ compare (removed or renamed by the owner)
//!                    ├─ arrive ─► nothing: it was on the engine before, so it is the owner's
//!                    └─ drop_coming (it never came)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Bytes, Seconds, Timestamp};

use crate::docker::image::repository;
use crate::docker::login::home;

/// Images that are listed at most; no more are fetched then.
const MOST_IMAGES: usize = 1_024;
/// Images that are under way at most.
const MOST_COMING: usize = 64;
/// Names of one image that are kept.
const MOST_NAMES: usize = 32;
/// An engine that was hung up on finishes what it fetches within this time, or not at all.
const LINGERS: Seconds = Seconds::new(600);
/// A lease for which an image was brought uses it within this time.
const AWAITED_FOR: Seconds = Seconds::new(86_400);
/// Of an image's id, what tells it from the others of one engine.
const SHORT: usize = 24;

/// An image that this runtime brought to the engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: String,
    /// The names that came with it; only these are ever removed.
    pub(super) references: BTreeSet<String>,
    /// As jobs named what was pulled, which may say a tag where the digest was pulled.
    pub(super) asked: BTreeSet<String>,
    pub(super) size: Bytes,
    pub(super) last_used: Timestamp,
    /// Leases that it was brought for and that are not over, and since when.
    pub(super) awaited: BTreeMap<LeaseId, Timestamp>,
    /// The registries and repositories from which it came by a login. With none it is for everybody.
    #[serde(default)]
    pub(super) private: BTreeSet<Home>,
}

/// A registry and a repository of it.
pub(super) type Home = (String, String);

/// An image that was about to be brought. It outlives a crash, after which nobody else knows whose the image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Coming {
    pub(super) name: String,
    since: Timestamp,
    /// What the engine had before: names, and ids shortened.
    before: BTreeSet<String>,
    /// It is asked for with a login.
    #[serde(default)]
    by_login: bool,
}

/// An image as the engine shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) id: String,
    pub(super) references: BTreeSet<String>,
    pub(super) size: Bytes,
}

/// For whom an image came.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Purpose<'a> {
    /// The lease that will use it later.
    pub(super) lease: Option<LeaseId>,
    /// As the job names it, where that is more than a claim.
    pub(super) asked: Option<&'a str>,
}

/// The book is full: so many images are kept or in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} images were brought here and none of them may be removed yet")]
pub(super) struct Full(usize);

/// All images that the runtime brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    /// Those used longest ago first.
    pub(super) images: Vec<Entry>,
    pub(super) coming: BTreeMap<u64, Coming>,
}

impl Book {
    pub(super) fn is_empty(&self) -> bool {
        self.images.is_empty() && self.coming.is_empty()
    }

    pub(super) fn find(&self, id: &str) -> Option<&Entry> {
        self.images.iter().find(|entry| entry.id == id)
    }

    /// The listed image that has this name.
    pub(super) fn named(&self, name: &str) -> Option<&Entry> {
        self.images.iter().find(|entry| entry.references.contains(name))
    }

    /// Notes that an image is about to be brought to an engine that has these.
    pub(super) fn expect(
        &mut self,
        number: u64,
        name: &str,
        by_login: bool,
        engine: &[Shown],
        now: Timestamp,
    ) -> Result<(), Full> {
        if self.images.len() >= MOST_IMAGES || self.coming.len() >= MOST_COMING {
            return Err(Full(self.images.len() + self.coming.len()));
        }
        let mut before: BTreeSet<String> = engine.iter().map(|image| short(&image.id).to_owned()).collect();
        before.extend(engine.iter().flat_map(|image| image.references.iter().cloned()));
        self.coming.insert(number, Coming { name: name.to_owned(), since: now, before, by_login });
        Ok(())
    }

    /// Lists what came, unless it is the owner's. Only names that were not there before and are of the same repository count as
    /// brought: the owner may have given the image another one since.
    pub(super) fn arrive(&mut self, number: u64, image: &Shown, purpose: Purpose<'_>, now: Timestamp) {
        let private = self.homes_under_way(image, None);
        let Some(coming) = self.coming.remove(&number) else { return };
        if self.find(&image.id).is_none() {
            if coming.before.contains(short(&image.id)) {
                return;
            }
            self.images.push(Entry {
                id: image.id.clone(),
                references: BTreeSet::new(),
                asked: BTreeSet::new(),
                size: image.size,
                last_used: now,
                awaited: BTreeMap::new(),
                private,
            });
        }
        self.touch(&image.id, now);
        let Some(entry) = self.images.last_mut() else { return };
        let brought = |name: &&String| !coming.before.contains(*name) && are_alike(name, &coming.name);
        entry.references.extend(image.references.iter().filter(brought).cloned());
        if let Some(asked) = purpose.asked.filter(|_| entry.asked.len() < MOST_NAMES) {
            entry.asked.insert(asked.to_owned());
        }
        entry.awaited.extend(purpose.lease.map(|lease| (lease, now)));
        while entry.references.len() > MOST_NAMES {
            entry.references.pop_last();
        }
    }

    /// The same for what a registry just gave a job, `openly` if without a login. Lists nothing and is `false` where a login brought
    /// the image from another repository.
    pub(super) fn give(
        &mut self,
        number: u64,
        image: &Shown,
        purpose: Purpose<'_>,
        openly: bool,
        now: Timestamp,
    ) -> bool {
        let Some(from) = self.coming.get(&number).map(|coming| home(&coming.name)) else { return false };
        let is_given = match self.find(&image.id) {
            Some(entry) => entry.private.is_empty() || entry.private.contains(&from),
            None => self.homes_under_way(image, Some(number)).iter().all(|other| *other == from),
        };
        if !is_given {
            return false;
        }
        self.arrive(number, image, purpose, now);
        if let Some(entry) = self.images.iter_mut().find(|entry| openly && entry.id == image.id) {
            entry.private.clear();
        }
        true
    }

    /// Whether it came by a login, or may just have.
    pub(super) fn is_private(&self, image: &Shown) -> bool {
        match self.find(&image.id) {
            Some(entry) => !entry.private.is_empty(),
            None => !self.homes_under_way(image, None).is_empty(),
        }
    }

    /// Where an image that is not listed yet came from by a login, going by its names.
    fn homes_under_way(&self, image: &Shown, except: Option<u64>) -> BTreeSet<Home> {
        let is_it = |coming: &Coming| {
            coming.by_login
                && !coming.before.contains(short(&image.id))
                && image.references.iter().any(|name| are_alike(name, &coming.name))
        };
        let others = self.coming.iter().filter(|(number, _)| Some(**number) != except);
        others.filter(|(_, coming)| is_it(coming)).map(|(_, coming)| home(&coming.name)).collect()
    }

    /// What was expected never came.
    pub(super) fn drop_coming(&mut self, number: u64) {
        self.coming.remove(&number);
    }

    /// The same, where that is certain by now.
    pub(super) fn drop_if_late(&mut self, number: u64, now: Timestamp) {
        if self.coming.get(&number).is_some_and(|coming| now.since(coming.since) > LINGERS) {
            self.drop_coming(number);
        }
    }

    /// A lease uses the image now.
    pub(super) fn touch(&mut self, id: &str, now: Timestamp) {
        if let Some(place) = self.images.iter().position(|entry| entry.id == id) {
            let mut entry = self.images.remove(place);
            entry.last_used = now;
            self.images.push(entry);
        }
    }

    /// The lease is over.
    pub(super) fn release(&mut self, lease: LeaseId) {
        for entry in &mut self.images {
            entry.awaited.remove(&lease);
        }
    }

    /// The image is not ours any more, or not there.
    pub(super) fn strike(&mut self, id: &str) {
        self.images.retain(|entry| entry.id != id);
    }

    /// Forgets those of `known` that the engine does not show, as the owner removed them, and those left with none of our names
    /// but with the owner's. Returns the ids of those which the owner gave a name beside ours.
    pub(super) fn compare(
        &mut self,
        known: &BTreeSet<String>,
        engine: &[Shown],
        now: Timestamp,
    ) -> BTreeSet<String> {
        let mut owners = BTreeSet::new();
        self.images.retain_mut(|entry| {
            entry.awaited.retain(|_, since| now.since(*since) <= AWAITED_FOR);
            let Some(shown) = engine.iter().find(|image| image.id == entry.id) else {
                return !known.contains(&entry.id);
            };
            entry.size = shown.size;
            if shown.references.is_subset(&entry.references) {
                return true;
            }
            owners.insert(entry.id.clone());
            !known.contains(&entry.id) || !shown.references.is_disjoint(&entry.references)
        });
        owners
    }
}

fn short(id: &str) -> &str {
    let digits = id.rsplit_once(':').map_or(id, |(_, digits)| digits);
    digits.get(..SHORT).unwrap_or(digits)
}

/// Whether both names are of one repository. Engines leave out what every name of the default registry begins with.
fn are_alike(shown: &str, asked: &str) -> bool {
    let (shown, asked) = (repository(shown), repository(asked));
    asked.strip_suffix(shown).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
}

#[cfg(test)]
mod tests;
