//! `resources`: what the machine must have, in SkyPilot's words.

use super::fields::{Fields, Reader, thousandths};
use crate::job::problem::Problem;
use crate::job::yaml::{Node, Value};
use crate::job::{Accelerators, ImageSource, RegionRequest, ResourceRequest, Resources};
use crate::offer::{Gpus, Interconnect, Vendor};

const FIELDS: [&str; 19] = [
    "accelerators",
    "cpus",
    "memory",
    "disk",
    "disk_size",
    "egress",
    "vendor",
    "vram",
    "compute_capability",
    "driver",
    "nvlink",
    "interconnect",
    "any_of",
    "ordered",
    "use_spot",
    "image_id",
    "region",
    "ports",
    "num_nodes",
];
const MAX_SETS: usize = 32;

/// What SkyPilot writes under `resources` and this format elsewhere.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) use_spot: Option<bool>,
    pub(super) image: Option<ImageSource>,
    pub(super) regions: Vec<RegionRequest>,
    pub(super) ports: Vec<u16>,
}

/// How several accelerators stand to each other.
enum Wanted {
    Any(Vec<Accelerators>),
    Ordered(Vec<Accelerators>),
}

impl Reader {
    pub(super) fn resources(&mut self, node: &Node, extras: &mut Extras) -> Resources {
        let Some(fields) = self.fields(node, "resources", &FIELDS) else { return Resources::default() };
        self.extras(&fields, extras);
        let (base, mut ordered) = self.sets(&fields, "resources", &ResourceRequest::default());
        let alternatives = match (fields.get("any_of"), fields.get("ordered")) {
            (Some(_), Some(_)) => {
                let problem =
                    Problem::new(fields.place("ordered"), "`ordered` and `any_of` exclude each other");
                self.problem(problem);
                None
            }
            (Some(list), None) => Some(("resources.any_of", list)),
            (None, Some(list)) => {
                ordered = true;
                Some(("resources.ordered", list))
            }
            (None, None) => None,
        };
        let Some((path, list)) = alternatives else { return Resources { ordered, sets: base } };
        let mut sets = Vec::new();
        for item in self.items(list, path, MAX_SETS) {
            let Some(fields) = self.fields(item, path, &FIELDS[..12]) else { continue };
            for base in &base {
                sets.extend(self.sets(&fields, path, base).0);
            }
        }
        if sets.len() > MAX_SETS {
            self.problem(Problem::new(list.place, format!("`{path}` stands for more than {MAX_SETS} sets")));
            sets.truncate(MAX_SETS);
        }
        if sets.is_empty() {
            self.problem(Problem::new(list.place, format!("`{path}` is empty")));
            return Resources::default();
        }
        Resources { ordered, sets }
    }

    fn extras(&mut self, fields: &Fields<'_>, extras: &mut Extras) {
        extras.use_spot = fields.get("use_spot").and_then(|node| self.flag(node, "resources.use_spot"));
        extras.image = fields.get("image_id").and_then(|node| self.image(node));
        extras.regions = fields.get("region").map(|node| self.regions(node)).unwrap_or_default();
        extras.ports = fields.get("ports").map(|node| self.ports(node)).unwrap_or_default();
        if let Some(node) = fields.get("num_nodes") {
            let problem = Problem::new(node.place, "`num_nodes` belongs to the top level");
            self.problem(problem);
        }
    }

