//! What is kept of the images that leases brought, on a real engine and with the registry of [`super::registry`].

use std::path::PathBuf;
use std::sync::Arc;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures::StreamExt as _;
use tempfile::TempDir;
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::{Image, Network};
use tradewind_provider::docker::{CacheRules, DockerConfig};
use tradewind_provider::runtime::{Runtime, RuntimeError};

use super::busybox::Recipe;
use super::outage::{Door, Outage};
use super::registry::{Registry, forget, is_here, recipe};
use super::{bare_engine, config, connect, eventually, told};
use crate::conformance::{Fixture, Job};

/// What an image of these tests has beside its program, so that its size is about this.
const SIZE: usize = 8 << 20;

/// A runtime that keeps so many bytes of images, and those pinned.
fn keeping(limit: u64, keep: &[String]) -> Fixture {
    let root = TempDir::new().expect("a directory");
    let keep = keep.iter().map(|pattern| pattern.parse().expect("a pattern")).collect();
    let settings = DockerConfig { cache: CacheRules { limit: Bytes::new(limit), keep }, ..config(&root) };
    fixture_of(root, settings)
}

fn fixture_of(root: TempDir, settings: DockerConfig) -> Fixture {
    let runtime = Arc::new(connect(&settings));
    let reopen = Box::new(move || Arc::new(connect(&settings)) as Arc<dyn Runtime>);
    Fixture { runtime, reopen, image: None, network_of_ports: Network::None, has_own_kernel: false, root }
}

/// A registry with images under these tags.
async fn registry(tags: &[&str]) -> Registry {
    let registry = Registry::start().await;
    for tag in tags {
        registry.push(tag, &Recipe { zeros: SIZE, ..recipe(&registry, tag) });
    }
    registry
}

fn job(f: &Fixture, script: &str, image: Option<Image>) -> Job {
    let mut job = f.job(script);
    job.spec.image = image;
    job
}

/// Runs a lease in the registry's image to its end.
async fn lease(f: &Fixture, registry: &Registry, tag: &str) {
    assert_eq!(told(f, &job(f, "echo ran", registry.image(tag, None))).await, "ran\n");
}

async fn goes(name: &str) {
    eventually(&format!("{name} is removed"), async || !is_here(name).await).await;
}

/// Everything on the engine whose name contains this.
async fn left(name: &str) -> Vec<String> {
    let options = ListImagesOptionsBuilder::default().all(true).digests(true).build();
    let images = bare_engine().await.list_images(Some(options)).await.expect("list");
    let names = images.into_iter().flat_map(|image| [image.repo_tags, image.repo_digests].concat());
    names.filter(|reference| reference.contains(name)).collect()
}

fn ledger(f: &Fixture) -> PathBuf {
    f.root.path().join("state/images.json")
}

/// The owner pulls an image himself.
async fn owner_pulls(name: &str) {
    let options = CreateImageOptionsBuilder::default().from_image(name).build();
    let engine = bare_engine().await;
    let steps: Vec<_> = engine.create_image(Some(options), None, None).collect().await;
    assert!(steps.iter().all(Result::is_ok), "{steps:?}");
}

async fn untag(name: &str) {
    let options = RemoveImageOptionsBuilder::default().build();
    bare_engine().await.remove_image(name, Some(options), None).await.expect("removed");
}

#[tokio::test]
async fn an_image_that_does_not_fit_pushes_the_least_recently_used_out() {
    let f = keeping(3 * SIZE as u64, &[]);
    let registry = registry(&["a", "b", "c"]).await;
    for tag in ["a", "b", "a"] {
        lease(&f, &registry, tag).await;
    }
    assert!(is_here(&registry.reference("b")).await, "two fit");
    lease(&f, &registry, "c").await;
    goes(&registry.reference("b")).await;
    for tag in ["a", "c"] {
        assert!(is_here(&registry.reference(tag)).await, "{tag}");
    }
    connect(&config(&f.root)).leave().await.expect("leave");
    assert_eq!(left(&registry.name).await, [""; 0]);
}

