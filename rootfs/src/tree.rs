//! Whole trees of files that containers wrote, by descriptors: walked, measured and removed.
//!
//! Nothing is followed, no mount is crossed, and two descriptors are enough however deep a tree is: the way back up is
//! `..`, believed only where it leads to the directory that was left.

use crate::resolve::again;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, fstat, openat, openat2, statat, unlinkat,
};
use rustix::io::{Errno, Result};
use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Looks at a directory that still has something in it after it was emptied.
const MAX_TRIES: usize = 128;
/// What opens a directory to read it.
pub(crate) const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What a step of a walk failed at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// The operation.
    pub(crate) what: String,
    /// Below the directory that the walk began in; empty for that directory.
    pub(crate) path: PathBuf,
    pub(crate) errno: Errno,
}

/// A step of a walk that failed: the operation and the errno.
pub(crate) type Step<T> = core::result::Result<T, (String, Errno)>;

/// Says what the operation was.
pub(crate) fn at<T>(what: &str, result: Result<T>) -> Step<T> {
    result.map_err(|errno| (what.to_owned(), errno))
}

/// What is done on the way.
pub(crate) trait Visit {
    /// Whether a directory that cannot be opened for this reason is passed over: EXDEV, something is mounted there;
    /// ENOENT, it is gone. Else it ends the walk.
    fn passes(errno: Errno) -> bool;
    /// An entry of the directory that is open. True: a directory to go into. `way` is the path to that directory.
    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, way: &[CString]) -> Step<bool>;
    /// A directory has been opened, before anything in it is looked at.
    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Step<()>;
    /// All that is in the directory `dir`, called `name` in `parent`, is done.
    fn leave(&mut self, parent: BorrowedFd<'_>, dir: OwnedFd, name: &CStr) -> Step<()>;
}

/// A directory that something below is being done in.
struct Level {
    /// Device and inode, to know it again.
    place: (u64, u64),
    /// Those to go into yet.
    directories: Vec<CString>,
}

/// Walks all that is below `root`, which may have been opened with O_PATH.
pub(crate) fn walk<V: Visit>(root: BorrowedFd<'_>, visit: &mut V) -> core::result::Result<(), Stopped> {
    let mut way: Vec<CString> = Vec::new();
    step(root, visit, &mut way).map_err(|(what, errno)| {
        let path = way.iter().map(|name| OsStr::from_bytes(name.to_bytes())).collect();
        Stopped { what, path, errno }
    })
}

fn step<V: Visit>(root: BorrowedFd<'_>, visit: &mut V, way: &mut Vec<CString>) -> Step<()> {
    let mut here = at("open", reopen(root))?;
    let mut levels = vec![level(here.as_fd(), visit, way)?];
    loop {
        let Some(top) = levels.last_mut() else { return Ok(()) };
        if let Some(name) = top.directories.pop() {
            way.push(name);
            let name = &way[way.len() - 1];
            match open(here.as_fd(), name, OFlags::RDONLY | DIRECTORY) {
                Ok(below) => {
                    visit.enter(below.as_fd(), name)?;
                    here = below;
                    levels.push(level(here.as_fd(), visit, way)?);
                }
                Err(errno) if V::passes(errno) => drop(way.pop()),
                Err(errno) => return at("open", Err(errno)),
            }
            continue;
        }
        levels.pop();
        let Some(parent) = levels.last() else { return Ok(()) };
        let up = at("go back up from", open_parent(here.as_fd(), parent.place))?;
        let below = std::mem::replace(&mut here, up);
        visit.leave(here.as_fd(), below, way.last().map_or(c"", |name| name))?;
        way.pop();
    }
}

/// Looks at every entry of a directory, and keeps those to go into.
fn level<V: Visit>(dir: BorrowedFd<'_>, visit: &mut V, way: &mut Vec<CString>) -> Step<Level> {
    let mut level = Level { place: place(&at("look at", fstat(dir))?), directories: Vec::new() };
    let mut buffer = vec![MaybeUninit::uninit(); 32768];
    // The reader's own, as its place in the directory is shared.
    let mut entries = RawDir::new(at("open", reopen(dir))?, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = at("read the directory", entry)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let looked = match entry.file_type() {
            FileType::Unknown => at("look at", statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))
                .map(|stat| FileType::from_raw_mode(stat.st_mode)),
            kind => Ok(kind),
        };
        match looked.and_then(|kind| visit.entry(dir, name, kind, way)) {
            Ok(true) => level.directories.push(name.to_owned()),
            Ok(false) => {}
            Err(error) => {
                way.push(name.to_owned());
                return Err(error);
            }
        }
    }
    Ok(level)
}

