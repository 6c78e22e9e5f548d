//! A disk that outlives its process: the store's records, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use tradewind_store::{Change, Medium, Store, StoreError};

use crate::life::Life;
use crate::world::lock;

type Records = BTreeMap<(String, String), String>;

/// The records of one node.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Records>>);

impl Disk {
    /// The store that a life sees.
    pub(crate) fn store(&self, life: &Arc<Life>) -> Store {
        Store::on(Arc::new(Mounted { disk: self.clone(), life: life.clone() }))
    }

    /// Every record of a kind, in the order of their keys.
    #[must_use]
    pub fn records<T: DeserializeOwned>(&self, kind: &str) -> Vec<T> {
        let read = |text: String| serde_json::from_str(&text).expect("a record of that kind");
        self.texts(kind).into_iter().map(|(_, text)| read(text)).collect()
    }

    fn texts(&self, kind: &str) -> Vec<(String, String)> {
        let records = lock(&self.0);
        let of_kind = records.iter().filter(|((of, _), _)| of == kind);
        of_kind.map(|((_, key), text)| (key.clone(), text.clone())).collect()
    }
}

#[derive(Debug)]
struct Mounted {
    disk: Disk,
    life: Arc<Life>,
}

#[async_trait]
impl Medium for Mounted {
    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.life.point("before a commit").await;
        {
            let mut records = lock(&self.disk.0);
            for Change { kind, key, value } in changes {
                let place = (kind.to_owned(), key);
                match value {
                    Some(value) => records.insert(place, value),
                    None => records.remove(&place),
                };
            }
        }
        self.life.point("after a commit").await;
        Ok(())
    }

    async fn get(&self, kind: &'static str, key: &str) -> Result<Option<String>, StoreError> {
        self.life.alive().await;
        Ok(lock(&self.disk.0).get(&(kind.to_owned(), key.to_owned())).cloned())
    }

    async fn all(&self, kind: &'static str) -> Result<Vec<(String, String)>, StoreError> {
        self.life.alive().await;
        Ok(self.disk.texts(kind))
    }
}
