//! Which images have to go: a rule without I/O.

use std::collections::BTreeSet;

use super::CacheRules;
use super::book::Entry;

/// Above this number the least recently used go, however small they are.
const MOST_KEPT: usize = 512;

/// The ids of images to remove, in order: the least recently used that are neither busy nor pinned, until the others fit.
/// Pinned and busy images count too. Under a limit of nothing every image that is not used goes.
pub(super) fn victims(images: &[&Entry], busy: &BTreeSet<String>, rules: &CacheRules) -> Vec<String> {
    let limit = rules.limit.get();
    let mut total = images.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size.get()));
    let mut count = images.len();
    let is_free =
        |entry: &&&Entry| entry.awaited.is_empty() && !busy.contains(&entry.id) && !is_pinned(entry, rules);
    let mut free: Vec<&&Entry> = images.iter().filter(is_free).collect();
    free.sort_by_key(|entry| entry.last_used);
    let mut victims = Vec::new();
    for entry in free {
        if total <= limit && limit > 0 && count <= MOST_KEPT {
            break;
        }
        total = total.saturating_sub(entry.size.get());
        count -= 1;
        victims.push(entry.id.clone());
    }
    victims
}

/// Whether the owner keeps it.
fn is_pinned(entry: &Entry, rules: &CacheRules) -> bool {
    let mut names = entry.references.iter().chain(&entry.asked);
    names.any(|name| rules.keep.iter().any(|pattern| pattern.matches(name)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tradewind_proto::ids::LeaseId;
    use tradewind_proto::units::{Bytes, Timestamp};

    use super::*;

    fn entry(name: &str, size: u64, last_used: u64) -> Entry {
        Entry {
            id: name.into(),
            references: [format!("ghcr.io/acme/{name}:1")].into(),
            asked: BTreeSet::new(),
            size: Bytes::new(size),
            last_used: Timestamp::from_unix(last_used),
            awaited: BTreeMap::new(),
            private: BTreeSet::new(),
        }
    }

    fn rules(limit: u64, keep: &[&str]) -> CacheRules {
        let keep = keep.iter().map(|pattern| pattern.parse().unwrap()).collect();
        CacheRules { limit: Bytes::new(limit), keep }
    }

    fn gone(images: &[Entry], busy: &[&str], rules: &CacheRules) -> Vec<String> {
        let busy = busy.iter().map(ToString::to_string).collect();
        victims(&images.iter().collect::<Vec<_>>(), &busy, rules)
    }

    #[test]
    fn the_least_recently_used_go_until_the_others_fit() {
        let images = [entry("b", 40, 2), entry("a", 40, 1), entry("c", 40, 3)];
        assert_eq!(gone(&images, &[], &rules(120, &[])), [""; 0]);
        assert_eq!(gone(&images, &[], &rules(119, &[])), ["a"]);
        assert_eq!(gone(&images, &[], &rules(79, &[])), ["a", "b"]);
    }

    #[test]
    fn images_of_one_second_go_in_the_book_s_order() {
        let images = [entry("z", 1, 5), entry("a", 1, 5), entry("m", 1, 5)];
        assert_eq!(gone(&images, &[], &rules(1, &[])), ["z", "a"]);
    }

    #[test]
    fn what_is_pinned_awaited_or_in_use_stays_and_counts() {
        let mut images = [entry("a", 40, 1), entry("b", 40, 2), entry("c", 40, 3), entry("d", 40, 4)];
        images[2].awaited.insert(LeaseId::default(), Timestamp::default());
        assert_eq!(gone(&images, &["b"], &rules(60, &["ghcr.io/acme/a"])), ["d"]);
        assert_eq!(gone(&images, &["a", "b", "d"], &rules(0, &[])), [""; 0]);
    }

    #[test]
    fn a_pin_means_the_tag_that_a_job_named_too() {
        let mut pulled = entry("a", 40, 1);
        pulled.references = ["pytorch/pytorch@sha256:00".to_owned()].into();
        let pinned = rules(0, &["pytorch/pytorch:2.9*"]);
        assert_eq!(gone(std::slice::from_ref(&pulled), &[], &pinned), ["a"]);
        pulled.asked.insert("pytorch/pytorch:2.9.1-cuda".into());
        assert_eq!(gone(&[pulled], &[], &pinned), [""; 0]);
    }

    #[test]
    fn a_limit_of_nothing_keeps_not_even_an_empty_image() {
        assert_eq!(gone(&[entry("a", 0, 1)], &[], &rules(0, &[])), ["a"]);
    }

    #[test]
    fn countless_small_images_go_as_well() {
        let images: Vec<Entry> = (0..600).map(|number| entry(&format!("{number:04}"), 0, number)).collect();
        let gone = gone(&images, &[], &rules(1, &[]));
        assert_eq!((gone.len(), gone[0].as_str()), (600 - MOST_KEPT, "0000"));
    }
}
