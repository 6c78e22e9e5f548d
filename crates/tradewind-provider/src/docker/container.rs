//! From a workload's spec to a container, and back from the engine's word to a workload's status.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, ContainerStateStatusEnum, DeviceMapping, DeviceRequest,
    HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountType,
    ResourcesUlimits,
};
use serde::{Deserialize, Serialize};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::units::{Bytes, Timestamp};
use tradewind_proto::workload::{Command, Exit, Network, Secrets, WorkloadSpec, WorkloadStatus};

use super::sandbox::{Chosen, OWN_PROCESSES};
use super::work::Processes;
use super::{GpuMode, JobUser, NAME};
use crate::inventory::Threads;
use crate::inventory::gpu::{named, render_node};
use crate::process::keep::notice;
use crate::runtime::RuntimeError;

/// The label that names the agent that owns a container or a network.
pub(super) const OWNER: &str = "tradewind.owner";
/// The label that names a container's lease.
pub(super) const LEASE: &str = "tradewind.lease";
/// The label with the digest of the spec that a container was made from.
pub(super) const SPEC: &str = "tradewind.spec";
/// The label with what the agent must know again after a restart.
pub(super) const KEPT: &str = "tradewind.kept";

/// What the engine keeps of a lease's log until the agent has taken it, twice (it rotates once).
const ENGINE_LOG: &str = "32m";
/// Above this share of a lease's memory neither `/tmp` nor `/dev/shm` grows; both count as its memory anyway.
const TMPFS_SHARE: u64 = 2;
/// The engine refuses less.
const LEAST_MEMORY: u64 = 6 << 20;
/// ROCm's device file, of all cards together.
const ROCM: &str = "/dev/kfd";
/// The kernel's out-of-memory killer takes a job before anything of the owner's.
const OOM_SCORE: i64 = 500;

/// A job whose container stays after it: the setup's line, the stop signal, the seconds and what to say; then the job. A signal that
/// comes while the job runs reaches the job too, and the shell after it.
const STAYS: &str = r#"exec 2>&1
stop=$1 keep=$2 say=$3; shift 3
told=; trap 'told=1' "$stop"
code=0; if [ -n "$0" ]; then /bin/sh -c "$0" || code=$?; fi
if [ "$code" -eq 0 ]; then "$@" || code=$?; fi
trap 'exit "$code"' "$stop"
if [ -n "$told" ]; then exit "$code"; fi
printf "$say\n" "$code"
sleep "$keep" & wait "$!"
exit "$code"
"#;

/// The name of a lease's container.
pub(super) fn name(lease: LeaseId) -> String {
    format!("tw-{lease}")
}

/// What a restarted agent needs to know of a running lease; a label, so it lives as long as the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// The work directory on the host.
    pub(super) work: String,
    /// Its bound in bytes.
    pub(super) disk: u64,
    /// The log's bound in bytes.
    pub(super) log: u64,
    /// The ports that a tunnel may reach.
    pub(super) ports: Vec<u16>,
    /// The boot during which it started: a container of another boot that left no exit is lost.
    pub(super) boot: String,
    /// It has a kernel of its own.
    #[serde(default)]
    pub(super) sandboxed: bool,
    /// What it may send an hour, where that was bought.
    #[serde(default)]
    pub(super) egress: Option<Bytes>,
}

/// What a container is made of, beside its spec.
pub(super) struct Surroundings<'a> {
    pub(super) owner: &'a str,
    pub(super) image: &'a super::image::Resolved,
    pub(super) work: &'a Path,
    pub(super) boot: &'a str,
    /// The network's name; `none` for none.
    pub(super) network: &'a str,
    pub(super) dns: Vec<String>,
    pub(super) user: JobUser,
    pub(super) files: i64,
    pub(super) gpus: &'a GpuMode,
    /// The hardware threads that it runs on, where they are chosen.
    pub(super) threads: Option<Threads>,
    /// The groups that may use the device files.
    pub(super) groups: Vec<String>,
    pub(super) chosen: Chosen,
    /// The option that replaces the engine's own seccomp profile.
    pub(super) seccomp: Option<String>,
}