#[tokio::test]
async fn a_pinned_image_and_the_owner_s_own_stay() {
    let registry = registry(&["pinned", "owner", "shared", "other"]).await;
    let f = keeping(0, &[registry.reference("pin*")]);
    owner_pulls(&registry.reference("owner")).await;
    for tag in ["pinned", "owner"] {
        lease(&f, &registry, tag).await;
    }
    let shared = job(&f, "echo ran", registry.image("shared", None));
    f.run(&shared).await;
    let mine = format!("mine-{}", registry.name);
    let tag = TagImageOptionsBuilder::default().repo(&mine).tag("1").build();
    bare_engine().await.tag_image(&registry.reference("shared"), Some(tag)).await.expect("tag");
    f.clear(&shared).await;

    lease(&f, &registry, "other").await;
    goes(&registry.reference("other")).await;
    for stays in [registry.reference("pinned"), registry.reference("owner"), format!("{mine}:1")] {
        assert!(is_here(&stays).await, "{stays}");
    }

    // What the owner gives up goes as the others do.
    untag(&format!("{mine}:1")).await;
    lease(&f, &registry, "other").await;
    goes(&registry.reference("shared")).await;
    for tag in ["pinned", "owner"] {
        forget(&registry.reference(tag)).await;
    }
    eventually("everything is gone", async || left(&registry.name).await.is_empty()).await;
}

#[tokio::test]
async fn an_image_in_use_stays_until_nobody_uses_it() {
    let (f, registry) = (keeping(0, &[]), registry(&["used", "other"]).await);
    let running = job(&f, "sleep 1000", registry.image("used", None));
    f.start(&running).await.expect("start");
    lease(&f, &registry, "other").await;
    goes(&registry.reference("other")).await;
    assert!(is_here(&registry.reference("used")).await, "a lease runs in it");

    let container = format!("owner-{}", registry.name);
    let options = CreateContainerOptionsBuilder::default().name(&container).build();
    let image = Some(registry.reference("used"));
    let body = ContainerCreateBody { image, cmd: Some(vec!["true".into()]), ..Default::default() };
    bare_engine().await.create_container(Some(options), body).await.expect("create");
    f.clear(&running).await;
    lease(&f, &registry, "other").await;
    goes(&registry.reference("other")).await;
    assert!(is_here(&registry.reference("used")).await, "the owner has a container of it");

    bare_engine().await.remove_container(&container, None).await.expect("remove");
    f.clear(&running).await;
    goes(&registry.reference("used")).await;
}

#[tokio::test]
async fn an_image_stays_while_a_lease_is_prepared_with_it() {
    let registry = registry(&["prepared", "other"]).await;
    let root = TempDir::new().expect("a directory");
    let outage = Outage::new(root.path().join("door.sock"));
    let cache = CacheRules { limit: Bytes::ZERO, keep: Vec::new() };
    let settings = DockerConfig { host: outage.host.clone(), cache, ..config(&root) };
    let f = fixture_of(root, settings);
    let prepared = job(&f, "echo ran", registry.image("prepared", None));
    outage.set(Door::HangsAt(format!("name=tw-{}", prepared.lease())));
    let others = async {
        eventually("it is fetched", async || is_here(&registry.reference("prepared")).await).await;
        lease(&f, &registry, "other").await;
        goes(&registry.reference("other")).await;
        assert!(is_here(&registry.reference("prepared")).await, "its container is being made");
        outage.set(Door::Open);
    };
    let (started, ()) = tokio::join!(f.start(&prepared), others);
    started.expect("start");
    f.exit(prepared.lease()).await;
    f.clear(&prepared).await;
    goes(&registry.reference("prepared")).await;
}

