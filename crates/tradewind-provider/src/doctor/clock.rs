//! Whether somebody keeps the clock: terms, vouchers and windows are about seconds.

use super::{Diagnosis, Host};

/// What is there while a time service is at work.
const KEPT_BY: [(&str, &str); 4] = [
    ("/run/systemd/timesync/synchronized", "systemd-timesyncd"),
    ("/run/chrony/chronyd.pid", "chrony"),
    ("/run/chronyd.pid", "chrony"),
    ("/run/ntpd.pid", "ntpd"),
];
/// The hypervisor's clock; a guest that has it needs no other.
const PARAVIRTUAL: &str = "kvm-clock";

pub(super) fn examine(host: &Host) -> Diagnosis {
    if let Some((_, keeper)) = KEPT_BY.iter().find(|(file, _)| host.has(file)) {
        return Diagnosis::good("clock", format!("kept by {keeper}"));
    }
    let source = host.text("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if source.as_deref() == Some(PARAVIRTUAL) {
        return Diagnosis::good("clock", "the hypervisor's");
    }
    Diagnosis::weak(
        "clock",
        "nothing seems to keep it right; a clock that is seconds off makes vouchers and terms fail",
        "apt-get install systemd-timesyncd && timedatectl set-ntp true",
    )
}
