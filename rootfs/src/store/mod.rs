//! The store: layers of images, each unpacked once and shared by all bundles, with what is known of images and bundles.
//!
//! ```text
//! STORE/
//!   store.json     says that it is one
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
mod budget;
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

use crate::host::{is_in_user_namespace, may_be_store};
use crate::image::{Digest, Image, familiar};
use dirs::Lock;
use error::{At, Result};
use records::ImageRecord;
use rustix::fd::BorrowedFd;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Fewer digits of an id are rather a name that is mistyped.
const MIN_DIGITS: usize = 4;

/// The store at a directory.
pub struct Store {
    dir: PathBuf,
}

/// How far an image may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes that one image may unpack to.
    pub bytes: u64,
    /// Entries that its layers may have in all, extended headers among them.
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

impl Xattrs {
    /// Those that overlays have here.
    fn here() -> Xattrs {
        if is_in_user_namespace() { Xattrs::User } else { Xattrs::Trusted }
    }

    /// Refuses what has others.
    fn check(self, found: Option<Xattrs>, what: impl Fn() -> String) -> Result<()> {
        if found.is_some_and(|found| found != self) { Err(Error::OtherMarks { what: what() }) } else { Ok(()) }
    }
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
    /// [`Error::File`] if there is no absolute path for it; [`Error::NoStore`] if it has other files in it.
    pub fn open(dir: &Path) -> Result<Store> {
        let dir = std::path::absolute(dir).at("find", dir)?;
        match may_be_store(&dir).at("look into", &dir)? {
            true => Ok(Store { dir }),
            false => Err(Error::NoStore(dir)),
        }
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
    /// See [`Error`]. There is no such image in the store then; layers that were put in place already wait there for it,
    /// or for [`Store::prune`].
    pub fn import(&self, image: &Image, limits: &Limits, xattrs: Xattrs, progress: &dyn Progress) -> Result<Stored> {
        import::import(self, image, limits, xattrs, progress)
    }

    /// The image with this name, or whose id is this or begins with it: four digits at least, the algorithm with its colon
    /// in front of them or not. No name stands for a whole id.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Ambiguous`], [`Error::OtherMarks`], and those of reading.
    pub fn find(&self, name: &str) -> Result<Stored> {
        // Before anything is locked, since a store that is not there has no lock.
        self.record(name)?;
        let lock = dirs::shared(&self.dir)?;
        let record = self.record(name)?;
        Xattrs::here().check(record.xattrs, || format!("image {}", record.id))?;
        let known = record.names.iter().find(|its| familiar(its) == familiar(name)).or(record.names.first());
        let name = known.cloned().unwrap_or_else(|| record.id.to_string());
        Ok(import::stored(self, &record, &name, lock))
    }

    fn record(&self, name: &str) -> Result<ImageRecord> {
        let mut images = ImageRecord::all(&self.dir)?;
        let is_called = |image: &ImageRecord| image.names.iter().any(|its| familiar(its) == familiar(name));
        // A digest is what is pinned, whatever is called so. Who was killed while a name was passed on has left it to two.
        if Digest::parse(name).is_err()
            && let Some(newest) = images.iter().filter(|image| is_called(image)).max_by_key(|image| image.stored)
        {
            return Ok(newest.clone());
        }
        images.retain(|image| {
            let digits = match name.split_once(':') {
                Some((algorithm, digits)) if algorithm == image.id.algorithm() => digits,
                Some(_) => return false,
                None => name,
            };
            digits.len() >= MIN_DIGITS && image.id.hex().starts_with(digits)
        });
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

    /// Takes this name from the image that [`Store::find`] would find. With its last name, or by its id, the image is
    /// forgotten, and those of its layers are removed that no other image and no bundle uses.
    ///
    /// # Errors
    ///
    /// [`Error::NoImage`], [`Error::Ambiguous`], and those of reading.
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