/// The digest under which a second start recognises the first.
pub(super) fn digest(spec: &WorkloadSpec) -> String {
    // A spec has no maps with unordered keys and nothing that postcard refuses.
    let bytes = postcard::to_stdvec(spec).unwrap_or_default();
    blake3::hash(&bytes).to_string()
}

/// The request that makes the lease's container.
pub(super) fn request(
    spec: &WorkloadSpec,
    secrets: &Secrets,
    around: &Surroundings<'_>,
) -> Result<ContainerCreateBody, RuntimeError> {
    let work = around.work.to_str().ok_or_else(|| unsupported("a work directory whose path is not UTF-8"))?;
    let mut argv = argv(spec);
    if argv.is_empty() {
        return Err(RuntimeError::Start("its command is empty".into()));
    }
    let arguments = argv.split_off(1);
    Ok(ContainerCreateBody {
        hostname: Some(format!("tw-{}", spec.lease.short().trim_start_matches("0x"))),
        user: Some(format!("{}:{}", around.user.uid, around.user.gid)),
        env: Some(environment(spec, secrets, around.gpus)),
        entrypoint: Some(argv),
        cmd: Some(arguments),
        image: Some(around.image.id.clone()),
        working_dir: Some("/work".into()),
        labels: Some(labels(spec, around, work)?),
        stop_signal: Some(spec.stop.signal.to_string()),
        // An image's own health check would run beside the job, at its expense.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..HealthConfig::default() }),
        host_config: Some(host_config(spec, around, work)?),
        ..ContainerCreateBody::default()
    })
}

