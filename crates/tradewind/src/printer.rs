//! The one place that prints: data to stdout, progress and errors to stderr, JSON where asked.

use std::io::{BufRead, IsTerminal, Write};

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use tradewind_proto::profile::Asset;
use tradewind_proto::units::Money;
use zeroize::Zeroizing;

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

    /// True when somebody is there to be asked.
    pub(crate) fn can_ask(self) -> bool {
        !self.json && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// An answer of the person at the terminal.
    pub(crate) fn ask(self, question: &str) -> anyhow::Result<String> {
        let mut err = std::io::stderr().lock();
        write!(err, "{question}")?;
        err.flush()?;
        let mut answer = String::new();
        if std::io::stdin().lock().read_line(&mut answer)? == 0 {
            anyhow::bail!("the input ended");
        }
        Ok(answer.trim().to_owned())
    }

    /// True when the answer is yes.
    pub(crate) fn confirm(self, question: &str) -> anyhow::Result<bool> {
        let answer = self.ask(&format!("{question} [y/N] "))?;
        Ok(matches!(answer.as_str(), "y" | "Y" | "yes" | "Yes"))
    }

    /// An answer that is not shown.
    pub(crate) fn ask_secret(self, question: &str) -> anyhow::Result<Zeroizing<String>> {
        let _echo = Echo::off();
        Ok(Zeroizing::new(rpassword::prompt_password(question)?))
    }

    /// A failure of ours: what happened, why, and what to do next.
    pub(crate) fn failure(self, error: &anyhow::Error) {
        let mut err = std::io::stderr().lock();
        let hint = error.downcast_ref::<Told>().map(|told| told.0.hint.clone());
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

/// A terminal that shows nothing of what is typed, from before the question stands there: whoever types at once is not shown either.
struct Echo(Option<Termios>);

impl Echo {
    fn off() -> Self {
        let Ok(before) = tcgetattr(stdin()) else { return Self(None) };
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        Self(tcsetattr(stdin(), OptionalActions::Now, &quiet).ok().map(|()| before))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// The beginning of an account or an id, as a table shows it; `--json` has all of it.
pub(crate) fn short(id: impl ToString) -> String {
    let id = id.to_string();
    match id.get(..10) {
        Some(head) if id.len() > 12 => format!("{head}…"),
        Some(_) | None => id,
    }
}

/// An amount as an estimate shows it: from a hundredth of a token on, to four places; `--json` has all of it.
pub(crate) fn about(amount: Money, decimals: u8) -> String {
    let (Ok(least), Ok(step)) = (Money::parse("0.01", decimals), Money::parse("0.0001", decimals)) else {
        return amount.display(decimals);
    };
    let (units, step) = (amount.base_units(), step.base_units());
    if amount < least || step == 0 {
        return amount.display(decimals);
    }
    let nearest = units.saturating_add(step / 2) / step * step;
    Money::new(nearest).unwrap_or(amount).display(decimals)
}

/// A moment, given in seconds since 1970, in UTC.
pub(crate) fn time(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    at.map_or_else(|| seconds.to_string(), |at| at.to_string())
}

/// An amount of base units with its symbol.
pub(crate) fn money(base_units: u128, asset: &Asset) -> String {
    let amount = Money::new(base_units).unwrap_or(Money::MAX);
    format!("{} {}", amount.display(asset.decimals), asset.symbol)
}

/// `1 device`, `2 devices`.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// Base units in JSON: a number, or text where they are too many for one.
pub(crate) fn base_units(amount: Money) -> serde_json::Value {
    let units = amount.base_units();
    u64::try_from(units).map_or_else(|_| units.to_string().into(), Into::into)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_are_shown_to_four_places_and_small_amounts_whole() {
        let shown = |units| about(Money::from_base_units(units), 6);
        assert_eq!(shown(1_559_999), "1.56");
        assert_eq!(shown(79_999), "0.08");
        assert_eq!(shown(12_345), "0.0123");
        assert_eq!(shown(533), "0.000533");
        assert_eq!(short("0x6Fb7B911975068d489c32aBc4f61e6960F98E186"), "0x6Fb7B911…");
        assert_eq!(short("digits"), "digits");
    }
}
