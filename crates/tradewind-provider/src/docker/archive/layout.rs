//! Where the parts of an image lie in an archive: docker's `manifest.json`, or OCI's `index.json` and blobs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{ImportError, malformed, sha256};

/// Files in the archive itself; an image has a handful for each layer.
const MOST_ENTRIES: usize = 2048;
/// As engines have it.
const MOST_LAYERS: usize = 127;
/// Of a manifest, an index or a configuration.
const LONGEST_JSON: u64 = 4 << 20;
/// Links that lead from a layer's name to its data.
const MOST_LINKS: usize = 4;

/// A range of the archive's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// An image's parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) config: Part,
    pub(super) layers: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct DockerManifest {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(rename = "mediaType", default)]
    media_type: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Config {
    architecture: String,
    os: String,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// This machine's architecture in the words of images.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The digests of an image's unpacked layers, if the image is for this machine.
pub(super) fn diff_ids(config: &[u8]) -> Result<Vec<String>, ImportError> {
    let config: Config = parse(config, "the image's configuration")?;
    if config.os != "linux" || config.architecture != architecture() {
        let Config { os, architecture: of_image, .. } = config;
        return Err(ImportError::Foreign(format!(
            "it is for {os}/{of_image}, this is linux/{}",
            architecture()
        )));
    }
    Ok(config.rootfs.diff_ids)
}

fn parse<T: DeserializeOwned>(json: &[u8], what: &str) -> Result<T, ImportError> {
    serde_json::from_slice(json).map_err(|error| malformed(format!("{what}: {error}")))
}

impl Layout {
    /// Finds the parts; reads headers and small files only.
    pub(super) fn read(file: &File) -> Result<Self, ImportError> {
        let contents = Contents::read(file)?;
        let layout = if contents.has("manifest.json") {
            contents.docker(file)?
        } else if contents.has("index.json") {
            contents.oci(file)?
        } else {
            return Err(malformed("it has neither manifest.json nor index.json"));
        };
        if layout.layers.len() > MOST_LAYERS {
            return Err(ImportError::TooLarge { what: "layers", limit: 127 });
        }
        Ok(layout)
    }

    /// The image's configuration.
    pub(super) fn config(&self, file: &File) -> Result<Vec<u8>, ImportError> {
        small(&self.config, file)
    }
}

fn small(part: &Part, file: &File) -> Result<Vec<u8>, ImportError> {
    if part.length > LONGEST_JSON {
        return Err(malformed("a manifest or configuration has more than 4 MiB"));
    }
    let mut bytes = Vec::new();
    part.open(file)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

enum Entry {
    Data(Part),
    Link(String),
}

/// The archive's table of contents.
struct Contents(BTreeMap<String, Entry>);

impl Contents {
    fn read(file: &File) -> Result<Self, ImportError> {
        let unreadable = |error: std::io::Error| malformed(format!("it is no tar: {error}"));
        let mut tar = tar::Archive::new(file);
        let mut contents = BTreeMap::new();
        for (count, entry) in tar.entries_with_seek().map_err(unreadable)?.raw(true).enumerate() {
            if count >= MOST_ENTRIES {
                return Err(ImportError::TooLarge { what: "entries", limit: 2048 });
            }
            let entry = entry.map_err(unreadable)?;
            let name = normal(&entry.path().map_err(unreadable)?)?;
            let kind = entry.header().entry_type();
            let found = if kind.is_file() || kind.is_contiguous() {
                Entry::Data(Part { offset: entry.raw_file_position(), length: entry.size() })
            } else if kind.is_symlink() || kind.is_hard_link() {
                let target = entry.link_name().map_err(unreadable)?.unwrap_or_default();
                let base = Path::new(&name).parent().filter(|_| kind.is_symlink()).unwrap_or(Path::new(""));
                Entry::Link(normal(&base.join(target))?)
            } else if kind.is_dir() || kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
                continue;
            } else {
                return Err(malformed(format!("`{name}` is no file of an image")));
            };
            contents.insert(name, found);
        }
        Ok(Self(contents))
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn part(&self, name: &str) -> Result<Part, ImportError> {
        let mut name = normal(Path::new(name))?;
        for _ in 0..=MOST_LINKS {
            match self.0.get(&name) {
                Some(Entry::Data(part)) => return Ok(*part),
                Some(Entry::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(malformed(format!("it has no `{name}`")))
    }

    fn docker(&self, file: &File) -> Result<Layout, ImportError> {
        let manifests: Vec<DockerManifest> =
            parse(&small(&self.part("manifest.json")?, file)?, "manifest.json")?;
        let [manifest] = manifests.as_slice() else {
            return Err(malformed(format!("it holds {} images, not one", manifests.len())));
        };
        let layers = manifest.layers.iter().map(|name| self.part(name)).collect::<Result<_, _>>()?;
        Ok(Layout { config: self.part(&manifest.config)?, layers })
    }

    fn oci(&self, file: &File) -> Result<Layout, ImportError> {
        let mut index: Index = parse(&small(&self.part("index.json")?, file)?, "index.json")?;
        // An index may name one index with an entry for each platform, no deeper.
        for _ in 0..2 {
            let chosen = choose(&index)?;
            let bytes = self.blob(&chosen.digest, file)?;
            if !chosen.media_type.contains("index") && !chosen.media_type.contains("manifest.list") {
                let manifest: Manifest = parse(&bytes, "the manifest")?;
                let layers =
                    manifest.layers.iter().map(|layer| self.layer(layer)).collect::<Result<_, _>>()?;
                return Ok(Layout { config: self.part(&blob_name(&manifest.config.digest)?)?, layers });
            }
            index = parse(&bytes, "a nested index")?;
        }
        Err(malformed("an index in an index in an index"))
    }

    fn layer(&self, layer: &Descriptor) -> Result<Part, ImportError> {
        if layer.media_type.contains("nondistributable") || layer.media_type.contains("foreign") {
            return Err(malformed("a layer lies elsewhere"));
        }
        self.part(&blob_name(&layer.digest)?)
    }

    fn blob(&self, digest: &str, file: &File) -> Result<Vec<u8>, ImportError> {
        let bytes = small(&self.part(&blob_name(digest)?)?, file)?;
        if sha256(&bytes) != digest {
            return Err(malformed(format!("the blob {digest} has other bytes")));
        }
        Ok(bytes)
    }
}

fn choose(index: &Index) -> Result<&Descriptor, ImportError> {
    let fits = |found: &&Descriptor| {
        found
            .platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture())
    };
    let mut fitting = index.manifests.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(ImportError::Foreign(format!("none of its images is for linux/{}", architecture()))),
        (Some(_), Some(_)) => Err(malformed("it holds more than one image for this machine")),
    }
}

fn blob_name(digest: &str) -> Result<String, ImportError> {
    match digest.strip_prefix("sha256:") {
        Some(hex) if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Ok(format!("blobs/sha256/{hex}"))
        }
        _ => Err(malformed(format!("`{}` is no digest", digest.escape_default()))),
    }
}

/// A path within the archive, without dots.
fn normal(path: &Path) -> Result<String, ImportError> {
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => {
                parts.push(part.to_str().ok_or_else(|| malformed("a name is not UTF-8"))?)
            }
            Component::CurDir => {}
            Component::ParentDir if parts.pop().is_some() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(malformed(format!("`{}` leads out of the archive", path.display())));
            }
        }
    }
    Ok(parts.join("/"))
}
