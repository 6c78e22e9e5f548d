//! Images behind a login, on a real engine: who gets them, and where the password is not.

use std::path::Path;

use tempfile::TempDir;
use tradewind_proto::workload::{Image, RegistryLogin};
use tradewind_provider::runtime::RuntimeError;

use super::busybox::Recipe;
use super::registry::{Registry, found, is_here, recipe};
use super::{bare_engine, config, connect, fixture_of, told};
use crate::conformance::{Fixture, Job};

const PASSWORD: &str = "hunter2-of-acme";
/// `ci-bot:hunter2-of-acme`.
const BASIC: &str = "Basic Y2ktYm90Omh1bnRlcjItb2YtYWNtZQ==";

async fn fixture() -> Fixture {
    let root = TempDir::new().expect("a directory");
    let settings = config(&root);
    fixture_of(root, settings, &Recipe::with_shell()).await
}

/// A registry that gives its image to `ci-bot` alone; with the image's digest.
async fn registry() -> (Registry, String) {
    let registry = Registry::start().await;
    let (digest, _) = registry.push("1", &recipe(&registry, "private"));
    registry.shelf.lock().expect("a shelf").wants = Some(BASIC);
    (registry, digest)
}

fn job(f: &Fixture, script: &str, image: Option<Image>) -> Job {
    let mut job = f.job(script);
    job.spec.image = image;
    job
}

fn with_login(mut job: Job, password: &str) -> Job {
    job.spec.registry = Some(RegistryLogin { username: "ci-bot".into(), secret: "TOKEN".into() });
    job.secrets.0.insert("TOKEN".into(), password.into());
    job
}

/// Why the job was not started.
async fn refusal(f: &Fixture, job: &Job) -> String {
    let error = f.start(job).await.expect_err("it is not this lease's image");
    f.clear(job).await;
    let RuntimeError::Start(why) = error else { panic!("{error:?}") };
    why
}

async fn leave(f: &Fixture) {
    connect(&config(&f.root)).leave().await.expect("leave");
}

/// The files under a directory that hold these bytes.
fn holding(directory: &Path, needle: &[u8]) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list").map(|entry| entry.expect("an entry").path());
    let (directories, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let holds = |path: &&std::path::PathBuf| {
        std::fs::read(path).is_ok_and(|bytes| bytes.windows(needle.len()).any(|part| part == needle))
    };
    let mut all: Vec<String> = files.iter().filter(holds).map(|path| path.display().to_string()).collect();
    all.extend(directories.iter().flat_map(|directory| holding(directory, needle)));
    all
}

#[tokio::test]
async fn a_private_image_comes_by_its_login_and_the_job_never_sees_the_password() {
    let (f, (registry, _)) = (fixture().await, registry().await);
    let mut job = with_login(job(&f, "env; sleep 1000", registry.image("1", None)), PASSWORD);
    job.secrets.0.insert("OTHER".into(), "for the job".into());
    f.start(&job).await.expect("start");
    let container = format!("tw-{}", job.lease());
    let inspected = bare_engine().await.inspect_container(&container, None).await.expect("inspect");
    let inspected = format!("{inspected:?}");
    assert!(inspected.contains("OTHER=for the job") && !inspected.contains("TOKEN"), "{inspected}");
    assert!(!inspected.contains(PASSWORD));
    let image = bare_engine().await.inspect_image(&registry.reference("1")).await.expect("inspect");
    assert!(!format!("{image:?}").contains(PASSWORD));
    assert_eq!(holding(f.root.path(), PASSWORD.as_bytes()), [""; 0]);
    f.clear(&job).await;
    assert_eq!(holding(f.root.path(), PASSWORD.as_bytes()), [""; 0]);
    leave(&f).await;
    assert!(!is_here(&registry.reference("1")).await);
}

#[tokio::test]
async fn a_wrong_or_missing_login_is_refused_with_what_to_check() {
    let (f, (registry, digest)) = (fixture().await, registry().await);
    for chosen in [None, Some(digest.as_str())] {
        let image = registry.image("1", chosen);
        let wrong = refusal(&f, &with_login(job(&f, "echo never", image.clone()), "guess")).await;
        for part in ["refused", "`ci-bot`", "`TOKEN`", &registry.name] {
            assert!(wrong.contains(part), "{part} in {wrong}");
        }
        assert!(!wrong.contains("guess"), "{wrong}");
        let none = refusal(&f, &job(&f, "echo never", image.clone())).await;
        assert!(none.contains("`registry` in the job file"), "{none}");
        let mut lost = with_login(job(&f, "echo never", image), PASSWORD);
        lost.secrets.0.clear();
        assert!(refusal(&f, &lost).await.contains("`TOKEN`"));
    }
    assert!(!is_here(&registry.reference("1")).await);
}

