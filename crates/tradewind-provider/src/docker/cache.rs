//! The images that the runtime brought to the engine: listed durably, kept up to a limit, and removed by the names that came
//! with them.
//!
//! ```text
//!  announce ─► pull or load ─► arrived ─► used by leases ─► tidy: too much? the least recently used that nobody uses go
//!      │ crash: tidy finds out whether it came
//! ```
//!
//! What was on the engine before is the owner's, and so is what the owner named or took into use since: it stays. A container of
//! anybody keeps its image, as does a lease that is being prepared ([`uses`]) or whose archive was imported ([`book`]). The
//! engine is never forced; what it refuses to remove is tried again later.
//!
//! An image that came by a login is private to the repository it came from, from before its pull until it is removed or that
//! repository gives it to somebody without a login.

mod book;
mod eviction;
mod ledger;
mod uses;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use tokio::sync::Notify;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::owner::ImagePattern;
use tradewind_proto::units::Bytes;

use super::engine::{CallError, Engine};
use super::{Shared, image};
use crate::process::shim::now;
use crate::runtime::RuntimeError;
use book::{Entry, Purpose, Shown};
use ledger::Ledger;
pub(super) use ledger::MEND;
pub(super) use uses::Held;
use uses::Uses;

/// How often images are looked at where nothing happens: what could not be removed may be by then.
const AGAIN: Duration = Duration::from_secs(60);
/// Removing a large image takes its time.
const REMOVED_WITHIN: Duration = Duration::from_secs(300);
/// What an old engine writes for no name.
const NO_NAME: &str = "<none>";

/// How much of what leases bring is kept for later ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRules {
    /// All images together; above it the least recently used go, under zero each that no lease uses.
    pub limit: Bytes,
    /// Images that never go.
    pub keep: Vec<ImagePattern>,
}

impl Default for CacheRules {
    fn default() -> Self {
        Self { limit: Bytes::gib(100), keep: Vec::new() }
    }
}

/// The images of one runtime.
#[derive(Debug)]
pub(super) struct ImageCache {
    rules: CacheRules,
    ledger: Ledger,
    uses: Uses,
    /// Those that are being brought by this process; a crash leaves others.
    under_way: Arc<Mutex<BTreeSet<u64>>>,
    /// One at a time.
    tidying: tokio::sync::Mutex<()>,
    bell: Arc<Notify>,
}

/// An image that is being brought. Dropped without [`ImageCache::arrived`], it is looked for later.
#[derive(Debug)]
pub(super) struct Announced {
    number: u64,
    under_way: Arc<Mutex<BTreeSet<u64>>>,
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

fn note(error: std::io::Error) -> RuntimeError {
    RuntimeError::io("note which images were fetched")(error)
}

impl ImageCache {
    pub(super) fn new(rules: CacheRules, directory: PathBuf) -> Self {
        Self {
            rules,
            ledger: Ledger::new(directory),
            uses: Uses::default(),
            under_way: Arc::default(),
            tidying: tokio::sync::Mutex::default(),
            bell: Arc::default(),
        }
    }

    /// Rung when there may be something to remove.
    pub(super) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// Notes that an image which is not here is about to be brought under this name.
    pub(super) async fn announce(
        &self,
        engine: &Engine,
        name: &str,
        by_login: bool,
    ) -> Result<Announced, RuntimeError> {
        let number = rand::random();
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        let announced = Announced { number, under_way: Arc::clone(&self.under_way) };
        let (shown, name) = (shown(engine).await?, name.to_owned());
        let noted = self.ledger.change(move |book| book.expect(number, &name, by_login, &shown, now())).await;
        noted.map_err(note)?.map_err(|full| {
            self.bell.notify_one();
            RuntimeError::Unavailable(format!("no image is fetched now: {full}"))
        })?;
        Ok(announced)
    }

    /// Lists an image that was announced and came, for a lease that will use it later.
    pub(super) async fn arrived(
        &self,
        announced: Announced,
        found: &ImageInspect,
        lease: Option<LeaseId>,
    ) -> Result<(), RuntimeError> {
        let (number, image) = (announced.number, read(found));
        let listing = move |book: &mut book::Book| {
            book.arrive(number, &image, Purpose { lease, asked: None }, now());
        };
        self.ledger.change(listing).await.map_err(note)?;
        self.bell.notify_one();
        Ok(())
    }