fn unsupported(what: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported { runtime: NAME, what: what.into() }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn labels(
    spec: &WorkloadSpec,
    around: &Surroundings<'_>,
    work: &str,
) -> Result<HashMap<String, String>, RuntimeError> {
    let kept = Kept {
        work: work.to_owned(),
        disk: spec.limits.disk.get(),
        log: spec.limits.log.get(),
        ports: spec.ports.clone(),
        boot: around.boot.to_owned(),
        sandboxed: around.chosen.is_sandbox,
        egress: spec.limits.egress,
    };
    let kept = serde_json::to_string(&kept)
        .map_err(|error| RuntimeError::io("write the container's labels")(std::io::Error::other(error)))?;
    Ok(HashMap::from([
        (OWNER.to_owned(), around.owner.to_owned()),
        (LEASE.to_owned(), spec.lease.to_string()),
        (SPEC.to_owned(), digest(spec)),
        (KEPT.to_owned(), kept),
    ]))
}

fn environment(spec: &WorkloadSpec, secrets: &Secrets, mode: &GpuMode) -> Vec<String> {
    // The engine's init passes signals on to the job's whole process group when it reads the last of these.
    let mut all = BTreeMap::from([("HOME", "/work"), ("TMPDIR", "/tmp"), ("TINI_KILL_PROCESS_GROUP", "1")]);
    all.extend(spec.envs.iter().chain(&secrets.0).map(|(name, value)| (name.as_str(), value.as_str())));
    // Where a maker's runtime is the engine's usual one, a job or an image would take every GPU of the host by these variables.
    let gpus = spec.limits.gpus.iter().copied().map(named).collect::<Vec<_>>().join(",");
    let visible = if *mode == GpuMode::Toolkit && !gpus.is_empty() { gpus.as_str() } else { "void" };
    all.insert("NVIDIA_VISIBLE_DEVICES", visible);
    all.insert("AMD_VISIBLE_DEVICES", "void");
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The program and its arguments. A setup and the job become one shell, so that both share a sandbox and a limit. Where a
/// shell is there, output and error share one pipe: the engine does not keep the order of two.
fn argv(spec: &WorkloadSpec) -> Vec<String> {
    const ALONE: &str = r#"exec "$@" 2>&1"#;
    const AFTER: &str = r#"exec 2>&1; /bin/sh -c "$0" || exit $?; exec "$@""#;
    let mut all: Vec<String> = vec!["/bin/sh".into(), "-c".into()];
    if let Some(keep) = spec.keep {
        let setup = spec.setup.as_ref().map(line).unwrap_or_default();
        let (stop, seconds) = (spec.stop.signal.to_string(), keep.get().to_string());
        all.extend([STAYS.into(), setup, stop, seconds, notice("%s", keep)]);
        all.extend(spec.run.argv());
        return all;
    }
    match (&spec.setup, &spec.run) {
        (None, Command::Exec(argv)) => return argv.clone(),
        (None, Command::Shell(_)) => all.extend([ALONE.into(), "sh".into()]),
        (Some(setup), _) => all.extend([AFTER.into(), line(setup)]),
    }
    all.extend(spec.run.argv());
    all
}

/// A command as one line of a shell.
fn line(command: &Command) -> String {
    match command {
        Command::Shell(line) => line.clone(),
        Command::Exec(argv) => argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn host_config(
    spec: &WorkloadSpec,
    around: &Surroundings<'_>,
    work: &str,
) -> Result<HostConfig, RuntimeError> {
    let memory = spec.limits.memory.get();
    if memory < LEAST_MEMORY {
        return Err(unsupported(format!(
            "{} of memory; the engine needs {LEAST_MEMORY} bytes",
            spec.limits.memory
        )));
    }
    let sandboxs = if around.chosen.is_sandbox { OWN_PROCESSES } else { 0 };
    let limit = |name: &str, value: i64| ResourcesUlimits {
        name: Some(name.into()),
        soft: Some(value),
        hard: Some(value),
    };
    Ok(HostConfig {
        nano_cpus: Some(i64::from(spec.limits.cpu_millis) * 1_000_000),
        cpuset_cpus: around.threads.as_ref().map(Threads::to_string),
        memory: Some(signed(memory)),
        memory_swap: Some(signed(memory)),
        // The init process is ours, not the job's; nor are a sandbox's.
        pids_limit: Some(i64::from(spec.limits.pids) + 1 + sandboxs),
        oom_score_adj: Some(OOM_SCORE),
        ulimits: Some(vec![
            limit("core", 0),
            limit("nofile", around.files),
            limit("fsize", signed(spec.limits.disk.get())),
        ]),
        shm_size: Some(signed(memory / TMPFS_SHARE)),
        mounts: Some(vec![work_mount(work)]),
        tmpfs: Some(tmpfs(&around.image.volumes, memory)),
        init: Some(true),
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".into()]),
        security_opt: Some(["no-new-privileges".into()].into_iter().chain(around.seccomp.clone()).collect()),
        readonly_rootfs: Some(true),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        ipc_mode: Some("private".into()),
        publish_all_ports: Some(false),
        network_mode: Some(around.network.to_owned()),
        dns: Some(around.dns.clone()),
        // The host's search domains are nobody's business.
        dns_search: Some(vec![".".into()]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), ENGINE_LOG.to_owned()),
                ("max-file".to_owned(), "2".to_owned()),
                ("compress".to_owned(), "false".to_owned()),
            ])),
        }),
        device_requests: requests(&spec.limits.gpus, around.gpus)?,
        devices: Some(device_files(&spec.limits.gpus, *around.gpus)?.into_iter().map(mapping).collect()),
        group_add: Some(around.groups.clone()),
        runtime: around.chosen.runtime.clone(),
        ..HostConfig::default()
    })
}

fn work_mount(work: &str) -> Mount {
    Mount {
        target: Some("/work".into()),
        source: Some(work.to_owned()),
        typ: Some(MountType::BIND),
        read_only: Some(false),
        ..Mount::default()
    }
}

