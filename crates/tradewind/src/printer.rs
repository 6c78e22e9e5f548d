//! The one place that prints: data to stdout, progress and errors to stderr, JSON where asked.

use std::io::{IsTerminal, Write};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::client::Told;

/// How output looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
}

impl Printer {
    /// JSON on stdout, or text for people.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
    }

    /// True when stdout carries JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// Data: one JSON value on one line, or what `text` makes of it.
    pub(crate) fn data<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        let line = if self.json { serde_json::to_string(value)? } else { text(value) };
        self.raw(&format!("{}\n", line.trim_end()));
        Ok(())
    }

    /// A job's own output, as it is. Silent where stdout carries JSON.
    pub(crate) fn job(self, text: &str) {
        if !self.json {
            self.raw(text);
        }
    }

    fn raw(self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A reader that went away has seen what it wanted.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    /// A step, for people watching.
    pub(crate) fn step(self, text: &str) {
        let mut err = std::io::stderr().lock();
        let _ = writeln!(err, "{text}");
    }

    /// A step that takes a while; shown as a spinner on a terminal.
    pub(crate) fn spinner(self, text: &str) -> ProgressBar {
        if self.json || !std::io::stderr().is_terminal() {
            self.step(text);
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        bar
    }

    /// A failure of ours: what happened, why, and what to do next.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let mut err = std::io::stderr().lock();
        let hint =
            error.chain().find_map(|cause| cause.downcast_ref::<Told>()).map(|told| told.0.hint.clone());
        let mut lines = format!("error: {error}");
        for cause in error.chain().skip(1) {
            let cause = cause.to_string();
            if !lines.ends_with(&cause) {
                lines.push_str(&format!("\n  because: {cause}"));
            }
        }
        if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
            lines.push_str(&format!("\nhint: {hint}"));
        }
        let _ = writeln!(err, "{lines}");
    }
}

/// A table with a header.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table.to_string()
}
