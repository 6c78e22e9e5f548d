//! Images: imported, found by name, refused.

use bollard::query_parameters::{
    ListVolumesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use tempfile::TempDir;
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::{Command, Image};
use tradewind_provider::docker::{DockerConfig, ImageLimits, ImportError};
use tradewind_provider::runtime::RuntimeError;

use super::busybox::Recipe;
use super::{bare_engine, config, connect, fixture, fixture_of, told};

/// A registry that refuses connections at once, so that no test leaves this machine.
const NO_REGISTRY: &str = "127.0.0.1:9";

fn named(reference: &str, digest: Option<String>) -> Option<Image> {
    Some(Image { reference: reference.into(), digest, archive: None })
}

#[tokio::test]
async fn a_program_runs_in_an_image_of_nothing_else() {
    let root = TempDir::new().expect("a directory");
    let settings = config(&root);
    let f = fixture_of(root, settings, &Recipe { comment: "scratch".into(), ..Recipe::default() }).await;
    let mut job = f.job("");
    job.spec.run = Command::Exec(vec!["busybox".into(), "echo".into(), "found by name, 'quoted'".into()]);
    assert_eq!(told(&f, &job).await, "found by name, 'quoted'\n");

    let mut job = f.job("echo never");
    let error = f.start(&job).await.expect_err("there is no shell");
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("/bin/sh")), "{error:?}");
    f.clear(&job).await;

    job.spec.setup = Some(Command::Shell("true".into()));
    job.spec.run = Command::Exec(vec!["/bin/busybox".into(), "true".into()]);
    let error = f.start(&job).await.expect_err("a setup needs a shell");
    assert!(matches!(error, RuntimeError::Unsupported { .. }), "{error:?}");
    f.clear(&job).await;
}

#[tokio::test]
async fn a_setup_and_a_program_keep_their_words() {
    let f = fixture().await;
    let mut job = f.job("");
    job.spec.setup =
        Some(Command::Exec(vec!["/bin/busybox".into(), "echo".into(), "it's $HOME; \"set\" up".into()]));
    job.spec.run = Command::Exec(vec!["/bin/busybox".into(), "echo".into(), "and  'run' $0".into()]);
    assert_eq!(told(&f, &job).await, "it's $HOME; \"set\" up\nand  'run' $0\n");
}

#[tokio::test]
async fn a_job_without_an_image_is_not_for_this_runtime() {
    let f = fixture().await;
    let mut job = f.job("true");
    job.spec.image = None;
    assert!(matches!(f.start(&job).await, Err(RuntimeError::Unsupported { .. })));
}

#[tokio::test]
async fn an_image_by_name_must_be_the_one_that_the_buyer_chose() {
    let f = fixture().await;
    let engine = bare_engine().await;
    let imported = f.image.clone().expect("an image").digest.expect("a digest");
    let repository = format!("{NO_REGISTRY}/tradewind-test-{}", hex::encode(rand::random::<[u8; 4]>()));
    let tag = TagImageOptionsBuilder::default().repo(&repository).tag("1").build();
    engine.tag_image(&imported, Some(tag)).await.expect("tag");
    let reference = format!("{repository}:1");

    for digest in [None, Some(imported.clone())] {
        let mut job = f.job("echo here");
        job.spec.image = named(&reference, digest);
        assert_eq!(told(&f, &job).await, "here\n");
    }
    let mut job = f.job("echo never");
    job.spec.image = named(&reference, Some(format!("sha256:{}", "0".repeat(64))));
    let error = f.start(&job).await.expect_err("another image");
    assert!(
        matches!(&error, RuntimeError::Start(why) if why.contains("the buyer chose sha256:0000")),
        "{error:?}"
    );
    f.clear(&job).await;
    engine
        .remove_image(&reference, Some(RemoveImageOptionsBuilder::default().noprune(true).build()), None)
        .await
        .expect("untag");
}

#[tokio::test]
async fn an_unreachable_registry_is_told_apart_from_a_missing_image() {
    let f = fixture().await;
    let mut job = f.job("true");
    job.spec.image = named(&format!("{NO_REGISTRY}/none:1"), None);
    let error = f.start(&job).await.expect_err("nothing listens there");
    assert!(
        matches!(&error, RuntimeError::Unavailable(why) if why.contains("cannot be reached") && why.contains("archive")),
        "{error:?}"
    );
    job.spec.image = Some(Image { reference: "x".into(), digest: None, archive: Some([9; 32]) });
    let error = f.start(&job).await.expect_err("never imported");
    assert!(matches!(&error, RuntimeError::Start(why) if why.contains("was not imported")), "{error:?}");
    job.spec.image = named("../containers/json?x=", None);
    assert!(matches!(f.start(&job).await, Err(RuntimeError::Start(_))));
    f.clear(&job).await;
}

#[tokio::test]
async fn an_archives_own_tag_is_ignored() {
    let f = fixture().await;
    assert!(f.image.is_some(), "its archive claims stranger/claims:this");
    assert!(bare_engine().await.inspect_image("stranger/claims:this").await.is_err());
}

#[tokio::test]
async fn an_image_bomb_is_refused_before_the_engine_sees_it() {
    let root = TempDir::new().expect("a directory");
    let images = ImageLimits { unpacked: Bytes::new(1 << 20), ..ImageLimits::default() };
    let runtime = connect(&DockerConfig { images, ..config(&root) });
    let path = root.path().join("image.tar");
    let (hash, digest) = Recipe { comment: "too large".into(), ..Recipe::with_shell() }.write(&path);
    let error = runtime.import(None, &path, hash).await.expect_err("busybox alone has more");
    assert!(matches!(error, ImportError::TooLarge { .. }), "{error}");
    assert!(bare_engine().await.inspect_image(&digest).await.is_err());
    assert!(matches!(runtime.import(None, &path, [1; 32]).await, Err(ImportError::WrongHash { .. })));
}

#[tokio::test]
async fn a_declared_volume_is_memory_and_leaves_nothing() {
    let volumes = async || {
        let all = bare_engine().await.list_volumes(Some(ListVolumesOptionsBuilder::default().build())).await;
        all.expect("list").volumes.unwrap_or_default().len()
    };
    let before = volumes().await;
    let root = TempDir::new().expect("a directory");
    let settings = config(&root);
    let recipe =
        Recipe { volumes: vec!["/data", "/work"], comment: "volumes".into(), ..Recipe::with_shell() };
    let f = fixture_of(root, settings, &recipe).await;
    let job = f.job("touch /data/x /work/y && grep ' /data ' /proc/mounts");
    f.run(&job).await;
    let log = f.log(job.lease()).await;
    assert!(log.contains("tmpfs"), "{log}");
    assert!(job.work().join("y").exists(), "the work directory is the agent's all the same");
    assert_eq!(volumes().await, before, "no volume was made");
    f.clear(&job).await;
}