/// `/tmp`, and every volume that the image declares: that would be host disk without a limit, so memory takes its place.
fn tmpfs(volumes: &[String], memory: u64) -> HashMap<String, String> {
    let options = format!("rw,exec,nosuid,nodev,mode=1777,size={}", memory / TMPFS_SHARE);
    let declared = volumes.iter().map(String::as_str).filter(|path| *path != "/work");
    declared.chain(["/tmp"]).map(|path| (path.to_owned(), options.clone())).collect()
}

fn requests(gpus: &[u32], mode: &GpuMode) -> Result<Option<Vec<DeviceRequest>>, RuntimeError> {
    if gpus.is_empty() {
        return Ok(None);
    }
    let request = match mode {
        GpuMode::Off => return Err(unsupported("GPUs: no GPU mode is configured")),
        GpuMode::Cdi => DeviceRequest {
            driver: Some("cdi".into()),
            device_ids: Some(gpus.iter().map(|index| format!("nvidia.com/gpu={}", named(*index))).collect()),
            ..DeviceRequest::default()
        },
        GpuMode::Toolkit => DeviceRequest {
            driver: Some("nvidia".into()),
            device_ids: Some(gpus.iter().copied().map(named).collect()),
            capabilities: Some(vec![vec!["gpu".into(), "compute".into(), "utility".into()]]),
            ..DeviceRequest::default()
        },
        GpuMode::Rocm | GpuMode::Render => return Ok(None),
    };
    Ok(Some(vec![request]))
}

/// The device files that hand over these accelerators, in a mode that does it by device files.
pub(super) fn device_files(gpus: &[u32], mode: GpuMode) -> Result<Vec<String>, RuntimeError> {
    let shared = match mode {
        GpuMode::Off | GpuMode::Cdi | GpuMode::Toolkit => return Ok(Vec::new()),
        GpuMode::Rocm => Some(ROCM.to_owned()),
        GpuMode::Render => None,
    };
    let node = |index: &u32| {
        render_node(*index).ok_or_else(|| unsupported(format!("GPU {index}: it has no render node")))
    };
    let own = gpus.iter().map(node).collect::<Result<Vec<_>, _>>()?;
    Ok(shared.into_iter().filter(|_| !gpus.is_empty()).chain(own).collect())
}

fn mapping(file: String) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(file.clone()),
        path_in_container: Some(file),
        cgroup_permissions: Some("rw".into()),
    }
}

/// A container of ours as the engine describes it.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) owner: String,
    pub(super) spec: String,
    pub(super) kept: Option<Kept>,
    /// Its image's id.
    pub(super) image: Option<String>,
    pub(super) network: String,
    pub(super) address: Option<String>,
    /// Its init process, as the host sees it.
    pub(super) pid: Option<u32>,
    pub(super) phase: Phase,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Made, and never started.
    Created,
    /// As it is told to the agent.
    Known(WorkloadStatus),
}

impl Described {
    /// Reads the engine's description, given this machine's boot id.
    pub(super) fn read(response: ContainerInspectResponse, boot: &str) -> Self {
        let mut labels = response.config.and_then(|config| config.labels).unwrap_or_default();
        let kept: Option<Kept> = labels.get(KEPT).and_then(|text| serde_json::from_str(text).ok());
        let rebooted = kept.as_ref().is_some_and(|kept| kept.boot != boot);
        let state = response.state.unwrap_or_default();
        let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
        let phase = phase(&state, rebooted);
        let networks = response.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        Self {
            owner: labels.remove(OWNER).unwrap_or_default(),
            spec: labels.remove(SPEC).unwrap_or_default(),
            kept,
            image: response.image,
            network: response.host_config.and_then(|config| config.network_mode).unwrap_or_default(),
            address: networks
                .into_values()
                .filter_map(|end| end.ip_address)
                .find(|address| !address.is_empty()),
            pid,
            phase,
        }
    }

    /// It has a kernel of its own.
    pub(super) fn is_sandboxed(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.sandboxed)
    }

    /// Its processes, as the host sees them.
    pub(super) fn processes(&self) -> Option<Processes> {
        let init = self.pid?;
        if self.is_sandboxed() { Processes::of_group(init) } else { Processes::beside(init) }
    }

    /// Its first process is alive.
    pub(super) fn runs(&self) -> bool {
        matches!(self.phase, Phase::Known(WorkloadStatus::Running { .. }))
    }
}

