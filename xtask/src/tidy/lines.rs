//! What must not stand in a line, and what must stand in the first.
//!
//! The words looked for are written in two parts, so that this file does not hold them.

use super::{File, Finding, Tree};

/// Homes of people and of root: true on one machine only.
const HOMES: [&str; 2] = [concat!("/ro", "ot/"), concat!("/ho", "me/")];
/// Notes that work is left over.
const LEFTOVERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const EVASIONS: [&str; 3] = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("#[ig", "nore")];
const PRINTS: [&str; 2] = [concat!("clippy::print", "_stdout"), concat!("clippy::print", "_stderr")];
const PRINTERS: [&str; 2] = ["crates/tradewind/", "xtask/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .iter()
        .filter_map(|file| file.text().map(|text| (file, text)))
        .flat_map(|(file, text)| {
            let mut findings: Vec<Finding> = text
                .lines()
                .enumerate()
                .flat_map(|(index, line)| in_line(tree, file, index + 1, line))
                .collect();
            findings.extend(headless(file, text));
            findings.extend(nameless_tests(file, text));
            findings
        })
        .collect()
}

fn in_line(tree: &Tree, file: &File, number: usize, line: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |problem: String, remedy| findings.push(Finding::new(file, number, problem, remedy));
    let own = tree.machine_paths().iter().map(String::as_str);
    if let Some(path) = HOMES.into_iter().chain(own).find(|path| has_path(line, path)) {
        found(format!("`{path}` exists on one machine only"), "use a relative path or a variable");
    }
    if !is_code(file) {
        return findings;
    }
    if let Some(note) = LEFTOVERS.into_iter().find(|note| has_word(line, note)) {
        found(format!("`{note}` leaves work over"), "do it now, or file an issue and drop the note");
    }
    if file.extension() != "rs" {
        return findings;
    }
    if let Some(evasion) = EVASIONS.into_iter().find(|evasion| line.contains(evasion) && !is_child(line)) {
        found(format!("`{evasion}…` hides what does not work"), "make it work, or take it out");
    }
    if PRINTS.iter().any(|lint| line.contains(lint))
        && !PRINTERS.iter().any(|path| file.path().starts_with(path))
    {
        found(
            "only the `tradewind` program and xtask print".to_owned(),
            "return the value, or write to a stream that the caller hands in",
        );
    }
    findings
}

fn headless(file: &File, text: &str) -> Option<Finding> {
    let is_root = file.path().ends_with("src/lib.rs") || file.path().ends_with("src/main.rs");
    (is_root && !text.starts_with("//!")).then(|| {
        Finding::new(file, 1, "the crate does not say what it is for", "begin with `//!` and its purpose")
    })
}

fn nameless_tests(file: &File, text: &str) -> Vec<Finding> {
    if file.extension() != "rs" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let mut is_test = false;
    for (index, line) in text.lines().map(str::trim_start).enumerate() {
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        } else if !line.starts_with("//") {
            if is_test && function_name(line).is_some_and(|name| name.starts_with("test_")) {
                findings.push(Finding::new(
                    file,
                    index + 1,
                    "a test's name is a claim",
                    "say what holds, without the prefix `test_`",
                ));
            }
            is_test = false;
        }
    }
    findings
}

/// Whether the line marks a test that only another test starts, as a process of its own.
fn is_child(line: &str) -> bool {
    line.contains("child of") || line.contains("run by")
}

/// Whether the path stands in the line, not as the end of a longer one.
fn has_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}*$".contains(before))
    })
}

fn is_code(file: &File) -> bool {
    matches!(file.extension(), "rs" | "sol" | "toml" | "sh" | "mjs" | "js" | "html" | "css" | "yaml" | "yml")
        || file.path().starts_with("scripts/")
        || file.path().starts_with(".ci/")
        || file.path() == "Makefile"
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|found| found == word)
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let declares = before.split_whitespace().all(|word| matches!(word, "pub" | "async" | "const"));
    declares.then(|| after.split(['(', '<']).next().unwrap_or(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> Vec<(usize, String)> {
        check(&Tree::of([(path, text)])).into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    fn is_found(path: &str, line: &str) -> bool {
        !problems(path, &format!("//! A.\n{line}\n")).is_empty()
    }

    #[test]
    fn work_left_over_is_found_where_it_stands() {
        let text = format!("//! A.\n\n// {}: later\n", LEFTOVERS[0]);
        assert_eq!(
            problems("crates/a/src/b.rs", &text),
            [(3, format!("`{}` leaves work over", LEFTOVERS[0]))]
        );
        for note in LEFTOVERS {
            assert!(is_found("scripts/tools", &format!("# {note} later")), "{note}");
            assert!(!is_found("README.md", &format!("no {note} here")), "{note}");
            assert!(!is_found("scripts/tools", &format!("mktemp {note}{note}")), "{note}");
        }
    }

    #[test]
    fn what_hides_missing_work_is_found() {
        for evasion in EVASIONS {
            assert!(is_found("crates/a/src/b.rs", &format!("    {evasion}\"\")")), "{evasion}");
        }
        let child = format!("{} = \"runs only as a child of the test below\"]", EVASIONS[2]);
        assert!(!is_found("crates/a/src/b.rs", &child));
    }

    #[test]
    fn a_path_of_one_machine_is_found_in_any_text() {
        for path in [HOMES[0], HOMES[1], "/srv/checkout"] {
            assert!(is_found("README.md", &format!("cd {path}ann")), "{path}");
        }
        assert!(!is_found("README.md", "cd ~/x /srv/other"));
        assert!(!is_found("README.md", &format!("cat /proc/1{}etc", HOMES[0])));
    }

    #[test]
    fn a_test_that_is_no_claim_is_found() {
        let found = |line: &str| is_found("crates/a/src/b.rs", line);
        assert!(found("    #[test]\n    fn test_lease() {"));
        assert!(found("#[tokio::test(start_paused = true)]\n// Why.\n#[cfg(unix)]\nasync fn test_lease() {"));
        assert!(!found("#[test]\nfn a_test_lease_ends() {}\nfn test_lease() {"));
        assert!(!found("    pub fn test_dollars() {"));
        assert!(!is_found("contracts/test/Lease.t.sol", "function test_Open() {"));
    }

    #[test]
    fn an_exception_for_printing_is_found_outside_the_program() {
        let line = format!("#![expect({}, reason = \"\")]", PRINTS[0]);
        assert!(is_found("crates/tradewind-mesh/src/b.rs", &line));
        assert!(!is_found("crates/tradewind/src/b.rs", &line));
    }

    #[test]
    fn a_crate_without_a_header_is_found() {
        assert_eq!(problems("crates/a/src/lib.rs", "mod b;\n").len(), 1);
        assert_eq!(problems("crates/a/src/lib.rs", "//! A.\n").len(), 0);
        assert_eq!(problems("crates/a/src/b.rs", "mod c;\n").len(), 0);
    }
}
