//! Every test that the threat model names is in the sources.

use std::collections::BTreeSet;

use super::{File, Finding, Tree};

const PAGE: &str = "docs/threat-model.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.files().iter().find(|file| file.path() == PAGE) else { return Vec::new() };
    let defined: BTreeSet<&str> = tree.files().iter().flat_map(functions).collect();
    let mut findings = Vec::new();
    for (index, line) in page.text().unwrap_or_default().lines().enumerate() {
        for name in names(line).filter(|name| !defined.contains(name)) {
            findings.push(Finding::new(
                page,
                index + 1,
                format!("there is no test `{name}`"),
                "name the test that holds the bound",
            ));
        }
    }
    findings
}

/// Code spans of a line that can only be a function's name.
fn names(line: &str) -> impl Iterator<Item = &str> {
    let spans = line.split('`').skip(1).step_by(2);
    spans.filter(|span| span.contains('_') && span.bytes().all(is_of_a_name))
}

/// What a file of Rust or Solidity defines.
fn functions(file: &File) -> impl Iterator<Item = &str> {
    let keyword = match file.extension() {
        "rs" => Some("fn "),
        "sol" => Some("function "),
        _ => None,
    };
    let text = keyword.and_then(|_| file.text()).unwrap_or_default();
    text.lines().filter_map(move |line| {
        let (_, rest) = line.split_once(keyword?)?;
        rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
    })
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_without_its_test_is_found() {
        let tree = Tree::of([
            (
                PAGE,
                "| `a_thief_takes_nothing`, `test_NorHere`, `requestClose`, [x](y_z.md) |\n| `a_thief_left` |\n",
            ),
            ("crates/tradewind-proto/src/meter.rs", "    async fn a_thief_takes_nothing() {\n"),
            ("contracts/test/Vault.t.sol", "    function test_NorHere() external {\n"),
            ("docs/other.md", "fn a_thief_left()"),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), (PAGE, 2));
        assert_eq!(findings[0].problem, "there is no test `a_thief_left`");
    }
}
