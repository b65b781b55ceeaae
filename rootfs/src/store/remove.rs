//! What is no longer used is taken out of its place at once, while nobody adds anything, and removed afterwards.

use super::dirs::{self, CHAINS, LAYERS, Scratch};
use super::error::{At, Result};
use super::records::{BundleEntry, ImageRecord, LayerRecord};
use super::{Progress, Removed, Store};
use crate::image::familiar;
use std::collections::HashSet;

/// Takes a name from an image; forgets it with its last, and removes what it alone has used.
pub(super) fn image(store: &Store, name: &str, progress: &dyn Progress) -> Result<Removed> {
    // Before anything is locked, since a store that is not there has no lock.
    store.record(name)?;
    let lock = dirs::exclusive(&store.dir)?;
    let mut record = store.record(name)?;
    let mut removed = Removed::default();
    if let Some(at) = record.names.iter().position(|its| familiar(its) == familiar(name))
        && record.names.len() > 1
    {
        let name = record.names.remove(at);
        record.write(&store.dir)?;
        progress.removed(&format!("name {name}"), 0);
        return Ok(removed);
    }
    let (_, live) = bundles(store)?;
    let others: Vec<ImageRecord> =
        ImageRecord::all(&store.dir)?.into_iter().filter(|other| other.id != record.id).collect();
    let used = used(&others, &live);
    forget(store, &record, &mut removed, progress)?;
    let unused: Vec<String> = record.directories().filter(|dir| !used.contains(*dir)).cloned().collect();
    let scratch = take_out(store, &unused, &mut removed)?;
    drop(lock);
    finish(scratch, &mut removed, progress);
    Ok(removed)
}

/// Removes all that nobody uses.
pub(super) fn prune(store: &Store, all: bool, progress: &dyn Progress) -> Result<Removed> {
    let mut removed = Removed::default();
    if !store.dir.is_dir() {
        return Ok(removed);
    }
    dirs::prepare(&store.dir)?;
    let lock = dirs::exclusive(&store.dir)?;
    let (gone, live) = bundles(store)?;
    for bundle in gone {
        if BundleEntry::remove(&store.dir, &bundle.path)? {
            progress.removed(&format!("bundle {}", bundle.path.display()), 0);
            removed.bundles.push(bundle.path);
        }
    }
    let in_use: HashSet<_> = live.iter().map(|bundle| &bundle.image).collect();
    let mut images = Vec::new();
    for image in ImageRecord::all(&store.dir)? {
        if in_use.contains(&image.id) || (!all && !image.names.is_empty()) {
            images.push(image);
        } else {
            forget(store, &image, &mut removed, progress)?;
        }
    }
    let used = used(&images, &live);
    let mut unused = Vec::new();
    for kind in [LAYERS, CHAINS] {
        let names = dirs::list(&store.dir.join(kind))?;
        unused.extend(names.iter().map(|name| format!("{kind}/{name}")).filter(|dir| !used.contains(dir)));
    }
    let scratch = take_out(store, &unused, &mut removed)?;
    drop(lock);
    finish(scratch, &mut removed, progress);
    dirs::sweep(&store.dir, progress)?;
    Ok(removed)
}

/// Bundles that are gone, and those that are not.
fn bundles(store: &Store) -> Result<(Vec<BundleEntry>, Vec<BundleEntry>)> {
    Ok(BundleEntry::all(&store.dir)?.into_iter().partition(BundleEntry::is_gone))
}

fn used(images: &[ImageRecord], bundles: &[BundleEntry]) -> HashSet<String> {
    let of_images = images.iter().flat_map(ImageRecord::directories).cloned();
    of_images.chain(bundles.iter().flat_map(BundleEntry::directories)).collect()
}

/// An image without its record is as if it had never been there, so that goes first.
fn forget(store: &Store, image: &ImageRecord, removed: &mut Removed, progress: &dyn Progress) -> Result<()> {
    image.remove(&store.dir)?;
    let names = if image.names.is_empty() { image.id.to_string() } else { image.names.join(", ") };
    progress.removed(&format!("image {names}"), 0);
    removed.images.push(names);
    Ok(())
}

/// A layer on its way out, with its size.
type Out = (Scratch, Vec<(String, u64)>);

fn take_out(store: &Store, unused: &[String], removed: &mut Removed) -> Result<Option<Out>> {
    if unused.is_empty() {
        return Ok(None);
    }
    let scratch = Scratch::new(&store.dir)?;
    let mut taken: Vec<(String, u64)> = Vec::new();
    for dir in unused {
        let path = store.dir.join(dir);
        // One that cannot be read is removed all the same.
        let size = LayerRecord::of(&path).ok().flatten().map_or(0, |layer| layer.size);
        match std::fs::rename(&path, scratch.path.join(taken.len().to_string())) {
            // The root's layer may be on the list twice.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            renamed => renamed.at("move away", &path)?,
        }
        taken.push((dir.clone(), size));
        removed.layers.push(dir.clone());
        removed.bytes += size;
    }
    Ok(Some((scratch, taken)))
}

fn finish(out: Option<Out>, removed: &mut Removed, progress: &dyn Progress) {
    let Some((scratch, taken)) = out else { return };
    for (at, (dir, size)) in taken.iter().enumerate() {
        if let Err(error) = dirs::remove_path(&scratch.path.join(at.to_string())) {
            // Nobody will use it, and the next command tries again.
            progress.warning(&error.to_string());
            removed.bytes -= size;
            continue;
        }
        let (kind, hex) = dir.split_once('/').unwrap_or_default();
        progress.removed(&format!("{} {hex}", kind.trim_end_matches('s')), *size);
    }
}
