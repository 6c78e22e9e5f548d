//! Stores that inputs come from: their addresses, and whose keys open them. A key is named, and its value is never shown: what stands
//! for a name may be one.

use std::collections::BTreeSet;

use super::fields::{Fields, Reader};
use crate::job::problem::{Place, Problem};
use crate::job::yaml::{Node, Value};
use crate::job::{
    Bucket, Git, Hub, Input, InputHashes, InputSource, Offsite, SecretRef, SecretSource, is_https,
    is_variable,
};
use crate::manifest::{check_path, without_query};

const MAX_KEY: usize = 1024;
const MAX_REVISION: usize = 255;

impl InputSource {
    /// What it is called where the job does not say.
    pub(super) fn name(&self) -> &str {
        let path = match self {
            Self::Local(path) | Self::Https { url: path, .. } => without_query(path),
            Self::Git { url, .. } => url.trim_end_matches('/').trim_end_matches(".git"),
            Self::S3 { bucket: whole, key: path, .. } | Self::Hub { repo: whole, path, .. } => {
                if path.is_empty() { whole } else { path }
            }
        };
        path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// Whether it may be a directory, whose files `.` spreads over the work directory.
    pub(super) fn may_spread(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Https { .. } | Self::Git { .. } => false,
            Self::S3 { key: path, .. } | Self::Hub { path, .. } => is_directory(path),
        }
    }
}

/// Bucket and key of `s3://bucket/key`.
fn bucket_parts(source: &str) -> Option<(String, String)> {
    let rest = source.strip_prefix("s3://").unwrap_or(source);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    let is_key = key.len() <= MAX_KEY && (key.is_empty() || check_path(key.trim_end_matches('/')).is_ok());
    (is_bucket && is_key).then(|| (bucket.to_owned(), key.to_owned()))
}

