//! Security labels of a process: what the kernel's modules are to make of it when it executes its program.
//!
//! The files are those of /proc itself, never what is mounted over them, or a label would go nowhere
//! (CVE-2019-16884, CVE-2025-52881).

use super::Result;
use crate::plan::{Label, Labels};
use crate::sync::Item;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, fstatfs, openat, openat2, statx};
use rustix::io::{Errno, write};
use std::ffi::CStr;

/// Open files of this process for each label that it gets.
#[derive(Default)]
pub(crate) struct LabelFiles {
    apparmor: Option<OwnedFd>,
    selinux: Option<OwnedFd>,
    keys: Option<OwnedFd>,
}

impl LabelFiles {
    /// Opens them below /proc, as it is now. The process must not execute anything between this and the writes.
    pub(crate) fn open(labels: &Labels) -> Result<LabelFiles> {
        if labels.apparmor.is_none() && labels.selinux.is_none() {
            return Ok(LabelFiles::default());
        }
        let open =
            |label: &Option<Label>, path: &CStr| label.as_ref().map(|label| open(label.property, path)).transpose();
        Ok(LabelFiles {
            apparmor: open(&labels.apparmor, c"thread-self/attr/apparmor/exec")?,
            selinux: open(&labels.selinux, c"thread-self/attr/exec")?,
            keys: open(&labels.selinux, c"thread-self/attr/keycreate")?,
        })
    }

    /// Those that are open.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = i32> {
        [&self.apparmor, &self.selinux, &self.keys].into_iter().flatten().map(AsRawFd::as_raw_fd)
    }

    /// The label of keyrings that are made from now on; off: as the kernel finds right.
    pub(crate) fn label_keys(&self, labels: &Labels, on: bool) -> Result<()> {
        match (&self.keys, &labels.selinux) {
            (Some(file), Some(label)) => set(label, file, if on { label.text.to_bytes() } else { b"" }),
            _ => Ok(()),
        }
    }

    /// What the next program that is executed gets.
    pub(crate) fn label_program(self, labels: &Labels) -> Result<()> {
        for (file, label) in [(&self.apparmor, &labels.apparmor), (&self.selinux, &labels.selinux)] {
            if let (Some(file), Some(label)) = (file, label) {
                set(label, file, label.text.to_bytes())?;
            }
        }
        Ok(())
    }
}

fn set(label: &Label, file: &OwnedFd, text: &[u8]) -> Result<()> {
    let written = Item::Property.at(label.property, write(file, text))?;
    if written == text.len() { Ok(()) } else { Err(Item::Property.failure(label.property, Errno::INVAL)) }
}

fn open(property: &'static str, path: &CStr) -> Result<OwnedFd> {
    Item::Property.at(property, open_in_proc(path))
}

fn open_in_proc(path: &CStr) -> rustix::io::Result<OwnedFd> {
    let proc = openat(CWD, c"/proc", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    if fstatfs(&proc)?.f_type != rustix::fs::PROC_SUPER_MAGIC {
        return Err(Errno::NOENT);
    }
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS | ResolveFlags::BENEATH;
    match openat2(&proc, path, flags, Mode::empty(), resolve) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    // Without openat2(2) the mount that the file is on tells whether something covers it.
    let file = openat(&proc, path, flags, Mode::empty())?;
    let mount = |fd: &OwnedFd| {
        let found = statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
        if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { Err(Errno::NOSYS) } else { Ok(found.stx_mnt_id) }
    };
    if mount(&proc)? == mount(&file)? { Ok(file) } else { Err(Errno::XDEV) }
}
