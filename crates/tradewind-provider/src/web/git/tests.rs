//! Repositories of the `git` program over its own server, and packs and answers made by hand that no git would make.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::extract::Request;
use axum::middleware::map_request;
use axum::response::Redirect;
use flate2::write::ZlibEncoder;
use gix_hash::Kind as Hash;
use gix_object::{Kind, compute_hash};
use reqwest::header::AUTHORIZATION;
use tempfile::TempDir;
use tokio::sync::Notify;
use tradewind_testbed::git::Forge;
use tradewind_testbed::web::Authority;

use super::super::{Cache, SourcePolicy};
use super::*;

const TOKEN: &str = "hunter2";

/// A pack made by hand.
#[derive(Default)]
struct Made {
    entries: Vec<u8>,
    count: u32,
}

impl Made {
    /// Adds an entry whose header says `size`. Returns where it is.
    fn raw(&mut self, kind: u8, size: u64, between: &[u8], content: &[u8]) -> u64 {
        let offset = 12 + self.entries.len() as u64;
        let (mut byte, mut rest) = (kind << 4 | (size & 15) as u8, size >> 4);
        while rest > 0 {
            self.entries.push(byte | 128);
            (byte, rest) = ((rest & 127) as u8, rest >> 7);
        }
        self.entries.push(byte);
        self.entries.extend(between);
        let mut zlib = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        zlib.write_all(content).unwrap();
        self.entries.extend(zlib.finish().unwrap());
        self.count += 1;
        offset
    }

    fn object(&mut self, kind: Kind, content: &[u8]) -> ObjectId {
        let number = match kind {
            Kind::Commit => 1,
            Kind::Tree => 2,
            Kind::Blob => 3,
            Kind::Tag => 4,
        };
        self.raw(number, content.len() as u64, &[], content);
        compute_hash(Hash::Sha1, kind, content).unwrap()
    }

    fn blob(&mut self, content: &str) -> ObjectId {
        self.object(Kind::Blob, content.as_bytes())
    }

    fn tree(&mut self, entries: &[(&str, &[u8], ObjectId)]) -> ObjectId {
        let mut content = Vec::new();
        for (mode, name, id) in entries {
            content.extend([mode.as_bytes(), b" ", name, b"\0", id.as_slice()].concat());
        }
        self.object(Kind::Tree, &content)
    }

    fn commit(&mut self, tree: ObjectId) -> ObjectId {
        let who = "A <a@example.org> 1 +0000";
        self.object(Kind::Commit, format!("tree {tree}\nauthor {who}\ncommitter {who}\n\nx\n").as_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let head = [b"PACK".as_slice(), &2u32.to_be_bytes(), &self.count.to_be_bytes()].concat();
        [head, self.entries.clone(), vec![0; 20]].concat()
    }

    fn file(&self) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&self.bytes()).unwrap();
        file
    }
}

fn limits() -> Limits {
    Limits { object: 1 << 20, entries: 100, directories: 50, ..Limits::new(Bytes::mib(10)) }
}