fn phase(state: &bollard::models::ContainerState, rebooted: bool) -> Phase {
    use ContainerStateStatusEnum as Engine;
    let at = |text: &Option<String>| moment(text.as_deref().unwrap_or_default());
    let exit = || {
        let code = state.exit_code.unwrap_or(255);
        Exit {
            code: u8::try_from(code).unwrap_or(255),
            out_of_memory: state.oom_killed.unwrap_or(false),
            at: at(&state.finished_at),
        }
    };
    let status = match state.status {
        Some(Engine::CREATED) => return Phase::Created,
        Some(Engine::RUNNING | Engine::RESTARTING | Engine::STOPPING) => {
            WorkloadStatus::Running { since: at(&state.started_at), paused: false }
        }
        Some(Engine::PAUSED) => WorkloadStatus::Running { since: at(&state.started_at), paused: true },
        // An engine that finds a container's process gone after a reboot writes 255.
        Some(Engine::EXITED) if rebooted && exit().code == 255 => WorkloadStatus::Lost,
        Some(Engine::EXITED) => WorkloadStatus::Exited(exit()),
        Some(Engine::REMOVING) => WorkloadStatus::Exited(exit()),
        Some(Engine::DEAD | Engine::EMPTY) | None => WorkloadStatus::Lost,
    };
    Phase::Known(status)
}

fn moment(text: &str) -> Timestamp {
    let seconds = text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    Timestamp::from_unix(u64::try_from(seconds).unwrap_or(0))
}

/// The programs that must exist in the image for the job to start, as absolute paths or names to be looked up.
pub(super) fn programs(spec: &WorkloadSpec) -> Vec<&str> {
    match (&spec.setup, &spec.run) {
        _ if spec.keep.is_some() => vec!["/bin/sh", "sleep"],
        (Some(_), _) | (None, Command::Shell(_)) => vec!["/bin/sh"],
        (None, Command::Exec(argv)) => argv.first().map(String::as_str).into_iter().collect(),
    }
}

