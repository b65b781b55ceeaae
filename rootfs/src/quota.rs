//! A limit on what is below a directory, such as a container's writable layer: a project quota of ext4 or xfs.
//!
//! The directory and all that is made in it later belong to a project, a number that nothing else has, and the file
//! system counts what a project takes. STORE/projects has the number that was given out last and is locked by who wants
//! one. A number is free when nothing belongs to it: a process that is killed here leaves at most a limit that limits
//! nothing. overlay's upper and work directory both have to be below the directory.

use crate::host::{read_all, wait_for_lock};
use crate::sys::{self, DiskQuota, FdPath, QuotasOf};
use crate::tree;
use crate::volumes::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, SeekFrom, fstat, fstatfs, major, minor, openat, readlink, seek, stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;

/// "PROA" in ASCII, and as many numbers from there on.
const FIRST: u32 = 0x5052_4f41;
const COUNT: u32 = 1 << 20;
/// How many numbers that are taken are passed over; then something is wrong.
const MAX_TRIES: u32 = 4096;

const EXT4: u64 = 0xef53;
const XFS: u64 = 0x5846_5342;
/// FS_XFLAG_PROJINHERIT.
const INHERIT: u32 = 0x200;
/// FS_QUOTA_PDQ_ENFD: limits of projects are kept, not only counted.
const ENFORCED: u16 = 1 << 5;
/// Limits what is below the empty directory `dir`, which may have been opened with O_PATH, to so many bytes, rounded up
/// to 1024. Who writes more gets EDQUOT or ENOSPC; on ext4 not who has CAP_SYS_RESOURCE, which overlay never uses.
/// Returns the project.
///
/// # Errors
/// [`Error::Refused`] where the file system has no project quotas, for another than root of the machine, and for a
/// directory with something in it, which would not be counted.
pub fn limit(store: &Path, dir: BorrowedFd<'_>, bytes: u64) -> Result<u32> {
    let mut quotas = Quotas::of(dir)?;
    quotas.check()?;
    if !tree::is_empty(dir).context(|| format!("read {}", quotas.path))? {
        return Err(Error::Refused(format!("limit the size of {}: it is not empty", quotas.path)));
    }
    let file = store.join("projects");
    let last = last_project(&file)?;
    let taken = given_by_hand();
    let mut project = read_number(last.as_fd()).unwrap_or(FIRST);
    for _ in 0..MAX_TRIES {
        project = next(project);
        if taken.contains(&project) || !quotas.is_free(project)? {
            continue;
        }
        quotas.set_project(project)?;
        let limited = match quotas.get(project) {
            // Another store on this file system has chosen it at the same time, and its limit is not to be touched.
            Ok(quota) if quota.inodes > 1 => {
                quotas.set_project(0)?;
                continue;
            }
            Ok(_) => write_number(last.as_fd(), project)
                .context(|| format!("write {}", file.display()))
                .and_then(|()| quotas.set_limit(project, bytes)),
            Err(error) => Err(error),
        };
        if limited.is_err() {
            // The first error is the one to tell.
            quotas.set_project(0).ok();
        }
        return limited.map(|()| project);
    }
    Err(Error::Refused(format!("limit the size of {}: no project is free from {FIRST} on", quotas.path)))
}

/// Takes a limit away that [`limit`] has set; all that is below the directory is to be removed next. A directory without
/// one is left as it is.
///
/// # Errors
/// The directory's project cannot be read, or its limit not be set.
pub fn release(dir: BorrowedFd<'_>) -> Result<()> {
    let mut quotas = Quotas::of(dir)?;
    match sys::ioctl_get_fsxattr(quotas.dir.as_fd()) {
        Ok(found) if (FIRST..FIRST + COUNT).contains(&found.project) => quotas.set_limit(found.project, 0),
        Ok(_) | Err(Errno::NOTTY | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno).context(|| format!("read the project of {}", quotas.path)),
    }
}

/// The file system of a directory.
struct Quotas {
    dir: OwnedFd,
    path: String,
    /// Where there is no quotactl_fd(2).
    device: Option<CString>,
}

impl Quotas {
    fn of(dir: BorrowedFd<'_>) -> Result<Quotas> {
        let path = readlink(FdPath::new(dir).as_c_str(), Vec::new()).unwrap_or_default();
        let path = path.to_string_lossy().into_owned();
        let dir = tree::reopen(dir).context(|| format!("open {path}"))?;
        Ok(Quotas { dir, path, device: None })
    }

    /// Whether there are project quotas, and limits are kept.
    fn check(&mut self) -> Result<()> {
        let kind = fstatfs(&self.dir).context(|| format!("look at the file system of {}", self.path))?.f_type as u64;
        if !matches!(kind & 0xffff_ffff, EXT4 | XFS) {
            return Err(self.none());
        }
        match self.call(sys::quotactl_state) {
            Ok(state) if state & ENFORCED != 0 => Ok(()),
            Ok(_) => Err(self.none()),
            Err(errno) => Err(self.failed("ask for the quotas of", errno)),
        }
    }

    fn is_free(&mut self, project: u32) -> Result<bool> {
        let quota = self.get(project)?;
        Ok(quota.blocks == 0 && quota.inodes == 0)
    }

    fn get(&mut self, project: u32) -> Result<DiskQuota> {
        match self.call(|of| sys::quotactl_get(of, project)) {
            // xfs has never heard of it.
            Err(Errno::NOENT) => Ok(DiskQuota::default()),
            got => got.map_err(|errno| self.failed("read a quota of", errno)),
        }
    }

