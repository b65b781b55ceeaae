//! Where the images say that something is mounted. CRIU mounts below a directory of the host, by path: a link in the new
//! root, or in a volume, would lead it elsewhere.

use super::image_file;
use super::mounts::{self, Source};
use super::rpc::MountEntry;
use crate::error::{Result, bad};
use rootfs::plan::CText;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// What such a file begins with, in CRIU's magic.h.
const MAGIC: u32 = 0x5556_3928;
const PREFIX: &str = "mountpoints-";
/// File systems that the images hold the contents of: proc, sysfs, tmpfs, devpts, mqueue.
const SAVED: [u32; 5] = [1, 2, 5, 6, 14];

/// # Errors
/// A file is malformed. A link is on the way to a mount point. A mount lies in something of the host's, or takes
/// something of it that config.json does not name.
pub(super) fn check(images: &OwnedFd, root: Option<&CText>, sources: &[Source]) -> Result<()> {
    let names = image_file::names(images, PREFIX)?;
    if names.is_empty() {
        return Err(bad("--image-path", "no mountpoints-*.img: this is no checkpoint of a container"));
    }
    for name in names {
        for mount in image_file::read::<MountEntry>(images, &name, MAGIC)? {
            check_one(&mount, root, sources)
                .map_err(|problem| bad("--image-path", format_args!("{name}: {:?}: {problem}", mount.mountpoint)))?;
        }
    }
    Ok(())
}

fn check_one(mount: &MountEntry, root: Option<&CText>, sources: &[Source]) -> std::result::Result<(), String> {
    let point = mount.mountpoint.as_bytes();
    let plain = |part: &[u8]| part != b".." && part != b".";
    if !point.starts_with(b"/") || !point.split(|byte| *byte == b'/').all(plain) {
        return Err("is no path in a container".to_owned());
    }
    match mount.ext_key.as_deref().filter(|key| !key.is_empty()) {
        Some(key) if sources.iter().any(|source| mounts::name(&source.point) == key) => {}
        Some(_) => return Err("config.json does not say what is mounted there".to_owned()),
        None if point == b"/" => return Ok(()),
        None => {
            if let Some(source) = sources.iter().find(|source| is_below(point, &source.point)) {
                let other = String::from_utf8_lossy(&source.point);
                return Err(format!("lies in {other:?}, which is not the checkpoint's"));
            }
            if !SAVED.contains(&mount.fstype) {
                let kind = mount.fstype;
                return Err(format!("its file system (CRIU's type {kind}) is none that a checkpoint holds"));
            }
        }
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