#[tokio::test]
async fn a_limit_of_nothing_leaves_nothing_of_a_lease() {
    let (f, registry) = (keeping(0, &[]), registry(&["1"]).await);
    let (digest, _) = registry.push("2", &recipe(&registry, "by digest"));
    lease(&f, &registry, "1").await;
    let chosen = registry.image("2", Some(&digest));
    assert_eq!(told(&f, &job(&f, "echo ran", chosen)).await, "ran\n");

    let path = f.root.path().join("image.tar");
    let (archive, digest) = recipe(&registry, "imported").write(&path);
    let imported = Image { reference: "any".into(), digest: Some(digest), archive: Some(archive) };
    let name = format!("tradewind/import:{}", hex::encode(archive));
    let waiting = job(&f, "echo ran", Some(imported.clone()));
    for again in [false, true] {
        f.runtime.import(waiting.lease(), &path, &imported).await.expect("import");
        lease(&f, &registry, "1").await;
        goes(&registry.reference("1")).await;
        assert!(is_here(&name).await, "its lease has not begun, imported again: {again}");
    }
    assert_eq!(told(&f, &waiting).await, "ran\n");
    goes(&name).await;
    eventually("everything is gone", async || left(&registry.name).await.is_empty()).await;
    let nothing = r#"{"images":[],"coming":{}}"#;
    eventually("nothing is listed", async || {
        std::fs::read_to_string(ledger(&f)).is_ok_and(|noted| noted == nothing)
    })
    .await;
}

#[tokio::test]
async fn an_image_that_came_after_its_agent_was_killed_is_accounted() {
    let (f, registry) = (keeping(0, &[]), Registry::start().await);
    let (_, layer) = registry.push("1", &recipe(&registry, "late"));
    registry.shelf.lock().expect("a shelf").stuck = Some(layer);
    let job = job(&f, "echo never", registry.image("1", None));
    let announced = eventually("it is noted before it comes", async || {
        std::fs::read_to_string(ledger(&f)).is_ok_and(|noted| noted.contains(&registry.name))
    });
    tokio::select! {
        started = f.start(&job) => panic!("its layer never comes: {started:?}"),
        () = announced => {}
    }
    let Fixture { runtime, reopen, root: _root, .. } = f;
    drop(runtime);
    registry.shelf.lock().expect("a shelf").stuck = None;
    owner_pulls(&registry.reference("1")).await;
    let agent = reopen();
    goes(&registry.reference("1")).await;
    agent.remove(job.lease()).await.expect("remove");
}

#[tokio::test]
async fn an_image_that_the_owner_loads_where_no_registry_answers_is_the_owner_s() {
    let (f, registry) = (keeping(0, &[]), registry(&["owner", "other"]).await);
    let name = format!("127.0.0.1:9/{}:1", registry.name);
    let image = Image { reference: name.clone(), digest: None, archive: None };
    let job = job(&f, "echo ran", Some(image));
    assert!(matches!(f.start(&job).await, Err(RuntimeError::Unavailable(_))));
    owner_pulls(&registry.reference("owner")).await;
    let (repository, _) = name.rsplit_once(':').expect("a tag");
    let tag = TagImageOptionsBuilder::default().repo(repository).tag("1").build();
    bare_engine().await.tag_image(&registry.reference("owner"), Some(tag)).await.expect("tag");
    untag(&registry.reference("owner")).await;
    assert_eq!(told(&f, &job).await, "ran\n");
    lease(&f, &registry, "other").await;
    goes(&registry.reference("other")).await;
    assert!(is_here(&name).await);
    forget(&name).await;
}

#[tokio::test]
async fn an_image_that_the_owner_removed_is_forgotten() {
    let (f, registry) = (keeping(1 << 40, &[]), registry(&["1"]).await);
    lease(&f, &registry, "1").await;
    let listed = || std::fs::read_to_string(ledger(&f)).is_ok_and(|noted| noted.contains(&registry.name));
    assert!(listed());
    forget(&registry.reference("1")).await;
    f.runtime.remove(LeaseId::default()).await.expect("remove");
    eventually("it is forgotten", async || !listed()).await;
}
