//! What every runtime must do for a buyer that gets in: commands, terminals and ports.

use super::*;

/// What a session said, and how it ended.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    output: String,
    error: String,
    code: Option<u8>,
}

fn shell(script: &str) -> Session {
    Session::command(["/bin/sh", "-c", script].map(str::to_owned).into())
}

async fn open(f: &Fixture, job: &Job, session: &Session) -> SessionEnds {
    f.runtime.exec(job.lease(), session).await.expect("a session")
}

/// Takes what is said until the end, or until `enough` of it.
async fn hear(ends: &mut SessionEnds, enough: impl Fn(&Said) -> bool) -> Said {
    let mut said = Said::default();
    let all = async {
        while let Some(output) = ends.output.recv().await {
            said.code = output.code();
            match output {
                Output::Stdout(bytes) => said.output += &String::from_utf8_lossy(&bytes),
                Output::Stderr(bytes) => said.error += &String::from_utf8_lossy(&bytes),
                Output::NotBegun { reason, .. } => said.error += &reason,
                Output::Started | Output::Exited(_) => {}
                Output::Alive => panic!("that is the agent's to say"),
            }
            if enough(&said) {
                return;
            }
        }
    };
    let heard = tokio::time::timeout(PATIENCE, all).await;
    assert!(heard.is_ok(), "it goes on and on: {said:?}");
    said
}

async fn run(f: &Fixture, job: &Job, session: &Session) -> Said {
    let mut ends = open(f, job, session).await;
    ends.input.send(Input::End).await.expect("taken");
    hear(&mut ends, |_| false).await
}

/// A job that stays, and says so.
async fn standing(f: &Fixture, script: &str) -> Job {
    let mut job = f.job(&format!("{script}\necho up; ./busybox sleep 120"));
    job.spec.envs.insert("PLAIN".into(), "plain".into());
    job.secrets.0.insert("TOKEN".into(), "hunter2".into());
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "up").await;
    job
}

