//! What is wrong with a job file, and where. Values of environment and secrets are never shown.

use std::fmt;

/// Longer source lines are cut in snippets.
const MAX_SNIPPET: usize = 100;
/// More problems than this are counted, not listed.
const MAX_PROBLEMS: usize = 20;
/// What stands where a value would.
const REDACTED: &str = "…";
/// Fields whose values are never shown.
const PRIVATE: [&str; 11] = [
    "envs",
    "secrets",
    "env",
    "environment",
    "secret",
    "envs_file",
    "registry",
    "s3",
    "hf",
    "git",
    "encrypt_to",
];

/// A place in a file, counted from one; zero where the problem has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, without the values of environment or secrets.
    pub message: String,
    /// What would help.
    pub hint: Option<String>,
}

impl Problem {
    pub(super) fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Everything that is wrong with a job file; there is at least one [`Problem`].
///
/// `Display` is one line a problem, `file:line:column: message; hint`. [`JobError::render`] adds the source lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    file: String,
    problems: Vec<Problem>,
    snippets: Vec<Option<String>>,
}

impl std::error::Error for JobError {}

impl JobError {
    pub(super) fn new(file: &str, text: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.place);
        problems.dedup();
        let snippets = problems.iter().map(|problem| snippet(text, problem.place)).collect();
        Self { file: file.into(), problems, snippets }
    }

    /// The problems in the order of the file.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems with the lines that they stand in.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (problem, snippet) in self.problems.iter().zip(&self.snippets).take(MAX_PROBLEMS) {
            out.push_str(&self.head(problem));
            out.push('\n');
            if let Some(line) = snippet {
                let number = problem.place.line.to_string();
                let margin = " ".repeat(number.len());
                let column = (problem.place.column.max(1) - 1) as usize;
                let caret = " ".repeat(column.min(line.chars().count()));
                out.push_str(&format!("{margin} |\n{number} | {line}\n{margin} | {caret}^\n"));
            }
            if let Some(hint) = &problem.hint {
                out.push_str(&format!("hint: {hint}\n"));
            }
        }
        if let Some(more) = self.problems.len().checked_sub(MAX_PROBLEMS + 1) {
            out.push_str(&format!("{} more problems\n", more + 1));
        }
        out
    }

    fn head(&self, problem: &Problem) -> String {
        match problem.place {
            Place { line: 0, .. } => format!("{}: {}", self.file, problem.message),
            Place { line, column } => format!("{}:{line}:{column}: {}", self.file, problem.message),
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().take(MAX_PROBLEMS).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.head(problem))?;
            if let Some(hint) = &problem.hint {
                write!(f, "; {hint}")?;
            }
        }
        Ok(())
    }
}

/// The known word nearest to `word`, if it is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    known
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, known), known))
        .filter(|(distance, known)| *distance <= 1 + known.len().min(word.len()) / 4)
        .min()
        .map(|(_, known)| known)
}

/// The line that a problem stands in, as far as it may be shown.
fn snippet(text: &str, place: Place) -> Option<String> {
    let index = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let is_flow = text.trim_start().starts_with(['{', '[']);
    if is_flow && text.lines().any(|line| private_end(line).is_some()) {
        return None;
    }
    let lines: Vec<&str> = text.lines().take(index + 1).collect();
    let line = redact(&lines, index)?;
    let shown: String =
        line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SNIPPET).collect();
    let reaches =
        shown.chars().count() >= usize::try_from(place.column).unwrap_or(usize::MAX).saturating_sub(1);
    (!shown.trim().is_empty() && (reaches || shown.ends_with(REDACTED))).then_some(shown)
}

/// Whether a line belongs to the values of a private field, so that nothing of it may be shown.
pub(super) fn hides(text: &str, place: Place) -> bool {
    let Some(index) = usize::try_from(place.line).ok().and_then(|line| line.checked_sub(1)) else {
        return false;
    };
    let lines: Vec<&str> = text.lines().take(index + 1).collect();
    let Some(line) = lines.get(index) else { return false };
    private_end(line).is_some() || privacy(&lines[..index], line) != Privacy::Public
}

/// What of a line may be shown.
#[derive(PartialEq, Eq)]
enum Privacy {
    /// All of it.
    Public,
    /// A name of a private field's entry, but not its value.
    Name,
    /// Nothing.
    Hidden,
}

/// The line with the values of private fields cut off. Works on text that may not be YAML at all, so it errs on the safe
/// side: what follows a private field's name on its line is cut, and everything below it until a public field.
fn redact(lines: &[&str], index: usize) -> Option<String> {
    let line = *lines.get(index)?;
    if let Some(end) = private_end(line) {
        let rest = line[end..].trim();
        return Some(if rest.is_empty() { line.into() } else { format!("{} {REDACTED}", &line[..end]) });
    }
    let is_plain = |key: &str| key.trim().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (privacy(&lines[..index], line), line.split_once(':')) {
        (Privacy::Public, _) => Some(without_credentials(line)),
        (Privacy::Name, Some((key, _))) if is_plain(key) => Some(format!("{key}: {REDACTED}")),
        _ => Some(format!("{}{REDACTED}", " ".repeat(indent_of(line)))),
    }
}

/// Where a private field's name and colon end in this line.
fn private_end(line: &str) -> Option<usize> {
    let is_address = |colon: usize| line[colon..].starts_with("://");
    line.match_indices(':').filter(|(colon, _)| !is_address(*colon)).find_map(|(colon, _)| {
        let word = line[..colon].trim_end_matches(['"', '\'', ' ']);
        let length = word.bytes().rev().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        let word = word[word.len() - length..].to_ascii_lowercase();
        PRIVATE.contains(&word.as_str()).then_some(colon + 1)
    })
}

/// The line without what stands between `://` and `@`.
fn without_credentials(line: &str) -> String {
    let Some((scheme, rest)) = line.split_once("://") else { return line.into() };
    match rest.split_once('@') {
        Some((_, rest)) => format!("{scheme}://{REDACTED}@{}", without_credentials(rest)),
        None => format!("{scheme}://{}", without_credentials(rest)),
    }
}

/// Looks upwards for a private field that is still open at `line`.
fn privacy(above: &[&str], line: &str) -> Privacy {
    let mut indent = indent_of(line);
    let mut depth = 0;
    for above in above.iter().rev().filter(|above| !above.trim().is_empty()) {
        let is_parent = indent_of(above) < indent;
        if private_end(above).is_some() {
            match (is_parent, depth) {
                (true, 0) => return Privacy::Name,
                (true, _) => return Privacy::Hidden,
                (false, _) if depth == 0 && !is_public_field(line) => return Privacy::Hidden,
                (false, _) => {}
            }
        }
        if indent_of(above) == 0 && is_public_field(above) {
            return Privacy::Public;
        }
        if is_parent {
            (indent, depth) = (indent_of(above), depth + 1);
        }
    }
    Privacy::Public
}

fn is_public_field(line: &str) -> bool {
    // An item of a list may stand as far left as the field that it belongs to.
    let word: String = line
        .trim_start_matches([' ', '"', '\''])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    super::read::FIELDS.contains(&word.as_str()) && !PRIVATE.contains(&word.as_str())
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start().len()
}
