//! Tables of a Markdown page, between `<!-- name -->` and `<!-- end -->`.

use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) struct Table {
    name: &'static str,
    text: String,
}

impl Table {
    pub(crate) fn new(name: &'static str, head: &[&str]) -> Self {
        let mut table = Self { name, text: String::new() };
        table.row(head);
        table.row(&vec!["---"; head.len()]);
        table
    }

    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: &[T]) {
        let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
        writeln!(self.text, "| {} |", cells.join(" | ")).unwrap();
    }
}

/// Compares the page with the tables, or writes them into it where `TRADEWIND_WRITE_PAGES` is set.
pub(crate) fn agrees(page: &str, tables: &[Table]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let right = tables.iter().fold(text.clone(), |text, table| with(&text, table));
    assert_eq!(
        text.matches("<!-- end -->").count(),
        tables.len(),
        "{page} has a table that nothing computes"
    );
    if std::env::var_os("TRADEWIND_WRITE_PAGES").is_some() {
        std::fs::write(&path, right).unwrap();
        return;
    }
    assert_eq!(
        text, right,
        "{page} differs; hint: run this test with TRADEWIND_WRITE_PAGES=1, and read what changed"
    );
}

fn with(text: &str, table: &Table) -> String {
    let opening = format!("<!-- {} -->\n", table.name);
    let (before, rest) = text.split_once(&opening).unwrap_or_else(|| panic!("no table `{}`", table.name));
    let (_, after) = rest.split_once("<!-- end -->").expect("a table ends");
    format!("{before}{opening}\n{}\n<!-- end -->{after}", table.text)
}

#[test]
fn a_table_is_replaced_where_it_stands() {
    let mut table = Table::new("odds", &["a", "b"]);
    table.row(&["1", "2"]);
    let page = "before\n<!-- odds -->\n\n| old |\n<!-- end -->\nafter\n";
    let expected = "before\n<!-- odds -->\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n<!-- end -->\nafter\n";
    assert_eq!(with(page, &table), expected);
    assert_eq!(with(expected, &table), expected);
}
