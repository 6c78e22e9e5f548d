//! Pulling an image: watched while it comes, so that one without end is given up before it fills the disk.
//!
//! The engine says how long each layer's download is, but not how much it unpacks to. So the file system of its images is watched as well: what
//! disappears there beyond the downloads and the limit is too much, whoever wrote it. The engine stops a pull whose caller hangs up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use futures::StreamExt as _;
use tradewind_proto::units::Bytes;

use super::archive::ImageLimits;
use super::engine::{CallError, Engine};
use super::image::repository;
use super::login::Login;
use crate::runtime::RuntimeError;

/// How often the file system is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// Layers that an image may have; engines take fewer.
const LAYERS: usize = 1_024;

/// How a pull went.
pub(super) enum Pulled {
    /// The image is here.
    Whole,
    /// The engine could not, and is through with it.
    Failed(RuntimeError),
    /// Given up. The engine is hung up on and may have the image all the same.
    GivenUp(RuntimeError),
}

/// Pulls an image that is not here, or asks its registry for it once more.
pub(super) async fn pull(
    engine: &Engine,
    name: &str,
    login: Option<&Login>,
    within: Duration,
    limits: &ImageLimits,
) -> Result<Pulled, RuntimeError> {
    let mut options = CreateImageOptionsBuilder::default().from_image(name);
    if !name.contains('@') && repository(name) == name {
        // Without a tag the engine would pull every one.
        options = options.tag("latest");
    }
    let options = options.build();
    let credentials = login.map(|login| login.credentials(name)).transpose()?;
    let info = engine.call("say where images lie", |docker| async move { docker.info().await }).await?;
    let mut watch = Watch::new(info.docker_root_dir.map(PathBuf::from), limits);
    let outcome = engine
        .call_within(within, "pull an image", |docker| async move {
            let mut progress = docker.create_image(Some(options), None, credentials);
            let mut looks = tokio::time::interval(LOOK);
            loop {
                let told = tokio::select! {
                    step = progress.next() => match step {
                        Some(Err(Error::DockerStreamError { error })) => {
                            return Ok(Pulled::Failed(failure(name, login, &error)));
                        }
                        Some(step) => watch.step(&step?),
                        None => return Ok(Pulled::Whole),
                    },
                    _ = looks.tick() => watch.look(),
                };
                if let Some(why) = told {
                    let why = format!("image {name} {why}");
                    return Ok(Pulled::GivenUp(RuntimeError::Start(why)));
                }
            }
        })
        .await;
    Ok(match outcome {
        Ok(pulled) => pulled,
        Err(CallError::Refused { message, .. }) => Pulled::Failed(failure(name, login, &message)),
        Err(CallError::Unavailable(message)) => Pulled::GivenUp(failure(name, login, &message)),
    })
}

/// Has the registry say whether it gives an image to this login, or to everybody. A pull by digest does not: an engine that knows
/// the digest asks nobody.
pub(super) async fn ask(engine: &Engine, name: &str, login: Option<&Login>) -> Result<(), RuntimeError> {
    let credentials = login.map(|login| login.credentials(name)).transpose()?;
    let asking = engine.call("ask a registry for an image", |docker| async move {
        docker.inspect_registry_image(name, credentials).await
    });
    match asking.await {
        Ok(_) => Ok(()),
        Err(CallError::Refused { message, .. } | CallError::Unavailable(message)) => {
            Err(failure(name, login, &message))
        }
    }
}

/// Takes an image away that was pulled and may not be run. One that another container uses stays.
pub(super) async fn discard(engine: &Engine, name: &str) {
    let options = RemoveImageOptionsBuilder::default().build();
    let removed = engine
        .call_within(Duration::from_secs(120), "remove an image", |docker| async move {
            docker.remove_image(name, Some(options), None).await
        })
        .await;
    if let Err(error) = removed {
        tracing::warn!(image = name, ?error, "an image that may not be run was not removed");
    }
}

/// What a pull has taken.
struct Watch {
    /// Where images lie, and what was free there.
    images: Option<(PathBuf, u64)>,
    most_fetched: Bytes,
    most_unpacked: Bytes,
    /// Bytes of each layer's download.
    layers: HashMap<String, u64>,
}

