//! `z` and `Z`: all files of a source get a label of SELinux that containers may use.

use super::{Context, Error, Result};
use crate::tree::{self, Step, Visit, at};
use crate::xattrs;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, openat, readlink, stat, statfs};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::path::PathBuf;

/// SELINUX_MAGIC of the kernel.
const SELINUX: u64 = 0xf97c_ff8c;
/// Directories of the whole machine: with another label it would not work any more.
const REFUSED: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Gives a file, or a directory with all that is in it, the label; what is mounted below is not touched. False: this
/// machine has no SELinux, and nothing was done. `file` may have been opened with O_PATH.
///
/// # Errors
/// [`Error::Refused`] for a directory that the machine needs as it is, and for the user's home.
pub fn relabel(file: BorrowedFd<'_>, label: &str) -> Result<bool> {
    if !is_enabled() {
        return Ok(false);
    }
    set_all(file, c"security.selinux", label).map(|()| true)
}

/// As libselinux has it: selinuxfs is mounted.
fn is_enabled() -> bool {
    statfs("/sys/fs/selinux").is_ok_and(|found| found.f_type as u64 & 0xffff_ffff == SELINUX)
}

pub(super) fn set_all(file: BorrowedFd<'_>, name: &CStr, label: &str) -> Result<()> {
    let path = readlink(crate::sys::FdPath::new(file).as_c_str(), Vec::new());
    let path = path.map(|path| PathBuf::from(path.to_string_lossy().into_owned())).unwrap_or_default();
    let what = || format!("give {} the label {label:?}", path.display());
    let value = CString::new(label).map_err(|_| Error::Refused(format!("{}: it has a NUL", what())))?;
    let found = fstat(file).context(what)?;
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let refused = REFUSED.iter().map(PathBuf::from).chain(home);
    // By what they are: links and other mounts of them lead there too.
    if let Some(dir) = refused
        .filter(|dir| dir.is_absolute())
        .find(|dir| stat(dir).is_ok_and(|stat| tree::place(&stat) == tree::place(&found)))
    {
        return Err(Error::Refused(format!("{}: {} is the machine's, and is not relabelled", what(), dir.display())));
    }
    xattrs::set(file, name, value.as_bytes_with_nul()).context(what)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(());
    }
    let root = openat(file, c".", OFlags::PATH | tree::DIRECTORY, Mode::empty()).context(what)?;
    tree::walk(root.as_fd(), &mut Label { name, value: &value })
        .map_err(|stopped| Error::stopped(&format!("label {label:?}"), &path, stopped))
}

struct Label<'a> {
    name: &'a CStr,
    value: &'a CStr,
}

impl Label<'_> {
    fn set(&self, file: BorrowedFd<'_>) -> Step<()> {
        at("label", xattrs::set(file, self.name, self.value.to_bytes_with_nul()))
    }
}

impl Visit for Label<'_> {
    fn passes(errno: Errno) -> bool {
        matches!(errno, Errno::XDEV | Errno::NOENT)
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, _: &[CString]) -> Step<bool> {
        if kind == FileType::Directory {
            return Ok(true);
        }
        match tree::open(dir, name, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(file) => self.set(file.as_fd()).map(|()| false),
            Err(errno) if Self::passes(errno) => Ok(false),
            Err(errno) => at("open", Err(errno)),
        }
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, _: &CStr) -> Step<()> {
        self.set(dir)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: OwnedFd, _: &CStr) -> Step<()> {
        Ok(())
    }
}