/// Opens one name in a directory: no link, no mount and no `..` leads elsewhere. A link itself can be opened with O_PATH
/// and O_NOFOLLOW.
pub(crate) fn open(dir: BorrowedFd<'_>, name: &CStr, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    again(|| openat2(dir, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// The same directory, to be read.
pub(crate) fn reopen(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
    openat(dir, c".", OFlags::RDONLY | DIRECTORY, Mode::empty())
}

/// The directory above, if it is the one that was left. Whoever moves directories meanwhile is not followed.
pub(crate) fn open_parent(dir: BorrowedFd<'_>, expected: (u64, u64)) -> Result<OwnedFd> {
    let up = openat(dir, c"..", OFlags::RDONLY | DIRECTORY, Mode::empty())?;
    if place(&fstat(&up)?) == expected { Ok(up) } else { Err(Errno::STALE) }
}

/// What tells a file from all others.
pub(crate) fn place(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// The names in a directory, in no order.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(reopen(dir)?, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Whether a directory has nothing in it.
pub(crate) fn is_empty(dir: BorrowedFd<'_>) -> Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 1024];
    let mut entries = RawDir::new(reopen(dir)?, &mut buffer);
    while let Some(entry) = entries.next() {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a tree takes on disk, in bytes; a file with several names counts once, what is mounted in it not at all.
pub(crate) fn size(root: BorrowedFd<'_>) -> core::result::Result<u64, Stopped> {
    let mut size = Size { bytes: 0, seen: HashSet::new() };
    let own = fstat(root).map_err(|errno| Stopped { what: "look at".into(), path: PathBuf::new(), errno })?;
    size.add(&own);
    walk(root, &mut size)?;
    Ok(size.bytes)
}

struct Size {
    bytes: u64,
    seen: HashSet<(u64, u64)>,
}

impl Size {
    fn add(&mut self, stat: &Stat) {
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory || stat.st_nlink < 2 || self.seen.insert(place(stat)) {
            self.bytes = self.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
        }
    }
}

impl Visit for Size {
    fn passes(errno: Errno) -> bool {
        // Containers may be at work in it.
        matches!(errno, Errno::XDEV | Errno::NOENT)
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, _: &[CString]) -> Step<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => self.add(&stat),
            Err(Errno::NOENT) => {}
            Err(errno) => return at("look at", Err(errno)),
        }
        Ok(false)
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, _: &CStr) -> Step<()> {
        self.add(&at("look at", fstat(dir))?);
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: OwnedFd, _: &CStr) -> Step<()> {
        Ok(())
    }
}

/// Removes what is at a path of the host, with all that is in it. It need not be there. No link is followed but those on
/// the way to it, and two descriptors are enough however deep it is.
///
/// # Errors
/// What the kernel says; EBUSY if something is mounted in it, which is not touched.
pub fn remove_all(path: &Path) -> Result<()> {
    let name = CString::new(path.file_name().ok_or(Errno::INVAL)?.as_bytes()).map_err(|_| Errno::INVAL)?;
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = match openat(CWD, above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        dir => dir?,
    };
    remove(dir.as_fd(), &name).map_err(|stopped| match stopped.errno {
        Errno::XDEV => Errno::BUSY,
        errno => errno,
    })
}

/// Removes what is called `name`, with all that is in it. Nothing that is mounted in it is touched: then it fails.
pub(crate) fn remove(dir: BorrowedFd<'_>, name: &CStr) -> core::result::Result<(), Stopped> {
    let stopped = |what: &str, errno| Stopped { what: what.to_owned(), path: PathBuf::new(), errno };
    match open(dir, name, OFlags::RDONLY | DIRECTORY) {
        Ok(root) => {
            walk(root.as_fd(), &mut Remove)?;
            remove_directory(dir, root, name).map_err(|(what, errno)| stopped(&what, errno))
        }
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTDIR | Errno::LOOP) => {
            unlinkat(dir, name, AtFlags::empty()).map_err(|errno| stopped("remove", errno))
        }
        Err(errno) => Err(stopped("open", errno)),
    }
}

struct Remove;

impl Visit for Remove {
    fn passes(errno: Errno) -> bool {
        errno == Errno::NOENT
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, _: &[CString]) -> Step<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(false),
            Err(Errno::ISDIR) => Ok(true),
            Err(errno) => at("remove", Err(errno)),
        }
    }

    fn enter(&mut self, _: BorrowedFd<'_>, _: &CStr) -> Step<()> {
        Ok(())
    }

    fn leave(&mut self, parent: BorrowedFd<'_>, dir: OwnedFd, name: &CStr) -> Step<()> {
        remove_directory(parent, dir, name)
    }
}

/// Removes a directory that was emptied. Reading while names go may miss some: those are looked for again.
fn remove_directory(parent: BorrowedFd<'_>, dir: OwnedFd, name: &CStr) -> Step<()> {
    for _ in 0..MAX_TRIES {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY) => {}
            Err(errno) => return at("remove", Err(errno)),
        }
        for name in at("read the directory", names(dir.as_fd()))? {
            remove(dir.as_fd(), &name).map_err(|stopped| (stopped.what, stopped.errno))?;
        }
    }
    at("remove", Err(Errno::NOTEMPTY))
}

/// `path` below `root`, for a message.
pub(crate) fn joined(root: &Path, path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { root.to_owned() } else { root.join(path) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    use std::fs;

    #[test]
    fn trees_of_any_depth_go_and_mounts_stay() {
        let top = std::env::temp_dir().join(format!("rootfs-remove-all-{}", std::process::id()));
        fs::create_dir_all(top.join("kept")).unwrap();
        std::os::unix::fs::symlink(top.join("kept"), top.join("link")).unwrap();
        remove_all(&top.join("link")).unwrap();
        remove_all(&top.join("no/such")).unwrap();
        // Deeper than a path or the number of descriptors would let it be.
        let mut here = openat(CWD, &top, OFlags::RDONLY | DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, c"deep", Mode::RWXU).unwrap();
            here = openat(&here, c"deep", OFlags::RDONLY | DIRECTORY, Mode::empty()).unwrap();
        }
        remove_all(&top.join("deep")).unwrap();
        fs::create_dir_all(top.join("tree/mnt")).unwrap();
        mount("none", top.join("tree/mnt"), "tmpfs", MountFlags::empty(), None).unwrap();
        fs::write(top.join("tree/mnt/file"), "").unwrap();
        let refused = remove_all(&top.join("tree"));
        let there = top.join("tree/mnt/file").exists();
        unmount(top.join("tree/mnt"), UnmountFlags::DETACH).unwrap();
        assert_eq!((refused, there), (Err(Errno::BUSY), true));
        remove_all(&top.join("tree")).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 1);
        remove_all(&top).unwrap();
        assert!(!top.exists());
    }
}
