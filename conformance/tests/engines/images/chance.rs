//! Layers by chance, as tools make them: each path once in a layer, each directory said that something is changed in.
//!
//! Not here: what is wrong in a layer.

use std::collections::{BTreeMap, BTreeSet};

use conformance::random::Random;
use conformance::tarball::Entry;

/// The paths that there are, true for directories.
type Model = BTreeMap<String, bool>;

/// Up to six layers of up to twelve changes.
pub(super) fn layers(random: &mut Random) -> Vec<Vec<Entry>> {
    let mut model = Model::new();
    (0..2 + random.below(5)).map(|_| layer(random, &mut model)).collect()
}

fn layer(random: &mut Random, model: &mut Model) -> Vec<Entry> {
    let (mut entries, mut touched) = (Vec::new(), BTreeSet::new());
    for _ in 0..1 + random.below(12) {
        if let Some((path, entry)) = change(random, model, &touched) {
            // What has been said in this layer of what lies below stays true.
            touched.insert(path.clone());
            entries.push((path, entry));
        }
    }
    // A directory that is said last has the time that is said.
    let parents: BTreeSet<String> = touched.iter().filter_map(|path| parent(path)).collect();
    let mut entries: Vec<Entry> = entries.into_iter().map(|(_, entry)| entry).collect();
    for path in parents.iter().filter(|path| model.get(*path) == Some(&true)) {
        entries.push(dir(random, path));
    }
    entries.push(Entry::dir(".").time(time(random), 0));
    entries
}

fn change(random: &mut Random, model: &mut Model, touched: &BTreeSet<String>) -> Option<(String, Entry)> {
    let dirs: Vec<String> =
        model.iter().filter(|(_, is_dir)| **is_dir).map(|(path, _)| path.clone()).chain([String::new()]).collect();
    let dir_path = random.pick(&dirs).clone();
    let name = *random.pick(&["a", "b", "c", "d"]);
    let path = if dir_path.is_empty() { name.to_owned() } else { format!("{dir_path}/{name}") };
    let below = format!("{path}/");
    if touched.contains(&path) || touched.iter().any(|other| other.starts_with(&below)) || path.len() > 8 {
        return None;
    }
    let kind = random.below(9);
    if kind == 0 && !model.contains_key(&path) {
        return None;
    }
    if !matches!(kind, 1 | 2) || model.get(&path) == Some(&false) {
        model.retain(|other, _| *other != path && !other.starts_with(&below));
    }
    let files: Vec<String> = model.iter().filter(|(_, is_dir)| !**is_dir).map(|(path, _)| path.clone()).collect();
    let entry = match kind {
        0 => Entry::whiteout(&dir_path, name),
        1 | 2 => dir(random, &path),
        3 => Entry::symlink(&path, random.pick(&["a", "/b", "../c"])).time(time(random), 0),
        4 => Entry::fifo(&path).time(time(random), 0),
        5 if !files.is_empty() => {
            let target = random.pick(&files).clone();
            Entry::hard_link(&path, target)
        }
        _ => {
            let content = random.word("abc", 2000);
            Entry::file(&path, content)
                .mode(0o600 + random.below(64) as u32)
                .owner(random.below(9) as u64, 0)
                .time(time(random), random.below(1_000_000_000) as u32)
        }
    };
    if kind != 0 {
        model.insert(path.clone(), matches!(kind, 1 | 2));
    }
    Some((path, entry))
}

fn dir(random: &mut Random, path: &str) -> Entry {
    Entry::dir(path).mode(0o700 + random.below(64) as u32).time(time(random), 0)
}

fn time(random: &mut Random) -> i64 {
    random.below(2_000_000_000) as i64
}

fn parent(path: &str) -> Option<String> {
    path.rsplit_once('/').map(|(dir, _)| dir.to_owned())
}
