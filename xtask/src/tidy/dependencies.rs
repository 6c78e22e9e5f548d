//! Dependencies between the workspace's crates point one way.
//!
//! ```text
//! 5  tradewind
//! 4  sim
//! 3  buyer  provider  watcher  gateway  explorer  model
//! 2  reputation
//! 1  mesh  chain  store  challenge  tee
//! 0  proto  testbed
//! ```
//!
//! A crate depends on lower layers only, so two of one layer never see each other.

use super::{File, Finding, Tree};

const LAYERS: [(&str, u8); 16] = [
    ("tradewind-proto", 0),
    ("tradewind-testbed", 0),
    ("tradewind-mesh", 1),
    ("tradewind-chain", 1),
    ("tradewind-store", 1),
    ("tradewind-challenge", 1),
    ("tradewind-tee", 1),
    ("tradewind-reputation", 2),
    ("tradewind-buyer", 3),
    ("tradewind-provider", 3),
    ("tradewind-watcher", 3),
    ("tradewind-gateway", 3),
    ("tradewind-explorer", 3),
    ("tradewind-model", 3),
    ("tradewind-sim", 4),
    ("tradewind", 5),
];
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().iter().filter(|file| is_crate_manifest(file)).flat_map(in_manifest).collect()
}

fn is_crate_manifest(file: &File) -> bool {
    file.path().starts_with("crates/") && file.path().ends_with("/Cargo.toml")
}

fn in_manifest(file: &File) -> Vec<Finding> {
    let text = file.text().unwrap_or_default();
    let Ok(manifest) = text.parse::<toml::Table>() else {
        return vec![Finding::new(file, 1, "it is not TOML", "let `cargo metadata` say where it breaks")];
    };
    let package = manifest.get("package").and_then(toml::Value::as_table);
    let name = package.and_then(|package| package.get("name")?.as_str()).unwrap_or_default();
    let Some(own) = layer(name) else {
        return vec![Finding::new(
            file,
            1,
            format!("`{name}` has no layer"),
            "give it one in xtask/src/tidy/dependencies.rs and in ARCHITECTURE.md",
        )];
    };
    TABLES
        .iter()
        .filter_map(|table| manifest.get(*table)?.as_table())
        .flat_map(toml::Table::keys)
        .filter(|dependency| layer(dependency).is_some_and(|theirs| theirs >= own))
        .map(|dependency| {
            Finding::new(
                file,
                line_of(text, dependency),
                format!("`{name}` must not depend on `{dependency}`, which is no lower layer"),
                "put what both need in a lower crate, or pass it in through a trait",
            )
        })
        .collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

fn line_of(text: &str, dependency: &str) -> usize {
    let declares =
        |line: &str| line.strip_prefix(dependency).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(declares).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(name: &str, rest: &str) -> Vec<(usize, String)> {
        let path = format!("crates/{name}/Cargo.toml");
        let text = format!("[package]\nname = \"{name}\"\n{rest}");
        check(&Tree::of([(path.as_str(), text.as_str())]))
            .into_iter()
            .map(|finding| (finding.line, finding.problem))
            .collect()
    }

    #[test]
    fn a_crate_depends_on_lower_layers() {
        let rest = "[dependencies]\ntradewind-proto.workspace = true\nserde = \"1\"\n";
        assert_eq!(problems("tradewind-mesh", rest), []);
        assert_eq!(problems("tradewind", "[dependencies]\ntradewind-sim.workspace = true\n"), []);
    }

    #[test]
    fn mesh_and_chain_never_see_each_other() {
        let rest = "[dependencies]\ntradewind-proto.workspace = true\ntradewind-chain.workspace = true\n";
        let expected = "`tradewind-mesh` must not depend on `tradewind-chain`, which is no lower layer";
        assert_eq!(problems("tradewind-mesh", rest), [(5, expected.to_owned())]);
        let rest = "[dev-dependencies]\ntradewind-mesh = { workspace = true }\n";
        assert_eq!(problems("tradewind-chain", rest).len(), 1);
    }

    #[test]
    fn the_rules_depend_on_no_crate_of_the_workspace() {
        for (name, _) in LAYERS {
            let rest = format!("[dependencies]\n{name}.workspace = true\n");
            assert_eq!(problems("tradewind-proto", &rest).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_crate_without_a_layer_is_found() {
        assert_eq!(problems("tradewind-oracle", ""), [(1, "`tradewind-oracle` has no layer".to_owned())]);
    }
}
