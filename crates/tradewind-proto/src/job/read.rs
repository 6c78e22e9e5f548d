//! From nodes to a [`JobSpec`]: fields, units and what cannot be honoured yet. Reading goes on after a problem, so that a
//! person sees all of them at once.

mod data;
mod fields;
mod market;
mod registry;
mod resources;
mod stores;
mod words;

use super::problem::{JobError, Place, Problem};
use super::yaml::{self, Node, Value};
use super::{
    ImageSource, Input, InputSource, JobSpec, LEAST_IDLE, Market, OnMaxCost, Resources, Retry, is_name,
};
use crate::units::Seconds;
use crate::workload::{Command, Network, Stop};
use fields::{Fields, Reader};

/// The top-level fields.
pub(super) const FIELDS: [&str; 32] = [
    "name",
    "image",
    "registry",
    "setup",
    "run",
    "workdir",
    "envs",
    "secrets",
    "resources",
    "market",
    "max_price",
    "max_cost",
    "on_max_cost",
    "regions",
    "placement",
    "num_nodes",
    "inputs",
    "s3",
    "hf",
    "git",
    "outputs",
    "file_mounts",
    "volumes",
    "checkpoint",
    "retry",
    "timeout",
    "keep",
    "idle_stop",
    "priority",
    "network",
    "ports",
    "service",
];

const MAX_PATH: usize = 4096;
const MAX_SCRIPT: usize = 60 << 10;
const MAX_TIMEOUT: Seconds = Seconds::new(366 * 86_400);

/// Reads a job file.
pub(super) fn job(file: &str, text: &str) -> Result<JobSpec, JobError> {
    let root = yaml::parse(file, text)?;
    let mut reader = Reader::default();
    let job = reader.job(&root);
    let problems = reader.into_problems();
    match job {
        Some(job) if problems.is_empty() => Ok(job),
        _ => Err(JobError::new(file, text, problems)),
    }
}

impl Reader {
    fn job(&mut self, root: &Node) -> Option<JobSpec> {
        if matches!(root.value, Value::Null) {
            self.problem(
                Problem::new(Place { line: 1, column: 1 }, "the job is empty").hint("give it a `run`"),
            );
            return None;
        }
        let fields = self.fields(root, "", &FIELDS)?;
        self.refuse_what_is_not_there_yet(&fields);
        let name = fields.get("name").and_then(|node| self.name(node)).unwrap_or_else(|| "job".into());
        let run = self.run(root, &fields);
        let setup = fields.get("setup").and_then(|node| self.command(node, "setup"));
        let envs = fields.get("envs").map(|node| self.envs(node)).unwrap_or_default();
        let secrets = fields.get("secrets").map(|node| self.secrets(node, &envs)).unwrap_or_default();
        let mut extras = resources::Extras::default();
        let resources =
            fields.get("resources").map(|node| self.resources(node, &mut extras)).unwrap_or_default();
        let image = fields.get("image").and_then(|node| self.image(node)).or_else(|| extras.image.take());
        let registry = fields.get("registry").and_then(|node| self.registry(node, image.as_ref(), &secrets));
        let market = self.market(&fields, &extras);
        let (max_price, max_cost) = (self.price(&fields), self.cost(&fields));
        let mut regions = fields.get("regions").map(|node| self.regions(node)).unwrap_or_default();
        regions.append(&mut extras.regions);
        let placement = fields.get("placement").map(|node| self.placement(node)).unwrap_or_default();
        let inputs = self.all_inputs(&fields);
        let outputs = fields.get("outputs").map(|node| self.outputs(node)).unwrap_or_default();
        let (checkpoint, stop) = match fields.get("checkpoint") {
            Some(node) => self.checkpoint(node),
            None => (None, Stop::default()),
        };
        let offsite = checkpoint.as_ref().and_then(|checkpoint| checkpoint.offsite.as_ref());
        let (s3, hf, git) = self.stores(&fields, &inputs, offsite, &secrets);
        let on_max_cost = self.on_max_cost(&fields, max_cost.is_some(), checkpoint.is_some());
        let timeout = self.timeout(&fields, market);
        let keep = fields.get("keep").and_then(|node| self.duration(node, "keep", MAX_TIMEOUT));
        let idle_stop = fields.get("idle_stop").and_then(|node| self.idle_stop(node));
        let mut ports = fields.get("ports").map(|node| self.ports(node)).unwrap_or_default();
        ports.append(&mut extras.ports);
        let network = self.reach(&fields, &resources);
        let retry = fields.get("retry").map(|node| self.retry(node)).unwrap_or_default();
        Some(JobSpec {
            name,
            image,
            registry,
            setup,
            run: run?,
            envs,
            secrets,
            resources,
            market,
            max_price,
            max_cost,
            on_max_cost,
            regions,
            placement,
            inputs,
            s3,
            hf,
            git,
            outputs,
            checkpoint,
            retry,
            timeout,
            keep,
            idle_stop,
            network,
            ports,
            stop,
        })
    }

