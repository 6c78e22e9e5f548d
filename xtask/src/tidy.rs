//! Rules of the house that no linter knows.
//!
//! ```text
//! git ls-files ─► Tree ─► names · sizes · lines · dependencies · decisions · links · claims ─► findings
//! ```
//!
//! A rule is a function from the tree to findings; each finding names the place and says what to do.

mod claims;
mod decisions;
mod dependencies;
mod lines;
mod links;
mod names;
mod tree;

use std::fmt;

pub(crate) use tree::{File, Tree};

/// One thing to put right.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    problem: String,
    remedy: &'static str,
}

impl Finding {
    fn new(file: &File, line: usize, problem: impl Into<String>, remedy: &'static str) -> Self {
        Self { path: file.path().to_owned(), line, problem: problem.into(), remedy }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.problem, self.remedy)
    }
}

/// Everything in the tree that breaks a rule, by place.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = [
        names::check(tree),
        lines::check(tree),
        dependencies::check(tree),
        decisions::check(tree),
        links::check(tree),
        claims::check(tree),
    ]
    .concat();
    findings.sort();
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_the_place_and_the_remedy() {
        let tree = Tree::of([("crates/tradewind-mesh/src/utils.rs", "//! Odds and ends.\n")]);
        let findings: Vec<String> = check(&tree).iter().map(ToString::to_string).collect();
        assert_eq!(
            findings,
            ["crates/tradewind-mesh/src/utils.rs:1: `utils` says nothing; \
              name the file after the one noun it holds"]
        );
    }
}
