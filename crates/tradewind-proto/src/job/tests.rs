use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::offer::Interconnect;
use crate::units::Bytes;

fn parse(text: &str) -> JobSpec {
    JobSpec::parse("job.yaml", text).unwrap_or_else(|error| panic!("{}", error.render()))
}

fn problems(text: &str) -> String {
    JobSpec::parse("job.yaml", text).expect_err("must be refused").render()
}

/// Every way to be wrong, with what the person reads.
#[test]
fn bad_jobs_are_refused_with_line_reason_and_hint() {
    let mut out = String::new();
    for (name, text) in include!("tests/bad.in") {
        let shown = if text.len() > 600 { "(large)\n" } else { text };
        writeln!(out, "### {name}\n{}\n---\n{}", shown.trim_end(), problems(text)).unwrap();
    }
    insta::assert_snapshot!(out);
}

#[test]
fn several_problems_are_shown_at_once_in_the_order_of_the_file() {
    let error = JobSpec::parse("job.yaml", "nam: x\nresources:\n  cpus: many\ntimeout: soon\n").unwrap_err();
    let lines: Vec<u32> = error.problems().iter().map(|problem| problem.place.line).collect();
    assert_eq!(lines, [1, 1, 3, 4]);
}

#[test]
fn no_problem_ever_shows_a_value_of_envs_or_secrets() {
    let secret = "hunter2-s3cr3t";
    let texts = [
        format!("run: ls\nenvs:\n  TOKEN: {secret}\n  TOKEN: {secret}\n"),
        format!("run: ls\nenvs:\n  TOKEN: [{secret}]\n"),
        format!("run: ls\nenvs:\n  TOKEN: \"{secret}\n"),
        format!("run: ls\nenvs:\n\tTOKEN: {secret}\n"),
        format!("run: ls\nenvs:\n  BAD NAME: {secret}\n"),
        format!("run: ls\nenvs:\n  KEY: |\n    {secret}\n   {secret}: {secret}\n"),
        format!("run: ls\nenvs: {{A: {secret}, B: [}}\n"),
        format!("run: ls\nenvs: {secret}\n"),
        format!("run: ls\nenvs:\n- TOKEN {secret}\n"),
        format!("run: ls\nenvs:\n- A={secret}\n- A={secret}\n"),
        format!("run: ls\nenvs:\nTOKEN: {secret}\n"),
        format!("run: ls\nsecrets:\n  TOKEN: {secret}\n"),
        format!("run: ls\nsecrets:\n- TOKEN={secret}\n"),
        format!("run: ls\nsecrets: [TOKEN, \"{secret}\"]\n"),
        format!("run: ls\nsecrets:\n- {{name: TOKEN, value: {secret}}}\n"),
        format!("run: ls\nsecrets: {{TOKEN: {{env: A, file: {secret}}}}}\n"),
        format!("{{run: ls, envs: {{A: {secret}, A: {secret}}}}}\n"),
        format!("{{\nenvs: {{\nA: {secret},\nB: {secret}: x}}}}\n"),
        format!("run: ls\nenv:\n  TOKEN: {secret}\n"),
        format!("run: ls\nenvs:\n  TOKEN: &a {secret}\n  OTHER: *b\n"),
        format!("run: ls\nenvs:\n  TOKEN: !!int {secret}\n"),
        format!("run: ls\nenvs:\n  TOKEN: '{secret}' tail\n"),
        format!("run: ls\nimage: a/b\nregistry: {{username: me, password: {secret}}}\n"),
        format!("run: ls\nimage: a/b\nregistry:\n  username: me\n  password: {secret}\n"),
        format!("run: ls\nimage: a/b\nregistry: {secret}\n"),
        format!("run: ls\ninputs: [hf://a/b]\nhf: {{token: {secret}}}\n"),
        format!("run: ls\nimage: a/b\nregistry:\n  user: me\n  pasword: {secret}\n"),
        format!("run: ls\nenvs:\n  ? [{secret}]\n  : x\n"),
        format!("run: ls\ninputs: [s3://data/x]\ns3: {{access_key: K, secret_key: {secret}}}\n"),
        format!("run: ls\ninputs: [s3://data/x]\ns3:\n  access_key: K\n  secret_key: {secret}\n"),
        format!("run: ls\ninputs: [s3://data/x]\ns3:\n  acess_key: K\n  secret_kay: {secret}\n"),
        format!("run: ls\ninputs: [hf://a/b]\nhf: {secret}\n"),
        format!("run: ls\ninputs: [git+https://a.b/c]\ngit: {{token: {secret}}}\n"),
        format!("run: ls\ninputs: [git+https://a.b/c]\ngit: {secret}\n"),
        format!("run: ls\ninputs: [\"git+https://me:{secret}@a.b/c\"]\n"),
        format!("run: ls\ninputs: [\"git+https://{secret}@a.b/c@v1\"]\n"),
    ];
    for text in texts {
        let error = JobSpec::parse("job.yaml", &text).expect_err(&text);
        for shown in [error.render(), error.to_string()] {
            assert!(!shown.contains("s3cr3t"), "{text}\n=>\n{shown}");
        }
    }
}

