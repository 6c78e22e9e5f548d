use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::*;

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, data) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, path, *data).expect("append");
    }
    tar.into_inner().expect("finish")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("pack");
    encoder.finish().expect("pack")
}

fn config(layers: &[&[u8]]) -> String {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diff_ids: Vec<_> = layers.iter().map(|layer| sha256(layer)).collect();
    serde_json::json!({
        "architecture": architecture, "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": diff_ids }
    })
    .to_string()
}

/// A docker archive whose configuration tells of `layers` and whose parts are `stored`.
fn docker(layers: &[&[u8]], stored: &[&[u8]]) -> Vec<u8> {
    let config = config(layers);
    let names: Vec<_> = (0..stored.len()).map(|number| format!("{number}.tar")).collect();
    let manifest =
        serde_json::json!([{ "Config": "c.json", "RepoTags": ["busybox:latest"], "Layers": names }])
            .to_string();
    let mut files = vec![("manifest.json", manifest.as_bytes()), ("c.json", config.as_bytes())];
    files.extend(names.iter().map(String::as_str).zip(stored.iter().copied()));
    tar(&files)
}

fn oci(layer: &[u8]) -> Vec<u8> {
    let packed = gzip(layer);
    let config = config(&[layer]);
    let blob = |bytes: &[u8]| sha256(bytes).replace("sha256:", "blobs/sha256/");
    let manifest = serde_json::json!({
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(config.as_bytes()) },
        "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": sha256(&packed) }],
    })
    .to_string();
    let index = serde_json::json!({
        "manifests": [{ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(manifest.as_bytes()) }]
    })
    .to_string();
    tar(&[
        ("index.json", index.as_bytes()),
        (&blob(manifest.as_bytes()), manifest.as_bytes()),
        (&blob(config.as_bytes()), config.as_bytes()),
        (&blob(&packed), &packed),
    ])
}

fn limits(unpacked: u64, files: u64) -> ImageLimits {
    ImageLimits { archive: Bytes::mib(64), unpacked: Bytes::new(unpacked), files }
}

fn checked(archive: &[u8], limits: ImageLimits) -> Result<Checked, ImportError> {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(archive).expect("write");
    check(&file.path().to_owned(), blake3::hash(archive).as_bytes(), limits)
}

fn refusal(archive: &[u8]) -> String {
    checked(archive, limits(1 << 20, 100)).err().expect("it is refused").to_string()
}

#[test]
fn docker_and_oci_archives_of_one_image_are_the_same_image() {
    let layer = tar(&[("bin/sh", b"a shell")]);
    let generous = limits(1 << 20, 100);
    let digests: Vec<_> = [docker(&[&layer], &[&layer]), docker(&[&layer], &[&gzip(&layer)]), oci(&layer)]
        .iter()
        .map(|archive| checked(archive, generous).expect("sound").digest)
        .collect();
    assert_eq!(digests, vec![sha256(config(&[&layer]).as_bytes()); 3]);
}

#[test]
fn the_strangers_tags_do_not_reach_the_engine() {
    let layer = tar(&[("bin/sh", b"a shell")]);
    let checked = checked(&docker(&[&layer], &[&layer]), limits(1 << 20, 100)).expect("sound");
    let mut written = Vec::new();
    write(&checked, "tradewind/import:ours", &mut written).expect("write");
    let text = String::from_utf8_lossy(&written);
    assert!(text.contains("tradewind/import:ours") && !text.contains("busybox:latest"));
}

#[test]
fn a_bomb_is_stopped_while_it_unpacks() {
    let bomb = tar(&[("zeros", &vec![0; 8 << 20])]);
    let packed = gzip(&bomb);
    assert!(packed.len() < 64 << 10, "it is a bomb");
    let error = checked(&docker(&[&bomb], &[&packed]), limits(1 << 20, 100)).err().expect("refused");
    assert!(matches!(error, ImportError::TooLarge { what: "bytes in its layers", .. }), "{error}");
}

#[test]
fn layers_share_one_bound() {
    let layer = tar(&[("a", &vec![1; 400 << 10])]);
    let two = docker(&[&layer, &layer], &[&layer, &layer]);
    assert!(checked(&two, limits(1 << 20, 100)).is_ok());
    assert!(checked(&two, limits(600 << 10, 100)).is_err());
    assert!(matches!(
        checked(&two, limits(1 << 20, 1)),
        Err(ImportError::TooLarge { what: "files in its layers", .. })
    ));
}

#[test]
fn a_layer_that_is_not_the_one_promised_is_refused() {
    let (layer, other) = (tar(&[("a", b"1")]), tar(&[("a", b"2")]));
    assert!(refusal(&docker(&[&layer], &[&other])).contains("its image says"));
    assert!(refusal(&docker(&[&layer, &layer], &[&layer])).contains("1 layers and 2 digests"));
}

#[test]
fn sparse_files_are_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("hole").expect("a path");
    header.set_size(0);
    header.set_cksum();
    let mut sparse = tar::Builder::new(Vec::new());
    sparse.append(&header, std::io::empty()).expect("append");
    let sparse = sparse.into_inner().expect("finish");
    assert!(refusal(&docker(&[&sparse], &[&sparse])).contains("sparse"));

    let mut renamed = tar::Builder::new(Vec::new());
    renamed.append_pax_extensions([("GNU.sparse.realsize", b"999999999999".as_slice())]).expect("append");
    let renamed = renamed.into_inner().expect("finish");
    assert!(refusal(&docker(&[&renamed], &[&renamed])).contains("sparse"));
}

#[test]
fn an_archive_under_another_hash_is_refused() {
    let layer = tar(&[("a", b"1")]);
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(&docker(&[&layer], &[&layer])).expect("write");
    let outcome = check(&file.path().to_owned(), &[7; 32], limits(1 << 20, 100));
    assert!(matches!(outcome, Err(ImportError::WrongHash { .. })));
}

#[test]
fn what_is_no_image_is_refused() {
    assert!(refusal(b"hello").contains("neither") || refusal(b"hello").contains("tar"));
    assert!(refusal(&tar(&[("a", b"1")])).contains("neither"));
    assert!(refusal(&tar(&[("manifest.json", b"[]")])).contains("0 images"));
    assert!(
        refusal(&tar(&[("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)]))
            .contains("leads out")
    );
    assert!(
        refusal(&tar(&[("manifest.json", br#"[{"Config":"no.json","Layers":[]}]"#)]))
            .contains("has no `no.json`")
    );
}

#[test]
fn an_image_for_another_machine_is_refused() {
    let config = br#"{"architecture":"s390x","os":"linux","rootfs":{"diff_ids":[]}}"#;
    let archive = tar(&[("manifest.json", br#"[{"Config":"c.json","Layers":[]}]"#), ("c.json", config)]);
    assert!(matches!(checked(&archive, limits(1 << 20, 9)), Err(ImportError::Foreign(_))));
}

#[test]
fn an_archive_of_countless_entries_is_refused() {
    let names: Vec<_> = (0..3000).map(|number| number.to_string()).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    assert!(refusal(&tar(&files)).contains("2048 entries"));
}
