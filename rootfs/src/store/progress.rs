//! How far the store has got, for who shows it.

use crate::image::{Digest, Layer};

/// Told while the store works, by several threads at once. Each method does nothing unless it is written.
pub trait Progress: Sync {
    /// The layers that are going to be unpacked, those that are there already left out. Told again with all of them when
    /// one turns out to be needed once more, over the layers below it.
    fn layers(&self, layers: &[&Layer]) {
        let _ = layers;
    }

    /// So many more bytes of a layer's blob have been read.
    fn advanced(&self, layer: &Digest, bytes: u64) {
        let _ = (layer, bytes);
    }

    /// A layer is unpacked.
    fn done(&self, layer: &Digest) {
        let _ = layer;
    }

    /// All layers are unpacked, and are being written to disk.
    fn syncing(&self) {}

    /// Something was removed: `image NAME`, `layer HEX`, `chain HEX`, `bundle PATH`. Bytes are what this has freed.
    fn removed(&self, what: &str, bytes: u64) {
        let _ = (what, bytes);
    }

    /// Something in the image could not be kept, and it goes on.
    fn warning(&self, text: &str) {
        let _ = text;
    }
}

/// Shows nothing.
pub struct Silent;

impl Progress for Silent {}
