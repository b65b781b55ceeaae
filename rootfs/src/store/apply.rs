//! A layer that cannot be understood by itself, unpacked over those below it as commands would do it. Overlay keeps what
//! changes, which then is the layer.

use super::Xattrs;
use super::budget::Share;
use super::dirs::{Scratch, remove_path};
use super::error::{At, Error, Result};
use super::import::{Tree, Work};
use super::records::LayerRecord;
use super::unpack::{Form, copy_xattrs};
use crate::api::Api;
use crate::image::Layer;
use crate::overlay::{Layers, Writable, detached_tree};
use crate::plan::{CText, Parameter};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens, open};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Unpacks `layer` into `diff` of the scratch directory, over `stack`. `root` has the attributes of the root below.
pub(super) fn apply(
    work: &Work<'_>,
    layer: &Layer,
    scratch: &Scratch,
    stack: &[Tree],
    root: Option<&Path>,
) -> Result<(LayerRecord, Share)> {
    // Directories that the layer only implies have the mode that they are made with.
    let umask = rustix::process::umask(Mode::from_raw_mode(0o022));
    let made = over(work, layer, scratch, stack, root);
    rustix::process::umask(umask);
    made
}

fn over(
    work: &Work<'_>,
    layer: &Layer,
    scratch: &Scratch,
    stack: &[Tree],
    root: Option<&Path>,
) -> Result<(LayerRecord, Share)> {
    let diff = work.tree(scratch)?;
    let wrong = |why: String| Error::Layer { layer: layer.diff_id.to_string(), why };
    let unpack = |tree| {
        work.unpack(layer, tree, Form::Applied)?.ok_or_else(|| wrong("depends on a layer that is not there".to_owned()))
    };
    let Some(below) = root.filter(|_| !stack.is_empty()) else { return unpack(diff) };
    let path = scratch.path.join("diff");
    copy_root(below, diff.as_fd(), |id| id).at("copy the attributes of the root to", &path)?;
    let work_dir = scratch.path.join("work");
    std::fs::create_dir(&work_dir).at("make the directory", &work_dir)?;
    let text = |path: &Path| CText::new(path.as_os_str().as_bytes()).ok_or(Errno::INVAL).at("name", path);
    let layers = Layers {
        lower: stack.iter().rev().map(|tree| text(&tree.diff())).collect::<Result<_>>()?,
        writable: Some(Writable { upper: text(&path)?, work: text(&work_dir)? }),
        options: options(work.xattrs),
    };
    let tree: OwnedFd = detached_tree(&Api::new(), &layers).map_err(|failure| {
        wrong(format!("needs those below it: {}: {}", failure.what, std::io::Error::from(failure.errno)))
    })?;
    let (mut record, share) = unpack(tree)?;
    // The mount has ended with its descriptor.
    remove_path(&work_dir)?;
    record.root = true;
    Ok((record, share))
}

/// Without them the kernel might keep only a part of what changes, with marks that other mounts do not understand.
fn options(xattrs: Xattrs) -> Vec<Parameter> {
    let option = |name: &str, value: Option<&str>| {
        Some(Parameter { name: CText::new(name)?, value: value.map(CText::new).unwrap_or_default() })
    };
    match xattrs {
        Xattrs::Trusted => {
            ["index", "metacopy", "redirect_dir"].iter().filter_map(|name| option(name, Some("off"))).collect()
        }
        // This turns them off by itself.
        Xattrs::User => option("userxattr", None).into_iter().collect(),
    }
}

/// The root of an overlay is that of its upper directory. `on_disk` says what owner stands for one.
pub(super) fn copy_root(from: &Path, to: BorrowedFd<'_>, on_disk: impl Fn(u32) -> u32) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = open(from, flags, Mode::empty())?;
    let stat = fstat(&from)?;
    let (uid, gid) = (Uid::from_raw(on_disk(stat.st_uid)), Gid::from_raw(on_disk(stat.st_gid)));
    match fchown(to, Some(uid), Some(gid)) {
        Ok(()) | Err(Errno::INVAL | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from.as_fd(), to)?;
    let modified = Timespec { tv_sec: stat.st_mtime as _, tv_nsec: stat.st_mtime_nsec as _ };
    futimens(to, &Timestamps { last_access: modified, last_modification: modified })
}
