//! A job's image: a reference as it stands, or an archive that is looked at before anything is spent, and put where its
//! provider may fetch it.
//!
//! What is looked at is cheap: that the file is a whole tar with the parts that it names. Its layers are unpacked, counted and
//! hashed by the provider, which trusts nobody.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tradewind_mesh::Transport;
use tradewind_mesh::blobs::{BlobError, Label};
use tradewind_proto::job::{ImageSource, JobSpec};
use tradewind_proto::units::Bytes;
use tradewind_proto::workload::Image;

/// The largest archive; no provider takes a larger one unless it is configured to.
const MAX_ARCHIVE: Bytes = Bytes::gib(40);
/// Files in an archive; an image has a handful for each layer.
const MAX_ENTRIES: usize = 2_048;
/// Of a manifest or an index.
const MAX_JSON: u64 = 4 << 20;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read the image archive {path}: {source}; `docker save -o {path} NAME` writes one")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The failure.
        source: std::io::Error,
    },
    /// Too large for any provider.
    #[error(
        "the image archive {path} has {size}, at most {MAX_ARCHIVE} are taken; leave out what the job can pull as input"
    )]
    TooLarge {
        /// Which file.
        path: PathBuf,
        /// Its size.
        size: Bytes,
    },
    /// No archive, or not one of a single image.
    #[error("{path} is no image archive: {reason}")]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it, and what helps.
        reason: String,
    },
    /// It cannot be stored.
    #[error("the image archive {path} cannot be stored")]
    Store {
        /// Which file.
        path: PathBuf,
        /// The failure.
        #[source]
        source: BlobError,
    },
}

/// The image as a manifest names it; an archive is stored under `label`.
///
/// # Errors
/// [`ImageError`] naming the file.
pub(crate) async fn pack(
    spec: &JobSpec,
    base: &Path,
    transport: &dyn Transport,
    label: &Label,
) -> Result<Option<Image>, ImageError> {
    let path = match &spec.image {
        None => return Ok(None),
        Some(ImageSource::Reference(reference)) => {
            return Ok(Some(Image { reference: reference.clone(), digest: None, archive: None }));
        }
        Some(ImageSource::Archive(path)) => base.join(path),
    };
    let named = path.clone();
    let checked = tokio::task::spawn_blocking(move || check(&named)).await;
    let absolute = checked.map_err(|error| read(&path, std::io::Error::other(error)))??;
    let stored = transport.add_file(&absolute, label).await;
    let blob = stored.map_err(|source| ImageError::Store { path: path.clone(), source })?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("image.tar");
    Ok(Some(Image { reference: name.into(), digest: None, archive: Some(*blob.hash.as_bytes()) }))
}

fn read(path: &Path, source: std::io::Error) -> ImageError {
    ImageError::Read { path: path.into(), source }
}

/// Looks at headers and small files only; returns the file's real path.
fn check(path: &Path) -> Result<PathBuf, ImageError> {
    let absolute = path.canonicalize().map_err(|source| read(path, source))?;
    let metadata = absolute.metadata().map_err(|source| read(path, source))?;
    let malformed = |reason: String| ImageError::Malformed { path: path.into(), reason };
    if !metadata.is_file() {
        return Err(malformed("it is not a file".into()));
    }
    if metadata.len() > MAX_ARCHIVE.get() {
        return Err(ImageError::TooLarge { path: path.into(), size: Bytes::new(metadata.len()) });
    }
    let mut file = File::open(&absolute).map_err(|source| read(path, source))?;
    let mut magic = [0; 4];
    let found = file.read(&mut magic).and_then(|count| file.seek(SeekFrom::Start(0)).map(|_| count));
    let found = found.map_err(|source| read(path, source))?;
    if magic[..found].starts_with(&[0x1f, 0x8b]) || magic[..found] == [0x28, 0xb5, 0x2f, 0xfd] {
        return Err(malformed("it is compressed; `gunzip` or `unzstd` it first".into()));
    }
    let contents = Contents::read(file, metadata.len()).map_err(malformed)?;
    contents.check().map_err(malformed)?;
    Ok(absolute)
}

#[derive(Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

/// The archive's table of contents, and its two possible manifests.
struct Contents {
    names: BTreeSet<String>,
    docker: Option<Vec<u8>>,
    oci: Option<Vec<u8>>,
}

