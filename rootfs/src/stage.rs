//! A container's root, and the trees that are mounted in it with other ids than on the host, each in a place of its own
//! and with nothing else mounted on it: for a program that builds the container's mounts by itself.

use crate::api::{Api, Tree};
use crate::error::{Item, Result};
use crate::plan::{CText, Filesystem, Parameter, Plan, Propagation, What};
use crate::resolve::{Dir, Missing, open_host};
use crate::{Root, Sources};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, openat};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// The place of the root.
pub const ROOT: &CStr = c"root";

/// One of the places.
#[derive(Debug)]
pub struct Place {
    /// Its file name.
    pub name: CText,
    /// A bind in `mounts` of the plan, whose source it shows.
    pub mount: u16,
}

/// Makes the places in `dir`, in a file system that goes with the mount namespace, which must be the caller's own.
pub fn stage(plan: &Plan, sources: &mut Sources, dir: &CStr, places: &[Place]) -> Result<()> {
    let api = Api::new();
    Item::Root.at("make the mount namespace a slave of the host's", api.propagate_root(Propagation::SLAVE))?;
    let text = |word: &str| CText::new(word).unwrap_or_default();
    let private = Filesystem {
        kind: text("tmpfs"),
        source: Some(text("proa")),
        parameters: vec![Parameter { name: text("mode"), value: Some(text("711")) }],
        ..Filesystem::default()
    };
    let target = Item::Root.at("open a directory for places", open_host(dir))?;
    let again = || open_host(dir);
    let base = Item::Root.at("mount a directory for places", api.mount(&private, 0, None, target.as_fd(), again))?;
    let root = match Root::tree(&api, plan, sources)? {
        (tree, false) => tree,
        (_, true) => Item::Root.at("open", api.clone_path(plan.place(), true))?,
    };
    let root = Item::Root.at("bind", put(&api, base.as_fd(), dir, ROOT, root))?;
    make_targets(plan, Dir::new(root))?;
    for place in places {
        let item = Item::MountSource(place.mount);
        let Some(tree) = sources.take(place.mount) else { return item.fail("open", Errno::INVAL) };
        item.at("bind", put(&api, base.as_fd(), dir, &place.name, Tree::Detached(tree)))?;
    }
    Ok(())
}

/// A new root has not yet what mounts are mounted on. What lies in another mount is none of the root's.
fn make_targets(plan: &Plan, root: Dir) -> Result<()> {
    let lies_in = |path: &[u8], other: &[u8]| path.strip_prefix(other).is_some_and(|rest| rest.first() == Some(&b'/'));
    for (index, mount) in plan.mounts.iter().enumerate() {
        let path = mount.destination.to_bytes();
        if plan.mounts.iter().any(|other| lies_in(path, other.destination.to_bytes())) {
            continue;
        }
        let missing = match &mount.what {
            What::Bind { source, .. } if !is_directory(source) => Missing::File,
            _ => Missing::Directory,
        };
        let made = root.resolve_or_create(&mount.destination, missing);
        Item::Mount(index as u16).at("make what it is mounted on", made)?;
    }
    Ok(())
}

fn is_directory(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

/// Attaches a tree under a name that is made for it.
fn put(api: &Api, base: BorrowedFd<'_>, dir: &CStr, name: &CStr, tree: Tree) -> rustix::io::Result<OwnedFd> {
    let mode = match &tree {
        Tree::Detached(fd) => fstat(fd)?.st_mode,
        Tree::Path { source, .. } => fstat(open_host(source)?)?.st_mode,
    };
    if FileType::from_raw_mode(mode) == FileType::Directory {
        mkdirat(base, name, Mode::from_raw_mode(0o700))?;
    } else {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        drop(openat(base, name, flags, Mode::from_raw_mode(0o600))?);
    }
    let target: OwnedFd = openat(base, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let path = CString::new([dir.to_bytes(), b"/", name.to_bytes()].concat()).map_err(|_| Errno::INVAL)?;
    api.attach(tree, target.as_fd(), || open_host(&path))
}
