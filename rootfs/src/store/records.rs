//! What the store has written down: of layers, images and bundles, each a JSON file.

use super::Xattrs;
use super::dirs::{self, BUNDLES, IMAGES, Scratch};
use super::error::{At, Error, Result};
use super::unpack::Facts;
use crate::image::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Changes when older versions could no longer read what newer ones write.
const VERSION: u32 = 1;

/// A bundle that uses layers of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleEntry {
    /// Its absolute path.
    pub path: PathBuf,
    /// The id of its image.
    pub image: Digest,
    /// The trees it mounts, as [`Stored::layers`](super::Stored) has them.
    pub layers: Vec<PathBuf>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// Its id.
    pub id: Digest,
    /// Its names; none if another image has taken over its last one.
    pub names: Vec<String>,
    /// When it was stored, in seconds since 1970.
    pub stored: u64,
    /// Bytes on disk of its layers.
    pub size: u64,
    /// Those of layers that other images have too.
    pub shared: u64,
    /// Those that removing it would free: of layers that no other image and no bundle uses.
    pub reclaimable: u64,
    /// How many bundles use it.
    pub bundles: usize,
}

/// layer.json.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LayerRecord {
    version: u32,
    pub(super) diff_id: Digest,
    /// Bytes on disk.
    pub(super) size: u64,
    entries: u64,
    pub(super) xattrs: Xattrs,
    /// It has an entry for the root directory.
    pub(super) root: bool,
    pub(super) opaque_root: bool,
    /// Directories with whiteouts.
    pub(super) whiteouts: Vec<String>,
}

impl LayerRecord {
    pub(super) fn new(diff_id: &Digest, facts: Facts, xattrs: Xattrs) -> LayerRecord {
        LayerRecord {
            version: VERSION,
            diff_id: diff_id.clone(),
            size: facts.size,
            entries: facts.entries,
            xattrs,
            root: facts.root,
            opaque_root: facts.opaque_root,
            whiteouts: facts.whiteouts.into_iter().collect(),
        }
    }

    /// That of the layer in this directory; `None` if there is no layer.
    pub(super) fn of(dir: &Path) -> Result<Option<LayerRecord>> {
        let path = dir.join("layer.json");
        let record: Option<LayerRecord> = read(&path)?;
        record.map(|record| check_version(record.version, &path).map(|()| record)).transpose()
    }

    /// Nothing is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    pub(super) fn text(&self) -> Result<Vec<u8>> {
        text(self)
    }
}

/// The record of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageRecord {
    version: u32,
    pub(super) id: Digest,
    pub(super) names: Vec<String>,
    pub(super) stored: u64,
    /// Its configuration, byte for byte.
    pub(super) config: String,
    /// Directories of the store, such as `layers/HEX`, lowest first.
    pub(super) layers: Vec<String>,
    /// That with the root's attributes; it need not be among them.
    pub(super) root: String,
    /// Older records do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) xattrs: Option<Xattrs>,
}

impl ImageRecord {
    pub(super) fn new(id: Digest, config: String, layers: Vec<String>, root: String, xattrs: Xattrs) -> ImageRecord {
        let stored =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        ImageRecord { version: VERSION, id, names: Vec::new(), stored, config, layers, root, xattrs: Some(xattrs) }
    }

    fn path(store: &Path, id: &Digest) -> PathBuf {
        store.join(IMAGES).join(format!("{}.json", id.hex()))
    }

    pub(super) fn read(store: &Path, id: &Digest) -> Result<Option<ImageRecord>> {
        let path = ImageRecord::path(store, id);
        let record: Option<ImageRecord> = read(&path)?;
        record.map(|record| check_version(record.version, &path).map(|()| record)).transpose()
    }

    pub(super) fn all(store: &Path) -> Result<Vec<ImageRecord>> {
        all(&store.join(IMAGES), |record: &ImageRecord| record.version)
    }

    pub(super) fn write(&self, store: &Path) -> Result<()> {
        Scratch::new(store)?.put_file(&text(self)?, &ImageRecord::path(store, &self.id))
    }

    pub(super) fn remove(&self, store: &Path) -> Result<()> {
        dirs::remove_path(&ImageRecord::path(store, &self.id))
    }

    /// All directories that have to be there for it.
    pub(super) fn directories(&self) -> impl Iterator<Item = &String> {
        self.layers.iter().chain([&self.root])
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images, each by its names, or by its id where it has none.
    pub images: Vec<String>,
    /// Layers and chains, `layers/HEX` or `chains/HEX`.
    pub layers: Vec<String>,
    /// Paths of bundles that were gone.
    pub bundles: Vec<PathBuf>,
    /// Bytes on disk that this has freed.
    pub bytes: u64,
}

/// A bundle's record with its version.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct BundleRecord {
    version: u32,
    #[serde(flatten)]
    entry: BundleEntry,
}

impl BundleEntry {
    fn record(store: &Path, path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        store.join(BUNDLES).join(format!("{}.json", Digest::of(path.as_os_str().as_bytes()).hex()))
    }

    pub(super) fn all(store: &Path) -> Result<Vec<BundleEntry>> {
        let records = all(&store.join(BUNDLES), |record: &BundleRecord| record.version)?;
        Ok(records.into_iter().map(|record| record.entry).collect())
    }

    pub(super) fn write(&self, store: &Path) -> Result<()> {
        let path = BundleEntry::record(store, &self.path);
        let content = text(&BundleRecord { version: VERSION, entry: self.clone() })?;
        Scratch::new(store)?.put_file(&content, &path)
    }

    /// False if there is none.
    pub(super) fn remove(store: &Path, path: &Path) -> Result<bool> {
        let path = BundleEntry::record(store, path);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            removed => removed.at("remove", &path).map(|()| true),
        }
    }

    /// Whether it is known that nobody can use it any more.
    pub(super) fn is_gone(&self) -> bool {
        match std::fs::symlink_metadata(self.path.join("config.json")) {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory),
        }
    }

    /// Directories of the store that it uses, such as `layers/HEX`, wherever the store was when it was made.
    pub(super) fn directories(&self) -> impl Iterator<Item = String> {
        self.layers.iter().filter_map(|layer| {
            let mut parts = layer.components().rev().map(|part| part.as_os_str().to_str());
            match (parts.next()??, parts.next()??, parts.next()??) {
                ("diff", hex, kind) => Some(format!("{kind}/{hex}")),
                _ => None,
            }
        })
    }
}

fn text(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value)
        .map_err(|error| Error::Record { path: PathBuf::from("record"), why: format!("cannot be written: {error}") })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let content = match std::fs::read(path) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        content => content.at("read", path)?,
    };
    match serde_json::from_slice(&content) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Error::Record { path: path.to_owned(), why: error.to_string() }),
    }
}

fn check_version(version: u32, path: &Path) -> Result<()> {
    if version == VERSION {
        return Ok(());
    }
    Err(Error::Record { path: path.to_owned(), why: format!("is of version {version}, this proa knows {VERSION}") })
}

fn all<T: DeserializeOwned>(dir: &Path, version: impl Fn(&T) -> u32) -> Result<Vec<T>> {
    let mut records = Vec::new();
    for name in dirs::list(dir)?.iter().filter(|name| name.ends_with(".json")) {
        let path = dir.join(name);
        if let Some(record) = read(&path)? {
            check_version(version(&record), &path)?;
            records.push(record);
        }
    }
    Ok(records)
}
