//! Images that leases are being prepared with: no container tells of them yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// For each image a lock that any number of leases share, and that its removal needs for itself.
#[derive(Debug, Default)]
pub(super) struct Uses {
    images: Mutex<HashMap<String, Arc<RwLock<()>>>>,
}

/// An image is not removed while this lives.
#[derive(Debug)]
pub(in crate::docker) struct Held {
    _share: OwnedRwLockReadGuard<()>,
}

/// Nobody begins to use an image while this lives.
#[derive(Debug)]
pub(super) struct Claim {
    _whole: OwnedRwLockWriteGuard<()>,
}

impl Uses {
    fn lock(&self, id: &str) -> Arc<RwLock<()>> {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(images.entry(id.to_owned()).or_default())
    }

    /// Holds the image, once it is not just being removed. It may be gone then: look again.
    pub(super) async fn hold(&self, id: &str) -> Held {
        Held { _share: self.lock(id).read_owned().await }
    }

    /// The right to remove the image, unless somebody holds it.
    pub(super) fn claim(&self, id: &str) -> Option<Claim> {
        Some(Claim { _whole: self.lock(id).try_write_owned().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_image_is_claimed_only_when_the_last_lease_has_let_go_of_it() {
        let uses = Uses::default();
        let (first, second) = (uses.hold("a").await, uses.hold("a").await);
        assert!(uses.claim("b").is_some(), "another image");
        assert!(uses.claim("a").is_none());
        drop(first);
        assert!(uses.claim("a").is_none());
        drop(second);
        assert!(uses.claim("a").is_some());
    }

    #[tokio::test]
    async fn a_lease_waits_for_a_removal_under_way() {
        let uses = Uses::default();
        let claim = uses.claim("a").expect("nobody holds it");
        let mut holding = Box::pin(uses.hold("a"));
        assert!(holding.as_mut().now_or_never().is_none());
        drop(claim);
        assert!(holding.now_or_never().is_some());
        assert_eq!(
            uses.images.lock().expect("no panic").len(),
            1,
            "those of nobody are forgotten with the next"
        );
    }
}
