//! Files are named after nouns, and are small.

use super::{File, Finding, Tree};

const HOLLOW: [&str; 10] =
    ["mod", "utils", "util", "common", "helpers", "helper", "misc", "manager", "managers", "types"];
const MAX_LINES: usize = 800;
const MAX_BYTES: usize = 1 << 20;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files().iter().flat_map(|file| [hollow(file), long(file), heavy(file)]).flatten().collect()
}

fn hollow(file: &File) -> Option<Finding> {
    if !matches!(file.extension(), "rs" | "sol") {
        return None;
    }
    let stem = file.stem().to_lowercase();
    if stem == "mod" {
        return Some(Finding::new(
            file,
            1,
            "modules are not called `mod.rs`",
            "move it to `<module>.rs` beside its directory",
        ));
    }
    let word = stem.split('_').find(|word| HOLLOW.contains(word))?;
    Some(Finding::new(file, 1, format!("`{word}` says nothing"), "name the file after the one noun it holds"))
}

fn long(file: &File) -> Option<Finding> {
    let lines = match (file.extension(), file.text()) {
        ("rs" | "sol", Some(text)) => text.lines().count(),
        _ => return None,
    };
    (lines > MAX_LINES).then(|| {
        Finding::new(
            file,
            MAX_LINES + 1,
            format!("{lines} lines are more than {MAX_LINES}"),
            "split the file by its nouns",
        )
    })
}

fn heavy(file: &File) -> Option<Finding> {
    let bytes = file.bytes().len();
    (bytes > MAX_BYTES).then(|| {
        Finding::new(
            file,
            1,
            format!("{bytes} bytes are more than {MAX_BYTES}"),
            "make the file smaller, or have a script produce it",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<String> {
        check(&Tree::of([(path, text)])).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_hollow_name_is_found() {
        assert_eq!(problems("crates/a/src/lease/mod.rs", ""), ["modules are not called `mod.rs`"]);
        assert_eq!(problems("crates/a/tests/it/common.rs", ""), ["`common` says nothing"]);
        assert_eq!(problems("crates/a/src/lease_manager.rs", ""), ["`manager` says nothing"]);
        assert_eq!(problems("contracts/src/Utils.sol", ""), ["`utils` says nothing"]);
        assert_eq!(problems("crates/a/src/commons.rs", ""), Vec::<String>::new());
        assert_eq!(problems("contracts/src/types/Terms.sol", ""), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_801_lines_is_found_and_one_of_800_is_not() {
        assert_eq!(problems("a.rs", &"\n".repeat(801)), ["801 lines are more than 800"]);
        assert_eq!(problems("a.rs", &"\n".repeat(800)), Vec::<String>::new());
        assert_eq!(problems("a.json", &"\n".repeat(801)), Vec::<String>::new());
    }

    #[test]
    fn a_file_above_a_mebibyte_is_found() {
        assert_eq!(problems("a.png", &"x".repeat(MAX_BYTES + 1)), ["1048577 bytes are more than 1048576"]);
        assert_eq!(problems("a.png", &"x".repeat(MAX_BYTES)), Vec::<String>::new());
    }
}
