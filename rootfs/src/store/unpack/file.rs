//! Files with their content, and what has none: links, devices, fifos.

use super::{Made, Parent, Result, Stop, Unpacker, read_failed, system, times};
use crate::image::tar::{Entry, Input, Kind, Reader};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, ftruncate, futimens, makedev, mknodat, openat, symlinkat};
use rustix::io::{Errno, pwrite};
use std::ffi::{CStr, CString};

impl Unpacker<'_> {
    /// Makes what has no directory's rights; `None` if it is left out.
    pub(super) fn node(
        &mut self,
        directory: &Parent,
        name: &CStr,
        entry: &Entry,
    ) -> std::result::Result<Option<Made>, (&'static str, Errno)> {
        let dir = directory.fd.as_fd();
        // Nobody else may open it until it has its owner and mode.
        let mode = Mode::from_raw_mode(0o600);
        let device = |kind| {
            let (major, minor) = entry.device;
            if kind == FileType::CharacterDevice && (major, minor) == (0, 0) {
                self.warnings.forged_whiteout(entry);
                return Ok(None);
            }
            match mknodat(dir, name, kind, mode, makedev(major, minor)) {
                Ok(()) => Ok(Some(Made::Node)),
                Err(errno) if self.warnings.device(entry, errno) => Ok(None),
                Err(errno) => Err(("make the device", errno)),
            }
        };
        match entry.kind {
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
                openat(dir, name, flags, mode)
                    .map(|file| Some(Made::File(file)))
                    .map_err(|errno| ("make the file", errno))
            }
            Kind::Symlink => {
                let target = CString::new(&*entry.link).map_err(|_| ("make the link", Errno::INVAL))?;
                symlinkat(&*target, dir, name).map(|()| Some(Made::Node)).map_err(|errno| ("make the link", errno))
            }
            Kind::Character => device(FileType::CharacterDevice),
            Kind::Block => device(FileType::BlockDevice),
            Kind::Fifo => mknodat(dir, name, FileType::Fifo, mode, 0)
                .map(|()| Some(Made::Node))
                .map_err(|errno| ("make the fifo", errno)),
            // Made elsewhere.
            Kind::Directory | Kind::HardLink => Err(("make the entry", Errno::INVAL)),
        }
    }

    /// Writes a file, and gives it its attributes.
    pub(super) fn content<R: Input>(
        &mut self,
        file: &OwnedFd,
        entry: &Entry,
        reader: &mut Reader<R>,
        sets_group: bool,
    ) -> Result<()> {
        self.facts.size += reader.left().next_multiple_of(4096);
        match &entry.extents {
            None => write(file.as_fd(), 0, entry.size, reader)?,
            Some(extents) => {
                for extent in extents {
                    write(file.as_fd(), extent.offset, extent.length, reader)?;
                }
                ftruncate(file, entry.size).map_err(|errno| system("set the size", errno))?;
            }
        }
        self.file_attributes(file.as_fd(), entry, !self.is_own(sets_group, entry))?;
        let times = times::timestamps(entry.mtime, entry.atime);
        futimens(file, &times).map_err(|errno| system("set the times", errno))
    }
}

/// The next `length` bytes of the entry's data to this place of the file, straight from the buffer they came in.
fn write<R: Input>(file: BorrowedFd<'_>, mut offset: u64, length: u64, reader: &mut Reader<R>) -> Result<()> {
    let end = offset + length;
    while offset < end {
        let piece = reader.data().map_err(read_failed)?;
        let piece = &piece[..piece.len().min((end - offset) as usize)];
        if piece.is_empty() {
            return Err(Stop::Failed("has less data than its header says".to_owned()));
        }
        match pwrite(file, piece, offset) {
            Ok(0) => return Err(system("write", Errno::IO)),
            Ok(written) => {
                reader.consume(written);
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(system("write", errno)),
        }
    }
    Ok(())
}
