//! Repositories that the `git` program made and its own `git http-backend` serves.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::map_request;
use tokio::sync::Semaphore;
use tradewind_proto::manifest::Source;
use tradewind_proto::report::Stage;
use tradewind_proto::supervision::Outcome;
use tradewind_testbed::git::{Forge, Repository};
use tradewind_testbed::web::Authority;

use super::{SMALL, holding, market, submit};
use crate::market::Market;

pub(super) const TOKEN: &str = "ghp_hunter2token";

/// Leaves a program that says `word`, and pushes it to `main`.
fn push(repository: &Repository, word: &str) -> String {
    let program = repository.dir().join("say");
    std::fs::write(&program, format!("#!/bin/sh\necho {word}\n")).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("set");
    std::fs::write(repository.dir().join("notes"), "not to be run\n").expect("written");
    repository.push("main")
}

/// Serves a forge that answers no more requests than are let in.
fn serve(market: &Market, authority: &Authority, forge: &Forge, let_in: &Arc<Semaphore>) -> String {
    let gate = let_in.clone();
    let wait = move |request: Request| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.expect("open").forget();
            request
        }
    };
    market.block_on(authority.serve(forge.router().layer(map_request(wait))))
}

#[test]
fn a_job_gets_the_commit_that_its_branch_was_when_it_was_placed() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let forge = Forge::new(&market.path("forge"), TOKEN);
    let repository = forge.repository("open.git");
    let first = push(&repository, "first");
    // The buyer's node asks twice; the provider has to wait until the branch is another.
    let let_in = Arc::new(Semaphore::new(2));
    let site = serve(&market, &authority, &forge, &let_in);
    let text = format!(
        "run: ./open/say > result; test -x open/notes || ls -A open >> result\n\
         outputs: [result]\ninputs: [\"git+{site}/open.git@main\"]\n{SMALL}"
    );
    let job = submit(&market, &text, "").expect("taken over");
    let second = push(&repository, "second");
    let_in.add_permits(100);
    let lease = market.settled(&job);
    assert_eq!(lease.outcome, Some(Outcome::Finished { code: 0 }), "{lease:?}");
    assert_eq!(std::fs::read(job.output.join("result")).expect("an output"), b"first\nnotes\nsay\n");
    let Source::Git(given) = &lease.manifest.inputs[0].source else { panic!("{:?}", lease.manifest.inputs) };
    assert!(given.commit == first && !given.private && first != second, "{given:?}");
    let again = market.settled(&submit(&market, &text.replace("@main", ""), "").expect("taken over"));
    let Source::Git(given) = &again.manifest.inputs[0].source else { panic!("{:?}", again.manifest.inputs) };
    assert_eq!(given.commit, second, "the remote's HEAD is its main branch");
}

#[test]
fn an_input_that_another_is_in_the_way_of_ends_the_lease_and_says_so() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let forge = Forge::new(&market.path("forge"), TOKEN);
    let _pushed = push(&forge.repository("open.git"), "first");
    let site = serve(&market, &authority, &forge, &Arc::new(Semaphore::new(100)));
    let own = market.path("own");
    std::fs::write(&own, "mine\n").expect("written");
    for place in ["code", "code/open/say/x"] {
        let inputs = format!(
            "[{{path: {}, target: {place}}}, {{url: \"git+{site}/open.git\", target: code/open}}]",
            own.display()
        );
        let text = format!("run: echo never\ninputs: {inputs}\nretry: {{attempts: 1}}\n{SMALL}");
        let job = submit(&market, &text, "").expect("taken over");
        market.until("it says what is in the way", || {
            let report = market.attempt(&job).and_then(|attempt| attempt.supervision.report);
            let Some(Stage::Failed { reason }) = report.map(|report| report.stage) else { return false };
            assert!(reason.contains(&format!("in the way of `{place}`")), "{reason}");
            true
        });
    }
}

#[test]
fn a_private_repository_is_pulled_with_a_token_that_the_job_does_not_get() {
    let authority = Authority::new();
    let market = market(&authority, "");
    let forge = Forge::new(&market.path("forge"), TOKEN);
    let repository = forge.repository("private/secret.git");
    let commit = push(&repository, "secret");
    let site = serve(&market, &authority, &forge, &Arc::new(Semaphore::new(100)));
    let own = market.path("own");
    std::fs::write(&own, "laid over it\n").expect("written");
    let (own, tools) =
        (own.display(), format!("{{url: \"git+{site}/private/tools.git\", target: secret/lib}}"));
    let _pushed = push(&forge.repository("private/tools.git"), "tools");
    let text = format!(
        "run: (secret/say; secret/lib/say; cat secret/notes) > result; grep -ac hunter2 /proc/$$/environ >> result || true\n\
         outputs: [result]\n\
         inputs: [{{path: {own}, target: secret/notes}}, {tools}, \"git+{site}/private/secret.git@{commit}\"]\n\
         git: {{token: GIT_TOKEN}}\n{SMALL}"
    );
    let job = submit(&market, &text, "").expect("taken over");
    let lease = market.settled(&job);
    assert_eq!(lease.outcome, Some(Outcome::Finished { code: 0 }), "{lease:?}");
    assert_eq!(
        std::fs::read(job.output.join("result")).expect("an output"),
        b"secret\ntools\nlaid over it\n0\n"
    );
    assert!(!format!("{lease:?}").contains(TOKEN), "{lease:?}");
    for node in ["provider", "buyer"] {
        assert!(holding(&market.path(node), TOKEN).is_empty() && !market.logged(node, TOKEN), "{node}");
    }

    let refused = |text: &str| submit(&market, text, "").err().expect("refused");
    let without = refused(&text.replace("git: {token: GIT_TOKEN}\n", ""));
    assert!(without.contains("/private/") && without.contains("name a token"), "{without}");
    let absent = refused(&text.replace(&commit, "v2"));
    assert!(absent.contains("no branch and no tag `v2`"), "{absent}");
    let unknown = refused(&text.replace(&commit, "0123456789abcdef0123456789abcdef01234567"));
    assert!(unknown.contains("not our ref"), "{unknown}");
    let nowhere = refused(&text.replace("secret.git", "nowhere.git"));
    assert!(nowhere.contains("does not exist"), "{nowhere}");
}
