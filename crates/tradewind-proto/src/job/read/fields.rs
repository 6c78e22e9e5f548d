//! Reading one node: known fields, scalars, ranges and choices.

use std::str::FromStr;

use super::words;
use crate::job::problem::{Place, Problem, nearest};
use crate::job::yaml::{Entry, Node, Value};
use crate::units::{Bytes, Seconds};

/// Collects problems while it reads.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<Problem>,
}

/// A map whose keys are all known.
pub(super) struct Fields<'n> {
    entries: &'n [Entry],
    place: Place,
}

impl<'n> Fields<'n> {
    /// The field's value; a field without a value counts as absent.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.entries
            .iter()
            .find(|entry| entry.key == name)
            .map(|entry| &entry.value)
            .filter(|node| !matches!(node.value, Value::Null))
    }

    /// Where the field's name stands, or the map.
    pub(super) fn place(&self, name: &str) -> Place {
        self.entries.iter().find(|entry| entry.key == name).map_or(self.place, |entry| entry.place)
    }
}

impl Reader {
    /// Notes a problem.
    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// The node as a map of `known` fields. Unknown ones are problems, each with the nearest known word.
    pub(super) fn fields<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        known: &[&'static str],
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            let what = if path.is_empty() { "a job".into() } else { format!("`{path}`") };
            let message = format!("{what} must be a map of fields, this is {}", node.value.describe());
            self.problem(Problem::new(node.place, message));
            return None;
        };
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            let key: String = entry.key.chars().filter(|c| !c.is_control()).take(64).collect();
            let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
            let mut problem = Problem::new(entry.place, format!("unknown field `{key}`{place}"));
            if let Some(known) = nearest(&key, known.iter().copied()) {
                problem = problem.hint(format!("did you mean `{known}`?"));
            } else if let Some(hint) = words::elsewhere(&key) {
                problem = problem.hint(hint);
            } else if super::FIELDS.contains(&key.as_str()) {
                problem = problem.hint(format!("`{key}` belongs to the top level"));
            }
            self.problem(problem);
        }
        Some(Fields { entries, place: node.place })
    }

    /// One line or more of text; a number stands for its text.
    pub(super) fn text(&mut self, node: &Node, field: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Number(text) if !text.contains('\0') => Some(text.clone()),
            Value::Text(_) | Value::Number(_) => {
                self.problem(Problem::new(node.place, format!("`{field}` has a zero byte")));
                None
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                let message = format!("`{field}` must be text, this is {}", node.value.describe());
                let problem = Problem::new(node.place, message);
                let quote = matches!(node.value, Value::Bool(_) | Value::Null);
                self.problem(if quote { problem.hint("quote it") } else { problem });
                None
            }
        }
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, node: &Node, field: &str, least: u64, most: u64) -> Option<u64> {
        let number = match &node.value {
            Value::Number(text) | Value::Text(text) => text.parse::<u64>().ok(),
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        };
        match number {
            Some(number) if (least..=most).contains(&number) => Some(number),
            Some(_) | None => {
                let message = format!("`{field}` must be a whole number from {least} to {most}");
                self.problem(Problem::new(node.place, message));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, node: &Node, field: &str) -> Option<bool> {
        if let Value::Bool(flag) = node.value {
            return Some(flag);
        }
        let message = format!("`{field}` must be `true` or `false`, this is {}", node.value.describe());
        self.problem(Problem::new(node.place, message));
        None
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        node: &Node,
        field: &str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(node, field)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let problem = Problem::new(node.place, format!("`{field}` must be one of {}", words.join(", ")));
        self.problem(match nearest(&text, words) {
            Some(word) => problem.hint(format!("did you mean `{word}`?")),
            None => problem,
        });
        None
    }

    /// Anything that reads itself from text. `example` shows how.
    pub(super) fn parsed<T: FromStr>(&mut self, node: &Node, field: &str, example: &str) -> Option<T> {
        let text = self.text(node, field)?;
        let parsed = text.trim().parse().ok();
        if parsed.is_none() {
            let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
            let message = format!("`{field}` cannot be `{shown}`");
            self.problem(Problem::new(node.place, message).hint(format!("write it like {example}")));
        }
        parsed
    }

    /// A duration from one second to `most`.
    pub(super) fn duration(&mut self, node: &Node, field: &str, most: Seconds) -> Option<Seconds> {
        let seconds: Seconds = self.parsed(node, field, "`90s`, `10m` or `1h30m`")?;
        if seconds > Seconds::ZERO && seconds <= most {
            return Some(seconds);
        }
        self.problem(Problem::new(node.place, format!("`{field}` must be from 1s to {most}")));
        None
    }

    /// A size: `16GB`, `512MiB`, or a plain number of GiB; `+` after it changes nothing, because every size is a lower bound.
    pub(super) fn size(&mut self, node: &Node, field: &str) -> Option<Bytes> {
        let text = self.text(node, field)?;
        let number = text.trim().trim_end_matches('+').trim();
        let plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let size = if plain {
            thousandths(number).and_then(|n| Some(Bytes::new(n.checked_mul(1 << 30)? / 1000)))
        } else {
            number.parse().ok()
        };
        match size {
            Some(size) if size > Bytes::ZERO && size <= Bytes::gib(1 << 20) => Some(size),
            Some(_) | None => {
                let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
                let problem = Problem::new(node.place, format!("`{field}` cannot be `{shown}`"));
                self.problem(problem.hint("write it like `16GB`, `512MiB` or `8` (GiB), up to 1 PiB"));
                None
            }
        }
    }

    /// The items of a list; a single value stands for a list of one.
    pub(super) fn items<'n>(&mut self, node: &'n Node, field: &str, most: usize) -> &'n [Node] {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => {
                std::slice::from_ref(node)
            }
        };
        if items.len() > most {
            self.problem(Problem::new(node.place, format!("`{field}` has more than {most} entries")));
            return &[];
        }
        items
    }
}

/// A decimal as thousandths, at most three places: `0.5` is 500.
pub(super) fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    if part.len() > 3 || (whole.is_empty() && part.is_empty()) {
        return None;
    }
    if !whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{whole}{part:0<3}").parse().ok()
}
