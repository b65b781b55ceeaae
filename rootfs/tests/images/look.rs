//! What is to be seen in a tree, through an overlay of its layers.

use rootfs::overlay::{Layers, Writable, mount};
use rootfs::plan::CText;
use rootfs::store::Stored;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// `file`, `dir`, `link`, `fifo`, `char`, `block`.
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: (i64, i64),
    pub(crate) inode: u64,
    /// Content, target, or device.
    pub(crate) content: String,
    pub(crate) xattrs: BTreeMap<String, String>,
}

pub(crate) type Tree = BTreeMap<String, Seen>;

/// All below a directory; its own name is the empty one.
pub(crate) fn tree(path: &Path) -> Tree {
    let mut tree = Tree::new();
    walk(path, "", &mut tree);
    tree
}

fn walk(path: &Path, name: &str, tree: &mut Tree) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_dir() {
        ("dir", String::new())
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).unwrap().to_string_lossy().into_owned())
    } else if kind.is_file() {
        ("file", String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned())
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else {
        (if kind.is_char_device() { "char" } else { "block" }, format!("{:x}", metadata.rdev()))
    };
    let seen = Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        inode: metadata.ino(),
        content,
        xattrs: xattrs(path),
    };
    tree.insert(name.to_owned(), seen);
    if kind == "dir" {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let below = entry.file_name().to_string_lossy().into_owned();
            let below = if name.is_empty() { below } else { format!("{name}/{below}") };
            walk(&entry.path(), &below, tree);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<String, String> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut list = vec![0; 4096];
    let Ok(length) = rustix::fs::llistxattr(&*path, &mut list[..]) else { return BTreeMap::new() };
    let names = list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let mut value = vec![0; 4096];
            let length = rustix::fs::lgetxattr(&*path, name, &mut value[..]).unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (text(name), text(&value[..length]))
        })
        .collect()
}

/// What a container would see of the image. `scratch` is an empty directory.
pub(crate) fn merged(stored: &Stored, scratch: &Path) -> Tree {
    let text = |path: &Path| CText::new(path.as_os_str().as_bytes()).unwrap();
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for path in [&upper, &work] {
        fs::create_dir_all(path).unwrap();
    }
    let layers = Layers {
        lower: stored.layers.iter().rev().map(|layer| text(layer)).collect(),
        writable: Some(Writable { upper: text(&upper), work: text(&work) }),
        options: vec![],
    };
    let (mount, _) = mount(&layers, None).unwrap();
    let mut tree = tree(Path::new(&format!("/proc/self/fd/{}/.", mount.as_raw_fd())));
    drop(mount);
    fs::remove_dir_all(&work).unwrap();
    fs::remove_dir_all(&upper).unwrap();
    // An overlay shows the attributes of its upper directory there.
    let root = self::tree(&stored.root).remove("").unwrap();
    tree.insert(String::new(), root);
    tree
}