    fn set_limit(&mut self, project: u32, bytes: u64) -> Result<()> {
        let blocks = bytes.div_ceil(1024).saturating_mul(2);
        self.call(|of| sys::quotactl_limit(of, project, blocks)).map_err(|errno| self.failed("set a quota on", errno))
    }

    fn set_project(&mut self, project: u32) -> Result<()> {
        let mut wanted =
            sys::ioctl_get_fsxattr(self.dir.as_fd()).map_err(|errno| self.failed("read the project of", errno))?;
        wanted.project = project;
        wanted.flags = if project == 0 { wanted.flags & !INHERIT } else { wanted.flags | INHERIT };
        sys::ioctl_set_fsxattr(self.dir.as_fd(), &wanted).map_err(|errno| self.failed("set the project of", errno))
    }

    /// By descriptor, or by the device where the kernel is older than 5.14.
    fn call<T>(&mut self, of: impl Fn(QuotasOf<'_>) -> rustix::io::Result<T>) -> rustix::io::Result<T> {
        if self.device.is_none() {
            match of(QuotasOf::File(self.dir.as_fd())) {
                // Or there are no quotas: then it says so again.
                Err(Errno::NOSYS) => self.device = Some(self.find_device()?),
                answer => return answer,
            }
        }
        of(QuotasOf::Device(self.device.as_deref().unwrap_or_default()))
    }

    /// The block device that the directory is on.
    fn find_device(&self) -> rustix::io::Result<CString> {
        let dev = fstat(&self.dir)?.st_dev;
        let by_number = format!("/dev/block/{}:{}", major(dev), minor(dev));
        let source = mount_of(dev).map(|mount| mount.source).unwrap_or_default();
        [source, by_number]
            .into_iter()
            .find(|path| path.starts_with('/') && stat(path.as_str()).is_ok_and(|stat| stat.st_rdev == dev))
            .and_then(|path| CString::new(path).ok())
            .ok_or(Errno::NOSYS)
    }

    fn failed(&self, doing: &str, errno: Errno) -> Error {
        match errno {
            Errno::NOSYS | Errno::SRCH | Errno::NOTTY | Errno::NOTSUP | Errno::INVAL => self.none(),
            Errno::PERM => Error::Refused(format!("limit the size of {}: it takes root of the machine", self.path)),
            _ => Error::Sys { what: format!("limit the size: {doing} {}", self.path), errno },
        }
    }

    fn none(&self) -> Error {
        let mount = fstat(&self.dir).ok().and_then(|stat| mount_of(stat.st_dev)).unwrap_or_default();
        let advice = match &*mount.kind {
            "ext4" | "xfs" => "mount option prjquota",
            _ => "ext4 and xfs have them, with the mount option prjquota",
        };
        let Mount { kind, source, target } = mount;
        Error::Refused(format!(
            "limit the size of {}: its file system, {kind} on {source} at {target}, has no project quotas ({advice})",
            self.path
        ))
    }
}

fn next(project: u32) -> u32 {
    if (FIRST..FIRST + COUNT - 1).contains(&project) { project + 1 } else { FIRST }
}

/// A line of mountinfo.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mount {
    kind: String,
    source: String,
    target: String,
}

fn mount_of(dev: u64) -> Option<Mount> {
    let file = openat(CWD, c"/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    find_mount(&String::from_utf8_lossy(&read_all(file.as_fd()).ok()?), &format!("{}:{}", major(dev), minor(dev)))
}

/// proc_pid_mountinfo(5). The first mount of a file system is the one that the machine knows it by.
fn find_mount(text: &str, number: &str) -> Option<Mount> {
    let line = text.lines().find(|line| line.split(' ').nth(2) == Some(number))?;
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    Some(Mount {
        kind: after.next()?.to_owned(),
        source: after.next()?.to_owned(),
        target: before.split(' ').nth(4)?.to_owned(),
    })
}

/// STORE/projects, locked.
fn last_project(file: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = openat(CWD, file, flags, Mode::RUSR | Mode::WUSR).context(|| format!("open {}", file.display()))?;
    wait_for_lock(last.as_fd()).context(|| format!("lock {}", file.display()))?;
    Ok(last)
}

/// None if it was never written, or only in part: then all are tried from the first on.
fn read_number(file: BorrowedFd<'_>) -> Option<u32> {
    std::str::from_utf8(&read_all(file).ok()?).ok()?.trim().parse().ok()
}

fn write_number(file: BorrowedFd<'_>, number: u32) -> rustix::io::Result<()> {
    seek(file, SeekFrom::Start(0))?;
    // All numbers of the range have as many digits.
    rustix::io::write(file, format!("{number}\n").as_bytes()).map(drop)
}

/// Projects that the administrator has given to directories, in /etc/projects, or named, in /etc/projid.
fn given_by_hand() -> BTreeSet<u32> {
    let read = |path: &str| {
        let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        Some(String::from_utf8_lossy(&read_all(file.as_fd()).ok()?).into_owned())
    };
    let words = |path| read(path).unwrap_or_default();
    let (directories, names) = (words("/etc/projects"), words("/etc/projid"));
    let numbers = directories.lines().filter_map(|line| line.split(':').next());
    let numbers = numbers.chain(names.lines().filter_map(|line| line.split(':').nth(1)));
    numbers.filter_map(|number| number.trim().parse().ok()).collect()
}

#[cfg(test)]
mod tests;
