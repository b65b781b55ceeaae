//! Where the images say that something is mounted. CRIU mounts below a directory of the host, by path: a link in the new
//! root, or in a volume, would lead it elsewhere.

use super::image_file;
use super::mounts::{self, Source};
use super::rpc::MountEntry;
use crate::error::{Result, bad};
use crate::mountinfo::is_on_itself;
use rootfs::plan::CText;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// What such a file begins with, in CRIU's magic.h.
const MAGIC: u32 = 0x5556_3928;
const PREFIX: &str = "mountpoints-";
/// File systems that the images hold the contents of: proc, sysfs, tmpfs, devpts, mqueue.
const SAVED: [u32; 5] = [PROC, 2, 5, 6, 14];
const PROC: u32 = 1;

/// # Errors
/// A file is malformed. A link is on the way to a mount point. A mount lies in something of the host's, or takes
/// something of it that config.json does not name.
pub(super) fn check(images: &OwnedFd, root: Option<&CText>, sources: &[Source]) -> Result<()> {
    let names = image_file::names(images, PREFIX)?;
    if names.is_empty() {
        return Err(bad("--image-path", "no mountpoints-*.img: this is no checkpoint of a container"));
    }
    for name in names {
        let mounts: Vec<MountEntry> = image_file::read(images, &name, MAGIC)?;
        for mount in &mounts {
            check_one(mount, &mounts, root, sources)
                .map_err(|problem| bad("--image-path", format_args!("{name}: {:?}: {problem}", mount.mountpoint)))?;
        }
    }
    Ok(())
}

fn check_one(
    mount: &MountEntry,
    all: &[MountEntry],
    root: Option<&CText>,
    sources: &[Source],
) -> std::result::Result<(), String> {
    let point = mount.mountpoint.as_bytes();
    let plain = |part: &[u8]| part != b".." && part != b".";
    if !point.starts_with(b"/") || !point.split(|byte| *byte == b'/').all(plain) {
        return Err("is no path in a container".to_owned());
    }
    match mount.ext_key.as_deref().filter(|key| !key.is_empty()) {
        Some(key) if mounts::is_known(key, sources) => {}
        Some(_) => return Err("config.json does not say what is mounted there".to_owned()),
        None if point == b"/" => return Ok(()),
        None => {
            if let Some(source) = sources.iter().find(|source| is_below(point, &source.point)) {
                let other = String::from_utf8_lossy(&source.point);
                return Err(format!("lies in {other:?}, which is not the checkpoint's"));
            }
            check_contents(mount, all)?;
        }
    }
    root.map_or(Ok(()), |root| without_links(root, point))
}

/// What is mounted there, with no name of the host's: a file system that is in the images, one file of one, or a part of
/// one on itself. CRIU follows links in any longer path.
fn check_contents(mount: &MountEntry, all: &[MountEntry]) -> std::result::Result<(), String> {
    let pair = |of: &MountEntry| (of.mountpoint.clone().into_bytes(), of.root.clone().into_bytes());
    let ((point, shown), kind) = (pair(mount), mount.fstype);
    let mut others = all.iter().filter(|other| other.root_dev == mount.root_dev);
    let on_itself = others.any(|other| {
        let (of_point, of_shown) = pair(other);
        is_on_itself((&point, &shown), (&of_point, &of_shown))
    });
    let of_root = all.iter().any(|other| other.mountpoint == "/" && other.root_dev == mount.root_dev);
    match (on_itself, SAVED.contains(&kind) && !of_root) {
        (true, _) => {}
        (false, true) if shown.first() == Some(&b'/') && !shown[1..].contains(&b'/') && shown != b"/.." => {}
        (false, true) => return Err(format!("{:?} of another mount is shown there", mount.root)),
        (false, false) => {
            return Err(format!("its file system (CRIU's type {kind}) is none that a checkpoint holds"));
        }
    }
    let below =
        |proc: &MountEntry| point.strip_prefix(proc.mountpoint.as_bytes())?.strip_prefix(b"/").map(is_of_process);
    match all.iter().filter(|proc| proc.fstype == PROC).any(|proc| below(proc) == Some(true)) {
        true => Err("is of a process".to_owned()),
        false => Ok(()),
    }
}

/// Links of a proc file system lead anywhere.
fn is_of_process(path: &[u8]) -> bool {
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    first.iter().all(u8::is_ascii_digit) || matches!(first, b"self" | b"thread-self" | b"net" | b"mounts")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fstype: u32, root_dev: u32, root: &str, mountpoint: &str) -> MountEntry {
        MountEntry { fstype, root_dev, root: root.to_owned(), mountpoint: mountpoint.to_owned(), ext_key: None }
    }

    #[test]
    fn what_images_may_mount() {
        let all = [
            entry(16, 1, "/b/rootfs", "/"),
            entry(PROC, 2, "/", "/proc"),
            entry(5, 3, "/", "/dev"),
            entry(5, 4, "/", "/run"),
        ];
        let is_fine = |entry: MountEntry| check_one(&entry, &all, None, &[]).is_ok();
        assert!(all.iter().all(|entry| check_one(entry, &all, None, &[]).is_ok()));
        assert!(is_fine(entry(PROC, 2, "/sys", "/proc/sys")));
        assert!(is_fine(entry(PROC, 2, "/sys/kernel", "/proc/sys/kernel")));
        assert!(is_fine(entry(5, 3, "/null", "/proc/keys")));
        assert!(is_fine(entry(16, 1, "/b/rootfs/etc/passwd", "/etc/passwd")));
        assert!(!is_fine(entry(16, 1, "/etc/shadow", "/etc/passwd")));
        assert!(!is_fine(entry(16, 1, "/b/rootfs/etc/shadow", "/etc/passwd")));
        assert!(!is_fine(entry(16, 9, "/", "/mnt")), "a disk");
        assert!(!is_fine(entry(11, 9, "/", "/mnt")), "debugfs");
        assert!(!is_fine(entry(PROC, 2, "/1/root/etc", "/mnt")));
        assert!(!is_fine(entry(PROC, 2, "/1/root/etc", "/proc/1/root/etc")));
        assert!(!is_fine(entry(5, 4, "/link/etc", "/mnt")));
        assert!(!is_fine(entry(5, 4, "/..", "/mnt")));
        assert!(!is_fine(entry(5, 4, "/", "/mnt/../etc")));
        assert!(!is_fine(entry(5, 4, "/", "mnt")));
    }

    #[test]
    fn what_of_the_host_is_mounted_is_said_by_config_json() {
        let source = |point: &[u8]| Source { point: point.to_vec(), path: b"/vol".to_vec(), mapped: None };
        let sources = [source(b"/data"), source(b"/etc/hosts")];
        let all = [entry(16, 1, "/", "/")];
        let is_fine = |key: Option<&str>, point: &str| {
            let entry = MountEntry { ext_key: key.map(str::to_owned), ..entry(5, 4, "/", point) };
            check_one(&entry, &all, None, &sources).is_ok()
        };
        assert!(is_fine(Some(&mounts::name(b"/data")), "/data"));
        assert!(!is_fine(Some(&mounts::name(b"/other")), "/data"));
        assert!(is_fine(Some("/data"), "/data"), "as runc has it");
        assert!(!is_fine(Some("/etc"), "/data"));
        assert!(!is_fine(None, "/data/link"));
    }
}
