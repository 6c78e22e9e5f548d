//! Relative links in Markdown lead to files of the tree.

use super::{File, Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.files()
        .iter()
        .filter(|file| file.extension() == "md")
        .filter_map(|file| file.text().map(|text| (file, text)))
        .flat_map(|(file, text)| in_page(tree, file, text))
        .collect()
}

fn in_page(tree: &Tree, file: &File, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for target in targets(line) {
            if !resolve(file.path(), target).is_some_and(|path| tree.holds(&path)) {
                findings.push(Finding::new(
                    file,
                    index + 1,
                    format!("the link to `{target}` leads nowhere"),
                    "correct it, or add the file",
                ));
            }
        }
    }
    findings
}

fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split([')', ' ', '#']).next())
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
}

fn resolve(page: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let tree = Tree::of([("docs/adr/0001-a.md", text), ("docs/b.md", ""), ("README.md", "")]);
        check(&tree).into_iter().map(|finding| (finding.line, finding.problem)).collect()
    }

    #[test]
    fn a_link_to_a_file_of_the_tree_is_good() {
        assert_eq!(problems("[b](../b.md#part) [r](../../README.md) [d](../adr) [h](#here)"), []);
        assert_eq!(problems("[w](https://example.org/x) [m](mailto:a@example.org)"), []);
        assert_eq!(problems("```\n[c](code.md)\n```\n"), []);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found_where_it_stands() {
        assert_eq!(
            problems("\n[a](../b.md) ![c](../c.png)"),
            [(2, "the link to `../c.png` leads nowhere".to_owned())]
        );
        assert_eq!(problems("[up](../../../x)").len(), 1);
    }
}
