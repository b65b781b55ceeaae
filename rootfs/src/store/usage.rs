//! What the store takes on disk, and whose it is.

use super::Store;
use super::dirs::{self, CHAINS, LAYERS};
use super::error::Result;
use super::records::{BundleEntry, ImageEntry, ImageRecord, LayerRecord};
use std::collections::{HashMap, HashSet};

/// Bytes in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the images would take if none shared a layer with another.
    pub apparent: u64,
    /// Bytes on disk of all layers.
    pub layers: u64,
    /// Of these, bytes of layers that several images have.
    pub shared: u64,
    /// Of these, bytes that [`Store::prune`] with `all` would free.
    pub reclaimable: u64,
}

struct Facts {
    images: Vec<ImageRecord>,
    bundles: Vec<BundleEntry>,
    /// Bytes of each layer.
    sizes: HashMap<String, u64>,
    /// How many images have a layer.
    images_of: HashMap<String, usize>,
    in_bundles: HashSet<String>,
}

impl Facts {
    fn new(store: &Store) -> Result<Facts> {
        let images = ImageRecord::all(&store.dir)?;
        let bundles: Vec<BundleEntry> = BundleEntry::all(&store.dir)?.into_iter().filter(|it| !it.is_gone()).collect();
        let mut sizes = HashMap::new();
        for kind in [LAYERS, CHAINS] {
            for name in dirs::list(&store.dir.join(kind))? {
                let dir = format!("{kind}/{name}");
                let size = LayerRecord::of(&store.dir.join(&dir))?.map_or(0, |layer| layer.size);
                sizes.insert(dir, size);
            }
        }
        let mut images_of: HashMap<String, usize> = HashMap::new();
        for image in &images {
            for dir in image.directories().collect::<HashSet<_>>() {
                *images_of.entry(dir.clone()).or_default() += 1;
            }
        }
        let in_bundles = bundles.iter().flat_map(BundleEntry::directories).collect();
        Ok(Facts { images, bundles, sizes, images_of, in_bundles })
    }

    /// Bytes of those layers of an image for which this holds.
    fn sum(&self, image: &ImageRecord, which: impl Fn(&str, usize) -> bool) -> u64 {
        let dirs: HashSet<&String> = image.directories().collect();
        let counted = dirs.into_iter().filter(|dir| which(dir, self.images_of.get(*dir).copied().unwrap_or_default()));
        counted.map(|dir| self.sizes.get(dir).copied().unwrap_or_default()).sum()
    }
}

pub(super) fn images(store: &Store) -> Result<Vec<ImageEntry>> {
    let facts = Facts::new(store)?;
    let mut images: Vec<ImageEntry> = facts
        .images
        .iter()
        .map(|image| ImageEntry {
            id: image.id.clone(),
            names: image.names.clone(),
            stored: image.stored,
            size: facts.sum(image, |_, _| true),
            shared: facts.sum(image, |_, images| images > 1),
            reclaimable: facts.sum(image, |dir, images| images == 1 && !facts.in_bundles.contains(dir)),
            bundles: facts.bundles.iter().filter(|bundle| bundle.image == image.id).count(),
        })
        .collect();
    images.sort_by(|a, b| (&a.names, &a.id).cmp(&(&b.names, &b.id)));
    Ok(images)
}

pub(super) fn usage(store: &Store) -> Result<Usage> {
    let facts = Facts::new(store)?;
    let used_images: HashSet<_> = facts.bundles.iter().map(|bundle| &bundle.image).collect();
    let kept: HashSet<&String> = facts
        .images
        .iter()
        .filter(|image| used_images.contains(&image.id))
        .flat_map(ImageRecord::directories)
        .collect();
    let sum =
        |which: &dyn Fn(&String) -> bool| facts.sizes.iter().filter(|(dir, _)| which(dir)).map(|(_, size)| size).sum();
    Ok(Usage {
        apparent: facts.images.iter().map(|image| facts.sum(image, |_, _| true)).sum(),
        layers: sum(&|_| true),
        shared: sum(&|dir| facts.images_of.get(dir).is_some_and(|images| *images > 1)),
        reclaimable: sum(&|dir| !kept.contains(dir) && !facts.in_bundles.contains(dir)),
    })
}
