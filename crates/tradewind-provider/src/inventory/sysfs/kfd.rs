//! What ROCm's driver says of processors and cards, and of the links between them.

use std::path::Path;

use super::{hint, names};

/// Links of this type are AMD's fabric between cards (xGMI).
const FABRIC: u64 = 11;

/// A processor, a card, or both in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    /// Its number among the nodes.
    pub(super) number: u64,
    /// Its render node, where it computes.
    pub(super) render: Option<u32>,
    /// Processors in it.
    pub(super) processors: u64,
    /// The nodes that its fabric reaches.
    pub(super) fabric: Vec<u64>,
}

/// All that are described in this directory; what cannot be read is not there.
pub(super) fn nodes(directory: &Path) -> Vec<Node> {
    let read = |name: String| {
        let node = directory.join(&name);
        let text = hint(&node.join("properties"))?;
        let links = node.join("io_links");
        let fabric =
            names(&links).into_iter().filter_map(|link| end(&hint(&links.join(link).join("properties"))?));
        Some(Node {
            number: name.parse().ok()?,
            render: property(&text, "drm_render_minor")
                .and_then(|minor| u32::try_from(minor).ok())
                .filter(|minor| *minor > 0),
            processors: property(&text, "cpu_cores_count").unwrap_or(0),
            fabric: fabric.collect(),
        })
    };
    names(directory).into_iter().filter_map(read).collect()
}

/// The node at the other end of a link of the fabric.
fn end(link: &str) -> Option<u64> {
    (property(link, "type") == Some(FABRIC)).then(|| property(link, "node_to")).flatten()
}

/// The value in the line of this name.
fn property(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_found_by_its_whole_name() {
        let text = "simd_count 1216\nsimd_id_base 4\ngfx_target_version 90402\ndrm_render_minor 128\n";
        assert_eq!(property(text, "simd_count"), Some(1_216));
        assert_eq!(property(text, "simd"), None);
        assert_eq!(property(text, "drm_render_minor"), Some(128));
        for wrong in ["drm_render_minor", "drm_render_minor -1", "drm_render_minor 99999999999999999999", ""]
        {
            assert_eq!(property(wrong, "drm_render_minor"), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_fabric_is_a_direct_link() {
        assert_eq!(end("type 11\nversion_major 0\nnode_from 2\nnode_to 3\n"), Some(3));
        assert_eq!(end("type 2\nnode_from 2\nnode_to 0\n"), None);
        assert_eq!(end("type 11\n"), None);
    }
}