/// What a pack is refused for. Nothing of it may lie beside its target.
fn refused(pack: &Made, commit: ObjectId, limits: &Limits) -> String {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("work/code");
    std::fs::create_dir(dir.path().join("work")).unwrap();
    let refused = lay_out(&pack.file(), &commit.to_string(), &target, limits);
    for (place, most) in [(dir.path().to_owned(), "work"), (dir.path().join("work"), "code")] {
        for entry in std::fs::read_dir(place).unwrap() {
            assert_eq!(entry.unwrap().file_name(), most);
        }
    }
    match refused {
        Err(Refused::Content(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn no_name_in_a_tree_leads_out_of_its_directory() {
    let names: [&[u8]; 15] = [
        b"..",
        b".",
        b"",
        b"a/b",
        b"../x",
        b"/etc",
        b".git",
        b".GIT",
        b"git~1",
        b".git ",
        b"a\nb",
        b"\x1b[2J",
        b"\x7f",
        "\u{200c}.git".as_bytes(),
        &[b'a'; 256],
    ];
    for name in names {
        for mode in ["100644", "40000", "120000", "160000"] {
            let mut pack = Made::default();
            let blob = pack.blob("x");
            let below = pack.tree(&[("100644", b"x", blob)]);
            let tree = pack.tree(&[(mode, name, if mode == "40000" { below } else { blob })]);
            let commit = pack.commit(tree);
            let why = refused(&pack, commit, &limits());
            assert!(why.contains("may not be named") || why.contains("damaged"), "{name:?}: {why}");
            assert!(!why.contains(char::is_control), "{why:?}");
        }
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    for twice in [[0, 1], [1, 0]] {
        let mut pack = Made::default();
        let (to, blob) = (pack.blob("d"), pack.blob("x"));
        let below = pack.tree(&[("100644", b"x", blob)]);
        let entries: [(&str, &[u8], ObjectId); 2] = [("120000", b"a", to), ("40000", b"a", below)];
        let tree = pack.tree(&twice.map(|index| entries[index]));
        let commit = pack.commit(tree);
        assert_eq!(refused(&pack, commit, &limits()), "has `a` twice");
    }
    for out in ["/etc", "..", "../x", "d/../../x", "d/..", "", "x\0y", "a\nb", &"x".repeat(2_000)] {
        let mut pack = Made::default();
        let to = pack.blob(out);
        let tree = pack.tree(&[("120000", b"a", to)]);
        let commit = pack.commit(tree);
        let why = refused(&pack, commit, &limits());
        assert!(why.contains("link `a` that does not stay inside"), "{out:?}: {why}");
    }
}

#[test]
fn what_is_too_much_is_refused_before_it_is_made() {
    let mut large = Made::default();
    large.raw(3, 1 << 40, &[], b"small");
    let any = compute_hash(Hash::Sha1, Kind::Blob, b"x").unwrap();
    assert!(refused(&large, any, &limits()).contains("an object of 1099511627776 bytes"));
    let many = Made { count: u32::MAX, ..Made::default() };
    assert!(refused(&many, any, &limits()).contains("at most 100 are taken"));

    let mut difference = Made::default();
    let base = difference.raw(3, 1, &[], b"x");
    // One byte becomes a terabyte, says the difference.
    let claim = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0x90, 1];
    let distance = 12 + difference.entries.len() as u64 - base;
    difference.raw(6, claim.len() as u64, &[u8::try_from(distance).unwrap()], &claim);
    assert!(refused(&difference, any, &limits()).contains("cannot be unpacked"));

    let mut bomb = Made::default();
    let blob = bomb.blob("x");
    let mut tree = bomb.tree(&[("100644", b"x", blob)]);
    for _ in 0..9 {
        let names: [&[u8]; 8] = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"];
        tree = bomb.tree(&names.map(|name| ("40000", name, tree)));
    }
    let commit = bomb.commit(tree);
    assert!(refused(&bomb, commit, &limits()).contains("too many files or directories"));

    let mut deep = Made::default();
    let mut tree = deep.tree(&[]);
    for _ in 0..70 {
        tree = deep.tree(&[("40000", b"d", tree)]);
    }
    let commit = deep.commit(tree);
    assert!(refused(&deep, commit, &limits()).contains("deeper than 64"));

    let mut copies = Made::default();
    let blob = copies.blob(&"x".repeat(40_000));
    let tree = copies.tree(&[("100644", b"a", blob), ("100644", b"b", blob), ("100644", b"c", blob)]);
    let commit = copies.commit(tree);
    let small = Limits { bytes: 100_000, ..limits() };
    assert!(refused(&copies, commit, &small).contains("100000 bytes of the job's disk"));
    let late = Limits { until: Instant::now().checked_sub(Duration::from_secs(1)).unwrap(), ..limits() };
    assert!(refused(&copies, commit, &late).contains("takes more than"));
}

#[test]
fn a_pack_that_is_damaged_or_not_whole_is_refused() {
    let mut pack = Made::default();
    let absent = compute_hash(Hash::Sha1, Kind::Blob, b"never sent").unwrap();
    let tree = pack.tree(&[("100644", b"x", absent)]);
    let commit = pack.commit(tree);
    assert_eq!(refused(&pack, commit, &limits()), format!("was sent without {absent}"));
    assert!(refused(&pack, tree, &limits()).contains("has no commit"), "a tree is none");
    let more = Made { count: 3, entries: pack.entries.clone() };
    assert!(refused(&more, commit, &limits()).contains("was sent as a pack that"));
    let fewer = Made { count: 1, entries: pack.entries };
    assert!(refused(&fewer, commit, &limits()).contains("does not end where it says"));
    let mut orphan = Made::default();
    orphan.raw(7, 4, absent.as_slice(), &[1, 1, 0x90, 1]);
    assert!(refused(&orphan, commit, &limits()).contains("from others that are not there"));
}

/// A directory to pull into, and a provider that may read from this machine.
struct Bench {
    dir: TempDir,
    puller: Puller,
    asked: Arc<AtomicUsize>,
    authority: Arc<Authority>,
    site: String,
}

impl Bench {
    async fn new(router: impl FnOnce(&Path) -> Router) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (authority, dir) = (Arc::new(Authority::new()), tempfile::tempdir().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let count = move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::ready(request)
        };
        let site = authority.serve(router(dir.path()).layer(map_request(count))).await;
        let cache = Cache::open(dir.path().join("cache"), Bytes::mib(1)).unwrap();
        let policy = SourcePolicy { allow_private: true, authorities: vec![authority.pem().into_bytes()] };
        let puller = Puller::new(&policy, cache).unwrap();
        Self { dir, puller, asked, authority, site }
    }

    /// A server that answers all with one text.
    async fn saying(text: Vec<u8>) -> Self {
        Self::new(|_| Router::new().fallback(move || std::future::ready(text))).await
    }

    fn commit(&self, name: &str, commit: &str) -> GitCommit {
        GitCommit { url: format!("{}/{name}", self.site), commit: commit.into(), private: false }
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("target")
    }

    async fn pull(&self, commit: &GitCommit) -> Result<(), PullError> {
        self.puller.pull_commit(commit, Some(TOKEN), Bytes::mib(8), &self.target(), |_| {}).await
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_commit_is_laid_out_as_a_checkout_without_its_history() {
    let mut forge = None;
    let bench = Bench::new(|dir| {
        let made = Forge::new(&dir.join("forge"), TOKEN);
        let router = made.router();
        forge = Some(made);
        router
    })
    .await;
    let forge = forge.unwrap();
    for repository in [forge.repository("one.git"), forge.repository_of_sha256("long.git")] {
        let at = |name: &str| repository.dir().join(name);
        std::fs::create_dir_all(at("lib/deep")).unwrap();
        std::fs::write(at("lib/deep/gone"), "was here").unwrap();
        let _earlier = repository.push("main");
        std::fs::remove_file(at("lib/deep/gone")).unwrap();
        // Alike, so that the server sends one as what differs from the other.
        let long: String = (0..3_000u32).map(|number| format!("{}\n", number * number)).collect();
        std::fs::write(at("lib/deep/one"), &long).unwrap();
        std::fs::write(at("lib/deep/two"), format!("{long}and one more\n")).unwrap();
        std::fs::write(at("say"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("say"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("../lib/deep", at("lib/link")).unwrap();
        repository.git(&["add", "--all"]);
        let sub = repository.ask(&["rev-parse", "HEAD"]);
        repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{sub},vendored")]);
        std::fs::create_dir(at("vendored")).unwrap();
        let id = repository.push("main");
        let name = repository.dir().file_name().unwrap().to_str().unwrap();
        std::fs::create_dir_all(bench.target().join("of/before")).unwrap();
        bench.pull(&bench.commit(name, &id)).await.unwrap();
        let got = |name: &str| bench.target().join(name);
        assert_eq!(std::fs::read_to_string(got("lib/deep/one")).unwrap(), long);
        assert_eq!(std::fs::read_to_string(got("lib/link/two")).unwrap(), format!("{long}and one more\n"));
        assert_eq!((mode(&got("say")), mode(&got("lib/deep/one")), mode(&got("lib"))), (0o755, 0o644, 0o755));
        let mut there: Vec<_> =
            std::fs::read_dir(bench.target()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        there.sort();
        assert_eq!(there, ["lib", "say", "vendored"], "no history, and nothing of what was there before");
        assert_eq!(std::fs::read_dir(got("vendored")).unwrap().count(), 0);
        assert!(!got("lib/deep/gone").exists());
    }
}

#[tokio::test]
async fn a_second_lease_asks_for_nothing_but_what_is_damaged_or_private() {
    let mut made = None;
    let bench = Bench::new(|dir| {
        let forge = Forge::new(&dir.join("forge"), TOKEN);
        made = Some(forge.clone());
        forge.router()
    })
    .await;
    let forge = made.unwrap();
    let (open, hidden) = (forge.repository("open.git"), forge.repository("private/hidden.git"));
    for repository in [&open, &hidden] {
        std::fs::write(repository.dir().join("x"), "content").unwrap();
    }
    let commit = bench.commit("open.git", &open.push("main"));
    for _ in 0..2 {
        bench.pull(&commit).await.unwrap();
        assert_eq!(std::fs::read(bench.target().join("x")).unwrap(), b"content");
        std::fs::write(bench.target().join("x"), "what the job makes of it").unwrap();
    }
    assert_eq!(bench.asked.load(Ordering::SeqCst), 1);
    let kept = std::fs::read_dir(bench.dir.path().join("cache")).unwrap().next().unwrap().unwrap();
    std::fs::write(kept.path(), "damaged").unwrap();
    bench.pull(&commit).await.unwrap();
    assert_eq!(std::fs::read(bench.target().join("x")).unwrap(), b"content");
    assert_eq!(bench.asked.load(Ordering::SeqCst), 2);

    let public = bench.commit("private/hidden.git", &hidden.push("main"));
    let Err(PullError::Job(refused)) = bench.pull(&public).await else { panic!("no token was to be sent") };
    assert!(refused.contains("answered 401"), "{refused}");
    let private = GitCommit { private: true, ..public };
    let missing =
        bench.puller.pull_commit(&private, None, Bytes::mib(8), &bench.target(), |_| {}).await.unwrap_err();
    assert!(matches!(missing, PullError::Later(_)), "{missing:?}");
    for asked in [4, 5] {
        bench.pull(&private).await.unwrap();
        assert_eq!(bench.asked.load(Ordering::SeqCst), asked, "what is private is never shared");
    }
}

/// An answer to `fetch` with this pack.
fn answer(pack: &[u8]) -> Vec<u8> {
    let mut answer = b"000dpackfile\n".to_vec();
    for piece in pack.chunks(60_000) {
        answer.extend(format!("{:04x}\x01", piece.len() + 5).into_bytes());
        answer.extend(piece);
    }
    [answer, b"0000".to_vec()].concat()
}

#[tokio::test]
async fn another_commit_than_was_asked_for_is_not_laid_out() {
    let mut pack = Made::default();
    let blob = pack.blob("something else");
    let tree = pack.tree(&[("100644", b"x", blob)]);
    let sent = pack.commit(tree).to_string();
    let bench = Bench::saying(answer(&pack.bytes())).await;
    let wanted = "0123456789abcdef0123456789abcdef01234567";
    let Err(PullError::Job(refused)) = bench.pull(&bench.commit("x", wanted)).await else { panic!("taken") };
    assert_eq!(refused, format!("{}/x was sent without {wanted}", bench.site));
    assert!(!bench.target().exists());
    assert_eq!(std::fs::read_dir(bench.dir.path().join("cache")).unwrap().count(), 0, "and it is not kept");
    bench.pull(&bench.commit("x", &sent)).await.unwrap();
    assert_eq!(std::fs::read(bench.target().join("x")).unwrap(), b"something else");
}

/// Whatever is changed on the way, the files are those of the commit, or there are none.
#[test]
fn no_changed_byte_of_a_pack_is_laid_out_as_something_else() {
    let mut pack = Made::default();
    let base = pack.raw(3, 9, &[], b"something");
    let difference = [9, 11, 0x90, 9, 2, b'!', b'\n'];
    let distance = 12 + pack.entries.len() as u64 - base;
    pack.raw(6, difference.len() as u64, &[u8::try_from(distance).unwrap()], &difference);
    let made = compute_hash(Hash::Sha1, Kind::Blob, b"something!\n").unwrap();
    let link = pack.blob("x");
    let tree = pack.tree(&[("120000", b"link", link), ("100644", b"x", made)]);
    let (commit, whole) = (pack.commit(tree).to_string(), pack.bytes());
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("code");
    let mut refused = 0;
    for at in 0..=whole.len() {
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << (at % 8);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        match lay_out(&file, &commit, &target, &limits()) {
            Ok(()) => assert_eq!(std::fs::read(target.join("link")).unwrap(), b"something!\n"),
            Err(Refused::Content(_)) => refused += 1,
            Err(Refused::Here(error)) => panic!("byte {at}: {error}"),
        }
    }
    // But for the sum at its end, which says nothing that the commit does not, and how it may be compressed.
    assert!(refused > whole.len() - 60 && refused < whole.len(), "{refused} of {}", whole.len());
}

#[test]
fn an_object_may_be_made_from_one_that_comes_later() {
    let (first, second, last) = ("something", "something!", "something!?");
    let [first_id, second_id, last_id] =
        [first, second, last].map(|text| compute_hash(Hash::Sha1, Kind::Blob, text.as_bytes()).unwrap());
    let mut pack = Made::default();
    pack.raw(7, 6, second_id.as_slice(), &[10, 11, 0x90, 10, 1, b'?']);
    pack.raw(7, 6, first_id.as_slice(), &[9, 10, 0x90, 9, 1, b'!']);
    assert_eq!(pack.blob(first), first_id);
    let tree = pack.tree(&[("100644", b"x", last_id)]);
    let commit = pack.commit(tree).to_string();
    let dir = tempfile::tempdir().unwrap();
    lay_out(&pack.file(), &commit, &dir.path().join("code"), &limits()).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("code/x")).unwrap(), last);
}

#[test]
fn an_answer_is_read_however_it_comes_in_pieces() {
    let pack: Vec<u8> = (0..150_000u32).map(|number| (number % 251) as u8).collect();
    let whole =
        [b"0011shallow-info\n0001".as_slice(), &answer(&pack)[..13], b"0007\x02hi", &answer(&pack)[13..]]
            .concat();
    for size in [1, 7, 65_536, whole.len()] {
        let mut reading = Answer { shown: "x", buffer: Vec::new(), in_pack: false };
        let got: Vec<u8> = whole.chunks(size).flat_map(|chunk| reading.take(chunk).unwrap()).collect();
        assert!(got == pack && reading.in_pack && reading.buffer.is_empty(), "{size}");
    }
}

/// A server may send elsewhere whoever asks it, but not with the token.
#[tokio::test]
async fn a_token_goes_to_no_other_host() {
    let mut pack = Made::default();
    let tree = pack.tree(&[]);
    let commit = pack.commit(tree).to_string();
    let seen = Arc::new(AtomicUsize::new(0));
    let (counter, bytes) = (seen.clone(), answer(&pack.bytes()));
    let elsewhere = Bench::new(|_| {
        Router::new().fallback(move |request: Request| {
            if request.headers().contains_key(AUTHORIZATION) {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            std::future::ready(bytes)
        })
    })
    .await;
    let to = format!("{}/y/git-upload-pack", elsewhere.site);
    let authority = elsewhere.authority.clone();
    let site =
        authority.serve(Router::new().fallback(move || std::future::ready(Redirect::temporary(&to)))).await;
    let private = GitCommit { url: format!("{site}/x"), commit, private: true };
    elsewhere.pull(&private).await.unwrap();
    assert!(elsewhere.target().is_dir());
    assert_eq!((elsewhere.asked.load(Ordering::SeqCst), seen.load(Ordering::SeqCst)), (1, 0));
    let direct = GitCommit { url: format!("{}/y", elsewhere.site), ..private };
    elsewhere.pull(&direct).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1, "its own host gets it");
}

#[tokio::test]
async fn what_a_server_says_instead_of_a_pack_is_told_apart() {
    let wanted = "0123456789abcdef0123456789abcdef01234567";
    let pull = async |text: Vec<u8>| {
        let bench = Bench::saying(text).await;
        bench.pull(&bench.commit("x", wanted)).await.unwrap_err()
    };
    let whole = answer(&Made::default().bytes());
    let PullError::Later(why) = pull(whole[..20].to_vec()).await else { panic!("it may be whole next time") };
    assert!(why.ends_with("broke off"), "{why}");
    for rubbish in [b"<html>".to_vec(), b"ffff".to_vec(), b"000dpackfile\n0005\x09".to_vec()] {
        let PullError::Job(why) = pull(rubbish).await else { panic!("it does not get better") };
        assert!(why.ends_with("does not answer as a git server does"), "{why}");
    }
    let PullError::Job(why) = pull(b"0013ERR no\x1b[2J\nhere".to_vec()).await else { panic!("it is final") };
    assert!(why.ends_with("/x says: no[2Jhere"), "{why:?}");
    let PullError::Later(why) = pull(b"000dpackfile\n000b\x03full!\n".to_vec()).await else {
        panic!("later")
    };
    assert!(why.ends_with("says: full!"), "{why}");
    let PullError::Job(why) = pull(answer(&vec![0; 9 << 20])).await else { panic!("it is too large") };
    assert!(why.contains("larger than the job's disk"), "{why}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let reached = Arc::new(Notify::new());
    let bell = reached.clone();
    let hang = move || {
        bell.notify_one();
        std::future::pending::<String>()
    };
    let bench = Bench::new(|_| Router::new().fallback(hang)).await;
    let commit = bench.commit("x", "0123456789abcdef0123456789abcdef01234567");
    let pull = tokio::spawn(async move { bench.pull(&commit).await });
    reached.notified().await;
    // From here on nothing but time passes.
    tokio::time::pause();
    let Err(PullError::Later(why)) = pull.await.unwrap() else { panic!("nobody answered") };
    assert!(why.contains("timed out"), "{why}");
}

#[tokio::test]
async fn the_owners_network_is_not_asked() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::open(dir.path().join("cache"), Bytes::mib(1)).unwrap();
    let puller = Puller::new(&SourcePolicy::default(), cache).unwrap();
    for (host, is_final) in [("127.0.0.1:1", true), ("169.254.169.254", true), ("localhost:1", false)] {
        let commit = "0123456789abcdef0123456789abcdef01234567".into();
        let commit = GitCommit { url: format!("https://{host}/x"), commit, private: false };
        let target = dir.path().join("target");
        let refused = puller.pull_commit(&commit, None, Bytes::mib(1), &target, |_| {}).await.unwrap_err();
        assert_eq!(matches!(refused, PullError::Job(_)), is_final, "{refused:?}");
        assert!(format!("{refused:?}").contains("not on the public Internet"), "{refused:?}");
    }
}
