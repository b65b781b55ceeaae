//! The JSON documents of an image, and what in them has to be right.

use super::{Error, ImageConfiguration};
use oci_spec::image::{ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What OCI's media types are called in Docker's images.
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Types of layers that are tar archives, packed or not. How one is packed is seen by its first bytes: images whose
/// type says otherwise are about, and what is unpacked is verified in any case.
const LAYERS: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// What a descriptor of an index leads to, by its media type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Index,
    Manifest,
    Other,
}

pub(super) fn role(media_type: &str) -> Role {
    match media_type {
        OCI_INDEX | DOCKER_LIST => Role::Index,
        OCI_MANIFEST | DOCKER_MANIFEST => Role::Manifest,
        _ => Role::Other,
    }
}

pub(super) fn is_layer(media_type: &str) -> bool {
    LAYERS.contains(&media_type)
}

/// One image in the manifest.json of an archive of `docker save`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Vec<String>,
    #[serde(default)]
    pub(super) layers: Vec<String>,
}

pub(super) fn docker_images(text: &[u8]) -> Result<Vec<DockerImage>, Error> {
    from_value("manifest.json", value("manifest.json", text)?)
}

pub(super) fn index(what: &str, text: &[u8]) -> Result<ImageIndex, Error> {
    let value = value(what, text)?;
    check_kind(what, &value, "manifests", &["config", "layers"])?;
    from_value(what, value)
}

pub(super) fn manifest(what: &str, text: &[u8]) -> Result<ImageManifest, Error> {
    let value = value(what, text)?;
    check_kind(what, &value, "layers", &["manifests"])?;
    from_value(what, value)
}

pub(super) fn configuration(what: &str, text: &[u8]) -> Result<ImageConfiguration, Error> {
    let configuration: ImageConfiguration = from_value(what, value(what, text)?)?;
    if configuration.rootfs().typ() != "layers" {
        return Err(wrong(what, format!("rootfs.type is {:?}, not layers", configuration.rootfs().typ())));
    }
    Ok(configuration)
}

pub(super) fn check_layout(text: &[u8]) -> Result<(), Error> {
    let value = value("oci-layout", text)?;
    match value.get("imageLayoutVersion").and_then(Value::as_str) {
        Some(version) if version.starts_with("1.") => Ok(()),
        Some(version) => Err(wrong("oci-layout", format!("version {version:?} is not known"))),
        None => Err(wrong("oci-layout", "has no imageLayoutVersion".to_owned())),
    }
}

/// A document that could be read as two kinds is neither: its digest would vouch for whichever the reader likes.
fn check_kind(what: &str, value: &Value, needs: &str, must_not: &[&str]) -> Result<(), Error> {
    match value.get("schemaVersion").and_then(Value::as_u64) {
        Some(2) => {}
        Some(1) => return Err(wrong(what, "schema version 1 is not supported".to_owned())),
        _ => return Err(wrong(what, "has no schemaVersion 2".to_owned())),
    }
    if value.get(needs).is_none() {
        return Err(wrong(what, format!("has no {needs}")));
    }
    match must_not.iter().find(|key| value.get(**key).is_some()) {
        Some(key) => Err(wrong(what, format!("has both {needs} and {key}"))),
        None => Ok(()),
    }
}

/// The document with all that is null left out, which means the same.
fn value(what: &str, text: &[u8]) -> Result<Value, Error> {
    let mut value: Value = serde_json::from_slice(text).map_err(|error| wrong(what, error.to_string()))?;
    drop_nulls(&mut value);
    Ok(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(array) => array.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn from_value<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| wrong(what, error.to_string()))
}

pub(super) fn wrong(what: &str, why: String) -> Error {
    Error::Document { what: what.to_owned(), why }
}
