//! The store's own directories and locks. Paths here are the store's, made by itself for its owner only; what layers
//! hold is never reached this way.

use super::Progress;
use super::error::{At, Error, Result};
use super::unpack::remove_tree;
use crate::host::make_store;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, fstat, fsync, mkdirat, open, stat};
use rustix::io::Errno;
use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Directories of a store.
pub(super) const LAYERS: &str = "layers";
pub(super) const CHAINS: &str = "chains";
pub(super) const IMAGES: &str = "images";
pub(super) const BUNDLES: &str = "bundles";
const TMP: &str = "tmp";
const LOCK: &str = "lock";

const OPEN_DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A lock that ends when it is dropped, or with the process.
#[derive(Debug)]
pub(super) struct Lock(#[allow(dead_code)] OwnedFd);

/// Makes the store's directories.
pub(super) fn prepare(store: &Path) -> Result<()> {
    if store.join(TMP).is_dir() && store.join(LOCK).exists() {
        return Ok(());
    }
    make_store(store).at("make the directory", store)?;
    for name in [LAYERS, CHAINS, IMAGES, BUNDLES, TMP] {
        let path = store.join(name);
        match mkdirat(CWD, &path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at("make the directory", &path),
        }
    }
    let path = store.join(LOCK);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(&path, flags, Mode::from_raw_mode(0o600)).at("make", &path).map(drop)
}

/// Nothing is removed while it lives.
pub(super) fn shared(store: &Path) -> Result<Lock> {
    lock(&store.join(LOCK), FlockOperation::LockShared)
}

/// Nothing is added or used while it lives.
pub(super) fn exclusive(store: &Path) -> Result<Lock> {
    lock(&store.join(LOCK), FlockOperation::LockExclusive)
}

/// Nobody else changes records of images while it lives.
pub(super) fn images(store: &Path) -> Result<Lock> {
    lock(&store.join(IMAGES), FlockOperation::LockExclusive)
}

fn lock(path: &Path, operation: FlockOperation) -> Result<Lock> {
    let fd = open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).at("open", path)?;
    loop {
        match flock(&fd, operation) {
            Ok(()) => return Ok(Lock(fd)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).at("lock", path),
        }
    }
}

/// A directory in tmp/ that is locked while it is in use. What is left in it goes with it.
pub(super) struct Scratch {
    pub(super) path: PathBuf,
    pub(super) fd: OwnedFd,
    /// It is in its place, and what has its name in tmp/ now is another's.
    moved: bool,
}

impl Scratch {
    pub(super) fn new(store: &Path) -> Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = store.join(TMP).join(format!("{}-{count}", rustix::process::getpid().as_raw_nonzero()));
            match mkdirat(CWD, &path, Mode::from_raw_mode(0o700)) {
                // Of a process that is no more.
                Err(Errno::EXIST) => continue,
                made => made.at("make the directory", &path)?,
            }
            let gone = |errno: Errno| errno == Errno::NOENT;
            let fd = match open(&path, OPEN_DIRECTORY, Mode::empty()) {
                Err(errno) if gone(errno) => continue,
                fd => fd.at("open", &path)?,
            };
            // Who sweeps may have been quicker with the lock.
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => continue,
                locked => locked.at("lock", &path)?,
            }
            let ours = fstat(&fd).at("stat", &path)?;
            match stat(&path) {
                Ok(there) if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) => {
                    return Ok(Scratch { path, fd, moved: false });
                }
                Ok(_) => continue,
                Err(errno) if gone(errno) => continue,
                Err(errno) => return Err(errno).at("stat", &path),
            }
        }
    }

    /// Writes a file and puts it in place as a whole, so that a crash leaves the old one or the new.
    pub(super) fn put_file(&self, content: &[u8], target: &Path) -> Result<()> {
        let path = self.path.join("file");
        let mut file = std::fs::File::create_new(&path).at("make", &path)?;
        file.write_all(content).at("write", &path)?;
        file.sync_data().at("sync", &path)?;
        std::fs::rename(&path, target).at("rename to", target)?;
        target.parent().map_or(Ok(()), sync)
    }

    /// Puts it in place, unless somebody else was quicker with the same.
    pub(super) fn settle(mut self, target: &Path) -> Result<()> {
        match std::fs::rename(&self.path, target) {
            Ok(()) => self.moved = true,
            Err(_) if target.join("layer.json").exists() => {}
            Err(error) => return Err(error).at("rename to", target),
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.moved {
            return;
        }
        // What cannot be removed now is swept by the next command.
        remove_path(&self.path).ok();
    }
}

/// Removes what killed processes have left. That may be much, and needs no lock of the store's.
pub(super) fn sweep(store: &Path, progress: &dyn Progress) -> Result<()> {
    for name in list(&store.join(TMP))? {
        let path = store.join(TMP).join(name);
        let Ok(fd) = open(&path, OPEN_DIRECTORY, Mode::empty()) else { continue };
        if flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = remove_path(&path)
        {
            // It is in nobody's way.
            progress.warning(&error.to_string());
        }
    }
    Ok(())
}

/// Has the names in a directory on the disk.
pub(super) fn sync(dir: &Path) -> Result<()> {
    open(dir, OPEN_DIRECTORY, Mode::empty()).and_then(fsync).at("sync", dir)
}

/// Removes a path of the store with all that is below.
pub(super) fn remove_path(path: &Path) -> Result<()> {
    let wrong = || Error::File { what: "remove", path: path.to_owned(), errno: Errno::INVAL };
    let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(wrong)?;
    let name = CString::new(name.as_bytes()).map_err(|_| wrong())?;
    let dir = match open(parent, OPEN_DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        dir => dir.at("open", parent)?,
    };
    remove_tree(dir.as_fd(), &name).at("remove", path)
}

/// Names in a directory of the store that are text; none if it is not there.
pub(super) fn list(path: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at("list", path)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.at("list", path)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
