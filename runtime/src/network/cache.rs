//! What is known of containers on networks: `CACHE/ID/attachment.json`, written before the first plugin is run, so that
//! a crash at any moment leaves nothing that cannot be found. Beside it `netns`, where the container's network namespace
//! is mounted while it is on a network: plugins look in it for what to take back, when the container is gone already.
//!
//! Nothing in it is reached through a link, and an id never leaves it.

use super::conf::List;
use super::ports::Port;
use super::text;
use crate::error::{Context, Error, Result};
use crate::state::{Process, boot_id, check_id};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const RECORD: &str = "attachment.json";
const RECORD_NEW: &str = "attachment.json.new";
const NAMESPACE: &str = "netns";
/// What is larger is not ours.
const MAX_RECORD: u64 = 16 << 20;
/// statfs(2) of a namespace.
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A container on a network, or on its way there or back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Of this format.
    pub version: u32,
    pub id: String,
    /// The container's init, by pid, start time in ticks and boot.
    pub pid: i32,
    pub start_time: u64,
    pub boot_id: String,
    /// The network as it was when the container came to it.
    pub network: List,
    pub interface: String,
    pub ports: Vec<Port>,
    /// CNI_PATH.
    pub plugin_path: String,
    /// How many of the plugins have still to take back what they did; all until one has.
    pub left: usize,
    /// What the last plugin that was done said of its work.
    pub result: Option<Value>,
}

impl Record {
    pub(super) const VERSION: u32 = 1;

    /// The container's init, if it lives.
    pub(crate) fn init(&self) -> Result<Option<Process>> {
        if boot_id()? != self.boot_id {
            return Ok(None);
        }
        Process::open(self.pid, self.start_time)
    }
}

/// The directory of all, 0700.
pub(crate) struct Networks {
    path: PathBuf,
    fd: OwnedFd,
}

impl Networks {
    /// None: it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Option<Networks>> {
        match openat(CWD, path, DIRECTORY & !OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(Networks { path: path.to_owned(), fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::Sys { what: format!("open {}", path.display()), errno }),
        }
    }

    /// Made with its parents where missing.
    pub(crate) fn create(path: &Path) -> Result<Networks> {
        let what = || format!("create {}", path.display());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).context(what)?;
        }
        match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::Sys { what: what(), errno }),
        }
        Networks::open(path)?.ok_or_else(|| Error::Sys { what: what(), errno: Errno::NOENT })
    }

    /// The ids of the containers in it, sorted.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let what = || format!("read {}", self.path.display());
        let mut ids = Vec::new();
        for entry in Dir::read_from(&self.fd).context(what)? {
            let entry = entry.context(what)?;
            ids.extend(entry.file_name().to_str().ok().filter(|name| check_id(name).is_ok()).map(str::to_owned));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// What is known of a container, without its lock: None where nothing is.
    pub(crate) fn read(&self, id: &str) -> Result<Option<Record>> {
        match openat(&self.fd, id, DIRECTORY, Mode::empty()) {
            Ok(fd) => Entry { id: id.to_owned(), path: self.path.join(id), fd }.read(),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::Sys { what: format!("open {}/{id}", self.path.display()), errno }),
        }
    }

    /// The container's directory, locked; waits for at most `patience` for who has the lock. None: there is none, and
    /// none was to be made.
    pub(super) fn lock(&self, id: &str, make: bool, patience: Duration) -> Result<Option<Entry>> {
        check_id(id)?;
        let path = self.path.join(id);
        let what = || format!("open {}", path.display());
        let end = Instant::now() + patience;
        loop {
            if make {
                match mkdirat(&self.fd, id, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(Error::Sys { what: format!("create {}", path.display()), errno }),
                }
            }
            let fd = match openat(&self.fd, id, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if make => continue,
                Err(Errno::NOENT) => return Ok(None),
                opened => opened.context(what)?,
            };
            loop {
                match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                    Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => {
                        std::thread::sleep(Duration::from_millis(20));
                    }
                    Err(Errno::WOULDBLOCK) => {
                        let problem =
                            format!("another proa, or a plugin, is still busy with the network of container {id}");
                        return Err(Error::Busy(problem));
                    }
                    done => break done.context(|| format!("lock {}", path.display()))?,
                }
            }
            // Whoever had the lock before may have removed it.
            let named = rustix::fs::statat(&self.fd, id, AtFlags::SYMLINK_NOFOLLOW);
            let opened = fstat(&fd).context(what)?;
            if named.is_ok_and(|named| (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)) {
                return Ok(Some(Entry { id: id.to_owned(), path, fd }));
            }
        }
    }

    /// Removes a container's directory, with its lock held.
    pub(super) fn remove(&self, entry: &Entry) -> Result<()> {
        entry.forget()?;
        unlinkat(&self.fd, &entry.id, AtFlags::REMOVEDIR).context(|| format!("remove {}", entry.path.display()))
    }
}