#[test]
fn the_smallest_job_has_every_default() {
    let job = parse("run: ./digits\n");
    assert_eq!(job.name, "job");
    assert_eq!(job.run, Command::Shell("./digits".into()));
    assert_eq!(job.market, Market::OnDemand);
    assert_eq!(job.network, Network::None);
    assert_eq!(job.resources, Resources::default());
    assert_eq!(job.placement.trust_tier, TrustTier::Staked);
    assert_eq!(job.retry.attempts, 1);
}

#[test]
fn a_full_job_is_read_field_by_field() {
    let job = parse(include_str!("tests/full.yaml"));
    insta::assert_json_snapshot!(job);
}

#[test]
fn a_skypilot_file_is_read_as_it_is() {
    let job = parse(include_str!("tests/skypilot.yaml"));
    assert_eq!(job.market, Market::Spot);
    assert_eq!(job.image, Some(ImageSource::Reference("pytorch/pytorch:2.4.0".into())));
    assert_eq!(job.ports, [8080]);
    let [set] = job.resources.sets.as_slice() else { panic!("one set") };
    assert_eq!(set.accelerators, Some(Accelerators { model: "A100".into(), count: 8 }));
    assert_eq!(
        (set.cpu_millis, set.memory, set.disk),
        (Some(32_000), Some(Bytes::gib(64)), Some(Bytes::gib(256)))
    );
    assert_eq!(job.secrets[0].source, SecretSource::Env("HF_TOKEN".into()));
    let targets: Vec<&str> = job.inputs.iter().map(|input| input.target.as_str()).collect();
    assert_eq!(targets, [".", "data", "weights.bin"]);
    assert_eq!(job.envs["MODEL_VERSION"], "1.10");
}

#[test]
fn an_image_is_a_reference_or_an_archive() {
    let image = |text: &str| parse(&format!("run: [./x]\nimage: {text}\n")).image.unwrap();
    for archive in ["image.tar", "./images/digits.tar", "../digits.tar", "/srv/digits.tar"] {
        assert_eq!(image(archive), ImageSource::Archive(archive.into()));
    }
    for reference in ["ghcr.io/org/tar", "localhost:5000/a.tar/b:1"] {
        assert_eq!(image(reference), ImageSource::Reference(reference.into()));
    }
    for compressed in ["digits.tar.gz", "./digits.tgz", "/srv/digits"] {
        let error = JobSpec::parse("job.yaml", &format!("run: ls\nimage: {compressed}\n")).unwrap_err();
        assert!(error.render().contains("ends in `.tar`"), "{}", error.render());
    }
}

#[test]
fn the_keys_of_stores_are_for_the_buyers_node_alone() {
    let job = parse(include_str!("tests/full.yaml"));
    let names: Vec<String> = job.store_secrets().into_iter().map(|secret| secret.name).collect();
    assert_eq!(names, [S3_ACCESS_KEY, S3_SECRET_KEY, S3_SESSION_TOKEN, HUB_TOKEN, GIT_TOKEN]);
    assert!(names.iter().all(|name| !is_variable(name)));
    let public = parse("run: ls\ninputs: [s3://data/x, hf://acme/tiny]\n");
    assert_eq!(public.store_secrets(), []);
}

#[test]
fn an_input_of_a_store_is_called_by_its_last_name() {
    let text = "run: ls\ninputs: [s3://data, s3://data/a/b/, s3://data/a/c.csv, hf://acme/tiny@v1, hf://datasets/acme/digits/x/y, \
                git+https://a.b/c/d.git@v1, git+https://a.b/e/]\n";
    let targets: Vec<String> = parse(text).inputs.into_iter().map(|input| input.target).collect();
    assert_eq!(targets, ["data", "b", "c.csv", "tiny", "y", "d", "e"]);
}