/// Whether the lease needs a bridge at all.
pub(super) fn network_kind(spec: &WorkloadSpec) -> Option<super::network::Kind> {
    match spec.network {
        Network::Internet => Some(super::network::Kind::Open),
        Network::None if spec.ports.is_empty() => None,
        Network::None => Some(super::network::Kind::Closed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::readiness::empty_job;

    /// The number of the first slice of the first card.
    const SLICE: u32 = 1 << 20;

    #[test]
    fn no_variable_of_a_job_shows_it_gpus_that_it_did_not_lease() {
        let mut spec = empty_job(LeaseId::default());
        spec.envs.insert("NVIDIA_VISIBLE_DEVICES".into(), "all".into());
        let visible = |spec: &WorkloadSpec, mode: GpuMode| {
            let all = environment(spec, &Secrets::default(), &mode);
            all.into_iter().filter(|pair| pair.starts_with("NVIDIA_VISIBLE_DEVICES=")).collect::<Vec<_>>()
        };
        for mode in [GpuMode::Off, GpuMode::Cdi, GpuMode::Toolkit, GpuMode::Rocm, GpuMode::Render] {
            assert_eq!(visible(&spec, mode), ["NVIDIA_VISIBLE_DEVICES=void"]);
        }
        spec.limits.gpus = vec![1, 3];
        assert_eq!(visible(&spec, GpuMode::Toolkit), ["NVIDIA_VISIBLE_DEVICES=1,3"]);
        assert_eq!(visible(&spec, GpuMode::Cdi), ["NVIDIA_VISIBLE_DEVICES=void"]);
        spec.limits.gpus = vec![SLICE, SLICE + 18];
        assert_eq!(visible(&spec, GpuMode::Toolkit), ["NVIDIA_VISIBLE_DEVICES=0:0,1:2"]);
    }

    #[test]
    fn a_slice_is_handed_over_by_its_card_s_number_and_its_own() {
        let asked = |mode| {
            let host = host_of(&[SLICE, SLICE + 18], mode).unwrap();
            assert_eq!(host.devices, Some(Vec::new()));
            host.device_requests.unwrap().remove(0).device_ids.unwrap()
        };
        assert_eq!(asked(GpuMode::Cdi), ["nvidia.com/gpu=0:0", "nvidia.com/gpu=1:2"]);
        assert_eq!(asked(GpuMode::Toolkit), ["0:0", "1:2"]);
        for mode in [GpuMode::Rocm, GpuMode::Render] {
            assert!(host_of(&[SLICE], mode).is_err(), "a slice has no render node");
        }
    }

    #[test]
    fn no_variable_of_a_job_shows_it_cards_of_amd() {
        let mut spec = empty_job(LeaseId::default());
        spec.envs.insert("AMD_VISIBLE_DEVICES".into(), "all".into());
        spec.limits.gpus = vec![128];
        let all = environment(&spec, &Secrets::default(), &GpuMode::Rocm);
        let visible: Vec<_> = all.iter().filter(|pair| pair.starts_with("AMD_VISIBLE_DEVICES=")).collect();
        assert_eq!(visible, ["AMD_VISIBLE_DEVICES=void"]);
    }

    /// What a container with these accelerators is made of.
    fn host_of(gpus: &[u32], mode: GpuMode) -> Result<HostConfig, RuntimeError> {
        let mut spec = empty_job(LeaseId::default());
        spec.limits.gpus = gpus.to_vec();
        let image = super::super::image::Resolved {
            id: "sha256:00".into(),
            volumes: Vec::new(),
            path: None,
            requirement: None,
        };
        let around = Surroundings {
            owner: "o",
            image: &image,
            work: Path::new("/w"),
            boot: "b",
            network: "none",
            dns: Vec::new(),
            user: JobUser { uid: 65532, gid: 65532 },
            files: 1,
            gpus: &mode,
            threads: None,
            groups: vec!["992".into()],
            chosen: Chosen { runtime: None, is_sandbox: false },
            seccomp: None,
        };
        host_config(&spec, &around, "/w")
    }

    #[test]
    fn a_container_gets_its_own_cards_device_files_and_no_other() {
        let files = |gpus: &[u32], mode| {
            let host = host_of(gpus, mode).unwrap();
            assert_eq!((host.device_requests, host.privileged), (None, Some(false)));
            let devices = host.devices.unwrap().into_iter().map(|device| {
                assert_eq!(device.path_on_host, device.path_in_container);
                assert_eq!(device.cgroup_permissions.as_deref(), Some("rw"));
                device.path_on_host.unwrap()
            });
            devices.collect::<Vec<_>>()
        };
        let amd = ["/dev/kfd", "/dev/dri/renderD128", "/dev/dri/renderD130"];
        assert_eq!(files(&[128, 130], GpuMode::Rocm), amd);
        assert_eq!(files(&[129], GpuMode::Render), ["/dev/dri/renderD129"]);
        for mode in [GpuMode::Rocm, GpuMode::Render, GpuMode::Cdi, GpuMode::Off] {
            assert_eq!(files(&[], mode), [""; 0], "a lease without cards");
        }
        let refused = host_of(&[0], GpuMode::Rocm).unwrap_err().to_string();
        assert!(refused.contains("GPU 0: it has no render node"), "{refused}");
        let groups = host_of(&[128], GpuMode::Rocm).unwrap().group_add;
        assert_eq!(groups, Some(vec!["992".to_owned()]));
        let nvidia = host_of(&[0], GpuMode::Cdi).unwrap();
        assert_eq!(
            (nvidia.devices, nvidia.device_requests.map(|all| all.len())),
            (Some(Vec::new()), Some(1))
        );
    }
}