/// Waits until no process of the job has `word` in its command.
async fn is_gone(f: &Fixture, job: &Job, word: &str) {
    let begin = Instant::now();
    loop {
        let said = run(f, job, &shell("./busybox ps -o args")).await;
        if !said.output.contains(word) {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "it is left behind: {said:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn a_kept_sandbox_is_worked_in_after_its_job(f: &Fixture) {
    let mut job = f.job("echo made > made");
    job.spec.keep = Some(Seconds::new(600));
    f.start(&job).await.expect("start");
    f.log_says(job.lease(), "the job ended, exit 0").await;
    let said = run(f, &job, &shell("./busybox cat made; (./busybox sleep 0.1 &) ; exit 5")).await;
    assert_eq!((said.output.as_str(), said.code), ("made\n", Some(5)), "{said:?}");
    let again = run(f, &job, &shell("echo again")).await;
    assert_eq!((again.output.as_str(), again.code), ("again\n", Some(0)), "{again:?}");
    f.clear(&job).await;
}

pub(crate) async fn a_command_beside_the_job_sees_what_the_job_sees(f: &Fixture) {
    let job = standing(f, "echo made > /tmp/made; ./busybox id -u > user").await;
    let mut session = shell(
        "./busybox cat /tmp/made; echo $PLAIN $TOKEN $MORE; pwd; [ $(./busybox id -u) = $(./busybox cat user) ] && echo same",
    );
    session.envs.insert("MORE".into(), "more".into());
    let said = run(f, &job, &session).await;
    assert_eq!(said.output, "made\nplain hunter2 more\n/work\nsame\n", "{said:?}");
    let said = run(f, &job, &shell("./busybox mount -t tmpfs none /mnt || ./busybox chroot / true")).await;
    assert_ne!(said.code, Some(0), "it has no more rights than the job: {said:?}");
    f.clear(&job).await;
}

pub(crate) async fn a_command_leaves_its_own_exit_code(f: &Fixture) {
    let job = standing(f, "").await;
    let said = run(f, &job, &shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!(said, Said { output: "out\n".into(), error: "err\n".into(), code: Some(7) });
    assert_eq!(run(f, &job, &shell("kill -9 $$")).await.code, Some(128 + 9));
    let missing = run(f, &job, &Session::command(vec!["/no/such/program".into()])).await;
    assert_eq!(missing.code, Some(127), "{missing:?}");
    assert!((missing.error + &missing.output).contains("/no/such/program"));
    f.clear(&job).await;
}

pub(crate) async fn a_command_reads_its_input_to_the_end(f: &Fixture) {
    let job = standing(f, "").await;
    let mut ends = open(f, &job, &shell("./busybox md5sum; exit 3")).await;
    let (input, block) = (ends.input.clone(), vec![b'x'; 32 << 10]);
    let writing = tokio::spawn(async move {
        for _ in 0..64 {
            input.send(Input::Stdin(block.clone().into())).await.expect("taken");
        }
        input.send(Input::End).await.expect("taken");
    });
    let said = hear(&mut ends, |_| false).await;
    writing.await.expect("written");
    // Two mebibytes of `x`.
    assert_eq!(
        (said.output.as_str(), said.code),
        ("67b2f816a30e8956149b2d7beb479e51  -\n", Some(3)),
        "{said:?}"
    );
    f.clear(&job).await;
}

pub(crate) async fn output_that_nobody_takes_waits(f: &Fixture) {
    let job = standing(f, "").await;
    let flood = "./busybox head -c 4194304 /dev/zero | ./busybox tr '\\0' y; echo > done";
    let mut ends = open(f, &job, &shell(flood)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!job.work().join("done").exists(), "four mebibytes went somewhere");
    let said = hear(&mut ends, |_| false).await;
    assert_eq!((said.output.len(), said.code), (4 << 20, Some(0)));
    f.clear(&job).await;
}

pub(crate) async fn a_terminal_has_its_size_and_its_signals(f: &Fixture) {
    let job = standing(f, "").await;
    let mut session = shell(
        "echo $TERM; until ./busybox stty size | ./busybox grep '33 91'; do ./busybox sleep 0.1; done; ./busybox sleep 60; echo $?; ./busybox stty size",
    );
    session.tty = Some(Tty { term: "vt100".into(), size: Size { columns: 91, rows: 33 } });
    let mut ends = open(f, &job, &session).await;
    let said = hear(&mut ends, |said| said.output.contains("33 91")).await;
    assert!(said.output.contains("vt100"), "{said:?}");
    ends.input.send(Input::Resize(Size { columns: 120, rows: 40 })).await.expect("taken");
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Control and C: the terminal interrupts whoever is in front.
    ends.input.send(Input::Stdin(vec![3].into())).await.expect("taken");
    let said = hear(&mut ends, |_| false).await;
    assert!(said.code == Some(130) || said.output.contains("40 120"), "{said:?}");
    f.clear(&job).await;
}

pub(crate) async fn what_a_session_left_behind_is_killed(f: &Fixture) {
    let job = standing(f, "").await;
    let mut ends =
        open(f, &job, &shell("trap '' HUP; ./busybox sleep 7771 & echo begun; ./busybox sleep 7772")).await;
    hear(&mut ends, |said| said.output.contains("begun")).await;
    drop(ends);
    is_gone(f, &job, "sleep 777").await;
    // One that takes no input keeps nobody from seeing its buyer gone.
    let ends = open(f, &job, &shell("exec ./busybox sleep 7773")).await;
    let input = ends.input.clone();
    let writing =
        tokio::spawn(
            async move { while input.send(Input::Stdin(vec![0; 32 << 10].into())).await.is_ok() {} },
        );
    tokio::time::sleep(Duration::from_millis(300)).await;
    writing.abort();
    drop(ends);
    is_gone(f, &job, "sleep 7773").await;
    f.clear(&job).await;
}

pub(crate) async fn a_session_ends_with_its_job(f: &Fixture) {
    let job = standing(f, "").await;
    let mut ends = open(f, &job, &shell("echo begun; ./busybox sleep 100")).await;
    hear(&mut ends, |said| said.output.contains("begun")).await;
    f.runtime.stop(job.lease(), Seconds::new(0)).await.expect("stop");
    let said = hear(&mut ends, |_| false).await;
    assert_ne!(said.code, Some(0), "{said:?}");
    f.clear(&job).await;
}

pub(crate) async fn a_session_reaches_a_port_that_the_job_did_not_name(f: &Fixture) {
    let script = "./busybox mkdir bin; ./busybox ln -s ../busybox bin/nc; (while true; do ./busybox nc -l -p 8088 -e ./busybox cat; done) &";
    let job = standing(f, script).await;
    let port = |port| {
        let mut session = Session::port(port);
        // Where the engine reaches a loopback by a program of the image, here it is.
        session.envs.insert("PATH".into(), "/work/bin:/bin:/usr/bin".into());
        session
    };
    let begin = Instant::now();
    loop {
        let mut ends = open(f, &job, &port(8088)).await;
        ends.input.send(Input::Stdin("over the loopback".into())).await.expect("taken");
        let said = hear(&mut ends, |said| said.output.contains("loopback")).await;
        if said.output == "over the loopback" {
            break;
        }
        // The server listens soon.
        assert!(begin.elapsed() < PATIENCE, "{said:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut ends = open(f, &job, &port(9)).await;
    let said = hear(&mut ends, |_| false).await;
    assert_ne!(said.code, Some(0), "nobody listens there: {said:?}");
    f.clear(&job).await;
}

pub(crate) async fn nothing_is_begun_where_no_job_runs(f: &Fixture) {
    let job = f.job("true");
    let refused =
        |outcome: Result<SessionEnds, RuntimeError>| matches!(outcome, Err(RuntimeError::Absent(_)));
    assert!(refused(f.runtime.exec(job.lease(), &shell("true")).await), "it never was");
    f.run(&job).await;
    assert!(refused(f.runtime.exec(job.lease(), &shell("true")).await), "it is over");
    f.clear(&job).await;
}
