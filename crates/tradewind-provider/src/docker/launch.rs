//! Starting a lease's container, once.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use bollard::models::{ContainerCreateBody, SystemInfo};
use bollard::query_parameters::{ContainerArchiveInfoOptionsBuilder, CreateContainerOptionsBuilder};
use rustix::process::{Resource, getrlimit};
use tradewind_proto::ids::LeaseId;
use tradewind_proto::workload::{Command, Network, Secrets, WorkloadSpec};

use super::cache::Held;
use super::container::{self, Described, Phase, Surroundings};
use super::engine::CallError;
use super::image::Resolved;
use super::login::Login;
use super::network::Kind;
use super::remap::Remap;
use super::sandbox::{self, Chosen, Listed};
use super::{GpuMode, NAME, Shared, image, requirement, seccomp, signed, work};
use crate::runtime::{RuntimeError, Volumes, refuse_environment};

/// Open files of a job, as far as the agent itself may give as many.
const FILES: u64 = 65_536;
/// Where a name without a slash is looked up when the image says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The bits of a device file that everybody may use.
const FOR_OTHERS: u32 = 0o006;
/// Go's bits for a file's kind, in what the engine tells of a file.
const GO_DIRECTORY: u32 = 1 << 31;
const GO_LINK: u32 = 1 << 27;

/// Starts the workload unless it was started before.
pub(super) async fn start(
    shared: &Arc<Shared>,
    spec: &WorkloadSpec,
    secrets: &Secrets,
    volumes: &Volumes,
) -> Result<(), RuntimeError> {
    refuse_environment(NAME, spec, secrets)?;
    let found = match shared.describe(spec.lease).await? {
        Some(found) => found,
        None => create(shared, spec, secrets, volumes).await?,
    };
    if found.owner != shared.config.owner || found.spec != container::digest(spec) {
        return Err(RuntimeError::Conflict(spec.lease));
    }
    if found.phase == Phase::Created
        && let Err(error) = launch(shared, spec, &found).await
    {
        discard(shared, spec.lease, &found.network, &error).await;
        return Err(error);
    }
    shared.watch(spec.lease, &found).await
}

/// Makes the container, with all that must be there before.
async fn create(
    shared: &Arc<Shared>,
    spec: &WorkloadSpec,
    secrets: &Secrets,
    volumes: &Volumes,
) -> Result<Described, RuntimeError> {
    let work =
        volumes.work.canonicalize().map_err(RuntimeError::io(format!("find {}", volumes.work.display())))?;
    countable(shared, spec)?;
    let kind = container::network_kind(spec);
    let info = shared.engine.info().await?;
    let chosen = choose(shared, &info, !spec.limits.gpus.is_empty())?;
    let remap = Remap::read(&info).map_err(|error| RuntimeError::Unavailable(error.to_string()))?;
    let user = shared.config.user;
    let on_host = remap.map_or(Some(user), |remap| remap.on_host(user)).ok_or_else(no_such_user)?;
    let ((image, _held), network, ()) =
        tokio::try_join!(shared.image(spec, secrets), network(shared, kind), async {
            let directory = work.clone();
            let given = tokio::task::spawn_blocking(move || work::give_to(&directory, on_host)).await;
            given
                .unwrap_or_else(|panic| Err(std::io::Error::other(panic)))
                .map_err(RuntimeError::io("hand over the work directory"))
        })?;
    let suited = suits(shared, spec, &image);
    let around = Surroundings {
        owner: &shared.config.owner,
        image: &image,
        work: &work,
        boot: &shared.boot,
        network: &network,
        dns: dns(shared, kind),
        user,
        files: files(),
        gpus: &shared.config.gpus,
        threads: shared.config.places.threads(&spec.limits),
        groups: groups(&container::device_files(&spec.limits.gpus, shared.config.gpus)?, remap)?,
        chosen,
        seccomp: seccomp::option(shared.engine.api().await?),
    };
    let made = match suited.and_then(|()| container::request(spec, &spec.secrets_of_job(secrets), &around)) {
        Ok(request) => make(shared, spec, request).await,
        Err(error) => Err(error),
    };
    // An engine that did not answer may have made it, and then the network is in use; the next agent's adoption finds out.
    if let Err(error) = &made
        && !matches!(error, RuntimeError::Unavailable(_))
    {
        shared.pool.give_back(&shared.engine, &network).await?;
    }
    made?;
    let found = shared.describe(spec.lease).await?.ok_or(RuntimeError::Absent(spec.lease))?;
    if found.network != network {
        // Another start of the lease came first.
        shared.pool.give_back(&shared.engine, &network).await?;
    }
    Ok(found)
}

/// The runtime of a new container. The engine is asked each time: what it lists changes with its configuration.
pub(super) async fn sandbox(shared: &Shared, has_gpus: bool) -> Result<Chosen, RuntimeError> {
    choose(shared, &shared.engine.info().await?, has_gpus)
}

