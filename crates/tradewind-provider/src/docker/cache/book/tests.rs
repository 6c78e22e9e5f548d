//! The book, driven as an engine and its owner may.

use super::*;

const NOW: Timestamp = Timestamp::from_unix(1_000);

fn shown(id: &str, names: &[&str]) -> Shown {
    let references = names.iter().map(ToString::to_string).collect();
    Shown { id: id.into(), references, size: Bytes::new(10) }
}

fn lease(number: u8) -> LeaseId {
    LeaseId::new([number; 32].into())
}

/// A book after `image` came under `name` to an engine that had `engine`.
fn brought(engine: &[Shown], name: &str, image: &Shown) -> Book {
    let mut book = Book::default();
    book.expect(1, name, false, engine, NOW).expect("room");
    book.arrive(1, image, Purpose::default(), NOW);
    assert_eq!(book.coming.len(), 0);
    book
}

fn names(book: &Book) -> Vec<&str> {
    book.images.iter().flat_map(|entry| &entry.references).map(String::as_str).collect()
}

#[test]
fn what_came_is_listed_under_the_names_that_came_with_it() {
    let image = shown("sha256:aa", &["acme/a:1", "acme/a@sha256:00"]);
    let book = brought(&[shown("sha256:bb", &["acme/b:1"])], "docker.io/acme/a:1", &image);
    assert_eq!(names(&book), ["acme/a:1", "acme/a@sha256:00"]);
    assert_eq!(book.named("acme/a:1").map(|entry| entry.last_used), Some(NOW));
}

#[test]
fn an_image_that_was_there_before_under_any_name_or_none_is_the_owner_s() {
    for had in [shown("sha256:aa", &["mine:1"]), shown("sha256:aa", &[])] {
        let image = shown("sha256:aa", &["mine:1", "acme/a:1"]);
        assert!(brought(&[had], "acme/a:1", &image).is_empty());
    }
}

#[test]
fn a_name_that_the_owner_gave_meanwhile_is_not_ours() {
    let image = shown("sha256:aa", &["acme/a:1", "mine:1", "acme/a/mine:1", "me/a:1"]);
    assert_eq!(names(&brought(&[], "acme/a:1", &image)), ["acme/a:1"]);
    assert_eq!(
        names(&brought(&[], "evil.example/busybox", &shown("a", &["busybox:latest"]))),
        ["busybox:latest"]
    );
}

#[test]
fn another_name_of_a_listed_image_is_added() {
    let mut book = brought(&[], "acme/a:1", &shown("a", &["acme/a:1"]));
    book.expect(2, "acme/b:1", false, &[shown("a", &["acme/a:1", "mine:1"])], NOW).expect("room");
    let asked = Purpose { lease: Some(lease(1)), asked: Some("acme/b:1") };
    book.arrive(2, &shown("a", &["acme/a:1", "mine:1", "acme/b:1"]), asked, NOW);
    assert_eq!(names(&book), ["acme/a:1", "acme/b:1"]);
    assert_eq!(book.images[0].awaited.keys().copied().collect::<Vec<_>>(), [lease(1)]);
    book.release(lease(1));
    assert!(book.images[0].awaited.is_empty());
}

#[test]
fn two_that_bring_one_image_at_once_list_it_once() {
    let mut book = Book::default();
    for number in [1, 2] {
        book.expect(number, "acme/a:1", false, &[], NOW).expect("room");
    }
    for number in [1, 2] {
        book.arrive(number, &shown("a", &["acme/a:1"]), Purpose::default(), NOW);
    }
    assert_eq!((names(&book), book.coming.len()), (vec!["acme/a:1"], 0));
}

#[test]
fn what_never_comes_is_dropped_when_it_cannot_come_any_more() {
    let mut book = Book::default();
    book.expect(1, "acme/a:1", false, &[], NOW).expect("room");
    book.drop_if_late(1, NOW.after(LINGERS));
    assert_eq!(book.coming.len(), 1);
    book.drop_if_late(1, NOW.after(LINGERS).after(Seconds::new(1)));
    assert!(book.is_empty());
}

#[test]
fn a_use_makes_an_image_the_last_to_go() {
    let mut book = brought(&[], "acme/a:1", &shown("a", &["acme/a:1"]));
    book.expect(2, "acme/b:1", false, &[], NOW).expect("room");
    book.arrive(2, &shown("b", &["acme/b:1"]), Purpose::default(), NOW);
    book.touch("a", NOW.after(Seconds::new(9)));
    book.touch("unknown", NOW);
    assert_eq!(names(&book), ["acme/b:1", "acme/a:1"]);
}

