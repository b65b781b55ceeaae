//! What the host looks like: sysctls, mounts, the runtime's own file, and a directory with all that is in it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// The host at a moment.
pub(crate) struct Snapshot {
    things: BTreeMap<String, String>,
}

impl Snapshot {
    /// Takes one. `program` is the runtime's file.
    pub(crate) fn take(program: &Path) -> Self {
        let mut things = BTreeMap::new();
        sysctls(Path::new("/proc/sys/kernel"), &mut things);
        sysctls(Path::new("/proc/sys/vm"), &mut things);
        sysctls(Path::new("/proc/sys/net/ipv4/conf/all"), &mut things);
        things.insert("mounts".to_owned(), fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
        let content = fs::read(program).unwrap_or_default();
        let sum = content
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        things.insert("the runtime's file".to_owned(), format!("{} bytes, {sum:x}", content.len()));
        Self { things }
    }

    /// What is different in a later one, and in the directory.
    pub(crate) fn differences(&self, later: &Self, before: &Tree, after: &Tree) -> Vec<String> {
        let mut list: Vec<String> = self
            .things
            .iter()
            .filter(|(name, value)| later.things.get(*name) != Some(value) && !is_volatile(name))
            .map(|(name, value)| match later.things.get(name) {
                Some(now) if value.len() < 100 => format!("{name}: {:?} was {:?}", now.trim(), value.trim()),
                _ => name.clone(),
            })
            .collect();
        list.extend(after.difference(before).map(|entry| format!("canary has {entry}")));
        list.extend(before.difference(after).map(|entry| format!("canary had {entry}")));
        list
    }
}

/// Changed by nobody, or by others.
fn is_volatile(name: &str) -> bool {
    ["/random/", "ns_last_pid", "pty/nr", "/stat", "cap_last", "_count", "perf_event_max_sample_rate", "nr_", "tainted"]
        .iter()
        .any(|part| name.contains(part))
}

fn sysctls(dir: &Path, things: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            sysctls(&path, things);
        } else if let Ok(text) = fs::read_to_string(&path) {
            things.insert(path.display().to_string(), text);
        }
    }
}

/// All that is below a directory, with owners, modes, times and contents.
pub(crate) type Tree = std::collections::BTreeSet<String>;

/// Reads one; waits a moment for what ends just now.
pub(crate) fn tree(dir: &Path) -> Tree {
    std::thread::sleep(Duration::from_millis(2));
    let mut tree = Tree::new();
    add(dir, &mut tree);
    tree
}

fn add(path: &Path, tree: &mut Tree) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    let content = if meta.is_file() { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let (mode, uid, gid, inode, time) = (meta.mode(), meta.uid(), meta.gid(), meta.ino(), meta.mtime_nsec());
    tree.insert(format!("{} {mode:o} {uid}:{gid} {inode} {}.{time} {content:?}", path.display(), meta.mtime()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
            add(&entry.path(), tree);
        }
    }
}
