//! Images that run signed only, of a registry of our own on loopback, on a real engine.
//!
//! The signatures are made here, in the form that `cosign sign --key` writes; cosign itself is in no package that tests can install.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;
use tempfile::TempDir;
use tradewind_proto::workload::{Image, RegistryLogin};
use tradewind_provider::docker::{DockerConfig, ImageKey, SignedImages};
use tradewind_provider::runtime::RuntimeError;

use super::busybox::Recipe;
use super::registry::{Registry, digest, forget, is_here, recipe};
use super::{config, fixture_of, told};
use crate::conformance::Fixture;

/// Before the point of a P-256 key, in hex.
const P256: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";

/// Whose signatures count, or not.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
        Self(EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key"))
    }

    fn key(&self) -> ImageKey {
        let der = [hex::decode(P256).expect("hex"), self.0.public_key().as_ref().to_vec()].concat();
        let text = STANDARD.encode(der);
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n");
        ImageKey::from_pem(&pem).expect("a key in PEM")
    }

    /// A layer of a signatures' manifest, and its payload.
    fn sign(&self, image: &str) -> (serde_json::Value, Bytes) {
        let payload = payload(image);
        let signature = self.0.sign(&SystemRandom::new(), &payload).expect("signed");
        (layer(&payload, &STANDARD.encode(signature)), payload)
    }
}

fn payload(image: &str) -> Bytes {
    let identity = json!({ "docker-reference": "registry.example/acme/job" });
    let critical = json!({
        "identity": identity,
        "image": { "docker-manifest-digest": image },
        "type": "cosign container image signature",
    });
    Bytes::from(json!({ "critical": critical, "optional": null }).to_string())
}

fn layer(payload: &Bytes, signature: &str) -> serde_json::Value {
    json!({
        "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
        "size": payload.len(),
        "digest": digest(payload),
        "annotations": { "dev.cosignproject.cosign/signature": signature },
    })
}

/// Puts signatures where cosign puts those of `image`.
fn publish(registry: &Registry, image: &str, signatures: &[(serde_json::Value, Bytes)]) {
    let layers: Vec<_> = signatures.iter().map(|(layer, _)| layer).collect();
    for (layer, payload) in signatures {
        registry.put(layer["digest"].as_str().expect("a digest"), payload.clone());
    }
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "size": 2, "digest": digest(b"{}") },
        "layers": layers,
    });
    registry.put(&format!("{}.sig", image.replace(':', "-")), Bytes::from(manifest.to_string()));
}

/// A provider that runs this registry's images with the signer's signature only.
async fn fixture(registry: &Registry, signer: &Signer) -> Fixture {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let root = TempDir::new().expect("a directory");
    let pattern = registry.reference("*").parse().expect("a pattern");
    let signed = vec![SignedImages { images: vec![pattern], keys: vec![Signer::new().key(), signer.key()] }];
    // The shell's own image comes in an archive, which such a provider does not run.
    let settings = DockerConfig { signed, ..config(&root) };
    fixture_of(root, settings, &Recipe::with_shell()).await
}

/// Why a job in this image is not started.
async fn refusal(f: &Fixture, image: Option<Image>) -> String {
    let mut job = f.job("echo never");
    job.spec.image = image;
    let error = f.start(&job).await.expect_err("it is not signed");
    f.clear(&job).await;
    let RuntimeError::Start(why) = error else { panic!("{error:?}") };
    why
}

async fn runs(f: &Fixture, image: Option<Image>) {
    let mut job = f.job("echo ran");
    job.spec.image = image;
    assert_eq!(told(f, &job).await, "ran\n");
}