#[test]
fn what_the_owner_removed_or_made_its_own_is_forgotten() {
    let known = BTreeSet::from(["a".to_owned()]);
    let listed = || brought(&[], "acme/a:1", &shown("a", &["acme/a:1", "acme/a@sha256:00"]));

    let mut removed = listed();
    assert!(removed.compare(&known, &[], NOW).is_empty());
    assert!(removed.is_empty());

    let mut renamed = listed();
    renamed.compare(&known, &[shown("a", &["mine:1"])], NOW);
    assert!(renamed.is_empty());

    let mut shared = listed();
    assert_eq!(shared.compare(&known, &[shown("a", &["acme/a:1", "mine:1"])], NOW), known);
    assert_eq!(shared, listed(), "for the day on which the owner's own name is gone");

    let mut moved = listed();
    assert!(moved.compare(&known, &[shown("a", &["acme/a@sha256:00"])], NOW).is_empty());
    assert_eq!(moved.images.len(), 1, "its tag moved to another image");

    let mut newer = listed();
    newer.compare(&BTreeSet::new(), &[], NOW);
    assert_eq!(newer.images.len(), 1, "it came after the engine was asked");
}

#[test]
fn a_lease_that_never_ends_does_not_keep_its_image_for_ever() {
    let mut book = Book::default();
    book.expect(1, "acme/a:1", false, &[], NOW).expect("room");
    let purpose = Purpose { lease: Some(lease(1)), asked: None };
    book.arrive(1, &shown("a", &["acme/a:1"]), purpose, NOW);
    let engine = [shown("a", &["acme/a:1"])];
    book.compare(&BTreeSet::new(), &engine, NOW.after(AWAITED_FOR));
    assert_eq!(book.images[0].awaited.len(), 1);
    book.compare(&BTreeSet::new(), &engine, NOW.after(AWAITED_FOR).after(Seconds::new(1)));
    assert!(book.images[0].awaited.is_empty());
}

#[test]
fn a_full_book_says_so() {
    let mut book = Book::default();
    let engine: Vec<Shown> = Vec::new();
    let full = (0..).find(|number| book.expect(*number, "acme/a:1", false, &engine, NOW).is_err());
    assert_eq!(full, u64::try_from(MOST_COMING).ok());
}

#[test]
fn it_is_read_as_it_was_written() {
    let mut book = brought(&[], "acme/a:1", &shown("a", &["acme/a:1"]));
    book.expect(u64::MAX, "acme/b:1", false, &[shown("a", &["acme/a:1"])], NOW).expect("room");
    book.images[0].awaited.insert(lease(1), NOW);
    let text = serde_json::to_vec(&book).expect("write");
    assert_eq!(serde_json::from_slice::<Book>(&text).expect("read"), book);
}

const TAG: &str = "acme/a:1";

/// A book in which a login's pull of `TAG` is number 1.
fn asked_by_login() -> Book {
    let mut book = Book::default();
    book.expect(1, TAG, true, &[], NOW).expect("room");
    book
}

#[test]
fn what_came_by_a_login_is_private_before_it_is_listed_and_after_a_crash() {
    let (image, other) = (shown("a", &[TAG]), shown("b", &["acme/b:1"]));
    let mut book = asked_by_login();
    assert!(book.is_private(&image), "it may be what was asked for");
    assert!(!book.is_private(&other));
    book.arrive(1, &image, Purpose::default(), NOW);
    assert!(book.is_private(&image));
    let text = serde_json::to_vec(&book).expect("write");
    assert!(serde_json::from_slice::<Book>(&text).expect("read").is_private(&image));
}

#[test]
fn a_private_image_is_given_by_its_own_repository_only() {
    let image = shown("a", &[TAG, "evil.example/acme/a:1"]);
    for listed in [false, true] {
        let mut book = asked_by_login();
        if listed {
            book.arrive(1, &image, Purpose::default(), NOW);
        }
        for (number, by_login) in [(2, false), (3, true)] {
            book.expect(number, "evil.example/acme/a:1", by_login, &[], NOW).expect("room");
        }
        for (number, openly) in [(2, true), (3, false)] {
            assert!(!book.give(number, &image, Purpose::default(), openly, NOW));
            book.drop_coming(number);
        }
        book.expect(4, "docker.io/acme/a@sha256:00", true, &[], NOW).expect("room");
        assert!(book.give(4, &image, Purpose::default(), false, NOW));
        assert!(book.is_private(&image));
    }
}

#[test]
fn what_its_repository_gives_without_a_login_is_for_everybody() {
    let image = shown("a", &[TAG]);
    let mut book = asked_by_login();
    book.expect(2, TAG, false, &[], NOW).expect("room");
    assert!(book.give(2, &image, Purpose::default(), true, NOW));
    assert!(!book.is_private(&image));
    assert!(book.give(1, &image, Purpose::default(), false, NOW), "and stays it");
    assert!(!book.is_private(&image));
}

#[test]
fn an_unknown_end_of_a_pull_opens_nothing() {
    let image = shown("a", &[TAG]);
    let mut book = asked_by_login();
    book.expect(2, TAG, false, &[], NOW).expect("room");
    book.arrive(2, &image, Purpose::default(), NOW);
    assert!(book.is_private(&image));
}
