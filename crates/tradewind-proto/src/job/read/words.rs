//! Words that other tools use, and what this one says instead.

/// Top-level fields that are known and refused, with what to do instead.
pub(super) const NOT_YET: [(&str, &str); 3] = [
    ("volumes", "use `inputs` and `outputs`"),
    ("priority", "a buyer's jobs do not queue for now"),
    ("service", "run the server as a job, open `ports` and reach them by a tunnel"),
];

/// What the hint says for an unknown field that is known elsewhere.
pub(super) fn elsewhere(field: &str) -> Option<&'static str> {
    Some(match field {
        "env" | "environment" => "did you mean `envs`?",
        "command" | "commands" | "entrypoint" | "script" | "cmd" => "did you mean `run`?",
        "gpu" | "gpus" | "accelerator" => "did you mean `accelerators`?",
        "ram" | "mem" | "shm_size" => "did you mean `memory`?",
        "cpu" => "did you mean `cpus`?",
        "spot" | "spot_policy" | "capacity_type" => "did you mean `market: spot`?",
        "infra" | "cloud" | "zone" | "instance_type" | "backends" => {
            "the market chooses among providers, not clouds; remove it, or use `regions`"
        }
        "working_dir" => "did you mean `workdir`?",
        "files" | "mounts" | "storage_mounts" => "did you mean `inputs`?",
        "nodes" | "replicas" => "did you mean `num_nodes`?",
        "max_duration" | "time_limit" | "deadline" => "did you mean `timeout`?",
        "autostop" | "idle_minutes" | "idle_duration" | "inactivity_duration" => "did you mean `idle_stop`?",
        "keep_alive" | "keep_warm" => "did you mean `keep`?",
        "max_hourly_cost" => "did you mean `max_price`?",
        "job_recovery" | "retries" | "restart" => "did you mean `retry`?",
        "disk_tier" | "network_tier" | "accelerator_args" | "labels" | "config" | "experimental" | "pool" => {
            "it has no counterpart here; remove it"
        }
        _ => return None,
    })
}

/// The member states of the European Union.
pub(super) const EU: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT", "LT",
    "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// Signals that a job may be asked to end with.
pub(super) const SIGNALS: [(&str, u8); 6] =
    [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3), ("USR1", 10), ("USR2", 12)];
