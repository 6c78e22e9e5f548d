//! Every decision record in `docs/adr` has its own number.

use std::collections::BTreeMap;

use super::{File, Finding, Tree};

const PLACE: &str = "docs/adr/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut numbered: BTreeMap<&str, &File> = BTreeMap::new();
    let mut findings = Vec::new();
    for file in tree.files().iter().filter(|file| file.path().starts_with(PLACE)) {
        let Some(number) = number(file.stem()) else {
            findings.push(Finding::new(
                file,
                1,
                "it has no number",
                "name it `NNNN-what-was-decided.md`, with the next free number",
            ));
            continue;
        };
        if let Some(first) = numbered.get(number) {
            findings.push(Finding::new(
                file,
                1,
                format!("{number} is taken by {}", first.path()),
                "take the next free number",
            ));
        } else {
            numbered.insert(number, file);
        }
    }
    findings
}

fn number(stem: &str) -> Option<&str> {
    let (number, title) = stem.split_once('-')?;
    let is_number = number.len() == 4 && number.bytes().all(|digit| digit.is_ascii_digit());
    (is_number && !title.is_empty()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_taken_twice_is_found() {
        let tree = Tree::of([
            ("docs/adr/0001-record-decisions.md", ""),
            ("docs/adr/0002-one-binary.md", ""),
            ("docs/adr/0002-two-binaries.md", ""),
        ]);
        let findings = check(&tree);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].path, "docs/adr/0002-two-binaries.md");
        assert_eq!(findings[0].problem, "0002 is taken by docs/adr/0002-one-binary.md");
    }

    #[test]
    fn a_record_without_a_number_is_found() {
        for name in ["docs/adr/why.md", "docs/adr/12-why.md", "docs/adr/0012-.md"] {
            assert_eq!(check(&Tree::of([(name, "")])).len(), 1, "{name}");
        }
    }
}
