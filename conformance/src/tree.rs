//! What a directory tree is: all that a process could see of each file, to compare two trees or one with itself later.
//!
//! Not here: anything that changes the tree. What is mounted below it is no part of it.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::sys;

/// All files of a tree by their paths below its root, which is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Node>);

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Type and permissions, as stat(2) has them.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Of what is no directory.
    pub size: u64,
    /// Of a device.
    pub device: u64,
    /// The digest of a file's content, or the target of a link.
    pub content: String,
    /// The first of its names, if it has several.
    pub same_as: Option<PathBuf>,
    /// All but those of overlayfs.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// Of what is no directory.
    pub inode: u64,
}

impl Tree {
    /// Walks the directory `root`.
    pub fn of(root: &Path) -> Self {
        let device = stat(root).dev();
        let (mut nodes, mut names) = (BTreeMap::new(), BTreeMap::<(u64, u64), PathBuf>::new());
        let mut hashes = BTreeMap::new();
        let mut left = vec![PathBuf::new()];
        while let Some(path) = left.pop() {
            let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
            let about = stat(&full);
            // Overlayfs may give what is no directory the device of its layer.
            if about.is_dir() && about.dev() != device {
                continue;
            }
            if about.is_dir() {
                let entries = fs::read_dir(&full).unwrap_or_else(|error| panic!("{}: {error}", full.display()));
                left.extend(entries.map(|entry| path.join(entry.expect("cannot list").file_name())));
            }
            let mut node = Node::of(&full, &about, &mut hashes);
            if about.nlink() > 1 && !about.is_dir() {
                // The walk's order is not that of names: the least of them counts.
                let first = names.entry((about.dev(), about.ino())).or_insert_with(|| path.clone());
                *first = path.clone().min(first.clone());
                node.same_as = Some(path.clone());
            }
            nodes.insert(path, (node, (about.dev(), about.ino())));
        }
        let mut counts = BTreeMap::<PathBuf, usize>::new();
        for (node, key) in nodes.values_mut().filter(|(node, _)| node.same_as.is_some()) {
            node.same_as = names.get(key).cloned();
            *counts.entry(names[key].clone()).or_default() += 1;
        }
        let alone = |node: &mut Node| {
            if node.same_as.as_ref().is_some_and(|first| counts[first] < 2) {
                node.same_as = None;
            }
        };
        Self(
            nodes
                .into_iter()
                .map(|(path, (mut node, _))| {
                    (path, {
                        alone(&mut node);
                        node
                    })
                })
                .collect(),
        )
    }

    /// What differs, one line for each property of each file; inodes do not count.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut found = Vec::new();
        for (path, node) in &self.0 {
            match other.0.get(path) {
                None => found.push(format!("{}: only in the first", path.display())),
                Some(theirs) => {
                    found.extend(node.differences(theirs).map(|what| format!("{}: {what}", path.display())))
                }
            }
        }
        let only = other.0.keys().filter(|path| !self.0.contains_key(*path));
        found.extend(only.map(|path| format!("{}: only in the second", path.display())));
        found
    }

    /// Leaves out paths, with what is below each.
    #[must_use]
    pub fn without(mut self, paths: &[&str]) -> Self {
        self.0.retain(|path, _| !paths.iter().any(|out| path.starts_with(out)));
        self
    }

    /// The file at a path.
    #[track_caller]
    pub fn at(&self, path: &str) -> &Node {
        self.0.get(Path::new(path)).unwrap_or_else(|| panic!("there is no {path}: {:?}", self.0.keys()))
    }

    /// The paths, as text.
    pub fn paths(&self) -> Vec<String> {
        self.0.keys().map(|path| path.display().to_string()).collect()
    }
}

fn stat(path: &Path) -> Metadata {
    fs::symlink_metadata(path).unwrap_or_else(|error| panic!("cannot look at {}: {error}", path.display()))
}

impl Node {
    /// `hashes` are those of files that have further names.
    fn of(path: &Path, about: &Metadata, hashes: &mut BTreeMap<(u64, u64), String>) -> Self {
        let content = if about.is_symlink() {
            let target = fs::read_link(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            String::from_utf8_lossy(target.as_os_str().as_bytes()).into_owned()
        } else if about.is_file() {
            let key = (about.dev(), about.ino());
            let known = hashes.get(&key).cloned();
            let content = known.unwrap_or_else(|| hash(path));
            if about.nlink() > 1 {
                hashes.insert(key, content.clone());
            }
            content
        } else {
            String::new()
        };
        let xattrs = sys::xattrs(path).unwrap_or_else(|error| panic!("attributes of {}: {error}", path.display()));
        let overlay = |name: &str| name.starts_with("trusted.overlay.") || name.starts_with("user.overlay.");
        let is_dir = about.is_dir();
        Self {
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            mtime: (about.mtime(), about.mtime_nsec()),
            size: if is_dir { 0 } else { about.size() },
            device: about.rdev(),
            content,
            same_as: None,
            xattrs: xattrs.into_iter().filter(|(name, _)| !overlay(name)).collect(),
            inode: if is_dir { 0 } else { about.ino() },
        }
    }

    fn differences<'n>(&'n self, other: &'n Self) -> impl Iterator<Item = String> + 'n {
        let text = |node: &Self| {
            [
                format!("mode {:o}", node.mode),
                format!("owner {:?}", node.owner),
                format!("mtime {:?}", node.mtime),
                format!("size {}", node.size),
                format!("device {:x}", node.device),
                format!("content {}", node.content),
                format!("hard link of {:?}", node.same_as),
                format!("attributes {:?}", node.xattrs),
            ]
        };
        text(self).into_iter().zip(text(other)).filter(|(a, b)| a != b).map(|(a, b)| format!("{a}, not {b}"))
    }
}

fn hash(path: &Path) -> String {
    use std::io::Read;
    let mut file = fs::File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
            Err(error) => panic!("cannot read {}: {error}", path.display()),
        }
    }
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("b"), "x").unwrap();
            fs::hard_link(dir.path().join("b"), dir.path().join("a")).unwrap();
            fs::create_dir(dir.path().join("d")).unwrap();
            dir
        };
        let (one, two) = (make(), make());
        fs::write(two.path().join("d/more"), "").unwrap();
        fs::remove_file(two.path().join("a")).unwrap();
        let (first, second) = (Tree::of(one.path()), Tree::of(two.path()));
        assert_eq!(first.at("b").same_as, Some("a".into()));
        assert_eq!(first.differences(&first), [""; 0]);
        let lines = first.differences(&second);
        assert!(lines.contains(&"a: only in the first".to_owned()), "{lines:?}");
        assert!(lines.contains(&"d/more: only in the second".to_owned()), "{lines:?}");
        assert!(lines.iter().any(|line| line.starts_with("b: hard link of")), "{lines:?}");
        assert_eq!(first.without(&["d", "a", "b"]).paths(), [""]);
    }
}
