//! Volumes: directories with a name, which outlive the bundles that mount them.
//!
//! ```text
//! STORE/volumes/         0700, locked with flock(2) by whoever makes or removes one
//!   NAME/                0700, locked by whoever fills it
//!     volume.json        name, labels, when it was made; locked by bundles that are being made with it
//!     data/              what a container sees
//!     filled             it is never filled again
//!     filling/, ready/   while it is filled, see `fill.rs`
//!   .new-*, .old-*       being made, being removed; garbage once nobody is at it
//! ```
//!
//! What is in data/ is a container's: it is reached by descriptors only, and nothing there is followed. A process that is
//! killed leaves at most garbage that the next one clears away.

mod attributes;
mod copy;
mod error;
mod fill;
mod label;
mod limits;
mod mount;
mod remove;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use error::Context;
pub use error::{Error, Result};
pub use fill::Filled;
pub use label::relabel;
pub use limits::Budget;
pub use mount::{Mount, Prepared};
pub use remove::{Pruned, Uses};
pub use request::{Relabel, Request, Source, check_destinations, parse};

use crate::host::{make_store, read_all, wait_for_lock};
use crate::tree;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags, fsync, mkdirat, openat, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;

/// As long as a name on disk may be.
const MAX_NAME: usize = 255;
/// The label of a volume that was made for one bundle and goes with it.
pub const ANONYMOUS: &str = "anonymous";

/// The volumes of a store.
#[derive(Debug, Clone)]
pub struct Volumes {
    /// STORE/volumes, absolute.
    path: String,
}

/// What is known of a volume; its JSON is what `volume inspect` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// The directory to mount.
    pub mountpoint: String,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// What its maker said of it.
    pub labels: BTreeMap<String, String>,
    /// What it takes on disk, in bytes, if that was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The bundles that mount it.
    pub used_by: Vec<String>,
}

/// volume.json.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    created: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// All volumes, and what keeps others from being listed.
#[derive(Debug, Default)]
pub struct Listed {
    /// By name.
    pub volumes: Vec<Volume>,
    /// Of those that cannot be read.
    pub broken: Vec<Error>,
}

/// While it is there nobody else makes or removes volumes.
pub struct Locked<'v> {
    volumes: &'v Volumes,
    dir: OwnedFd,
}

impl Volumes {
    /// The volumes below a store's directory. Nothing is made before the first volume is.
    ///
    /// # Errors
    /// A path that is not UTF-8, as config.json could not name it.
    pub fn open(store: &Path) -> Result<Volumes> {
        let absolute = std::path::absolute(store.join("volumes"))
            .map_err(|error| Error::Refused(format!("the store {}: {error}", store.display())))?;
        match absolute.into_os_string().into_string() {
            Ok(path) => Ok(Volumes { path }),
            Err(path) => Err(Error::Refused(format!("the store's path {} is not UTF-8", path.display()))),
        }
    }

