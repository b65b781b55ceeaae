//! Where the images say that something is mounted. CRIU mounts below a directory of the host, by path: a link in the new
//! root, or in a volume, would lead it elsewhere.

use super::images;
use super::mounts::{self, Source};
use super::rpc::MountEntry;
use crate::error::{Context, Result, bad};
use prost::Message;
use rootfs::plan::CText;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use std::fmt::Display;

/// The two numbers that such a file begins with, in CRIU's magic.h.
const MAGIC: [u32; 2] = [0x5456_4319, 0x5556_3928];
const PREFIX: &[u8] = b"mountpoints-";
/// File systems that the images hold the contents of: proc, sysfs, tmpfs, devpts, mqueue.
const SAVED: [u32; 5] = [1, 2, 5, 6, 14];

/// # Errors
/// A file is malformed. A link is on the way to a mount point. A mount lies in something of the host's, or takes
/// something of it that config.json does not name.
pub(super) fn check(images: &OwnedFd, root: Option<&CText>, sources: &[Source]) -> Result<()> {
    let what = || "--image-path: read".to_owned();
    let mut found = false;
    for entry in Dir::read_from(images.as_fd()).context(what)? {
        let entry = entry.context(what)?;
        if entry.file_name().to_bytes().starts_with(PREFIX) {
            let name = entry.file_name().to_string_lossy().into_owned();
            found = true;
            for mount in read(images, &name)? {
                check_one(&mount, root, sources)
                    .map_err(|problem| bad("--image-path", format_args!("{name}: {:?}: {problem}", mount.mountpoint)))?;
            }
        }
    }
    match found {
        true => Ok(()),
        false => Err(bad("--image-path", "no mountpoints-*.img: this is no checkpoint of a container")),
    }
}

fn check_one(mount: &MountEntry, root: Option<&CText>, sources: &[Source]) -> std::result::Result<(), String> {
    let point = mount.mountpoint.as_bytes();
    let plain = |part: &[u8]| part != b".." && part != b".";
    if !point.starts_with(b"/") || !point.split(|byte| *byte == b'/').all(plain) {
        return Err("is no path in a container".to_owned());
    }
    if let Some(key) = mount.ext_key.as_deref().filter(|key| !key.is_empty()) {
        return match sources.iter().any(|source| mounts::name(&source.point) == key) {
            true => Ok(()),
            false => Err(format!("config.json does not say what is mounted there ({key:?})")),
        };
    }
    if let Some(source) = sources.iter().find(|source| is_below(point, &source.point)) {
        let other = String::from_utf8_lossy(&source.point);
        return Err(format!("lies in {other:?}, which is not the checkpoint's"));
    }
    if point == b"/" {
        return Ok(());
    }
    if !SAVED.contains(&mount.fstype) {
        return Err(format!("its file system (CRIU's type {}) is none that a checkpoint holds", mount.fstype));
    }
    root.map_or(Ok(()), |root| without_links(root, point))
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The part of a path that is there must have no link in it.
fn without_links(root: &CText, point: &[u8]) -> std::result::Result<(), String> {
    let failed = |errno: Errno| crate::error::text(errno);
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = openat(CWD, &**root, flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(&root, point, flags | OFlags::NOFOLLOW, Mode::empty(), resolve) {
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::LOOP) => Err("a symbolic link is on the way there".to_owned()),
        Err(errno) => Err(failed(errno)),
    }
}

fn read(images: &OwnedFd, name: &str) -> Result<Vec<MountEntry>> {
    let malformed = |problem: &dyn Display| bad("--image-path", format_args!("{name}: {problem}"));
    let bytes = images::read_file(images, name)?;
    parse(&bytes).map_err(|problem| malformed(&problem))
}

/// After the magic numbers each entry follows its length.
fn parse(mut bytes: &[u8]) -> std::result::Result<Vec<MountEntry>, String> {
    let number = |bytes: &mut &[u8]| {
        let (first, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*first))
    };
    for magic in MAGIC {
        if number(&mut bytes) != Some(magic) {
            return Err("is not an image of mount points".to_owned());
        }
    }
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let length = number(&mut bytes).and_then(|length| usize::try_from(length).ok());
        let Some((entry, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
            return Err("is cut off".to_owned());
        };
        entries.push(MountEntry::decode(entry).map_err(|error| error.to_string())?);
        bytes = rest;
    }
    Ok(entries)
}
