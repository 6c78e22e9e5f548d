//! What a hostile job tries, and what it gets.

use std::os::unix::fs::MetadataExt;

use tradewind_proto::workload::{Image, Network};
use tradewind_provider::runtime::RuntimeError;

use super::fixture;

#[tokio::test]
async fn the_hosts_files_are_out_of_reach() {
    let f = fixture().await;
    let job = f.job(
        "for p in /etc/shadow /etc/machine-id /root /home /var/run/docker.sock /run /sys /proc/1/environ /proc/1/root/etc; do \
           ./busybox cat $p/. $p 2>/dev/null && echo read $p; done; \
         for p in /usr/x /etc/x /bin/x /x /dev/x /proc/sys/kernel/hostname; do \
           (echo x > $p) 2>/dev/null && echo wrote $p; done; \
         ./busybox cp busybox /dev/shm/busybox && /dev/shm/busybox true 2>/dev/null && echo ran from shared memory; \
         ./busybox chmod u+s busybox; ./busybox cp busybox /tmp/busybox && /tmp/busybox echo private; \
         echo x > /dev/stdout; ls -d /proc/[0-9]* | wc -l",
    );
    f.run(&job).await;
    let log = f.log(job.lease()).await;
    let (said, processes) = log.trim_end().rsplit_once('\n').expect("lines");
    assert_eq!(said, "private\nx", "{log}");
    let processes: u32 = processes.trim().parse().expect("a count");
    assert!(processes <= 5, "only the job's own processes are visible, not {processes}");
    f.clear(&job).await;
}

#[tokio::test]
async fn the_job_has_no_privilege_and_a_user_of_its_own() {
    let f = fixture().await;
    let script = "echo $$ > pid; id -u; id -g; \
                  ./busybox grep -E '^(CapEff|CapPrm|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status; ./busybox sleep 60";
    let (one, two) = (f.job(script), f.job(script));
    for job in [&one, &two] {
        f.start(job).await.expect("start");
        f.log_says(job.lease(), "Seccomp:\t2").await;
        let log = f.log(job.lease()).await;
        assert!(log.starts_with("1000\n1000\n"), "{log}");
        assert_eq!(log.matches("0000000000000000").count(), 4, "no capability in any set: {log}");
        assert!(log.contains("NoNewPrivs:\t1"), "{log}");
    }
    let owner = |path: &std::path::Path| std::fs::metadata(path).expect("the work directory").uid();
    if rustix::process::geteuid().is_root() {
        let users = [owner(one.work()), owner(two.work())];
        assert_ne!(users[0], users[1], "two leases share a user");
        assert!(users.iter().all(|user| *user >= 1_900_000_000), "{users:?}");
        for (job, user) in [&one, &two].into_iter().zip(users) {
            assert_eq!(owner(&job.work().join("pid")), user);
        }
    }
    for job in [&one, &two] {
        f.clear(job).await;
    }
}

#[tokio::test]
async fn a_job_cannot_stop_its_supervisor() {
    let f = fixture().await;
    let job = f.job("kill -9 1; kill -TERM 1; kill -STOP 1; (echo x > /proc/1/mem) 2>/dev/null && echo wrote; echo alive; exit 3");
    assert_eq!(f.run(&job).await.code, 3);
    assert_eq!(f.log(job.lease()).await.lines().last(), Some("alive"));
    f.clear(&job).await;
}

#[tokio::test]
async fn what_this_runtime_cannot_do_is_refused_before_anything_is_made() {
    let f = fixture().await;
    let mut wanted = vec![f.job("true"), f.job("true"), f.job("true"), f.job("true"), f.job("true")];
    wanted[0].spec.image = Some(Image { reference: "debian".into(), digest: None, archive: None });
    wanted[1].spec.network = Network::Internet;
    wanted[2].spec.envs.insert("A=B".into(), "x".into());
    wanted[3].spec.envs.insert("A".into(), "x".repeat(1 << 20));
    wanted[4].spec.limits.gpus = vec![4_000_000];
    for job in wanted {
        let error = f.start(&job).await.expect_err("this runtime cannot do that");
        assert!(matches!(error, RuntimeError::Unsupported { runtime: "process", .. }), "{error:?}");
        assert!(f.runtime.list().await.expect("list").is_empty());
    }
}

#[tokio::test]
async fn an_input_that_is_a_hard_link_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Without root nothing changes hands.
        return;
    }
    let f = fixture().await;
    let job = f.job("true");
    let elsewhere = f.root.path().join("elsewhere");
    std::fs::write(&elsewhere, "shared").expect("write");
    std::fs::hard_link(&elsewhere, job.work().join("input")).expect("link");
    f.start(&job).await.expect_err("it would give away the other name too");
    assert_eq!(std::fs::metadata(&elsewhere).expect("elsewhere").uid(), 0);
}