    /// The same for an image that its registry just gave a job, as the job `asked` for it; `openly` if without a login. Lists nothing
    /// and is `false` where the image is private to another repository.
    pub(super) async fn was_given(
        &self,
        announced: &Announced,
        found: &ImageInspect,
        asked: &str,
        openly: bool,
    ) -> Result<bool, RuntimeError> {
        let (number, image, asked) = (announced.number, read(found), asked.to_owned());
        let listing = move |book: &mut book::Book| {
            book.give(number, &image, Purpose { lease: None, asked: Some(&asked) }, openly, now())
        };
        let listed = self.ledger.change(listing).await.map_err(note)?;
        self.bell.notify_one();
        Ok(listed)
    }

    /// Whether only a registry may give this image to a lease.
    pub(super) async fn is_private(&self, found: &ImageInspect) -> Result<bool, RuntimeError> {
        let image = read(found);
        Ok(self.ledger.read().await.map_err(note)?.is_private(&image))
    }

    /// The announced image did not come, for certain.
    pub(super) async fn did_not_come(&self, announced: Announced) -> Result<(), RuntimeError> {
        let number = announced.number;
        self.ledger.change(move |book| book.drop_coming(number)).await.map_err(note)
    }

    /// Keeps an image from being removed; where it just was, the engine does not show it any more.
    pub(super) async fn hold(&self, id: &str) -> Held {
        self.uses.hold(id).await
    }

    /// The same for an image that was brought under this name.
    pub(super) async fn hold_named(&self, name: &str) -> Result<Option<Held>, RuntimeError> {
        let book = self.ledger.read().await.map_err(note)?;
        match book.named(name) {
            Some(entry) => Ok(Some(self.hold(&entry.id).await)),
            None => Ok(None),
        }
    }

    /// Notes that a lease is over, which may have used an image until now.
    pub(super) async fn release(&self, lease: LeaseId, image: Option<String>) -> Result<(), RuntimeError> {
        let releasing = move |book: &mut book::Book| {
            book.release(lease);
            if let Some(image) = image {
                book.touch(&image, now());
            }
        };
        match self.ledger.change(releasing).await {
            // A lease's end waits for nobody's mending: what cannot be read names no lease either.
            Err(error) if error.kind() != std::io::ErrorKind::InvalidData => return Err(note(error)),
            Ok(()) | Err(_) => {}
        }
        self.bell.notify_one();
        Ok(())
    }

    /// Why nothing is known of the images that were fetched.
    pub(super) async fn damage(&self) -> Option<String> {
        let error = self.ledger.read().await.err()?;
        (error.kind() == std::io::ErrorKind::InvalidData).then(|| error.to_string())
    }

    /// Finds out what became of images that nobody brings any more, and removes what is too much.
    pub(super) async fn tidy(&self, engine: &Engine) -> Result<(), RuntimeError> {
        self.tidy_under(engine, &self.rules).await
    }

    /// Removes all that nobody uses and the owner has not pinned.
    pub(super) async fn empty(&self, engine: &Engine) -> Result<(), RuntimeError> {
        let rules = CacheRules { limit: Bytes::ZERO, ..self.rules.clone() };
        self.tidy_under(engine, &rules).await
    }

    async fn tidy_under(&self, engine: &Engine, rules: &CacheRules) -> Result<(), RuntimeError> {
        let _alone = self.tidying.lock().await;
        let book = self.ledger.read().await.map_err(note)?;
        if book.is_empty() {
            return Ok(());
        }
        for (number, coming) in book.coming {
            self.look_for(engine, number, &coming.name).await?;
        }
        let book = self.ledger.read().await.map_err(note)?;
        let known: BTreeSet<String> = book.images.into_iter().map(|entry| entry.id).collect();
        let shown = shown(engine).await?;
        let comparing = move |book: &mut book::Book| {
            let owners = book.compare(&known, &shown, now());
            (book.clone(), owners)
        };
        let (book, owners) = self.ledger.change(comparing).await.map_err(note)?;
        let mut busy = in_use(engine).await?;
        let ours: Vec<&Entry> = book.images.iter().filter(|entry| !owners.contains(&entry.id)).collect();
        busy.extend(
            ours.iter().filter(|entry| self.uses.claim(&entry.id).is_none()).map(|entry| entry.id.clone()),
        );
        for id in eviction::victims(&ours, &busy, rules) {
            self.evict(engine, &id).await?;
        }
        Ok(())
    }