    fn run(&mut self, root: &Node, fields: &Fields<'_>) -> Option<Command> {
        let Some(node) = fields.get("run") else {
            let hint = "`run: ./train.sh`, or a list for a program with arguments";
            self.problem(Problem::new(root.place, "the job has no `run`").hint(hint));
            return None;
        };
        self.command(node, "run")
    }

    fn timeout(&mut self, fields: &Fields<'_>, market: Market) -> Option<Seconds> {
        let timeout = fields.get("timeout").and_then(|node| self.duration(node, "timeout", MAX_TIMEOUT));
        if market == Market::Reserved && timeout.is_none() {
            let place = fields.place("market");
            self.problem(
                Problem::new(place, "a reserved job needs a `timeout`").hint("it is the committed term"),
            );
        }
        timeout
    }

    fn idle_stop(&mut self, node: &Node) -> Option<Seconds> {
        let after = self.duration(node, "idle_stop", MAX_TIMEOUT)?;
        if after < LEAST_IDLE {
            self.problem(Problem::new(node.place, format!("`idle_stop` must be at least {LEAST_IDLE}")));
            return None;
        }
        Some(after)
    }

    /// Fields that are known and would mislead if they were accepted.
    fn refuse_what_is_not_there_yet(&mut self, fields: &Fields<'_>) {
        for (name, why) in words::NOT_YET {
            if fields.get(name).is_some() {
                let message = format!("`{name}` is not available yet");
                self.problem(Problem::new(fields.place(name), message).hint(why));
            }
        }
        let Some(node) = fields.get("num_nodes") else { return };
        let Some(nodes) = self.integer(node, "num_nodes", 1, 4096) else { return };
        if nodes > 1 {
            let message = format!("`num_nodes: {nodes}` is not available yet");
            self.problem(Problem::new(node.place, message).hint("a job runs on one node for now"));
        }
    }

    fn name(&mut self, node: &Node) -> Option<String> {
        let name = self.text(node, "name")?;
        if is_name(&name) {
            return Some(name);
        }
        let message = "`name` must be 1 to 63 letters, digits, `.`, `_` or `-`";
        self.problem(Problem::new(node.place, message));
        None
    }