/// As far as its form goes; who uses it checks the sum in it.
fn is_recipient(text: &str) -> bool {
    let rest = text.strip_prefix("age1").unwrap_or_default();
    rest.len() == 58 && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_directory(path: &str) -> bool {
    path.is_empty() || path.ends_with('/')
}

impl Reader {
    /// `s3://bucket/key`, or `s3://bucket/prefix/`.
    pub(super) fn object(&mut self, place: Place, source: &str, hashes: InputHashes) -> Option<InputSource> {
        let Some((bucket, key)) = bucket_parts(source) else {
            let problem = Problem::new(place, "an input's address is malformed");
            self.problem(
                problem.hint("write it like `s3://bucket/key`, or `s3://bucket/prefix/` for all beneath"),
            );
            return None;
        };
        self.one_file(place, &key, hashes)?;
        Some(InputSource::S3 { bucket, key, hashes })
    }

    /// Where else checkpoints are kept, and whom they are encrypted to: one needs the other.
    pub(super) fn offsite(&mut self, fields: &Fields<'_>) -> Option<Offsite> {
        let (store, recipient) = (fields.get("store"), fields.get("encrypt_to"));
        let (Some(store), Some(recipient)) = (store, recipient) else {
            if let Some(node) = store.or(recipient) {
                let problem = Problem::new(
                    node.place,
                    "`checkpoint.store` and `checkpoint.encrypt_to` need each other",
                );
                self.problem(
                    problem
                        .hint("`age-keygen -o key.txt` makes a key, and prints whom to encrypt to: `age1…`"),
                );
            }
            return None;
        };
        let address = self.text(store, "checkpoint.store")?;
        let parts =
            bucket_parts(&address).filter(|(_, prefix)| address.starts_with("s3://") && is_directory(prefix));
        if parts.is_none() {
            let problem = Problem::new(store.place, "`checkpoint.store` is malformed");
            self.problem(problem.hint("write it like `s3://bucket/prefix/`"));
        }
        let to = self.text(recipient, "checkpoint.encrypt_to")?;
        if !is_recipient(&to) {
            let problem = Problem::new(recipient.place, "`checkpoint.encrypt_to` is no recipient of age");
            self.problem(problem.hint("`age-keygen -y key.txt` prints it: `age1` and 58 letters and digits"));
            return None;
        }
        let (bucket, prefix) = parts?;
        Some(Offsite { bucket, prefix, recipient: to })
    }

    /// `hf://org/name@revision/path`, or `hf://datasets/org/name`.
    pub(super) fn hub_file(
        &mut self,
        place: Place,
        source: &str,
        hashes: InputHashes,
    ) -> Option<InputSource> {
        let Some((repo, revision, path)) = hub_parts(source) else {
            let problem = Problem::new(place, "an input's address is malformed");
            self.problem(problem.hint(
                "write it like `hf://org/name@revision/file`, or `hf://datasets/org/name/` for the whole repository",
            ));
            return None;
        };
        self.one_file(place, &path, hashes)?;
        Some(InputSource::Hub { repo, revision, path, hashes })
    }

    /// `git+https://host/path@revision`.
    pub(super) fn repository(
        &mut self,
        place: Place,
        source: &str,
        hashes: InputHashes,
    ) -> Option<InputSource> {
        let Some((url, revision)) = git_parts(source) else {
            let problem = Problem::new(place, "a repository's address is malformed");
            self.problem(problem.hint(
                "write it like `git+https://github.com/org/name@v1`, without a user, a password or a query",
            ));
            return None;
        };
        self.one_file(place, "", hashes)?;
        Some(InputSource::Git { url, revision })
    }

    /// A hash is one file's.
    fn one_file(&mut self, place: Place, path: &str, hashes: InputHashes) -> Option<()> {
        if is_directory(path) && hashes != InputHashes::default() {
            let problem = Problem::new(place, "a directory has no hash");
            self.problem(problem.hint("name one file, or leave the hash out"));
            return None;
        }
        Some(())
    }

    /// The stores of a job, each of which has to be some input's.
    pub(super) fn stores(
        &mut self,
        fields: &Fields<'_>,
        inputs: &[Input],
        offsite: Option<&Offsite>,
        secrets: &[SecretRef],
    ) -> (Option<Bucket>, Option<Hub>, Option<Git>) {
        let is_used = |name: &str| {
            let is_kept = name == "s3" && offsite.is_some();
            is_kept
                || inputs.iter().any(|input| match input.source {
                    InputSource::S3 { .. } => name == "s3",
                    InputSource::Hub { .. } => name == "hf",
                    InputSource::Git { .. } => name == "git",
                    InputSource::Local(_) | InputSource::Https { .. } => false,
                })
        };
        for (name, scheme) in [("s3", "s3"), ("hf", "hf"), ("git", "git+https")] {
            if fields.get(name).is_some() && !is_used(name) {
                let message = format!("`{name}` needs an input from `{scheme}://`");
                self.problem(Problem::new(fields.place(name), message));
            }
        }
        let s3 = fields.get("s3").and_then(|node| self.bucket(node, secrets));
        if offsite.is_some() && s3.as_ref().is_none_or(|s3| s3.keys.is_none()) {
            let problem =
                Problem::new(fields.place("checkpoint"), "`checkpoint.store` needs the store's keys");
            self.problem(problem.hint("name them under `s3`: `access_key` and `secret_key`"));
        }
        let hf = fields.get("hf").and_then(|node| self.hub(node, secrets));
        let git = fields.get("git").and_then(|node| self.git(node, inputs, secrets));
        (s3, hf, git)
    }

    /// A token is one host's: no other may be asked with it.
    fn git(&mut self, node: &Node, inputs: &[Input], secrets: &[SecretRef]) -> Option<Git> {
        let fields = self.fields(node, "git", &["token"])?;
        let Some(token) = fields.get("token") else {
            self.problem(Problem::new(node.place, "`git` has no `token`"));
            return None;
        };
        let hosts: BTreeSet<&str> = inputs.iter().filter_map(|input| git_host(&input.source)).collect();
        if hosts.len() > 1 {
            let problem = Problem::new(token.place, "`git.token` would go to more than one host");
            self.problem(problem.hint("take all repositories of one job from one host"));
        }
        let token = self.store_secret(token, "git.token", secrets)?;
        Some(Git { token })
    }

    fn bucket(&mut self, node: &Node, secrets: &[SecretRef]) -> Option<Bucket> {
        let known = ["endpoint", "region", "access_key", "secret_key", "session_token"];
        let fields = self.fields(node, "s3", &known)?;
        let endpoint = fields.get("endpoint").and_then(|node| self.endpoint(node, "s3.endpoint"));
        let region = fields.get("region").and_then(|node| self.text(node, "s3.region"));
        if region.as_ref().is_some_and(|region| !is_region(region)) {
            let problem = Problem::new(fields.place("region"), "`s3.region` is not a region's name");
            self.problem(problem.hint("such as `eu-central-1`"));
        }
        let mut key = |name: &str| {
            fields.get(name).and_then(|node| self.store_secret(node, &format!("s3.{name}"), secrets))
        };
        let (id, secret, session_token) = (key("access_key"), key("secret_key"), key("session_token"));
        let named = |name: &str| fields.get(name).is_some();
        if named("access_key") != named("secret_key") || (named("session_token") && !named("secret_key")) {
            let problem =
                Problem::new(node.place, "`s3` needs both `access_key` and `secret_key`, or neither");
            self.problem(problem.hint("name variables of your shell: `access_key: AWS_ACCESS_KEY_ID`"));
        }
        Some(Bucket { endpoint, region, keys: id.zip(secret), session_token })
    }

    fn hub(&mut self, node: &Node, secrets: &[SecretRef]) -> Option<Hub> {
        let fields = self.fields(node, "hf", &["endpoint", "token"])?;
        let endpoint = fields.get("endpoint").and_then(|node| self.endpoint(node, "hf.endpoint"));
        let token = fields.get("token").and_then(|node| self.store_secret(node, "hf.token", secrets));
        Some(Hub { endpoint, token })
    }

    fn endpoint(&mut self, node: &Node, field: &str) -> Option<String> {
        let text = self.text(node, field)?;
        if is_https(&text) && without_query(&text) == text {
            return Some(text.trim_end_matches('/').to_owned());
        }
        let problem = Problem::new(node.place, format!("`{field}` must be an https address"));
        self.problem(problem.hint("without a user, a password or a query"));
        None
    }

    /// Where the buyer's node finds a store's key: a variable or one of the job's secrets by its name, or `{env: …}` or `{file: …}`.
    fn store_secret(&mut self, node: &Node, field: &str, secrets: &[SecretRef]) -> Option<SecretSource> {
        let source = if matches!(node.value, Value::Map(_)) {
            let fields = self.fields(node, field, &["env", "file"])?;
            match (fields.get("env"), fields.get("file")) {
                (Some(env), None) => SecretSource::Env(self.text(env, field)?),
                (None, Some(file)) => SecretSource::File(self.text(file, field)?),
                (None, None) | (Some(_), Some(_)) => {
                    self.problem(Problem::new(
                        node.place,
                        format!("`{field}` comes from `env` or from `file`"),
                    ));
                    return None;
                }
            }
        } else {
            let name = self.text(node, field)?;
            let known = secrets.iter().find(|secret| secret.name == name);
            known.map_or(SecretSource::Env(name), |secret| secret.source.clone())
        };
        let fits = match &source {
            SecretSource::Env(name) => is_variable(name),
            SecretSource::File(path) => !path.is_empty(),
            SecretSource::Generated => false,
        };
        if !fits {
            let problem =
                Problem::new(node.place, format!("`{field}` names no variable and no secret with a value"));
            self.problem(problem.hint("put the value into your environment, and its variable's name here"));
            return None;
        }
        Some(source)
    }
}

fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Whom a repository is asked of.
fn git_host(source: &InputSource) -> Option<&str> {
    match source {
        InputSource::Git { url, .. } => url.strip_prefix("https://")?.split('/').next(),
        InputSource::Local(_)
        | InputSource::Https { .. }
        | InputSource::S3 { .. }
        | InputSource::Hub { .. } => None,
    }
}

/// Address and revision of a git repository.
fn git_parts(source: &str) -> Option<(String, Option<String>)> {
    let url = source.strip_prefix("git+")?;
    let (host, path) = url.strip_prefix("https://")?.split_once('/')?;
    let (path, revision) = match path.rsplit_once('@') {
        Some((path, revision)) => (path, Some(revision)),
        None => (path, None),
    };
    let url = format!("https://{host}/{}", path.trim_end_matches('/'));
    let is_path = check_path(path.trim_end_matches('/')).is_ok() && without_query(path) == path;
    let fits = is_https(&url) && is_path && revision.is_none_or(is_revision);
    fits.then(|| (url, revision.map(str::to_owned)))
}

/// A name that git lets a branch or tag have, or a commit's id.
fn is_revision(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    text.len() <= MAX_REVISION
        && text.bytes().all(|b| b.is_ascii_graphic() && !b"~^:?*[\\@#".contains(&b))
        && text.split('/').all(is_part)
        && !text.starts_with('-')
        && !text.ends_with('.')
        && !text.contains("..")
}

/// Repository, revision and path of an address on the hub.
fn hub_parts(source: &str) -> Option<(String, String, String)> {
    let rest = source.strip_prefix("hf://")?;
    let (kind, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => ("datasets/", rest),
        Some(("models", rest)) => ("", rest),
        Some(_) | None => ("", rest),
    };
    let mut parts = rest.splitn(3, '/');
    let (org, name, path) = (parts.next()?, parts.next()?, parts.next().unwrap_or(""));
    let (name, revision) = name.split_once('@').unwrap_or((name, "main"));
    let is_word = |text: &str| {
        (1..=96).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
            && !text.starts_with('.')
    };
    let is_path = path.is_empty() || check_path(path.trim_end_matches('/')).is_ok();
    (is_word(org) && is_word(name) && is_word(revision) && is_path)
        .then(|| (format!("{kind}{org}/{name}"), revision.to_owned(), path.to_owned()))
}