    /// What was announced, by a process that is gone or a call that gave up, may have come all the same.
    async fn look_for(&self, engine: &Engine, number: u64, name: &str) -> Result<(), RuntimeError> {
        if self.under_way.lock().unwrap_or_else(PoisonError::into_inner).contains(&number) {
            return Ok(());
        }
        let found = image::inspect(engine, name).await?.map(|found| read(&found));
        let noting = move |book: &mut book::Book| match found {
            Some(image) => book.arrive(number, &image, Purpose::default(), now()),
            None => book.drop_if_late(number, now()),
        };
        self.ledger.change(noting).await.map_err(note)
    }

    /// Removes an image, unless somebody has begun to use it since that was decided.
    pub(super) async fn evict(&self, engine: &Engine, id: &str) -> Result<(), RuntimeError> {
        let Some(_claim) = self.uses.claim(id) else { return Ok(()) };
        let book = self.ledger.read().await.map_err(note)?;
        let Some(entry) = book.find(id).filter(|entry| entry.awaited.is_empty()) else { return Ok(()) };
        if in_use(engine).await?.contains(id) || !remove(engine, entry).await? {
            return Ok(());
        }
        tracing::info!(image = id, names = ?entry.references, size = %entry.size, "an image is not kept any longer");
        let id = id.to_owned();
        self.ledger.change(move |book| book.strike(&id)).await.map_err(note)
    }
}

/// Tidies up as long as the runtime exists: at its start, when the bell rings, and now and then.
pub(super) async fn keep(shared: Weak<Shared>, bell: Arc<Notify>) {
    loop {
        {
            let Some(shared) = shared.upgrade() else { return };
            if let Err(error) = shared.cache.tidy(&shared.engine).await {
                tracing::debug!(%error, "images are looked through later");
            }
        }
        // Either way it is time to look.
        let _ = tokio::time::timeout(AGAIN, bell.notified()).await;
    }
}

/// Takes an image's names away, and with the last one the image. `false` where the engine refuses, as it is in use.
async fn remove(engine: &Engine, entry: &Entry) -> Result<bool, RuntimeError> {
    for name in &entry.references {
        // The owner may have given the name to another image.
        let found = image::inspect(engine, name).await?;
        if found.is_some_and(|found| found.id.as_ref() == Some(&entry.id))
            && !remove_name(engine, name).await?
        {
            return Ok(false);
        }
    }
    match image::inspect(engine, &entry.id).await? {
        Some(left) if read(&left).references.is_empty() => remove_name(engine, &entry.id).await,
        // It has the owner's names only.
        Some(_) | None => Ok(true),
    }
}

async fn remove_name(engine: &Engine, name: &str) -> Result<bool, RuntimeError> {
    let options = RemoveImageOptionsBuilder::default().build();
    let removed = engine
        .call_within(REMOVED_WITHIN, "remove an image", |docker| async move {
            docker.remove_image(name, Some(options), None).await
        })
        .await;
    match removed {
        Ok(_) => Ok(true),
        Err(error) if error.is_missing() => Ok(true),
        Err(CallError::Refused { status: 409, message }) => {
            tracing::debug!(image = name, message, "an image is removed later");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// The ids of images that containers were made of, anybody's.
async fn in_use(engine: &Engine) -> Result<BTreeSet<String>, CallError> {
    let options = ListContainersOptionsBuilder::default().all(true).build();
    let containers = engine
        .call("list containers", |docker| async move { docker.list_containers(Some(options)).await })
        .await?;
    Ok(containers.into_iter().filter_map(|container| container.image_id).collect())
}

/// All images that the engine has.
async fn shown(engine: &Engine) -> Result<Vec<Shown>, CallError> {
    let options = ListImagesOptionsBuilder::default().all(true).digests(true).build();
    let images =
        engine.call("list images", |docker| async move { docker.list_images(Some(options)).await }).await?;
    let shown = images.into_iter().map(|image| {
        let references = names(image.repo_tags, image.repo_digests);
        Shown { id: image.id, references, size: bytes(image.size) }
    });
    Ok(shown.collect())
}

fn read(found: &ImageInspect) -> Shown {
    let (tags, digests) = (found.repo_tags.clone(), found.repo_digests.clone());
    Shown {
        id: found.id.clone().unwrap_or_default(),
        references: names(tags.unwrap_or_default(), digests.unwrap_or_default()),
        size: bytes(found.size.unwrap_or(0)),
    }
}

fn names(tags: Vec<String>, digests: Vec<String>) -> BTreeSet<String> {
    tags.into_iter().chain(digests).filter(|name| !name.contains(NO_NAME)).collect()
}

fn bytes(size: i64) -> Bytes {
    Bytes::new(u64::try_from(size).unwrap_or(0))
}