fn choose(shared: &Shared, info: &SystemInfo, has_gpus: bool) -> Result<Chosen, RuntimeError> {
    shared.config.sandbox.choose(&Listed::read(info), has_gpus).map_err(sandbox::unsupported)
}

fn no_such_user() -> RuntimeError {
    RuntimeError::Unavailable("the engine remaps the job's user beyond this machine's last one".into())
}

/// Refuses an image that NVIDIA's driver here is too old for, if the lease has such cards.
fn suits(shared: &Shared, spec: &WorkloadSpec, image: &Resolved) -> Result<(), RuntimeError> {
    let has_cards =
        !spec.limits.gpus.is_empty() && matches!(shared.config.gpus, GpuMode::Cdi | GpuMode::Toolkit);
    let requirement = image.requirement.as_deref().filter(|_| has_cards);
    match requirement.and_then(|requirement| requirement::unmet(requirement, shared.config.nvidia)) {
        Some(why) => Err(RuntimeError::Start(format!("the image {why}"))),
        None => Ok(()),
    }
}

async fn network(shared: &Shared, kind: Option<Kind>) -> Result<String, RuntimeError> {
    let Some(kind) = kind else { return Ok("none".into()) };
    require_egress(shared).await?;
    shared.adopt().await?;
    Ok(shared.pool.take(&shared.engine, kind).await?)
}

/// Refuses a lease that bought an amount to send where it could not be held to it.
fn countable(shared: &Shared, spec: &WorkloadSpec) -> Result<(), RuntimeError> {
    if spec.limits.egress.is_none() || spec.network == Network::None || shared.egress.can_slow() {
        return Ok(());
    }
    let what = "a price of what is sent, with an egress table that the operator keeps".to_owned();
    Err(RuntimeError::Unsupported { runtime: NAME, what })
}

async fn require_egress(shared: &Shared) -> Result<(), RuntimeError> {
    let refuse = |error| {
        RuntimeError::Unavailable(format!("no lease gets a network without the egress table: {error}"))
    };
    shared.egress.ensure().await.map_err(refuse)
}

fn dns(shared: &Shared, kind: Option<Kind>) -> Vec<String> {
    match kind {
        Some(Kind::Open) => shared.config.dns.iter().map(ToString::to_string).collect(),
        // Some engines forward the names of a closed network from the host. Nothing answers on this address.
        Some(Kind::Closed) => vec!["127.0.0.1".into()],
        None => Vec::new(),
    }
}

