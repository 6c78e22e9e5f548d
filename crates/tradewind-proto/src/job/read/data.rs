//! What goes in and out: environment, secrets, inputs, outputs and checkpoints.

use std::collections::BTreeMap;

use alloy_primitives::B256;

use super::fields::Reader;
use super::words;
use crate::job::problem::{Place, Problem};
use crate::job::yaml::{Node, Value};
use crate::job::{
    Checkpoint, Input, InputHashes, InputSource, SecretRef, SecretSource, is_https, is_variable,
};
use crate::manifest::check_path;
use crate::units::Seconds;
use crate::workload::Stop;

const MAX_VARIABLES: usize = 256;
const MAX_INPUTS: usize = 256;
const MAX_OUTPUTS: usize = 255;
const DAY: Seconds = Seconds::new(86_400);

impl Reader {
    /// Environment: a map, or Compose's list of `NAME=value`. No problem ever shows a value.
    pub(super) fn envs(&mut self, node: &Node) -> BTreeMap<String, String> {
        let mut envs = BTreeMap::new();
        let pairs: Vec<(Place, String, Option<String>)> = match &node.value {
            Value::Map(entries) => entries
                .iter()
                .map(|entry| (entry.place, entry.key.clone(), self.env_value(&entry.value)))
                .collect(),
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(pair) if pair.contains('=') => {
                        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                        (item.place, name.to_string(), Some(value.to_string()))
                    }
                    Value::Null
                    | Value::Bool(_)
                    | Value::Number(_)
                    | Value::Text(_)
                    | Value::List(_)
                    | Value::Map(_) => {
                        let problem = Problem::new(item.place, "an entry of `envs` must be `NAME=value`");
                        self.problem(problem.hint("a variable of your own shell goes under `secrets`"));
                        (item.place, "_".into(), None)
                    }
                })
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                self.problem(Problem::new(node.place, "`envs` must be a map of names and values"));
                Vec::new()
            }
        };
        if pairs.len() > MAX_VARIABLES {
            self.problem(Problem::new(node.place, format!("`envs` has more than {MAX_VARIABLES} entries")));
        }
        for (place, name, value) in pairs.into_iter().take(MAX_VARIABLES) {
            if !self.variable(place, &name, "envs") {
                continue;
            }
            if let Some(value) = value
                && envs.insert(name.clone(), value).is_some()
            {
                self.problem(Problem::new(place, format!("`{name}` stands in `envs` a second time")));
            }
        }
        envs
    }

    fn env_value(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) | Value::Number(text) if !text.contains('\0') => Some(text.clone()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null => {
                let problem = Problem::new(node.place, "a variable in `envs` has no value");
                self.problem(
                    problem.hint("a variable of your own shell goes under `secrets`; `\"\"` is empty"),
                );
                None
            }
            Value::Text(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                self.problem(Problem::new(node.place, "a variable in `envs` must be text"));
                None
            }
        }
    }

    fn variable(&mut self, place: Place, name: &str, field: &str) -> bool {
        let holds = is_variable(name);
        if !holds {
            let message = format!("`{field}` holds a name that is not letters, digits and `_`");
            self.problem(Problem::new(place, message));
        }
        holds
    }

    /// Secrets: a list of names, or a map of names to nothing, `{env: …}`, `{file: …}` or `{generated: true}`.
    pub(super) fn secrets(&mut self, node: &Node, envs: &BTreeMap<String, String>) -> Vec<SecretRef> {
        let mut secrets: Vec<(Place, Option<SecretRef>)> = Vec::new();
        match &node.value {
            Value::List(items) => {
                for item in items {
                    let secret = match &item.value {
                        Value::Text(name) if !name.contains('=') => {
                            Some(SecretRef { name: name.clone(), source: SecretSource::Env(name.clone()) })
                        }
                        Value::Map(_) => self.secret_map(item, None),
                        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                            self.inline_secret(item.place);
                            None
                        }
                    };
                    secrets.push((item.place, secret));
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    let source = || SecretSource::Env(entry.key.clone());
                    let secret = match &entry.value.value {
                        Value::Null => Some(SecretRef { name: entry.key.clone(), source: source() }),
                        Value::Map(_) => self.secret_map(&entry.value, Some(&entry.key)),
                        Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                            self.inline_secret(entry.value.place);
                            None
                        }
                    };
                    secrets.push((entry.place, secret));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                self.problem(Problem::new(node.place, "`secrets` must be a list of names"));
            }
        }
        if secrets.len() > MAX_VARIABLES {
            self.problem(Problem::new(
                node.place,
                format!("`secrets` has more than {MAX_VARIABLES} entries"),
            ));
        }
        let mut known: Vec<SecretRef> = Vec::new();
        for (place, secret) in secrets.into_iter().filter_map(|(place, secret)| Some((place, secret?))) {
            if !self.variable(place, &secret.name, "secrets") {
                continue;
            }
            if envs.contains_key(&secret.name) || known.iter().any(|other| other.name == secret.name) {
                let message = format!("`{}` is set a second time by `secrets`", secret.name);
                self.problem(Problem::new(place, message));
            }
            known.push(secret);
        }
        known
    }

    fn inline_secret(&mut self, place: Place) {
        let problem = Problem::new(place, "a secret's value must not stand in the job file");
        self.problem(problem.hint("name it, and put the value into your environment or `{file: path}`"));
    }

    fn secret_map(&mut self, node: &Node, name: Option<&str>) -> Option<SecretRef> {
        let known: &[&'static str] = match name {
            Some(_) => &["env", "file", "generated"],
            None => &["name", "env", "file", "generated"],
        };
        let fields = self.fields(node, "secrets", known)?;
        let name = match name {
            Some(name) => name.to_string(),
            None => fields.get("name").and_then(|node| self.text(node, "secrets.name")).or_else(|| {
                self.problem(Problem::new(node.place, "a secret has no `name`"));
                None
            })?,
        };
        let source = match (fields.get("env"), fields.get("file"), fields.get("generated")) {
            (None, None, None) => SecretSource::Env(name.clone()),
            (Some(env), None, None) => SecretSource::Env(self.text(env, "secrets.env")?),
            (None, Some(file), None) => SecretSource::File(self.text(file, "secrets.file")?),
            (None, None, Some(node)) if matches!(node.value, Value::Bool(true)) => SecretSource::Generated,
            (None, None, Some(node)) => {
                self.problem(Problem::new(node.place, "`secrets.generated` can only be `true`"));
                return None;
            }
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                let place = if fields.get("file").is_some() { "file" } else { "generated" };
                let message = "a secret comes from `env`, from `file`, or is `generated`";
                self.problem(Problem::new(fields.place(place), message));
                return None;
            }
        };
        Some(SecretRef { name, source })
    }

    pub(super) fn inputs(&mut self, node: &Node) -> Vec<Input> {
        let mut inputs = Vec::new();
        for item in self.items(node, "inputs", MAX_INPUTS) {
            inputs.extend(if matches!(item.value, Value::Map(_)) {
                self.input_map(item)
            } else {
                self.text(item, "inputs")
                    .and_then(|source| self.input(item.place, &source, None, InputHashes::default()))
            });
        }
        inputs
    }

    fn input_map(&mut self, node: &Node) -> Option<Input> {
        let fields = self.fields(node, "inputs", &["path", "source", "url", "target", "sha256", "blake3"])?;
        let sources: Vec<&Node> =
            ["path", "source", "url"].iter().filter_map(|name| fields.get(name)).collect();
        let [source] = sources.as_slice() else {
            self.problem(Problem::new(node.place, "an input needs one of `path` and `url`"));
            return None;
        };
        let place = source.place;
        let source = self.text(source, "inputs.path")?;
        let target = fields.get("target").and_then(|node| self.text(node, "inputs.target"));
        let mut hash_of = |name| {
            fields
                .get(name)
                .and_then(|node| self.parsed::<B256>(node, &format!("inputs.{name}"), "64 hex digits"))
                .map(|hash| hash.0)
        };
        let hashes = InputHashes { sha256: hash_of("sha256"), blake3: hash_of("blake3") };
        self.input(place, &source, target.as_deref(), hashes)
    }

    /// SkyPilot's map of targets to sources.
    pub(super) fn file_mounts(&mut self, node: &Node) -> Vec<Input> {
        let Value::Map(entries) = &node.value else {
            self.problem(Problem::new(node.place, "`file_mounts` must be a map of targets and sources"));
            return Vec::new();
        };
        let mut inputs = Vec::new();
        for entry in entries.iter().take(MAX_INPUTS) {
            if matches!(entry.value.value, Value::Map(_)) {
                let problem =
                    Problem::new(entry.value.place, "a storage in `file_mounts` is not available yet");
                self.problem(problem.hint("use a local path or an https address"));
            } else if let Some(source) = self.text(&entry.value, "file_mounts") {
                inputs.extend(self.input(entry.place, &source, Some(&entry.key), InputHashes::default()));
            }
        }
        inputs
    }

    fn input(
        &mut self,
        place: Place,
        source: &str,
        target: Option<&str>,
        hashes: InputHashes,
    ) -> Option<Input> {
        let scheme = source.split_once("://").map(|(scheme, _)| scheme);
        let parsed = match scheme {
            None if hashes != InputHashes::default() => {
                let problem = Problem::new(place, "a local input needs no hash").hint("it is computed");
                self.problem(problem);
                return None;
            }
            None => InputSource::Local(source.to_string()),
            Some("https") if is_https(source) => InputSource::Https { url: source.into(), hashes },
            Some("https") => {
                let problem = Problem::new(place, "an input's address is malformed");
                self.problem(problem.hint("it must not hold a user, a password or spaces"));
                return None;
            }
            Some("http") => {
                self.problem(Problem::new(place, "an input must not come by plain http").hint("use https"));
                return None;
            }
            Some(scheme) if scheme == "git" || scheme.starts_with("git+") => {
                self.repository(place, source, hashes)?
            }
            Some("s3") => self.object(place, source, hashes)?,
            Some("hf") => self.hub_file(place, source, hashes)?,
            Some(scheme) => {
                let scheme: String = scheme.chars().filter(char::is_ascii_alphanumeric).take(16).collect();
                let problem = Problem::new(place, format!("inputs from {scheme} are not available yet"));
                self.problem(problem.hint("use a local path, or an address with https, git+https, s3 or hf"));
                return None;
            }
        };
        let target = match target {
            Some(target) => target.to_string(),
            None => parsed.name().to_string(),
        };
        if parsed.may_spread() && matches!(target.as_str(), "." | "./") {
            return Some(Input { source: parsed, target: ".".into() });
        }
        if matches!(parsed, InputSource::Git { .. }) && matches!(target.as_str(), "." | "./") {
            let problem = Problem::new(place, "a repository needs a directory of its own");
            self.problem(problem.hint("leave `target` out, or name one: `target: code`"));
            return None;
        }
        let target = self.inside(place, &target, "an input's `target`")?;
        Some(Input { source: parsed, target })
    }

    /// A path in the work directory, without `./`, `~/` and a last `/`.
    fn inside(&mut self, place: Place, path: &str, what: &str) -> Option<String> {
        let plain = path.trim_start_matches("~/").trim_end_matches('/');
        let plain: Vec<&str> = plain.split('/').filter(|part| *part != ".").collect();
        let plain = plain.join("/");
        if check_path(&plain).is_ok() {
            return Some(plain);
        }
        let problem = Problem::new(place, format!("{what} must stay inside the work directory"));
        self.problem(problem.hint("write it like `data/train.csv`, without a leading `/` and without `..`"));
        None
    }

    pub(super) fn outputs(&mut self, node: &Node) -> Vec<String> {
        let mut outputs: Vec<String> = Vec::new();
        for item in self.items(node, "outputs", MAX_OUTPUTS) {
            let Some(path) = self.text(item, "outputs") else { continue };
            if path.contains(['*', '?', '[']) {
                let problem = Problem::new(item.place, "patterns in `outputs` are not available yet");
                self.problem(problem.hint("name the directory"));
            } else if let Some(path) = self.inside(item.place, &path, "an output")
                && !outputs.contains(&path)
            {
                outputs.push(path);
            }
        }
        outputs
    }

    pub(super) fn checkpoint(&mut self, node: &Node) -> (Option<Checkpoint>, Stop) {
        let mut stop = Stop::default();
        let known = ["path", "interval", "signal", "grace", "store", "encrypt_to"];
        let Some(fields) = self.fields(node, "checkpoint", &known) else { return (None, stop) };
        if let Some(node) = fields.get("signal") {
            stop.signal = self.signal(node).unwrap_or(stop.signal);
        }
        if let Some(node) = fields.get("grace") {
            stop.grace = self.duration(node, "checkpoint.grace", DAY).unwrap_or(stop.grace);
        }
        let interval =
            fields.get("interval").and_then(|node| self.duration(node, "checkpoint.interval", DAY));
        let offsite = self.offsite(&fields);
        let Some(path_node) = fields.get("path") else {
            self.problem(Problem::new(node.place, "`checkpoint` has no `path`"));
            return (None, stop);
        };
        let path = self
            .text(path_node, "checkpoint.path")
            .and_then(|path| self.inside(path_node.place, &path, "`checkpoint.path`"));
        (path.map(|path| Checkpoint { path, interval, offsite }), stop)
    }

    fn signal(&mut self, node: &Node) -> Option<u8> {
        let text = self.text(node, "checkpoint.signal")?.to_ascii_uppercase();
        let name = text.strip_prefix("SIG").unwrap_or(&text);
        let known = words::SIGNALS.iter().find(|(word, number)| *word == name || number.to_string() == name);
        if known.is_none() {
            let words: Vec<&str> = words::SIGNALS.iter().map(|(word, _)| *word).collect();
            let message = format!("`checkpoint.signal` must be one of {}", words.join(", "));
            self.problem(Problem::new(node.place, message));
        }
        known.map(|(_, number)| *number)
    }
}
