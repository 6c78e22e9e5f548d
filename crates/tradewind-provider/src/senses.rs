//! What is seen of the owner's own use of the machine: load beside leases, heat, and how long nobody was there.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tradewind_proto::lending::Senses;
use tradewind_proto::units::Seconds;

/// How long the session manager may take to say whether somebody is there.
const PATIENCE: Duration = Duration::from_secs(2);
/// Above this, a sensor is broken: nothing that works is as hot.
const BROKEN: i64 = 150_000;

/// Processor time since boot, in hundredths of a second of all threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

/// Sees a machine.
#[derive(Debug)]
pub struct Observer {
    root: PathBuf,
    /// At the last look: the machine's ticks, and the milliseconds that leases had used.
    last: Option<(Ticks, u64)>,
}

impl Observer {
    /// Sees this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::below("/")
    }

    /// Sees the machine whose files lie below `root`.
    #[must_use]
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), last: None }
    }

    /// Looks. `leased` is how many milliseconds of processor time all leases have used so far; the load is that of the time
    /// since the last look, so the first has none.
    pub async fn look(&mut self, leased: u64) -> Senses {
        let load = self.load(leased);
        let terminals = self.terminals(SystemTime::now());
        let desktop = if self.root == Path::new("/") { desktop().await } else { None };
        let idle = [terminals, desktop].into_iter().flatten().min();
        Senses { load, heat: self.heat(), idle }
    }

    fn load(&mut self, leased: u64) -> Option<u8> {
        let ticks = ticks(&fs::read_to_string(self.root.join("proc/stat")).ok()?)?;
        let (before, leased_before) = self.last.replace((ticks, leased))?;
        let all = ticks.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = ticks.busy.saturating_sub(before.busy);
        // A lease that is gone takes its time with it.
        let theirs = leased.saturating_sub(leased_before) / 10;
        u8::try_from(busy.saturating_sub(theirs).saturating_mul(100) / all).ok()
    }

    /// The hottest sensor, in degrees.
    fn heat(&self) -> Option<u8> {
        let zones = inside(&self.root.join("sys/class/thermal")).map(|zone| vec![zone.join("temp")]);
        let chips = inside(&self.root.join("sys/class/hwmon"));
        let sensors = chips.map(|chip| {
            let is_input = |file: &PathBuf| {
                let name = file.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
                name.starts_with("temp") && name.ends_with("_input")
            };
            inside(&chip).filter(is_input).collect()
        });
        let degrees = zones.chain(sensors).flatten().filter_map(|file| {
            let thousandths: i64 = fs::read_to_string(file).ok()?.trim().parse().ok()?;
            u8::try_from((0..BROKEN).contains(&thousandths).then_some(thousandths / 1_000)?).ok()
        });
        degrees.max()
    }

    /// How long no terminal was read from; nothing where nobody has one.
    fn terminals(&self, now: SystemTime) -> Option<Seconds> {
        let dev = self.root.join("dev");
        let consoles = inside(&dev).filter(|file| {
            let name = file.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
            name.strip_prefix("tty").is_some_and(|number| number.parse::<u8>().is_ok_and(|number| number > 0))
        });
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let used = inside(&dev.join("pts")).chain(consoles).filter_map(|file| {
            let met = fs::metadata(&file).ok()?;
            // A console at which nobody is logged in is the system's.
            let owned = met.uid() != 0 || file.parent().is_some_and(|dir| dir.ends_with("pts"));
            (owned && !file.ends_with("ptmx")).then(|| u64::try_from(met.atime()).ok())?
        });
        used.max().map(|at| Seconds::new(now.saturating_sub(at)))
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

/// What lies in a directory; nothing where it is not there.
fn inside(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let numbers: Vec<u64> =
        line.split_whitespace().take(8).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    let all = numbers.iter().sum();
    let idle = numbers.get(3)? + numbers.get(4).copied().unwrap_or(0);
    Some(Ticks { busy: all - idle, all })
}

/// How long nobody used the seat's desktop, as the session manager says.
async fn desktop() -> Option<Seconds> {
    let mut command = tokio::process::Command::new("loginctl");
    command.args([
        "show-seat",
        "seat0",
        "--property=IdleHint",
        "--property=IdleSinceHint",
        "--property=ActiveSession",
    ]);
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    idle_of_seat(std::str::from_utf8(&output.stdout).ok()?, now)
}

/// Reads the session manager's answer; nothing where nobody has the seat.
fn idle_of_seat(answer: &str, now: u64) -> Option<Seconds> {
    let of = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    if of("ActiveSession").is_none_or(str::is_empty) {
        return None;
    }
    if of("IdleHint")? == "no" {
        return Some(Seconds::ZERO);
    }
    let since = of("IdleSinceHint")?.parse::<u64>().ok()? / 1_000_000;
    Some(Seconds::new(now.saturating_sub(since)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, file: &str, text: &str) {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[tokio::test]
    async fn what_leases_use_is_no_load_of_the_owner() {
        let dir = tempfile::tempdir().unwrap();
        let mut observer = Observer::below(dir.path());
        write(dir.path(), "proc/stat", "cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 1 1 1\n");
        assert_eq!(observer.look(5_000).await.load, None, "the first look");
        // 1,000 ticks later: 600 busy, of which 400 are leases'.
        write(dir.path(), "proc/stat", "cpu  500 100 200 1200 0 0 0 0 0 0\n");
        assert_eq!(observer.look(9_000).await.load, Some(20));
        assert_eq!(observer.look(9_000).await.load, None, "no time passed");
        write(dir.path(), "proc/stat", "cpu  1500 100 200 1200 0 0 0 0 0 0\n");
        assert_eq!(observer.look(0).await.load, Some(100), "a lease that is gone takes its time with it");
        write(dir.path(), "proc/stat", "something else\n");
        assert_eq!(observer.look(0).await.load, None);
    }

    #[tokio::test]
    async fn the_hottest_sensor_counts_and_broken_ones_do_not() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Observer::below(dir.path()).look(0).await.heat, None);
        write(dir.path(), "sys/class/thermal/thermal_zone0/temp", "45000\n");
        write(dir.path(), "sys/class/hwmon/hwmon1/temp2_input", "71500\n");
        write(dir.path(), "sys/class/hwmon/hwmon1/temp3_input", "511000\n");
        write(dir.path(), "sys/class/hwmon/hwmon1/temp4_input", "-128000\n");
        write(dir.path(), "sys/class/hwmon/hwmon1/fan1_input", "99000\n");
        assert_eq!(Observer::below(dir.path()).look(0).await.heat, Some(71));
    }

    #[tokio::test]
    async fn a_terminal_tells_when_it_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let mut observer = Observer::below(dir.path());
        assert_eq!(observer.look(0).await.idle, None, "nobody has one");
        for file in ["dev/pts/0", "dev/pts/ptmx", "dev/tty1", "dev/ttyS0"] {
            write(dir.path(), file, "");
        }
        let idle = |file: &str, seconds: u64| {
            let at = SystemTime::now() - Duration::from_secs(seconds);
            let file = fs::File::options().write(true).open(dir.path().join(file)).unwrap();
            file.set_times(fs::FileTimes::new().set_accessed(at)).unwrap();
        };
        idle("dev/pts/0", 900);
        idle("dev/pts/ptmx", 1);
        idle("dev/ttyS0", 1);
        idle("dev/tty1", 1_800);
        let seen = observer.look(0).await.idle.unwrap();
        assert!((900..905).contains(&seen.get()), "{seen}");
    }

    #[test]
    fn a_desktop_tells_when_it_was_used() {
        let answer = |hint: &str, session: &str| {
            format!("ActiveSession={session}\nIdleHint={hint}\nIdleSinceHint=1700000000000000\n")
        };
        assert_eq!(idle_of_seat(&answer("no", "c1"), 1_700_000_100), Some(Seconds::ZERO));
        assert_eq!(idle_of_seat(&answer("yes", "c1"), 1_700_000_100), Some(Seconds::new(100)));
        assert_eq!(idle_of_seat(&answer("no", ""), 1_700_000_100), None, "nobody has the seat");
        assert_eq!(idle_of_seat("Failed to connect to bus\n", 1_700_000_100), None);
    }
}