    /// Waits until nobody makes or removes volumes, and keeps all others from it. The directory is made if need be.
    ///
    /// # Errors
    /// The directory cannot be made or locked, or what a process that was killed has left cannot be removed.
    pub fn lock(&self) -> Result<Locked<'_>> {
        self.make_directories()?;
        let dir = self.dir()?.ok_or_else(|| Error::Sys { what: format!("open {}", self.path), errno: Errno::NOENT })?;
        wait_for_lock(dir.as_fd()).context(|| format!("lock {}", self.path))?;
        let locked = Locked { volumes: self, dir };
        locked.sweep_new()?;
        Ok(locked)
    }

    /// Makes a volume; without a name one that is labelled anonymous. `created` is the present, as RFC 3339 has it.
    ///
    /// # Errors
    /// [`Error::Exists`], and a name that is none.
    pub fn create(&self, name: Option<&str>, labels: &BTreeMap<String, String>, created: &str) -> Result<Volume> {
        self.lock()?.create(name, labels, created)
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// The directory of the volumes cannot be read; a volume that cannot be is among [`Listed::broken`].
    pub fn list(&self, uses: &Uses) -> Result<Listed> {
        let mut listed = Listed::default();
        let Some(dir) = self.dir()? else { return Ok(listed) };
        for name in names(dir.as_fd()).context(|| format!("read {}", self.path))? {
            match self.look(dir.as_fd(), &name, uses) {
                Ok(volume) => listed.volumes.push(volume),
                // Removed meanwhile.
                Err(Error::NoVolume(_)) => {}
                Err(error) => listed.broken.push(error),
            }
        }
        Ok(listed)
    }

    /// One volume.
    ///
    /// # Errors
    /// [`Error::NoVolume`].
    pub fn inspect(&self, name: &str, uses: &Uses) -> Result<Volume> {
        check_name(name)?;
        let dir = self.dir()?.ok_or_else(|| Error::NoVolume(name.to_owned()))?;
        self.look(dir.as_fd(), name, uses)
    }

    /// What a volume takes on disk, in bytes. Containers may be at work in it.
    ///
    /// # Errors
    /// [`Error::NoVolume`], or something in it cannot be looked at.
    pub fn size(&self, name: &str) -> Result<u64> {
        check_name(name)?;
        let dir = self.dir()?.ok_or_else(|| Error::NoVolume(name.to_owned()))?;
        let volume = self.open_volume(dir.as_fd(), name)?;
        let data = self.open_data(volume.as_fd(), name)?;
        tree::size(data.as_fd())
            .map_err(|stopped| Error::stopped("count what a volume takes", self.mountpoint(name).as_ref(), stopped))
    }

    fn look(&self, dir: BorrowedFd<'_>, name: &str, uses: &Uses) -> Result<Volume> {
        let volume = self.open_volume(dir, name)?;
        let file = || format!("{}/volume.json", self.path_of(name));
        let text = open_record(volume.as_fd())
            .and_then(|record| read_all(record.as_fd()))
            .context(|| format!("read {}", file()))?;
        let record: Record =
            serde_json::from_slice(&text).map_err(|error| Error::Refused(format!("{}: {error}", file())))?;
        Ok(Volume {
            name: name.to_owned(),
            mountpoint: self.mountpoint(name),
            created: record.created,
            labels: record.labels,
            size: None,
            used_by: uses.get(name).cloned().unwrap_or_default(),
        })
    }

    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    fn mountpoint(&self, name: &str) -> String {
        format!("{}/{name}/data", self.path)
    }

    /// The directory of all volumes, if there is one. Links that lead to it are the administrator's.
    fn dir(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(CWD, &*self.path, flags, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(Some).context(|| format!("open {}", self.path)),
        }
    }

    fn make_directories(&self) -> Result<()> {
        if self.dir()?.is_some() {
            return Ok(());
        }
        let path = Path::new(&self.path);
        let what = || format!("make the directory {}", path.display());
        if let Some(store) = path.parent() {
            let failed = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
            make_store(store).map_err(failed).context(what)?;
        }
        match mkdirat(CWD, path, Mode::RWXU) {
            Err(Errno::EXIST) => Ok(()),
            made => made.context(what),
        }
    }

    /// What a container sees of a volume: a directory and no link, and nothing mounted there.
    fn open_data(&self, volume: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
        match tree::open(volume, c"data", OFlags::RDONLY | tree::DIRECTORY) {
            Err(Errno::XDEV) => Err(Error::Refused(format!("something is mounted at {}", self.mountpoint(name)))),
            opened => opened.context(|| format!("open the volume {}", self.mountpoint(name))),
        }
    }

    /// The directory of a volume, which is no link.
    fn open_volume(&self, dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
        let path = CString::new(name).map_err(|_| Error::NoVolume(name.to_owned()))?;
        match tree::open(dir, &path, OFlags::RDONLY | tree::DIRECTORY) {
            Err(Errno::NOENT) => Err(Error::NoVolume(name.to_owned())),
            opened => opened.context(|| format!("open the volume {}", self.path_of(name))),
        }
    }
}