    /// The sets that one map describes on top of `base`, and whether their order counts.
    fn sets(
        &mut self,
        fields: &Fields<'_>,
        path: &str,
        base: &ResourceRequest,
    ) -> (Vec<ResourceRequest>, bool) {
        let of = |field: &str| format!("{path}.{field}");
        let mut set = base.clone();
        if let Some(node) = fields.get("cpus") {
            set.cpu_millis = self.cpus(node, &of("cpus"));
        }
        if let Some(node) = fields.get("memory") {
            set.memory = self.size(node, &of("memory"));
        }
        for name in ["disk", "disk_size"] {
            if let Some(node) = fields.get(name) {
                set.disk = self.size(node, &of(name));
            }
        }
        if let Some(node) = fields.get("egress") {
            set.egress = self.size(node, &of("egress"));
        }
        if let Some(node) = fields.get("vendor") {
            let choices = [("nvidia", Vendor::Nvidia), ("amd", Vendor::Amd), ("intel", Vendor::Intel)];
            set.vendor = self.choice(node, &of("vendor"), &choices);
        }
        if let Some(node) = fields.get("vram") {
            set.vram = self.size(node, &of("vram"));
        }
        if let Some(node) = fields.get("compute_capability") {
            set.compute_capability = self.parsed(node, &of("compute_capability"), "`9.0`");
        }
        if let Some(node) = fields.get("driver") {
            set.driver = self.parsed(node, &of("driver"), "`570` or `570.86.15`");
        }
        if let Some(node) = fields.get("interconnect") {
            let choices = [
                ("pcie", Interconnect::Pcie),
                ("nvlink", Interconnect::NvLink),
                ("nvswitch", Interconnect::NvSwitch),
            ];
            set.interconnect = self.choice(node, &of("interconnect"), &choices);
        }
        if let Some(node) = fields.get("nvlink")
            && self.flag(node, &of("nvlink")) == Some(true)
        {
            set.interconnect = set.interconnect.max(Some(Interconnect::NvLink));
        }
        let with = |accelerators| ResourceRequest { accelerators: Some(accelerators), ..set.clone() };
        match fields.get("accelerators").and_then(|node| self.accelerators(node, &of("accelerators"))) {
            None => (vec![set], false),
            Some(Wanted::Any(models)) => (models.into_iter().map(with).collect(), false),
            Some(Wanted::Ordered(models)) => (models.into_iter().map(with).collect(), true),
        }
    }

    fn cpus(&mut self, node: &Node, field: &str) -> Option<u32> {
        let text = self.text(node, field)?;
        let number = thousandths(text.trim().trim_end_matches('+').trim());
        let millis = number.and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=4_096_000).contains(n));
        if millis.is_none() {
            let problem = Problem::new(node.place, format!("`{field}` must be a number of CPUs up to 4096"));
            self.problem(problem.hint("write it like `4`, `4+` or `0.5`"));
        }
        millis
    }

    fn accelerators(&mut self, node: &Node, field: &str) -> Option<Wanted> {
        match &node.value {
            Value::Text(_) | Value::Number(_) => {
                let text = self.text(node, field)?;
                let (model, count) = text.split_once(':').unwrap_or((&text, "1"));
                Some(Wanted::Any(vec![self.accelerator(node, field, model, count)?]))
            }
            Value::Map(entries) => {
                let mut models = Vec::new();
                for entry in entries {
                    let count = self.text(&entry.value, field)?;
                    models.push(self.accelerator(&entry.value, field, &entry.key, &count)?);
                }
                self.not_empty(node, field, models).map(Wanted::Any)
            }
            Value::List(items) => {
                let mut models = Vec::new();
                for item in items {
                    let text = self.text(item, field)?;
                    let (model, count) = text.split_once(':').unwrap_or((&text, "1"));
                    models.push(self.accelerator(item, field, model, count)?);
                }
                self.not_empty(node, field, models).map(Wanted::Ordered)
            }
            Value::Null | Value::Bool(_) => {
                let message =
                    format!("`{field}` must be text, a map or a list, this is {}", node.value.describe());
                self.problem(Problem::new(node.place, message).hint("write it like `H100:8`"));
                None
            }
        }
    }

    fn not_empty(
        &mut self,
        node: &Node,
        field: &str,
        models: Vec<Accelerators>,
    ) -> Option<Vec<Accelerators>> {
        if models.is_empty() || models.len() > MAX_SETS {
            let message = format!("`{field}` must name 1 to {MAX_SETS} models");
            self.problem(Problem::new(node.place, message));
            return None;
        }
        Some(models)
    }

    fn accelerator(&mut self, node: &Node, field: &str, model: &str, count: &str) -> Option<Accelerators> {
        let model = Gpus::canonical_model(model);
        let count: Option<u16> = count.trim().parse().ok().filter(|count| (1..=1024).contains(count));
        if model.is_empty() || model.len() > 64 {
            let problem = Problem::new(node.place, format!("`{field}` names no model"));
            self.problem(problem.hint("write it like `H100:8`"));
            return None;
        }
        if count.is_none() {
            let message = format!("`{field}` must ask for a whole number of accelerators, 1 to 1024");
            self.problem(Problem::new(node.place, message).hint("write it like `H100:8`"));
        }
        Some(Accelerators { model, count: count? })
    }
}