impl Contents {
    fn read(file: File, length: u64) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("it is no tar ({error})");
        let mut contents = Self { names: BTreeSet::new(), docker: None, oci: None };
        let mut tar = tar::Archive::new(file);
        for (count, entry) in tar.entries_with_seek().map_err(unreadable)?.enumerate() {
            let mut entry = entry.map_err(unreadable)?;
            if count == MAX_ENTRIES {
                return Err(format!("it holds more than {MAX_ENTRIES} files"));
            }
            let name = entry.path().map_err(unreadable)?.to_string_lossy().into_owned();
            let name = name.trim_start_matches("./").to_owned();
            if entry.raw_file_position().saturating_add(entry.size()) > length {
                return Err(format!("it is cut short in `{name}`"));
            }
            if matches!(name.as_str(), "manifest.json" | "index.json") {
                if entry.size() > MAX_JSON {
                    return Err(format!("its `{name}` has more than {}", Bytes::new(MAX_JSON)));
                }
                let mut json = Vec::new();
                entry.read_to_end(&mut json).map_err(unreadable)?;
                let place = if name == "manifest.json" { &mut contents.docker } else { &mut contents.oci };
                *place = Some(json);
            }
            contents.names.insert(name);
        }
        Ok(contents)
    }

    /// One image, with every part that its manifest names.
    fn check(&self) -> Result<(), String> {
        let parts = match (&self.docker, &self.oci) {
            (Some(json), _) => docker_parts(json)?,
            (None, Some(json)) => oci_parts(json)?,
            (None, None) => {
                return Err("it has neither manifest.json nor index.json; `docker save` writes one".into());
            }
        };
        match parts.iter().find(|part| !self.names.contains(part.trim_start_matches("./"))) {
            Some(missing) => Err(format!("it has no `{missing}`, which its manifest names")),
            None => Ok(()),
        }
    }
}

fn docker_parts(json: &[u8]) -> Result<Vec<String>, String> {
    let manifests: Vec<DockerManifest> =
        serde_json::from_slice(json).map_err(|error| format!("its manifest.json: {error}"))?;
    let count = manifests.len();
    let Ok([manifest]) = <[DockerManifest; 1]>::try_from(manifests) else {
        return Err(format!("it holds {count} images; save the one that the job runs in"));
    };
    Ok(manifest.layers.into_iter().chain([manifest.config]).collect())
}

fn oci_parts(json: &[u8]) -> Result<Vec<String>, String> {
    let index: Index = serde_json::from_slice(json).map_err(|error| format!("its index.json: {error}"))?;
    if index.manifests.is_empty() {
        return Err("it holds no image".into());
    }
    Ok(index.manifests.iter().map(|image| format!("blobs/{}", image.digest.replacen(':', "/", 1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("image.tar");
        let mut tar = tar::Builder::new(File::create(&path).unwrap());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.finish().unwrap();
        (dir, path)
    }

    const ONE: &str = r#"[{"Config": "c.json", "RepoTags": null, "Layers": ["0/layer.tar"]}]"#;

    fn problem(files: &[(&str, &str)]) -> String {
        let (_dir, path) = archive(files);
        check(&path).unwrap_err().to_string()
    }

    #[test]
    fn an_archive_of_docker_and_one_of_oci_are_taken() {
        let digest = "a".repeat(64);
        let blob = format!("./blobs/sha256/{digest}");
        let index = format!(r#"{{"manifests": [{{"digest": "sha256:{digest}"}}]}}"#);
        for files in [
            vec![("manifest.json", ONE), ("c.json", "{}"), ("0/layer.tar", "")],
            vec![("./index.json", index.as_str()), (blob.as_str(), "{}")],
        ] {
            let (_dir, path) = archive(&files);
            check(&path).unwrap();
        }
    }

    #[test]
    fn a_bad_archive_is_told_before_anything_is_spent() {
        assert!(problem(&[("readme", "")]).contains("neither manifest.json nor index.json"));
        assert!(problem(&[("manifest.json", "[]")]).contains("holds 0 images"));
        assert!(problem(&[("manifest.json", "{")]).contains("its manifest.json: "));
        assert!(problem(&[("manifest.json", ONE), ("c.json", "{}")]).contains("no `0/layer.tar`"));
        assert!(problem(&[("index.json", r#"{"manifests": []}"#)]).contains("holds no image"));
    }

    #[test]
    fn a_file_that_is_no_archive_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            check(&path).unwrap_err().to_string()
        };
        assert!(at("text.tar", &[b'x'; 2_000]).contains("it is no tar"));
        assert!(at("gz.tar", &[0x1f, 0x8b, 8, 0]).contains("`gunzip`"));
        assert!(check(dir.path()).unwrap_err().to_string().contains("not a file"));
        let missing = check(&dir.path().join("none.tar")).unwrap_err().to_string();
        assert!(
            missing.starts_with("cannot read the image archive") && missing.contains("none.tar"),
            "{missing}"
        );
        let (_dir, path) =
            archive(&[("manifest.json", ONE), ("c.json", "{}"), ("0/layer.tar", "0123456789")]);
        File::options().write(true).open(&path).unwrap().set_len(2_565).unwrap();
        assert!(check(&path).unwrap_err().to_string().contains("cut short"), "a download that broke off");
    }

    #[test]
    fn an_archive_that_no_provider_takes_is_refused_by_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sparse.tar");
        File::create(&path).unwrap().set_len(MAX_ARCHIVE.get() + 1).unwrap();
        assert!(matches!(check(&path), Err(ImageError::TooLarge { .. })));
    }
}
