//! An image made of one static program, as an archive and without `docker build`.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::conformance::BUSYBOX;

/// The applets that test jobs call by name.
const APPLETS: [&str; 18] = [
    "sh", "cat", "ls", "id", "ip", "nc", "wget", "dd", "sleep", "mount", "yes", "head", "nslookup", "touch",
    "grep", "mkdir", "timeout", "ping",
];

/// What an image is like, beside its program.
#[derive(Default)]
pub(super) struct Recipe {
    /// `false` for an image of the program alone, as `FROM scratch` makes it.
    pub(super) shell: bool,
    /// Declared volumes.
    pub(super) volumes: Vec<&'static str>,
    /// The repository tag that the archive claims.
    pub(super) tag: &'static str,
    /// Makes images of otherwise equal recipes differ.
    pub(super) comment: String,
    /// For another machine than this.
    pub(super) architecture: Option<&'static str>,
    /// Variables beside `PATH`.
    pub(super) variables: Vec<&'static str>,
    /// Zeros in a file of their own.
    pub(super) zeros: usize,
}

impl Recipe {
    pub(super) fn with_shell() -> Self {
        Self { shell: true, tag: "stranger/claims:this", ..Self::default() }
    }

    /// Writes a docker archive; returns its BLAKE3 hash and the image's digest.
    pub(super) fn write(&self, to: &Path) -> ([u8; 32], String) {
        let layer = self.layer();
        let config = self.config(&layer);
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        let manifest =
            serde_json::json!([{ "Config": config_name, "RepoTags": [self.tag], "Layers": ["0/layer.tar"] }])
                .to_string();
        let mut archive = tar::Builder::new(Vec::new());
        file(&mut archive, "0/layer.tar", &layer, 0o644);
        file(&mut archive, &config_name, config.as_bytes(), 0o644);
        file(&mut archive, "manifest.json", manifest.as_bytes(), 0o644);
        let bytes = archive.into_inner().expect("finish the archive");
        std::fs::write(to, &bytes).expect("write the archive");
        (*blake3::hash(&bytes).as_bytes(), format!("sha256:{}", hex::encode(Sha256::digest(&config))))
    }

    pub(super) fn config(&self, layer: &[u8]) -> String {
        let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let architecture = self.architecture.unwrap_or(own);
        let environment = [&["PATH=/bin"], self.variables.as_slice()].concat();
        let volumes: BTreeMap<_, _> = self.volumes.iter().map(|path| (path, serde_json::json!({}))).collect();
        serde_json::json!({
            "architecture": architecture,
            "os": "linux",
            "comment": self.comment,
            "config": { "Env": environment, "Volumes": volumes },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(layer)))] },
        })
        .to_string()
    }

    pub(super) fn layer(&self) -> Vec<u8> {
        let program = std::fs::read(BUSYBOX).expect("apt-get install busybox-static: test jobs run it");
        let mut layer = tar::Builder::new(Vec::new());
        let mut directory = tar::Header::new_gnu();
        directory.set_entry_type(tar::EntryType::Directory);
        directory.set_size(0);
        // Left out, some of the engine's storage drivers make one that only root may enter.
        directory.set_mode(0o755);
        layer.append_data(&mut directory, "bin/", std::io::empty()).expect("append a directory");
        file(&mut layer, "bin/busybox", &program, 0o755);
        // An engine fetches no layer that it has from another image.
        if !self.comment.is_empty() {
            file(&mut layer, "comment", self.comment.as_bytes(), 0o644);
        }
        if self.zeros > 0 {
            file(&mut layer, "zeros", &vec![0; self.zeros], 0o644);
        }
        for applet in APPLETS.iter().filter(|_| self.shell) {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            layer.append_link(&mut header, format!("bin/{applet}"), "busybox").expect("append a link");
        }
        layer.into_inner().expect("finish the layer")
    }
}

fn file(archive: &mut tar::Builder<Vec<u8>>, path: &str, data: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    header.set_size(data.len() as u64);
    header.set_mode(mode);
    archive.append_data(&mut header, path, data).expect("append a file");
}
