//! YAML text as nodes that know their place, without anybody's idea of what they mean.
//!
//! Numbers keep their text: a price of `2.10` must not pass through a float, and an environment variable `1.10` is not `1.1`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::MAX_JOB_BYTES;
use super::problem::{JobError, Place, Problem, hides};

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One entry of a map.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Value {
    /// What it is, for people.
    pub(super) const fn describe(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

/// Reads one document.
pub(super) fn parse(file: &str, text: &str) -> Result<Node, JobError> {
    if text.len() > MAX_JOB_BYTES {
        let message = format!("the file has {} bytes, at most {MAX_JOB_BYTES} are accepted", text.len());
        return Err(JobError::new(file, "", vec![Problem::new(Place::default(), message)]));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 10_000,
            max_depth: 24,
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 2,
            max_merge_keys: 64,
            max_total_scalar_bytes: 2 * MAX_JOB_BYTES,
        },
        with_snippet: false,
        strict_booleans: true,
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
    };
    let raw: Spanned<Raw> = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| JobError::new(file, text, vec![syntax(&error, text)]))?;
    Ok(raw_to_node(raw, text))
}

/// The parser's complaint. Its messages name keys and tokens, never the text of values.
fn syntax(error: &serde_saphyr::Error, text: &str) -> Problem {
    use serde_saphyr::Error as Yaml;
    let error = error.without_snippet();
    let place = error.location().map_or_else(Place::default, place_of);
    let line = text.lines().nth(place.line.saturating_sub(1) as usize).unwrap_or("");
    let indent = line.len() - line.trim_start().len();
    if line[..indent].contains('\t') {
        return Problem::new(place, "a tab indents this line").hint("indent with spaces");
    }
    if let Yaml::DuplicateMappingKey { key: Some(key), .. } = error {
        return Problem::new(place, format!("`{key}` stands here a second time"));
    }
    if let Yaml::MultipleDocuments { .. } = error {
        return Problem::new(place, "a second document begins here").hint("a job file holds one job");
    }
    let message = error.to_string();
    if message.contains("budget") || message.contains("alias replay") {
        let problem =
            Problem::new(place, "the file is nested too deep, repeats itself too often or is too long");
        return problem.hint("a job has at most 10,000 values, 24 levels and 64 aliases");
    }
    if hides(text, place) {
        return Problem::new(place, "this is not valid YAML")
            .hint("what stands here is not shown; check quotes and indentation");
    }
    let message = message.split_once(" at line ").map_or(message.as_str(), |(message, _)| message);
    Problem::new(place, message.to_string())
}

fn place_of(location: Location) -> Place {
    let clip = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    Place { line: clip(location.line()), column: clip(location.column()) }
}

enum Raw {
    Null,
    Bool(bool),
    Number,
    Text(String),
    List(Vec<Spanned<Self>>),
    Map(Vec<(Spanned<Key>, Spanned<Self>)>),
}

/// A key as its text, whatever it would mean as a value.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = seq.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

fn raw_to_node(raw: Spanned<Raw>, text: &str) -> Node {
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Number => Value::Number(source(raw.defined, text)),
        Raw::Text(value) => Value::Text(value),
        Raw::List(items) => Value::List(items.into_iter().map(|item| raw_to_node(item, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    place: place_of(key.referenced),
                    key: key.value.0,
                    value: raw_to_node(value, text),
                })
                .collect(),
        ),
    };
    Node { place: place_of(raw.referenced), value }
}

/// A plain scalar as it was written.
fn source(location: Location, text: &str) -> String {
    let span = location.span();
    let range = span.byte_offset().zip(span.byte_len()).and_then(|(start, len)| {
        let start = usize::try_from(start).ok()?;
        Some(start..start.checked_add(usize::try_from(len).ok()?)?)
    });
    range.and_then(|range| text.get(range)).unwrap_or("").trim().to_string()
}