#[tokio::test]
async fn a_signed_image_runs_by_its_tag_and_by_its_digest_until_the_tag_moves() {
    let (registry, signer) = (Registry::start().await, Signer::new());
    let f = fixture(&registry, &signer).await;
    let (image, _) = registry.push("1", &recipe(&registry, "signed"));
    publish(&registry, &image, &[Signer::new().sign(&image), signer.sign(&image)]);
    runs(&f, registry.image("1", None)).await;
    runs(&f, registry.image("1", Some(&image))).await;

    let (moved, _) = registry.push("1", &recipe(&registry, "moved"));
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(
        why.contains("no signature") && why.contains("cosign sign --key") && why.contains(&moved),
        "{why}"
    );
    assert!(!is_here(&registry.by_digest(&moved)).await, "it was not pulled");
    runs(&f, registry.image("1", Some(&image))).await;
    forget(&registry.by_digest(&image)).await;
}

#[tokio::test]
async fn an_image_with_a_wrong_signature_is_refused_before_it_is_pulled() {
    let (registry, signer) = (Registry::start().await, Signer::new());
    let f = fixture(&registry, &signer).await;
    let (image, _) = registry.push("1", &recipe(&registry, "unsigned"));
    let (other, _) = registry.push("2", &recipe(&registry, "signed"));
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("no signature"), "{why}");

    publish(&registry, &image, &[Signer::new().sign(&image)]);
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("none of the owner's keys"), "{why}");

    publish(&registry, &image, &[signer.sign(&other)]);
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("of another image"), "{why}");

    // The signature of one payload over another that names this image.
    let (theirs, _) = signer.sign(&other);
    let signature = theirs["annotations"]["dev.cosignproject.cosign/signature"].as_str().expect("text");
    publish(&registry, &image, &[(layer(&payload(&image), signature), payload(&image))]);
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("none of the owner's keys"), "{why}");

    // Other bytes under the payload's digest.
    let (good, _) = signer.sign(&image);
    publish(&registry, &image, &[(good, payload(&other))]);
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("not the one that the manifest names"), "{why}");

    let huge = Bytes::from(vec![b' '; 5 << 20]);
    registry.put(&format!("{}.sig", image.replace(':', "-")), huge);
    let why = refusal(&f, registry.image("1", None)).await;
    assert!(why.contains("more than"), "{why}");
    assert!(!is_here(&registry.by_digest(&image)).await, "nothing was pulled");
}

#[tokio::test]
async fn an_archive_is_refused_and_another_registrys_image_is_not_asked_about() {
    let (registry, elsewhere, signer) = (Registry::start().await, Registry::start().await, Signer::new());
    let f = fixture(&registry, &signer).await;
    let why = refusal(&f, f.image.clone()).await;
    assert!(why.contains("an archive has no registry"), "{why}");
    let (image, _) = elsewhere.push("1", &recipe(&elsewhere, "anybodys"));
    runs(&f, elsewhere.image("1", None)).await;
    forget(&elsewhere.by_digest(&image)).await;
}

#[tokio::test]
async fn signatures_behind_a_login_are_read_with_it_and_a_token_is_fetched_where_one_is_wanted() {
    for wanted in ["Basic Y2ktYm90Omh1bnRlcjI=", "Bearer for-a-while"] {
        let (registry, signer) = (Registry::start().await, Signer::new());
        let f = fixture(&registry, &signer).await;
        let (image, _) = registry.push("1", &recipe(&registry, "private"));
        publish(&registry, &image, &[signer.sign(&image)]);
        registry.shelf.lock().expect("a shelf").wants = Some(wanted);
        if wanted.starts_with("Basic") {
            let why = refusal(&f, registry.image("1", None)).await;
            assert!(why.contains("`registry` in the job file"), "{why}");
        }
        let mut job = f.job("echo ran");
        job.spec.image = registry.image("1", None);
        job.spec.registry = Some(RegistryLogin { username: "ci-bot".into(), secret: "TOKEN".into() });
        job.secrets.0.insert("TOKEN".into(), "hunter2".into());
        assert_eq!(told(&f, &job).await, "ran\n", "{wanted}");
        forget(&registry.by_digest(&image)).await;
    }
}
