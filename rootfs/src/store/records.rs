//! What the store knows of images and bundles, and what it says about itself.

use crate::image::Digest;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A bundle that uses layers of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BundleEntry {
    /// Its absolute path.
    pub path: PathBuf,
    /// The id of its image.
    pub image: Digest,
    /// The trees it mounts, as [`Stored::layers`](super::Stored) has them.
    pub layers: Vec<PathBuf>,
    /// Names of its volumes.
    pub volumes: Vec<String>,
}

/// An image in the store.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// Its id.
    pub id: Digest,
    /// Its names; none if another image has taken over its last one.
    pub names: Vec<String>,
    /// When it was stored, in seconds since 1970.
    pub stored: u64,
    /// Bytes on disk of its layers.
    pub size: u64,
    /// Those of layers that other images have too.
    pub shared: u64,
    /// Those that removing it would free: of layers that no other image and no bundle uses.
    pub reclaimable: u64,
    /// How many bundles use it.
    pub bundles: usize,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names or ids of images.
    pub images: Vec<String>,
    /// Layers and chains, `layers/HEX` or `chains/HEX`.
    pub layers: Vec<String>,
    /// Paths of bundles that were gone.
    pub bundles: Vec<PathBuf>,
    /// Bytes on disk that this has freed.
    pub bytes: u64,
}

/// What the store takes on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that the images would take if none shared a layer with another.
    pub apparent: u64,
    /// Bytes on disk of all layers.
    pub layers: u64,
    /// Of these, bytes of layers that several images have.
    pub shared: u64,
    /// Of these, bytes that [`Store::prune`](super::Store::prune) with `all` would free.
    pub reclaimable: u64,
}