impl Watch {
    fn new(images: Option<PathBuf>, limits: &ImageLimits) -> Self {
        // An engine in a virtual machine has its images where nobody here can look.
        let images = images.and_then(|path| free(&path).map(|free| (path, free)));
        let (most_fetched, most_unpacked) = (limits.archive, limits.unpacked);
        Self { images, most_fetched, most_unpacked, layers: HashMap::new() }
    }

    fn fetched(&self) -> u64 {
        self.layers.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Why the pull has to end, if it has to.
    fn step(&mut self, step: &CreateImageInfo) -> Option<String> {
        let total = step.progress_detail.as_ref().and_then(|detail| detail.total);
        let (layer, total) = (step.id.as_ref()?, u64::try_from(total?).ok()?);
        if self.layers.len() >= LAYERS && !self.layers.contains_key(layer) {
            return Some(format!("has more than {LAYERS} layers"));
        }
        // While a layer is unpacked its total is the same download's.
        self.layers.insert(layer.clone(), total);
        let (fetched, most) = (Bytes::new(self.fetched()), self.most_fetched);
        (fetched > most).then(|| format!("is {fetched} to fetch; this provider takes {most} at most"))
    }

    /// The same, after a look at the disk.
    fn look(&self) -> Option<String> {
        let (path, before) = self.images.as_ref()?;
        let taken = before.saturating_sub(free(path)?);
        let most = self.most_unpacked;
        (taken > self.fetched().saturating_add(most.get()))
            .then(|| format!("unpacks to more than {most}, which this provider takes at most"))
    }
}

fn free(path: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(path).ok()?;
    Some(found.f_bfree.saturating_mul(found.f_frsize))
}

/// A registry's "no" is the buyer's mistake; an unreachable registry is not.
fn failure(name: &str, login: Option<&Login>, message: &str) -> RuntimeError {
    const NOT_YOU: [&str; 5] = [
        "denied",
        "unauthorized",
        "no basic auth credentials",
        "authentication required",
        "incorrect username or password",
    ];
    const NO: [&str; 5] =
        ["not found", "manifest unknown", "does not exist", "invalid reference", "no matching manifest"];
    let lower = message.to_lowercase();
    if NOT_YOU.iter().any(|no| lower.contains(no)) {
        let hint = "a private image needs `registry` in the job file";
        let anonymous = || RuntimeError::Start(format!("image {name} cannot be pulled: {message}; {hint}"));
        return login.map_or_else(anonymous, |login| login.refused(name));
    }
    if NO.iter().any(|no| lower.contains(no)) {
        return RuntimeError::Start(format!("image {name} cannot be pulled: {message}"));
    }
    RuntimeError::Unavailable(format!(
        "image {name} is not here and its registry cannot be reached: {message}; load it into the engine, or have the buyer send it as an archive"
    ))
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn an_unreachable_registry_is_not_the_buyers_fault() {
        let offline = failure("a", None, "dial tcp: lookup registry-1.docker.io: no such host");
        assert!(matches!(offline, RuntimeError::Unavailable(why) if why.contains("archive")));
        assert!(matches!(failure("a", None, "pull access denied for a"), RuntimeError::Start(_)));
    }

    fn watch(fetched: u64) -> Watch {
        let limits = ImageLimits { archive: Bytes::new(fetched), ..ImageLimits::default() };
        Watch::new(None, &limits)
    }

    fn step(layer: &str, total: Option<i64>) -> CreateImageInfo {
        CreateImageInfo {
            id: Some(layer.into()),
            progress_detail: Some(ProgressDetail { current: Some(1), total }),
            ..CreateImageInfo::default()
        }
    }

    #[test]
    fn downloads_are_added_up_layer_by_layer() {
        let mut watch = watch(100);
        for told in [step("a", Some(60)), step("a", Some(60)), step("b", None), step("b", Some(40))] {
            assert_eq!(watch.step(&told), None);
        }
        assert_eq!(watch.step(&step("b", Some(-1))), None, "no engine says so, and it changes nothing");
        assert!(watch.step(&step("c", Some(1))).is_some_and(|why| why.contains("101 B to fetch")));
    }

    #[test]
    fn an_image_of_countless_layers_is_given_up() {
        let mut watch = watch(u64::MAX);
        let told = |number: usize| step(&number.to_string(), Some(1));
        assert!((0..LAYERS).all(|number| watch.step(&told(number)).is_none()));
        assert!(watch.step(&told(LAYERS)).is_some());
        assert!(watch.step(&told(0)).is_none());
    }
}
