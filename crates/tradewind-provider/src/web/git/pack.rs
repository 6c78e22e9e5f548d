//! The objects of a pack, each known by the hash of its own content.
//!
//! All of them are unpacked once to learn their hashes, and those that are asked for a second time. What a pack says of sizes is
//! believed only as far as the limits go, and a chain of differences has an end.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsRawFd;

use gix_hash::{Kind, ObjectId, oid};
use gix_object::compute_hash;
use gix_pack::MMap;
use gix_pack::cache::Never;
use gix_pack::data;
use gix_pack::data::decode::entry::ResolvedBase;
use gix_pack::data::entry::Header;
use gix_zlib::Inflate;

use super::{Limits, Refused};

/// The longest chain of differences; git makes none longer than 50 unless it is told to.
const MAX_CHAIN: u16 = 250;

/// A pack, and where its objects are.
pub(super) struct Pack<'a> {
    data: data::File<MMap>,
    limits: &'a Limits,
    inflate: Inflate,
    places: HashMap<ObjectId, u64>,
    /// How many differences lead to what is at an offset.
    chains: HashMap<u64, u16>,
    kind: Kind,
    /// Of what was unpacked.
    total: u64,
}

impl<'a> Pack<'a> {
    /// Unpacks all that a file holds.
    pub(super) fn open(file: &File, kind: Kind, limits: &'a Limits) -> Result<Self, Refused> {
        // The file has no name any more.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let object = usize::try_from(limits.object).unwrap_or(usize::MAX);
        // While one object is made from another, both and the differences are held.
        let most = object.saturating_mul(4);
        let data = data::File::at(path, kind).map_err(|_| damaged("is no pack"))?;
        let data = data.with_alloc_limit_bytes(Some(most));
        let (inflate, places, chains) = (Inflate::default(), HashMap::new(), HashMap::new());
        let mut pack = Self { data, limits, inflate, places, chains, kind, total: 0 };
        pack.read()?;
        Ok(pack)
    }

    /// What has a hash, and of which kind it is.
    pub(super) fn object(&mut self, id: &oid) -> Result<(gix_object::Kind, Vec<u8>), Refused> {
        self.limits.check()?;
        let place = *self.places.get(id).ok_or_else(|| Refused::Content(format!("was sent without {id}")))?;
        self.decode(place)
    }

    fn read(&mut self) -> Result<(), Refused> {
        let count = self.data.num_objects();
        if count > self.limits.entries {
            let most = self.limits.entries;
            return Err(Refused::Content(format!("has {count} objects, at most {most} are taken")));
        }
        let (mut offset, mut waiting) = (data::header::SIZE as u64, Vec::new());
        for _ in 0..count {
            self.limits.check()?;
            let entry = self.entry(offset)?;
            let size = self.size(entry.decompressed_size)?;
            let mut content = vec![0; size];
            let read = self.data.decompress_entry(&entry, &mut self.inflate, &mut content);
            let read = read.map_err(|_| damaged("cannot be unpacked"))?;
            match entry.header.as_kind() {
                Some(kind) => self.learn(offset, 0, kind, &content)?,
                None if self.learn_difference(offset)? => {}
                None => waiting.push(offset),
            }
            offset = entry.data_offset.saturating_add(read as u64);
        }
        if offset.saturating_add(self.kind.len_in_bytes() as u64) != self.data.data_len() as u64 {
            return Err(damaged("does not end where it says"));
        }
        self.learn_rest(waiting)
    }

    /// Learns what is made from objects that come later in the pack.
    fn learn_rest(&mut self, mut waiting: Vec<u64>) -> Result<(), Refused> {
        for _ in 0..MAX_CHAIN {
            let before = waiting.len();
            let mut rest = Vec::new();
            for offset in waiting {
                self.limits.check()?;
                if !self.learn_difference(offset)? {
                    rest.push(offset);
                }
            }
            if rest.is_empty() {
                return Ok(());
            }
            if rest.len() == before {
                break;
            }
            waiting = rest;
        }
        Err(damaged("makes objects from others that are not there"))
    }

    /// Learns what differs from another object, once that is known. `false` where it is not.
    fn learn_difference(&mut self, offset: u64) -> Result<bool, Refused> {
        let base = match self.entry(offset)?.header {
            Header::OfsDelta { base_distance } => Header::verified_base_pack_offset(offset, base_distance),
            Header::RefDelta { base_id } => self.places.get(&base_id).copied(),
            Header::Commit | Header::Tree | Header::Blob | Header::Tag => None,
        };
        let Some(chain) = base.and_then(|base| self.chains.get(&base).copied()) else { return Ok(false) };
        if chain >= MAX_CHAIN {
            return Err(damaged("has too long a chain of differences"));
        }
        let (kind, content) = self.decode(offset)?;
        self.learn(offset, chain + 1, kind, &content)?;
        Ok(true)
    }

    fn learn(
        &mut self,
        offset: u64,
        chain: u16,
        kind: gix_object::Kind,
        content: &[u8],
    ) -> Result<(), Refused> {
        self.total = self.total.saturating_add(content.len() as u64);
        if self.total > self.limits.bytes {
            let most = self.limits.bytes;
            return Err(Refused::Content(format!("has more than the {most} bytes of the job's disk")));
        }
        let id = compute_hash(self.kind, kind, content).map_err(|_| damaged("has a forged object"))?;
        self.places.insert(id, offset);
        self.chains.insert(offset, chain);
        Ok(())
    }

    fn decode(&mut self, offset: u64) -> Result<(gix_object::Kind, Vec<u8>), Refused> {
        let entry = self.entry(offset)?;
        let (data, places, mut content) = (&self.data, &self.places, Vec::new());
        let base = |id: &oid, _: &mut Vec<u8>| match places.get(id) {
            Some(offset) => data.entry(*offset).map(|entry| Some(ResolvedBase::InPack(entry))),
            None => Ok(None),
        };
        let decoded = data.decode_entry(entry, &mut content, &mut self.inflate, &base, &mut Never);
        let kind = decoded.map_err(|_| damaged("cannot be unpacked"))?.kind;
        self.size(content.len() as u64)?;
        Ok((kind, content))
    }

    fn entry(&self, offset: u64) -> Result<data::Entry, Refused> {
        self.data.entry(offset).map_err(|_| damaged("cannot be read"))
    }

    fn size(&self, size: u64) -> Result<usize, Refused> {
        let most = self.limits.object.min(self.limits.bytes);
        match usize::try_from(size) {
            Ok(fits) if size <= most => Ok(fits),
            Ok(_) | Err(_) => Err(Refused::Content(format!(
                "has an object of {size} bytes, at most {most} are taken; bring large files by https"
            ))),
        }
    }
}

fn damaged(how: &str) -> Refused {
    Refused::Content(format!("was sent as a pack that {how}"))
}