impl Locked<'_> {
    /// As [`Volumes::create`].
    ///
    /// # Errors
    /// The same.
    pub fn create(&self, name: Option<&str>, labels: &BTreeMap<String, String>, created: &str) -> Result<Volume> {
        let mut labels = labels.clone();
        let name = match name {
            Some(name) => name.to_owned(),
            None => {
                labels.insert(ANONYMOUS.to_owned(), String::new());
                random(32)?
            }
        };
        check_name(&name)?;
        let record = Record { name: name.clone(), created: created.to_owned(), labels };
        let text = serde_json::to_vec(&record).map_err(|error| Error::Refused(format!("volume {name}: {error}")))?;
        let made = self.make(&name, &text);
        if made.is_err() {
            // What was half made; the first error is the one to tell.
            self.sweep_new().ok();
        }
        made?;
        Ok(Volume {
            mountpoint: self.volumes.mountpoint(&name),
            name,
            created: record.created,
            labels: record.labels,
            size: None,
            used_by: Vec::new(),
        })
    }

    /// Makes it under another name, and renames it once it is whole.
    fn make(&self, name: &str, record: &[u8]) -> Result<()> {
        let what = || format!("make the volume {}", self.volumes.path_of(name));
        let aside = format!(".new-{}", random(8)?);
        mkdirat(&self.dir, &*aside, Mode::RWXU).context(what)?;
        let new = openat(&self.dir, &*aside, OFlags::RDONLY | tree::DIRECTORY, Mode::empty()).context(what)?;
        mkdirat(&new, c"data", Mode::RWXU).context(what)?;
        // As a directory that an image does not have is made; the umask is another's.
        rustix::fs::chmodat(&new, c"data", Mode::from_raw_mode(0o755), rustix::fs::AtFlags::empty()).context(what)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&new, c"volume.json", flags, Mode::RUSR | Mode::WUSR).context(what)?;
        copy::write_all(file.as_fd(), record).context(what)?;
        fsync(&file).and_then(|()| fsync(&new)).context(what)?;
        match renameat_with(&self.dir, &*aside, &self.dir, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => return Err(Error::Exists(name.to_owned())),
            renamed => renamed.context(what)?,
        }
        fsync(&self.dir).context(what)
    }

    /// Clears away what was being made by processes that were killed: nobody else makes one now.
    fn sweep_new(&self) -> Result<()> {
        for name in tree::names(self.dir.as_fd()).context(|| format!("read {}", self.volumes.path))? {
            if name.to_bytes().starts_with(b".new-") {
                tree::remove(self.dir.as_fd(), &name).map_err(|stopped| {
                    let path = self.volumes.path_of(&name.to_string_lossy());
                    Error::stopped("remove what was left", path.as_ref(), stopped)
                })?;
            }
        }
        Ok(())
    }
}

/// Whether this may be a volume's name: letters, digits, `_`, `.` and `-`, the first a letter or digit.
///
/// # Errors
/// [`Error::Refused`], which says what names may be.
pub fn check_name(name: &str) -> Result<()> {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    if first && name.len() <= MAX_NAME && name.bytes().all(inner) {
        return Ok(());
    }
    let problem =
        if name.len() > MAX_NAME { "longer than 255 bytes" } else { "not of the form [a-zA-Z0-9][a-zA-Z0-9_.-]*" };
    Err(Error::Refused(format!("volume name {name:?} is {problem}")))
}

/// The names of all volumes, sorted.
fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<String>> {
    let names = tree::names(dir)?.into_iter().filter_map(|name| name.into_string().ok());
    let mut names: Vec<_> = names.filter(|name| check_name(name).is_ok()).collect();
    names.sort();
    Ok(names)
}

/// volume.json, locked by who needs the volume.
fn open_record(volume: BorrowedFd<'_>) -> rustix::io::Result<OwnedFd> {
    tree::open(volume, c"volume.json", OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)
}

/// So many random bytes as hexadecimal digits.
fn random(bytes: usize) -> Result<String> {
    let mut buffer = [0u8; 32];
    let buffer = &mut buffer[..bytes.min(32)];
    let length = rustix::rand::getrandom(&mut *buffer, rustix::rand::GetRandomFlags::empty())
        .context(|| "get random bytes".to_owned())?;
    if length < buffer.len() {
        return Err(Error::Sys { what: "get random bytes".to_owned(), errno: Errno::IO });
    }
    Ok(buffer.iter().map(|byte| format!("{byte:02x}")).collect())
}
