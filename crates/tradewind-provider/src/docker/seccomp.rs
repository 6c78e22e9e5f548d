//! The system calls that a container is refused where the engine's own profile is too old.
//!
//! Before version 25 an engine lets containers open sockets to the hypervisor (`AF_VSOCK`, from any network namespace) and use
//! `io_uring`. It then gets the process runtime's list instead of its own. A newer one keeps its own, which is an allow list.

use serde_json::{Value, json};

use crate::process::seccomp::{CLONE_NAMESPACES, DENIED, FAMILIES, TERMINAL_INJECTION};

/// The API of engine 25, the first whose own profile refuses what reaches past a container.
const ENOUGH: (usize, usize) = (1, 44);
/// More than any kernel has.
const LAST_FAMILY: i32 = 63;
/// The x86 tables are told apart by the filter; a call through one that is not named kills its process.
const ARCHITECTURES: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"];

/// The security option for an engine that speaks this API at most; `None` where its own profile does.
pub(super) fn option(api: (usize, usize)) -> Option<String> {
    (api < ENOUGH).then(|| format!("seccomp={}", profile()))
}

fn profile() -> Value {
    let refuse =
        |name: &str, args: Value| json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "args": args });
    let names: Vec<&str> = DENIED.iter().map(|(name, _)| *name).collect();
    let mut calls = vec![json!({ "names": names, "action": "SCMP_ACT_ERRNO" })];
    // C libraries fall back to `clone`, whose flags can be looked at.
    calls.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    let namespaces = CLONE_NAMESPACES.cast_unsigned();
    for bit in (0..32).map(|shift| 1u32 << shift).filter(|bit| namespaces & bit != 0) {
        let flag = json!([{ "index": 0, "value": bit, "valueTwo": bit, "op": "SCMP_CMP_MASKED_EQ" }]);
        calls.push(refuse("clone", flag));
    }
    for request in TERMINAL_INJECTION {
        calls.push(refuse("ioctl", json!([{ "index": 1, "value": request, "op": "SCMP_CMP_EQ" }])));
    }
    for family in (0..=LAST_FAMILY).filter(|family| !FAMILIES.contains(family)) {
        calls.push(refuse("socket", json!([{ "index": 0, "value": family, "op": "SCMP_CMP_EQ" }])));
    }
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "syscalls": calls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_old_engine_needs_our_list() {
        assert_eq!(option((1, 44)), None);
        assert_eq!(option((1, 52)), None);
        let option = option((1, 41)).unwrap();
        let profile: Value = serde_json::from_str(option.strip_prefix("seccomp=").unwrap()).unwrap();
        let calls = profile["syscalls"].as_array().unwrap();
        assert!(calls[0]["names"].as_array().unwrap().contains(&"io_uring_setup".into()));
        let refused = |family: i32| {
            calls.iter().any(|call| call["names"][0] == "socket" && call["args"][0]["value"] == family)
        };
        assert!(refused(libc::AF_VSOCK) && !refused(libc::AF_INET6));
    }
}
