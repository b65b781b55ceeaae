//! OCI images and archives of `docker save`, read where they lie: an image layout as a directory or in a tar archive,
//! and the older archives with a manifest.json. Nothing is unpacked here.
//!
//! All that is read is checked: digests and sizes, and that no document is larger than one can be.

mod digest;
mod docker;
mod document;
mod error;
mod exchange;
mod layout;
mod names;
mod platform;
mod source;
mod stream;
pub(crate) mod tar;

pub use digest::Digest;
pub use error::Error;
pub(crate) use names::familiar;
pub use oci_spec::image::ImageConfiguration;
pub use platform::Platform;
pub(crate) use stream::stream;

use source::{Blob, Source};
use std::path::Path;

/// One image: its configuration, and where its layers are.
pub struct Image {
    name: String,
    id: Digest,
    config: ImageConfiguration,
    config_json: Vec<u8>,
    layers: Vec<Layer>,
}

/// A layer of an image, lowest first in [`Image::layers`].
#[derive(Clone, Debug)]
pub struct Layer {
    /// Digest of the uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of the blob as it lies in the image.
    pub size: u64,
    /// Digest of the blob. Archives of `docker save` have none: their layers are known by the diff id alone.
    digest: Option<Digest>,
    /// Not there where the image leaves it to be fetched from elsewhere.
    blob: Option<Blob>,
}

impl Image {
    /// Finds an image in a layout or an archive. The reference is one of its names or only the tag, or its digest, which
    /// no name stands for; without one the image has to be the only one. Of images for several platforms it is the one that fits best.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub fn open(path: &Path, reference: Option<&str>, platform: &Platform) -> Result<Image, Error> {
        Image::find(path, reference, platform).map_err(|error| error.about(path))
    }

    fn find(path: &Path, reference: Option<&str>, platform: &Platform) -> Result<Image, Error> {
        let source = Source::open(path)?;
        // Docker writes both: its layouts have a manifest.json for older readers.
        if source.is_archive()
            && source.find("oci-layout")?.is_none()
            && let Some(manifest) = source.document("manifest.json")?
        {
            return docker::open(&source, &manifest, reference, platform);
        }
        layout::open(source, reference, platform)
    }

    /// What it is called in the store: the name that the image has, its file's with a tag if that alone is its name, else
    /// its digest. What is called like a digest, is longer than 255 bytes or has other characters than names have has no
    /// name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Digest of its manifest, or of its configuration where the archive has no manifest.
    pub fn id(&self) -> &Digest {
        &self.id
    }

    /// The configuration.
    pub fn config(&self) -> &ImageConfiguration {
        &self.config
    }

    /// The configuration as it lies in the image.
    pub fn config_json(&self) -> &[u8] {
        &self.config_json
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }
}
