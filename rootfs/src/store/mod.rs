//! The store: layers of images, each unpacked once and shared by all bundles, with what is known of images and bundles.
//!
//! ```text
//! STORE/
//!   lock           shared by who adds, exclusive for who removes
//!   layers/HEX/    by diff id: diff/ is the tree in overlay's form, layer.json what is known of it
//!   chains/HEX/    by chain id: the same for layers that cannot be understood without those below
//!   images/HEX.json
//!   bundles/HEX.json
//!   volumes/
//!   tmp/           what is being made or removed; each entry is locked by who does it
//! ```
//!
//! A process that is killed leaves nothing but entries of tmp/ that nobody has locked, which the next one sweeps.

mod apply;
mod dirs;
mod error;
mod import;
mod progress;
mod records;
mod remove;
mod unpack;
mod usage;
mod view;

pub use error::Error;
pub use progress::{Progress, Silent};
pub use records::{BundleEntry, ImageEntry, Removed};
pub use usage::Usage;

use crate::image::{Digest, Image, familiar};
use dirs::Lock;
use error::{At, Result};
use records::ImageRecord;
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The store at a directory.
pub struct Store {
    dir: PathBuf,
}

/// How far an image may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that one image may unpack to.
    pub bytes: u64,
    /// Entries that its layers may have in all.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { bytes: 64 << 30, entries: 10_000_000 }
    }
}

/// The namespace of the extended attributes by which overlay knows opaque directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Xattrs {
    /// `trusted.overlay.`, which takes CAP_SYS_ADMIN in the first user namespace.
    Trusted,
    /// `user.overlay.`, for overlays that are mounted with `userxattr`.
    User,
}

/// An image whose layers are all in the store. While it lives nothing is removed from the store: keep it until the
/// bundle is registered ([`Store::add_bundle`]).
#[derive(Debug)]
pub struct Stored {
    /// The image's id.
    pub id: Digest,
    /// The name it was stored under.
    pub name: String,
    /// Trees in overlay's form, lowest first.
    pub layers: Vec<PathBuf>,
    /// That of `layers` whose own directory has the owner, mode, time and attributes of the image's root. An overlay
    /// shows those of its upper directory instead, so they are to be copied there.
    pub root: PathBuf,
    /// The image's configuration as it lies in the image.
    pub config_json: Vec<u8>,
    _lock: Lock,
}

impl Stored {
    /// Gives a directory, an overlay's upper one, what the image's root has; `on_disk` says what owner stands for one.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn show_as_root(&self, directory: BorrowedFd<'_>, on_disk: impl Fn(u32) -> u32) -> Result<()> {
        apply::copy_root(&self.root, directory, on_disk).at("copy the attributes of", &self.root)
    }
}

impl Store {
    /// The store at `dir`. It is made, for its owner only, when something is first put into it.
    ///
    /// # Errors
    ///
    /// [`Error::File`] if there is no absolute path for it.
    pub fn open(dir: &Path) -> Result<Store> {
        Ok(Store { dir: std::path::absolute(dir).at("find", dir)? })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unpacks the layers that are not there yet, and records the image under its name, which is taken from an image
    /// that had it before. In the first user namespace root needs [`Xattrs::Trusted`], all others [`Xattrs::User`]. It
    /// starts threads. The umask is changed meanwhile.
    ///
    /// # Errors
    ///
    /// See [`Error`]. Nothing of this image is left in the store then.
    pub fn import(&self, image: &Image, limits: &Limits, xattrs: Xattrs, progress: &dyn Progress) -> Result<Stored> {
        import::import(self, image, limits, xattrs, progress)
    }

    /// The image with this name, or whose id is or begins with this.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Ambiguous`], and those of reading.
    pub fn find(&self, name: &str) -> Result<Stored> {
        // Before anything is locked, since a store that is not there has no lock.
        self.record(name)?;
        let lock = dirs::shared(&self.dir)?;
        let record = self.record(name)?;
        let known = record.names.iter().find(|its| familiar(its) == familiar(name)).or(record.names.first());
        let name = known.cloned().unwrap_or_else(|| record.id.to_string());
        Ok(import::stored(self, &record, &name, lock))
    }

    fn record(&self, name: &str) -> Result<ImageRecord> {
        let mut images = ImageRecord::all(&self.dir)?;
        if let Some(at) = images.iter().position(|image| image.names.iter().any(|its| familiar(its) == familiar(name)))
        {
            return Ok(images.swap_remove(at));
        }
        let digits = name.split_once(':').map_or(name, |(_, digits)| digits);
        images.retain(|image| !digits.is_empty() && (image.id.as_str() == name || image.id.hex().starts_with(digits)));
        match images.len() {
            0 => Err(Error::NoImage { name: name.to_owned(), store: self.dir.clone() }),
            1 => Ok(images.swap_remove(0)),
            _ => {
                let ids = images.iter().map(|image| image.id.to_string()).collect();
                Err(Error::Ambiguous { name: name.to_owned(), ids })
            }
        }
    }

    /// All images, by name.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn images(&self) -> Result<Vec<ImageEntry>> {
        usage::images(self)
    }

    /// Forgets the image with this name, or whose id is or begins with this, and removes those of its layers that no
    /// other image and no bundle uses.
    ///
    /// # Errors
    ///
    /// As [`Store::find`].
    pub fn remove_image(&self, name: &str, progress: &dyn Progress) -> Result<Removed> {
        remove::image(self, name, progress)
    }

    /// Registers a bundle, before what it stands for is made and while its [`Stored`] lives. An entry of the same path
    /// is replaced.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn add_bundle(&self, entry: &BundleEntry) -> Result<()> {
        dirs::prepare(&self.dir)?;
        let _lock = dirs::shared(&self.dir)?;
        entry.write(&self.dir)
    }

    /// Forgets the bundle at this absolute path; false if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn remove_bundle(&self, path: &Path) -> Result<bool> {
        BundleEntry::remove(&self.dir, path)
    }

    /// All bundles whose config.json is there. The others count as gone.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn bundles(&self) -> Result<Vec<BundleEntry>> {
        let mut bundles = BundleEntry::all(&self.dir)?;
        bundles.retain(|bundle| !bundle.is_gone());
        bundles.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(bundles)
    }

    /// What is known of the bundle at this absolute path, even if it counts as gone.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn bundle(&self, path: &Path) -> Result<Option<BundleEntry>> {
        Ok(BundleEntry::all(&self.dir)?.into_iter().find(|bundle| bundle.path == path))
    }

    /// Removes what nobody uses: records of bundles that are gone, images without a name, with `all` images that no
    /// bundle uses, layers that neither an image nor a bundle uses, and what killed processes have left.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn prune(&self, all: bool, progress: &dyn Progress) -> Result<Removed> {
        remove::prune(self, all, progress)
    }

    /// What the store takes on disk.
    ///
    /// # Errors
    ///
    /// [`Error::File`], [`Error::Record`].
    pub fn usage(&self) -> Result<Usage> {
        usage::usage(self)
    }
}