/// A container's directory.
pub(super) struct Entry {
    id: String,
    path: PathBuf,
    fd: OwnedFd,
}

impl Entry {
    pub(super) fn lock(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// None: nothing was begun.
    pub(super) fn read(&self) -> Result<Option<Record>> {
        let file = self.path.join(RECORD);
        let what = || format!("read {}", file.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let open = match openat(&self.fd, RECORD, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            opened => opened.context(what)?,
        };
        let wrong = |problem: String| Error::Document { file: file.display().to_string(), problem };
        let mut text = Vec::new();
        std::fs::File::from(open).take(MAX_RECORD).read_to_end(&mut text).context(what)?;
        let record: Record = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        match (record.version, record.id == self.id) {
            (Record::VERSION, true) => Ok(Some(record)),
            (Record::VERSION, false) => Err(wrong(format!("is of another container, {:?}", record.id))),
            (other, _) => Err(wrong(format!("has version {other}, this proa reads {}", Record::VERSION))),
        }
    }

    /// Whole or not at all, and on the disk before anything follows: what plugins keep there would outlive it.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let what = || format!("write {}", self.path.join(RECORD).display());
        let text = serde_json::to_vec(record).map_err(|error| Error::Usage(format!("{}: {error}", what())))?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.fd, RECORD_NEW, flags, Mode::from_raw_mode(0o600)).context(what)?;
        let mut rest = &text[..];
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).context(what)?;
            rest = &rest[written..];
        }
        fsync(&file).context(what)?;
        renameat(&self.fd, RECORD_NEW, &self.fd, RECORD).context(what)?;
        fsync(&self.fd).context(what)
    }

    /// Empties it. The record goes last, so that it can be repeated.
    pub(super) fn forget(&self) -> Result<()> {
        self.unpin()?;
        for name in [NAMESPACE, RECORD_NEW, RECORD] {
            match unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                done => done.context(|| format!("remove {}", self.path.join(name).display()))?,
            }
        }
        Ok(())
    }

    /// Where the container's network namespace is for plugins; empty where it is not.
    pub(super) fn namespace(&self) -> Result<String> {
        match self.is_pinned()? {
            true => text(&self.path.join(NAMESPACE)),
            false => Ok(String::new()),
        }
    }

    /// Mounts a network namespace here: it stays until it is taken away, whatever becomes of its processes.
    pub(super) fn pin(&self, namespace: &OwnedFd) -> Result<()> {
        let what = || format!("mount the network namespace on {}", self.path.join(NAMESPACE).display());
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        drop(openat(&self.fd, NAMESPACE, flags, Mode::from_raw_mode(0o600)).context(what)?);
        mount_bind(format!("/proc/self/fd/{}", namespace.as_raw_fd()), self.namespace_path()).context(what)
    }

    fn unpin(&self) -> Result<()> {
        while self.is_pinned()? {
            unmount(self.namespace_path(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                .context(|| format!("unmount {}", self.path.join(NAMESPACE).display()))?;
        }
        Ok(())
    }

    fn is_pinned(&self) -> Result<bool> {
        match rustix::fs::statfs(self.namespace_path()) {
            Ok(stat) => Ok(stat.f_type as u64 == NSFS_MAGIC),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(Error::Sys { what: format!("statfs of {}", self.path.join(NAMESPACE).display()), errno }),
        }
    }

    /// By the descriptor: nobody can have put another directory in its place.
    fn namespace_path(&self) -> String {
        format!("/proc/self/fd/{}/{NAMESPACE}", self.fd.as_raw_fd())
    }
}