fn files() -> i64 {
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(FILES).min(FILES);
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The groups that own these device files: a job is in none of the host's, and others may often not use them.
fn groups(files: &[String], remap: Option<Remap>) -> Result<Vec<String>, RuntimeError> {
    let refused = |what| RuntimeError::Unsupported { runtime: NAME, what };
    let owner = |file: &String| {
        let found = std::fs::metadata(file).ok().filter(|found| found.rdev() != 0);
        let found = found.ok_or_else(|| refused(format!("a GPU without its device file {file}")))?;
        // What no rule of the device manager gave away is group 0's, as much else is.
        match (found.gid(), found.mode() & FOR_OTHERS) {
            (_, FOR_OTHERS) => Ok(None),
            (0, _) => Err(refused(format!("a GPU whose device file {file} is only root's"))),
            (group, _) => Ok(Some(group)),
        }
    };
    let owners = files.iter().map(owner).collect::<Result<BTreeSet<Option<u32>>, _>>()?;
    let groups: Vec<String> = owners.into_iter().flatten().map(|group| group.to_string()).collect();
    if remap.is_some() && !groups.is_empty() {
        return Err(refused("a GPU whose device file is a group's, on an engine that remaps users".into()));
    }
    Ok(groups)
}

async fn make(
    shared: &Shared,
    spec: &WorkloadSpec,
    request: ContainerCreateBody,
) -> Result<(), RuntimeError> {
    let options = CreateContainerOptionsBuilder::default().name(&container::name(spec.lease)).build();
    let outcome = shared
        .engine
        .call(
            "make a container",
            |docker| async move { docker.create_container(Some(options), request).await },
        )
        .await;
    match outcome {
        Ok(_) => Ok(()),
        Err(error) if error.is_conflict() => Ok(()),
        Err(CallError::Refused { status: 400 | 404, message }) => Err(RuntimeError::Start(message)),
        Err(error) => Err(error.into()),
    }
}

async fn launch(shared: &Shared, spec: &WorkloadSpec, found: &Described) -> Result<(), RuntimeError> {
    if Kind::of(&found.network).is_some() {
        require_egress(shared).await?;
    }
    require_programs(shared, spec, found).await?;
    let name = container::name(spec.lease);
    let outcome = shared
        .engine
        .call("start a container", |docker| async move { docker.start_container(&name, None).await })
        .await;
    match outcome {
        Ok(()) => Ok(()),
        Err(CallError::Refused { status: 304, .. }) => Ok(()),
        Err(CallError::Refused { message, .. })
            if message.contains("OCI runtime") || message.contains("could not select device") =>
        {
            Err(RuntimeError::Start(message))
        }
        Err(error) => Err(error.about(spec.lease)),
    }
}

/// A container that could not be started is of no use. Where the engine did not answer nothing is known, and it stays.
async fn discard(shared: &Shared, lease: LeaseId, network: &str, error: &RuntimeError) {
    if matches!(error, RuntimeError::Unavailable(_)) {
        return;
    }
    let gone = shared.destroy(lease, true).await;
    let gone = if gone.is_ok() { shared.pool.give_back(&shared.engine, network).await } else { gone };
    if let Err(error) = gone {
        tracing::warn!(%lease, ?error, "a container that did not start stays until its lease is removed");
    }
}

/// The engine's init would report a missing program only as an exit with 127.
async fn require_programs(
    shared: &Shared,
    spec: &WorkloadSpec,
    made: &Described,
) -> Result<(), RuntimeError> {
    let programs = container::programs(spec);
    if programs.is_empty() {
        return Ok(());
    }
    let id = made.image.as_deref().unwrap_or_default();
    let found = image::inspect(&shared.engine, id)
        .await?
        .ok_or_else(|| RuntimeError::Unavailable(format!("the image {id} of a container is not here")))?;
    let image = Resolved::read(found);
    for program in programs {
        require(shared, spec, program, &image).await?;
    }
    Ok(())
}

async fn require(
    shared: &Shared,
    spec: &WorkloadSpec,
    program: &str,
    image: &Resolved,
) -> Result<(), RuntimeError> {
    let known = (image.id.clone(), program.to_owned());
    if shared.programs.lock().await.contains(&known) {
        return Ok(());
    }
    for path in places(program, image) {
        if is_program(shared, spec.lease, &path).await? {
            if program.starts_with('/') && !program.starts_with("/work/") {
                shared.programs.lock().await.insert(known);
            }
            return Ok(());
        }
    }
    let needs = match (&spec.keep, &spec.setup) {
        (Some(_), _) => Some("`keep`"),
        (None, Some(_)) if matches!(spec.run, Command::Exec(_)) => Some("a setup"),
        (None, _) => None,
    };
    if let Some(needs) = needs {
        let what = format!("{needs} in an image without {program}");
        return Err(RuntimeError::Unsupported { runtime: NAME, what });
    }
    Err(RuntimeError::Start(format!("there is no program `{program}` in the image")))
}

fn places(program: &str, image: &Resolved) -> Vec<String> {
    if program.starts_with('/') {
        vec![program.to_owned()]
    } else if program.contains('/') {
        vec![format!("/work/{program}")]
    } else {
        let path = image.path.as_deref().unwrap_or(PATH);
        path.split(':')
            .filter(|place| place.starts_with('/'))
            .map(|place| format!("{place}/{program}"))
            .collect()
    }
}

async fn is_program(shared: &Shared, lease: LeaseId, path: &str) -> Result<bool, RuntimeError> {
    let name = container::name(lease);
    let options = ContainerArchiveInfoOptionsBuilder::default().path(path).build();
    let outcome = shared
        .engine
        .call("look for a program", |docker| async move {
            docker.get_container_archive_info(&name, Some(options)).await
        })
        .await;
    match outcome {
        Ok(stat) if stat.file_mode & GO_LINK != 0 => Ok(true),
        Ok(stat) => Ok(stat.file_mode & GO_DIRECTORY == 0 && stat.file_mode & 0o111 != 0),
        Err(CallError::Refused { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Shared {
    /// The image that the spec names, here as long as it is held; then a container keeps it.
    pub(super) async fn image(
        &self,
        spec: &WorkloadSpec,
        secrets: &Secrets,
    ) -> Result<(Resolved, Held), RuntimeError> {
        let Some(named) = &spec.image else {
            let what = "a job without an image; the process runtime can".to_owned();
            return Err(RuntimeError::Unsupported { runtime: NAME, what });
        };
        let login = Login::of(spec, secrets)?;
        let (pull_within, limits) = (self.config.pull_within, &self.config.images);
        let (engine, cache, login) = (&self.engine, &self.cache, login.as_ref());
        let named = signed::vouched(&self.config.signed, named, login).await?;
        image::Source { engine, cache, pull_within, limits, login }.resolve(&named).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_let_into_the_groups_of_its_device_files_only() {
        assert_eq!(groups(&[], None).unwrap(), [""; 0]);
        assert_eq!(
            groups(&["/dev/null".to_owned(), "/dev/zero".to_owned()], None).unwrap(),
            [""; 0],
            "never root's"
        );
        for missing in ["/dev/dri/renderD1048575", "/etc/passwd"] {
            let refused = groups(&[missing.to_owned()], None).unwrap_err().to_string();
            assert!(refused.contains(missing), "{refused}");
        }
    }
}
