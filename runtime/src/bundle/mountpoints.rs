//! Directories that an image does not have, and that something is mounted on: where the container's root cannot be
//! written to they lie in a layer of the bundle's, above the image's.

use crate::error::{Context, Result};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{OFlags, fstat, readlinkat};
use rustix::io::Errno;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

/// Makes the layer `dir`, with what it takes to mount something at each of the destinations; `like` is the directory that
/// the image's root is like. The second of a destination: a file is mounted there.
pub(super) fn make(
    dir: &Path,
    root: BorrowedFd<'_>,
    like: &Path,
    destinations: &[(String, bool)],
    on_disk: impl Fn(u32) -> u32,
) -> Result<()> {
    let what = || format!("make {}", dir.display());
    fs::create_dir(dir).context(what)?;
    let found = fs::metadata(like).context(|| format!("stat {}", like.display()))?;
    let same = Like { uid: on_disk(found.uid()), gid: on_disk(found.gid()), mode: found.mode() };
    same.give(dir).context(what)?;
    let mut mounted: Vec<&str> = Vec::new();
    for (destination, is_file) in destinations {
        // What is below a mount is made in it.
        if !mounted.iter().any(|above| Path::new(destination).starts_with(above)) {
            one(dir, root, destination, *is_file, &on_disk)?;
        }
        mounted.push(destination);
    }
    Ok(())
}

/// Owner and mode.
struct Like {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Like {
    fn give(&self, path: &Path) -> std::io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))?;
        fs::set_permissions(path, fs::Permissions::from_mode(self.mode & 0o7777))
    }
}

fn one(
    dir: &Path,
    root: BorrowedFd<'_>,
    destination: &str,
    is_file: bool,
    on_disk: &impl Fn(u32) -> u32,
) -> Result<()> {
    let names: Vec<_> =
        Path::new(destination).components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let open = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        rootfs::open_in_root(root, path, OFlags::PATH | OFlags::CLOEXEC)
    };
    // The longest part of the path that the image has, wherever links in it lead.
    let mut there = names.len();
    let deepest = loop {
        match open(&names[..there].iter().collect::<PathBuf>()) {
            Ok(_) if there == names.len() => return Ok(()),
            Ok(found) => break found,
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) if there > 0 => there -= 1,
            Err(errno) => return Err(errno).context(|| format!("open {destination} of the image")),
        }
    };
    // Of a mount that is attached nowhere this is the path below its root.
    let what = || format!("mount point {destination}");
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&deepest));
    let real = readlinkat(rustix::fs::CWD, &link, Vec::new()).context(what)?;
    let real = PathBuf::from(OsString::from_vec(real.into_bytes()));
    let mut path = dir.to_owned();
    let mut shown = PathBuf::new();
    for part in real.components().filter(|part| matches!(part, Component::Normal(_))) {
        path.push(part);
        shown.push(part);
        let stat = fstat(open(&shown).context(what)?.as_fd()).context(what)?;
        if !path.exists() {
            fs::create_dir(&path).context(what)?;
            Like { uid: on_disk(stat.st_uid), gid: on_disk(stat.st_gid), mode: stat.st_mode }
                .give(&path)
                .context(what)?;
        }
    }
    for (number, part) in names[there..].iter().enumerate() {
        path.push(part);
        if path.exists() {
            continue;
        }
        if is_file && number + 1 == names.len() - there {
            fs::write(&path, "").context(what)?;
            Like { uid: on_disk(0), gid: on_disk(0), mode: 0o644 }.give(&path).context(what)?;
        } else {
            fs::create_dir(&path).context(what)?;
            Like { uid: on_disk(0), gid: on_disk(0), mode: 0o755 }.give(&path).context(what)?;
        }
    }
    Ok(())
}
