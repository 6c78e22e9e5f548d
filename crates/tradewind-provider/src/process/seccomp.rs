//! The system calls that a job is refused.
//!
//! A deny list: a job may run any program, so an allow list would only be a list of everything else. What is on it is either
//! useless without privileges, and so attack surface only, or reaches past the sandbox (other processes' memory, kernel keyrings,
//! machine sockets). The compiled filter kills a process that calls through another architecture's table.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Refused with `EPERM`, whatever the arguments.
pub(crate) const DENIED: &[(&str, c_long)] = &[
    // another root, other mounts
    ("mount", libc::SYS_mount),
    ("umount2", libc::SYS_umount2),
    ("pivot_root", libc::SYS_pivot_root),
    ("chroot", libc::SYS_chroot),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fspick", libc::SYS_fspick),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("quotactl", libc::SYS_quotactl),
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    ("fanotify_init", libc::SYS_fanotify_init),
    // other namespaces
    ("unshare", libc::SYS_unshare),
    ("setns", libc::SYS_setns),
    // other processes
    ("ptrace", libc::SYS_ptrace),
    ("process_vm_readv", libc::SYS_process_vm_readv),
    ("process_vm_writev", libc::SYS_process_vm_writev),
    ("process_madvise", libc::SYS_process_madvise),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("kcmp", libc::SYS_kcmp),
    // keyrings are not namespaced
    ("keyctl", libc::SYS_keyctl),
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    // the kernel itself
    ("bpf", libc::SYS_bpf),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("kexec_load", libc::SYS_kexec_load),
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("reboot", libc::SYS_reboot),
    ("acct", libc::SYS_acct),
    ("syslog", libc::SYS_syslog),
    ("vhangup", libc::SYS_vhangup),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    ("nfsservctl", libc::SYS_nfsservctl),
    // the clock
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("adjtimex", libc::SYS_adjtimex),
    ("clock_adjtime", libc::SYS_clock_adjtime),
    #[cfg(target_arch = "x86_64")]
    ("kexec_file_load", libc::SYS_kexec_file_load),
    #[cfg(target_arch = "x86_64")]
    ("iopl", libc::SYS_iopl),
    #[cfg(target_arch = "x86_64")]
    ("ioperm", libc::SYS_ioperm),
    #[cfg(target_arch = "x86_64")]
    ("modify_ldt", libc::SYS_modify_ldt),
    #[cfg(target_arch = "x86_64")]
    ("uselib", libc::SYS_uselib),
    #[cfg(target_arch = "x86_64")]
    ("_sysctl", libc::SYS__sysctl),
];

/// Set in the number of a call through the x32 table, which shares x86-64's architecture value.
#[cfg(target_arch = "x86_64")]
const X32: c_long = 0x4000_0000;
/// Calls that only the x32 table has; they include its own `ptrace` and `kexec_load`.
#[cfg(target_arch = "x86_64")]
const X32_ONLY: std::ops::Range<c_long> = 512..548;

/// Address families that a job may open sockets of. All others are refused: `AF_VSOCK` reaches the hypervisor from any network
/// namespace, and the rest are seldom-walked kernel code.
pub(crate) const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Namespaces that `clone` could make.
pub(crate) const CLONE_NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Terminal requests that put words into another session's mouth.
pub(crate) const TERMINAL_INJECTION: [u64; 2] = [0x5412, 0x541c];

/// Why no filter could be made or set.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    #[error("the system call filter does not compile")]
    Compile(#[from] seccompiler::BackendError),
    #[error("the system call filter was refused")]
    Apply(#[from] seccompiler::Error),
}

/// Applies the filters to this thread and all that comes of it, for good.
pub(super) fn apply() -> Result<(), SeccompError> {
    seccompiler::apply_filter(&compile(refusals()?, libc::EPERM)?)?;
    // C libraries fall back to `clone`, whose flags can be looked at, only when `clone3` seems not to be there.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    seccompiler::apply_filter(&compile(clone3, libc::ENOSYS)?)?;
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refusals() -> Result<Rules, SeccompError> {
    let mut rules: Rules = DENIED.iter().map(|&(_, call)| (call, Vec::new())).collect();
    let mut namespaces = Vec::new();
    for bit in (0..32)
        .map(|shift| 1u64 << shift)
        .filter(|bit| u64::from(CLONE_NAMESPACES.cast_unsigned()) & bit != 0)
    {
        namespaces.push(when(&[(0, SeccompCmpOp::MaskedEq(bit), bit)])?);
    }
    rules.insert(libc::SYS_clone, namespaces);
    let foreign = FAMILIES.map(|family| (0, SeccompCmpOp::Ne, u64::from(family.cast_unsigned())));
    rules.insert(libc::SYS_socket, vec![when(&foreign)?]);
    let injections = TERMINAL_INJECTION.map(|request| when(&[(1, SeccompCmpOp::Eq, request)]));
    rules.insert(libc::SYS_ioctl, injections.into_iter().collect::<Result<_, _>>()?);
    #[cfg(target_arch = "x86_64")]
    {
        let twins: Rules = rules.iter().map(|(call, rule)| (call | X32, rule.clone())).collect();
        rules.extend(twins);
        rules.extend(X32_ONLY.map(|call| (call | X32, Vec::new())));
        rules.insert(libc::SYS_clone3 | X32, Vec::new());
    }
    Ok(rules)
}

/// Matches when all of (argument, comparison, value) do.
fn when(conditions: &[(u8, SeccompCmpOp, u64)]) -> Result<SeccompRule, SeccompError> {
    let conditions: Result<Vec<_>, _> = conditions
        .iter()
        .map(|(argument, op, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, op.clone(), *value)
        })
        .collect();
    Ok(SeccompRule::new(conditions?)?)
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, SeccompError> {
    let arch = std::env::consts::ARCH.try_into()?;
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
}