#[tokio::test]
async fn a_kept_private_image_runs_for_nobody_to_whom_its_registry_does_not_give_it() {
    let (f, (registry, digest)) = (fixture().await, registry().await);
    let theirs = |f: &Fixture| with_login(job(f, "echo ran", registry.image("1", None)), PASSWORD);
    assert_eq!(told(&f, &theirs(&f)).await, "ran\n");
    let kept = bare_engine().await.inspect_image(&registry.reference("1")).await.expect("it is kept");
    let id = kept.id.expect("an id");
    let hex = id.strip_prefix("sha256:").expect("a digest").to_owned();

    let named = |reference: &str, digest: Option<&str>| {
        Some(Image { reference: reference.into(), digest: digest.map(String::from), archive: None })
    };
    let names = [
        registry.image("1", None),
        registry.image("1", Some(&digest)),
        registry.image("other", Some(&digest)),
        named(&registry.by_digest(&digest), None),
        registry.image("1", Some(&id)),
        named("busybox", Some(&id)),
        named(&id, None),
        named(&hex, None),
        named(&hex[..12], None),
    ];
    for image in names {
        let shown = format!("{image:?}");
        for job in
            [job(&f, "echo never", image.clone()), with_login(job(&f, "echo never", image.clone()), "guess")]
        {
            f.start(&job).await.map(|()| panic!("{shown}")).expect_err("refused");
            f.clear(&job).await;
        }
    }
    assert!(is_here(&registry.reference("1")).await, "for those who may have it");
    assert_eq!(told(&f, &theirs(&f)).await, "ran\n");
    let chosen = with_login(job(&f, "echo ran", registry.image("1", Some(&digest))), PASSWORD);
    assert_eq!(told(&f, &chosen).await, "ran\n");

    registry.shelf.lock().expect("a shelf").wants = None;
    let anybody = |f: &Fixture| job(f, "echo ran", registry.image("1", None));
    assert_eq!(told(&f, &anybody(&f)).await, "ran\n", "it is public now");
    registry.shelf.lock().expect("a shelf").wants = Some(BASIC);
    assert_eq!(told(&f, &anybody(&f)).await, "ran\n", "what was public once is kept for all");
    leave(&f).await;
}

#[tokio::test]
async fn a_registry_that_only_names_a_private_image_does_not_unlock_it() {
    let (f, (registry, digest)) = (fixture().await, registry().await);
    let theirs = with_login(job(&f, "sleep 1000", registry.image("1", None)), PASSWORD);
    f.start(&theirs).await.expect("start");
    // It has the manifest, and nothing that the manifest names.
    let copy = Registry::start().await;
    let manifest = found(&registry, &digest).expect("a manifest");
    copy.put("1", manifest.clone());
    copy.put(&digest, manifest);
    for image in [copy.image("1", None), copy.image("1", Some(&digest))] {
        let job = job(&f, "echo never", image);
        let error = f.start(&job).await.expect_err("it proves nothing");
        assert!(
            matches!(&error, RuntimeError::Unavailable(why) if why.contains("another repository")),
            "{error:?}"
        );
        f.clear(&job).await;
    }
    f.clear(&theirs).await;
    let job = job(&f, "echo never", copy.image("1", None));
    f.start(&job).await.expect_err("nor does it once the image is not used");
    f.clear(&job).await;
    assert!(!is_here(&copy.reference("1")).await);
    leave(&f).await;
}

#[tokio::test]
async fn a_damaged_list_of_images_opens_no_private_one_and_ends_no_lease() {
    let (f, (registry, _)) = (fixture().await, registry().await);
    let running = with_login(job(&f, "sleep 1000", registry.image("1", None)), PASSWORD);
    f.start(&running).await.expect("start");
    let list = f.root.path().join("state/images.json");
    let whole = std::fs::read(&list).expect("a list");
    std::fs::write(&list, &whole[..whole.len() / 2]).expect("damaged");
    let strange = job(&f, "echo never", registry.image("1", None));
    let error = f.start(&strange).await.expect_err("nobody knows whose it is");
    assert!(matches!(error, RuntimeError::Io { .. }), "{error:?}");
    f.clear(&strange).await;
    let readiness = f.runtime.readiness().await;
    let finding = readiness.findings.iter().find(|found| found.problem.contains("images.json"));
    assert!(!readiness.ready && finding.is_some_and(|found| found.fix.contains("prune")), "{readiness:?}");
    f.clear(&running).await;
    std::fs::write(&list, whole).expect("mended");
    assert!(f.runtime.readiness().await.ready);
    leave(&f).await;
    assert!(!is_here(&registry.reference("1")).await);
}