    fn command(&mut self, node: &Node, field: &str) -> Option<Command> {
        let command = match &node.value {
            Value::Text(line) => Command::Shell(line.clone()),
            Value::List(items) => {
                let argv: Vec<String> = items.iter().filter_map(|item| self.text(item, field)).collect();
                if argv.len() != items.len() {
                    return None;
                }
                Command::Exec(argv)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Map(_) => {
                let message = format!(
                    "`{field}` must be a shell line or a list of arguments, this is {}",
                    node.value.describe()
                );
                self.problem(Problem::new(node.place, message));
                return None;
            }
        };
        let (length, program) = match &command {
            Command::Shell(line) => (line.len(), line.as_str()),
            Command::Exec(argv) => {
                (argv.iter().map(String::len).sum(), argv.first().map_or("", String::as_str))
            }
        };
        if program.trim().is_empty() {
            self.problem(Problem::new(node.place, format!("`{field}` is empty")));
            return None;
        }
        if length > MAX_SCRIPT {
            let message = format!("`{field}` has {length} bytes, at most {MAX_SCRIPT} are accepted");
            self.problem(Problem::new(node.place, message).hint("put the script into a file under `inputs`"));
            return None;
        }
        Some(command)
    }

    /// A path, which `/`, `./`, `../` or `.tar` tells, is an archive on the buyer's machine; all else is a reference.
    fn image(&mut self, node: &Node) -> Option<ImageSource> {
        let text = self.text(node, "image")?;
        let image = text.strip_prefix("docker:").unwrap_or(&text).to_string();
        if text == image && is_archive(&image) {
            return self.archive(node, image).map(ImageSource::Archive);
        }
        if !image.is_empty() && image.len() <= 512 && image.bytes().all(|b| b.is_ascii_graphic()) {
            return Some(ImageSource::Reference(image));
        }
        let hint = "such as `ghcr.io/org/name:tag`, or with `@sha256:…`, or an archive such as `./image.tar`";
        self.problem(Problem::new(node.place, "`image` is not an image's reference").hint(hint));
        None
    }

    fn archive(&mut self, node: &Node, path: String) -> Option<String> {
        if path.ends_with(".tar") && path.len() <= MAX_PATH && !path.chars().any(char::is_control) {
            return Some(path);
        }
        let hint = "`docker save -o image.tar NAME` writes one; `gunzip` opens a compressed one";
        self.problem(Problem::new(node.place, "an image archive is a file that ends in `.tar`").hint(hint));
        None
    }

    fn on_max_cost(&mut self, fields: &Fields<'_>, has_cost: bool, has_checkpoint: bool) -> OnMaxCost {
        let Some(node) = fields.get("on_max_cost") else { return OnMaxCost::default() };
        if !has_cost {
            self.problem(Problem::new(fields.place("on_max_cost"), "`on_max_cost` needs a `max_cost`"));
        }
        let choices = [("stop", OnMaxCost::Stop), ("checkpoint-and-stop", OnMaxCost::CheckpointAndStop)];
        let choice = self.choice(node, "on_max_cost", &choices).unwrap_or_default();
        if choice == OnMaxCost::CheckpointAndStop && !has_checkpoint {
            let message = "`on_max_cost: checkpoint-and-stop` needs a `checkpoint`";
            self.problem(Problem::new(node.place, message));
        }
        choice
    }

    /// What it may reach; it sends nothing where that is nothing.
    fn reach(&mut self, fields: &Fields<'_>, resources: &Resources) -> Network {
        let network = fields.get("network").and_then(|node| self.network(node)).unwrap_or_default();
        if network == Network::None && resources.sets.iter().any(|set| set.egress.is_some()) {
            let problem =
                Problem::new(fields.place("resources"), "`resources.egress` is for a job with a network");
            self.problem(problem.hint("add `network: internet`"));
        }
        network
    }

    fn network(&mut self, node: &Node) -> Option<Network> {
        self.choice(node, "network", &[("none", Network::None), ("internet", Network::Internet)])
    }

    fn retry(&mut self, node: &Node) -> Retry {
        let attempts = match &node.value {
            Value::Map(_) => {
                let Some(fields) = self.fields(node, "retry", &["attempts"]) else { return Retry::default() };
                fields.get("attempts").and_then(|node| self.integer(node, "retry.attempts", 1, 10))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                self.integer(node, "retry", 1, 10)
            }
        };
        attempts.and_then(|n| u8::try_from(n).ok()).map_or_else(Retry::default, |attempts| Retry { attempts })
    }

    fn all_inputs(&mut self, fields: &Fields<'_>) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(node) = fields.get("workdir") {
            if matches!(node.value, Value::Map(_)) {
                let problem = Problem::new(node.place, "a `workdir` from git is not available yet");
                self.problem(problem.hint("clone it in `setup` with `network: internet`"));
            } else if let Some(path) = self.text(node, "workdir") {
                inputs.push(Input { source: InputSource::Local(path), target: ".".into() });
            }
        }
        if let Some(node) = fields.get("inputs") {
            inputs.extend(self.inputs(node));
        }
        if let Some(node) = fields.get("file_mounts") {
            inputs.extend(self.file_mounts(node));
        }
        inputs
    }
}

/// Whether an `image` is a path rather than a reference.
fn is_archive(image: &str) -> bool {
    let path = ["/", "./", "../"].iter().any(|start| image.starts_with(start));
    path || [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|end| image.ends_with(end))
}
