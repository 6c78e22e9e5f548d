//! Engines that give containers users of their own (`userns-remap`): a job's user, and root in its container, are others on the host.
//!
//! The engine names its data directory after whom it makes of a container's root, `/var/lib/docker/165536.165536`, and counts on
//! from there. Work directories are given to whom the job is on the host.

use std::path::Path;

use bollard::models::SystemInfo;

use super::JobUser;

/// Whom the host sees in place of a container's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remap {
    uid: u32,
    gid: u32,
}

/// An engine remaps users and does not say to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine remaps users, and its data directory does not say to whom")]
pub(super) struct NotTold;

impl Remap {
    /// As the engine describes itself; `None` where a container's users are the host's.
    pub(super) fn read(info: &SystemInfo) -> Result<Option<Self>, NotTold> {
        let remaps = info.security_options.iter().flatten().any(|option| option.contains("name=userns"));
        if !remaps {
            return Ok(None);
        }
        let root = info.docker_root_dir.as_deref().map(Path::new).and_then(Path::file_name);
        let named = root.and_then(|name| name.to_str()).and_then(|name| name.split_once('.'));
        let read = |(uid, gid): (&str, &str)| Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? });
        named.and_then(read).map(Some).ok_or(NotTold)
    }

    /// Whom the host sees in place of a container's user; `None` beyond the host's last one.
    pub(super) fn on_host(self, user: JobUser) -> Option<JobUser> {
        Some(JobUser { uid: self.uid.checked_add(user.uid)?, gid: self.gid.checked_add(user.gid)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(options: &[&str], root: &str) -> SystemInfo {
        SystemInfo {
            security_options: Some(options.iter().map(|option| (*option).to_owned()).collect()),
            docker_root_dir: Some(root.into()),
            ..SystemInfo::default()
        }
    }

    #[test]
    fn whom_a_container_s_user_is_stands_in_the_engine_s_data_directory() {
        let read = |root| Remap::read(&info(&["name=seccomp", "name=userns"], root));
        let remap = read("/var/lib/docker/165536.231072").unwrap().unwrap();
        let user = |uid, gid| JobUser { uid, gid };
        assert_eq!(remap.on_host(user(65_532, 10)), Some(user(231_068, 231_082)));
        assert_eq!(remap.on_host(user(u32::MAX, 0)), None);
        for untold in ["/var/lib/docker", "/var/lib/a.b", "/var/lib/1.", "/", ""] {
            assert_eq!(read(untold), Err(NotTold), "{untold}");
        }
        assert_eq!(Remap::read(&info(&["name=seccomp"], "/data/1.1")), Ok(None));
        assert_eq!(Remap::read(&SystemInfo::default()), Ok(None));
    }
}