#[test]
fn a_revision_of_a_repository_may_have_slashes_and_may_be_left_out() {
    let text = "run: ls\ninputs: [\"git+https://a.b/c/d.git@feature/x-1.2\", git+https://a.b:8443/e]\n";
    let sources: Vec<InputSource> = parse(text).inputs.into_iter().map(|input| input.source).collect();
    let git = |url: &str, revision: Option<&str>| InputSource::Git {
        url: url.into(),
        revision: revision.map(str::to_owned),
    };
    let expected = [git("https://a.b/c/d.git", Some("feature/x-1.2")), git("https://a.b:8443/e", None)];
    assert_eq!(sources, expected);
    for bad in ["@", "@a..b", "@-x", "@a b", "@x^", "@x.lock", "@a//b", "?x@v1", "/../../x@v1", "@x@y:z"] {
        let text = format!("run: ls\ninputs: [\"git+https://a.b/c/d{bad}\"]\n");
        JobSpec::parse("job.yaml", &text).expect_err(bad);
    }
}

#[test]
fn numbers_keep_their_text() {
    let job = parse(
        "run: ls\nmax_price: 2.10\nenvs: {A: 1.10, B: 0x10, C: 1e999, D: 007, E: yes, F: true, G: -0.0}\n",
    );
    assert_eq!(job.max_price.unwrap().to_string(), "2.1");
    let values: Vec<&str> = job.envs.values().map(String::as_str).collect();
    assert_eq!(values, ["1.10", "0x10", "1e999", "007", "yes", "true", "-0.0"]);
}

#[test]
fn alternatives_multiply_out() {
    let text = "run: ls\nresources:\n  memory: 32+\n  any_of:\n  - accelerators: {H100: 1, A100: 2}\n  - vram: 24GB\n    nvlink: true\n";
    let resources = parse(text).resources;
    assert!(!resources.ordered);
    let counts: Vec<u16> = resources.sets.iter().map(ResourceRequest::accelerator_count).collect();
    assert_eq!(counts, [1, 2, 1]);
    assert!(resources.sets.iter().all(|set| set.memory == Some(Bytes::gib(32))));
    assert_eq!(resources.sets[2].interconnect, Some(Interconnect::NvLink));
    let ordered = parse("run: ls\nresources: {accelerators: [H100:8, A100-80GB:8]}\n").resources;
    assert!(ordered.ordered);
    assert_eq!(ordered.sets[1].accelerators.as_ref().unwrap().model, "A100");
}

#[test]
fn a_provider_learns_what_it_needs_and_nothing_of_the_purse() {
    let job = parse(include_str!("tests/full.yaml"));
    let share = Share { cpu_millis: 1000, memory: Bytes::gib(1), disk: Bytes::ZERO, gpus: 0, egress: None };
    let image = Image { reference: "ghcr.io/example/train:1.2".into(), digest: None, archive: None };
    let manifest = job.manifest("docker", Some(image), share, Vec::new(), [7; 32]);
    assert_eq!(manifest.check(), Ok(()));
    assert_eq!(manifest.outputs, ["out/model.bin", "out/metrics.json", "checkpoints"]);
    assert_eq!(manifest.envs["TRADEWIND_CHECKPOINT_INTERVAL"], "300");
    let bytes = postcard::to_stdvec(&manifest).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for private in ["~/.hf", "~/.s3", "minio", "./src", "12.5", "2.5"] {
        assert!(!text.contains(private), "{private}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
        let _ = JobSpec::parse("job.yaml", &text).map_err(|error| error.render());
    }

    #[test]
    fn no_mutation_of_a_real_file_makes_it_panic(at in 0usize..2000, with in "[\\PC\n\t:{}\\[\\]*&!|>'\"#-]{0,4}", cut in 0usize..20) {
        let text = include_str!("tests/full.yaml");
        let at = at % text.len();
        let end = (at + cut).min(text.len());
        let mutated = format!("{}{with}{}", &text[..at], &text[end..]);
        let _ = JobSpec::parse("job.yaml", &mutated).map_err(|error| error.render());
    }
}
