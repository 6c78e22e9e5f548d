//! The system's own ssh, scp, sftp and rsync.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::ports::curl;
use super::{Running, Standing, fed, text, told, until};

/// Writes the client's configuration, and returns where it is and the job's host.
fn config(standing: &Standing) -> (PathBuf, String) {
    let said = standing.command(&["--json", "ssh-config", "stays"]).output().expect("the program starts");
    let said: Value = serde_json::from_slice(&said.stdout).unwrap_or_else(|_| panic!("{}", told(&said)));
    let word = |name: &str| said[name].as_str().expect("a word").to_owned();
    (word("config").into(), word("host"))
}

fn client(program: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("-F").arg(config).stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().expect("scripts/tools installs the clients")
}

fn works(command: &mut Command) -> String {
    let said = run(command);
    assert!(said.status.success(), "{}", told(&said));
    text(&said.stdout)
}

#[test]
fn ssh_scp_sftp_and_rsync_reach_the_job_as_any_other_host() {
    let standing = Standing::begin();
    let (config, host) = config(&standing);
    let said = run(client("ssh", &config).args([&host, "echo $PLAIN; echo wrong >&2; exit 3"]));
    let wanted = (Some(3), "plain\n".to_owned(), "wrong\n".to_owned());
    assert_eq!((said.status.code(), text(&said.stdout), text(&said.stderr)), wanted);
    let mut counting = client("ssh", &config);
    counting.args(["tradewind-stays", "wc -c"]);
    assert_eq!(text(&fed(counting, &[7; 5 << 20]).stdout), format!("{}\n", 5 << 20));
    let terminal = run(client("ssh", &config).args([
        "-tt",
        "-o",
        "SetEnv=LC_TRADE=wind",
        "stays.tradewind",
        "tty; echo $LC_TRADE",
    ]));
    assert!(
        text(&terminal.stdout).contains("/dev/pts/") && text(&terminal.stdout).contains("wind"),
        "{}",
        told(&terminal)
    );
    let ours = standing.command(&["ssh", "stays", "echo", "by our own command"]).output().expect("starts");
    assert_eq!(text(&ours.stdout), "by our own command\n", "{}", told(&ours));

    let here = standing.market.path("here");
    std::fs::create_dir_all(here.join("tree/deep")).expect("made");
    let content: Vec<u8> = (0..3_000_000u32).map(|it| (it % 251) as u8).collect();
    std::fs::write(here.join("tree/deep/file"), &content).expect("written");
    let file = here.join("tree/deep/file");
    works(client("scp", &config).arg("-q").arg(&file).arg(format!("{host}:by-sftp")));
    works(client("scp", &config).args(["-q", "-O"]).arg(&file).arg(format!("{host}:by-scp")));
    works(client("ssh", &config).args([&host, "cmp by-sftp by-scp"]));
    works(client("scp", &config).arg("-q").arg(format!("{host}:by-sftp")).arg(here.join("back")));
    assert!(std::fs::read(here.join("back")).expect("a file") == content);
    let shell = format!("ssh -F {}", config.display());
    let tree = format!("{}/", here.join("tree").display());
    works(Command::new("rsync").args(["-a", "-e", &shell, &tree, &format!("{host}:tree/")]));
    works(Command::new("rsync").args(["-a", "-e", &shell, &format!("{host}:tree/")]).arg(here.join("copy")));
    assert!(std::fs::read(here.join("copy/deep/file")).expect("a file") == content);
    let mut batch = client("sftp", &config);
    batch.args(["-q", "-b", "-", &host]);
    assert!(text(&fed(batch, b"ls tree/deep\n").stdout).contains("file"));

    // What editors do: a long session, and connections through it to a port that the job did not name.
    let forward = client("ssh", &config).args(["-N", "-L", "127.0.0.1:28081:localhost:8081", &host]).spawn();
    let _forward = Running(forward.expect("starts"));
    until("the client listens", || TcpStream::connect("127.0.0.1:28081").is_ok());
    for _ in 0..5 {
        assert_eq!(curl("http://127.0.0.1:28081/"), "a page\n");
    }
}

#[test]
fn only_our_key_opens_and_only_the_pinned_host_is_trusted() {
    let standing = Standing::begin();
    let (config, host) = config(&standing);
    let other = standing.market.path("other");
    works(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&other));
    let text_of = std::fs::read_to_string(&config).expect("a file");
    let identity = text_of.lines().find(|line| line.contains("IdentityFile")).expect("an identity");
    let wrong = standing.market.path("wrong");
    std::fs::write(&wrong, text_of.replace(identity, &format!("    IdentityFile {}", other.display())))
        .expect("written");
    let denied = run(client("ssh", &wrong).args([&host, "true"]));
    assert_eq!(denied.status.code(), Some(255), "{}", told(&denied));
    assert!(text(&denied.stderr).contains("Permission denied (publickey)"), "{}", told(&denied));
    let password =
        ["-o", "PreferredAuthentications=password,keyboard-interactive", "-o", "PubkeyAuthentication=no"];
    let denied = run(client("ssh", &config).args(password).args([&host, "true"]));
    assert!(text(&denied.stderr).contains("Permission denied (publickey)"), "{}", told(&denied));

    let known = config.with_file_name("known_hosts");
    let ours = std::fs::read_to_string(&known).expect("a file");
    let stranger = std::fs::read_to_string(other.with_extension("pub")).expect("a file");
    let pinned = standing.market.path("pinned");
    std::fs::write(&pinned, format!("tradewind {stranger}")).expect("written");
    let option = format!("UserKnownHostsFile={}", pinned.display());
    let denied = run(client("ssh", &config).args(["-o", &option, &host, "true"]));
    assert!(text(&denied.stderr).contains("Host key verification failed"), "{}", told(&denied));
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        config.with_file_name(name).metadata().expect("a file").permissions().mode() & 0o777
    };
    assert_eq!((mode("id_ed25519"), mode("host_ed25519"), mode(".")), (0o600, 0o600, 0o700));
    assert_eq!(ours.lines().count(), 1);
}

#[test]
fn the_line_in_a_persons_own_configuration_stands_first_and_once() {
    let home = tempfile::tempdir().expect("a directory");
    let ssh = home.path().join(".ssh");
    std::fs::create_dir(&ssh).expect("made");
    std::fs::write(ssh.join("config"), "Host example\n    User me\n").expect("written");
    let install = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tradewind"));
        command.args(["ssh-config", "--install"]).env("HOME", home.path());
        works(command.env("TRADEWIND_HOME", home.path().join("tradewind")))
    };
    install();
    let once = std::fs::read_to_string(ssh.join("config")).expect("a file");
    install();
    assert_eq!(std::fs::read_to_string(ssh.join("config")).expect("a file"), once);
    let ours = home.path().join("tradewind/ssh/config");
    assert_eq!(once, format!("Include \"{}\"\n\nHost example\n    User me\n", ours.display()));
    let shown = works(Command::new("ssh").arg("-F").arg(&ours).args(["-G", "tradewind-abc"]));
    assert!(shown.contains("hostkeyalias tradewind") && shown.contains("user job"), "{shown}");
}
