//! Image layouts: from index.json to the one manifest that is meant.

use super::document::{self, Role, role, wrong};
use super::names::{familiar, is_digest, is_name, stored, tag};
use super::source::Source;
use super::{Digest, Error, Image, Layer, Platform};
use oci_spec::image::{Descriptor, ImageManifest};
use std::collections::BTreeSet;

const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, where the one above is only the tag: Docker writes both.
const FULL_NAME: &str = "io.containerd.image.name";
/// Indexes within indexes.
const MAX_DEPTH: usize = 8;
/// Documents that may be read to find the one.
const MAX_DOCUMENTS: usize = 1000;

pub(super) fn open(source: Source, reference: Option<&str>, platform: &Platform) -> Result<Image, Error> {
    match source.document("oci-layout")? {
        Some(text) => document::check_layout(&text)?,
        None => {
            let why = "has no file oci-layout: it is no OCI image layout".to_owned();
            return Err(Error::NoImage { path: source.path().to_owned(), why });
        }
    }
    let text = source.document("index.json")?.ok_or_else(|| wrong("index.json", "is missing".to_owned()))?;
    let index = document::index("index.json", &text)?;
    let images: Vec<&Descriptor> = index.manifests().iter().filter(|d| role_of(d) != Role::Other).collect();
    if images.is_empty() {
        return Err(Error::NoImage {
            path: source.path().to_owned(),
            why: "has no image in its index.json".to_owned(),
        });
    }
    let chosen = choose(&source, &images, reference)?;
    let mut search =
        Search { source: &source, platform, top: String::new(), best: None, there: BTreeSet::new(), documents: 0 };
    for descriptor in &chosen {
        search.image(descriptor)?;
    }
    let there = search.there.into_iter().collect();
    let Some(found) = search.best else {
        return Err(Error::NoPlatform { path: source.path().to_owned(), platform: platform.clone(), there });
    };
    if found.rivals.len() > 1 {
        return Err(Error::Ambiguous { path: source.path().to_owned(), names: found.rivals });
    }
    let called = || chosen.iter().flat_map(|descriptor| names(descriptor));
    // One with a repository, if there is any.
    let name = called().find(|name| name.contains([':', '/'])).or_else(|| called().next());
    let name = name.and_then(|name| stored(source.path(), &name));
    image(&source, found, name)
}

/// The descriptors of index.json that are meant. Several are one image for several platforms.
fn choose<'d>(
    source: &Source,
    images: &[&'d Descriptor],
    reference: Option<&str>,
) -> Result<Vec<&'d Descriptor>, Error> {
    let all = || images.iter().map(|image| label(image)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let Some(reference) = reference else {
        let same = images.iter().all(|image| names(image) == names(images[0]) || image.digest() == images[0].digest());
        if same {
            return Ok(images.to_vec());
        }
        return Err(Error::Ambiguous { path: source.path().to_owned(), names: all() });
    };
    let with = |matches: &dyn Fn(&str) -> bool| -> Vec<&Descriptor> {
        images.iter().copied().filter(|image| names(image).iter().any(|name| matches(name))).collect()
    };
    let mut found = match is_digest(reference) {
        // Of whatever name: it is what is pinned.
        true => images.iter().copied().filter(|image| image.digest().as_ref() == reference).collect(),
        false => with(&|name| familiar(name) == familiar(reference)),
    };
    if found.is_empty() {
        found = with(&|name| tag(name) == Some(reference));
        if found.iter().any(|image| names(image) != names(found[0])) {
            let names = found.iter().map(|image| label(image)).collect();
            return Err(Error::Ambiguous { path: source.path().to_owned(), names });
        }
    }
    if found.is_empty() {
        return Err(Error::NoSuchName { path: source.path().to_owned(), name: reference.to_owned(), names: all() });
    }
    Ok(found)
}

/// Names of an image, the fullest first, as far as it may be called so.
fn names(descriptor: &Descriptor) -> Vec<String> {
    let Some(annotations) = descriptor.annotations() else { return Vec::new() };
    let name = |key| annotations.get(key).filter(|name| is_name(name)).cloned();
    [name(FULL_NAME), name(REF_NAME)].into_iter().flatten().collect()
}

fn label(descriptor: &Descriptor) -> String {
    names(descriptor).into_iter().next().unwrap_or_else(|| descriptor.digest().to_string())
}

fn role_of(descriptor: &Descriptor) -> Role {
    role(descriptor.media_type().as_ref())
}

/// A manifest that fits the platform.
struct Found {
    digest: Digest,
    manifest: ImageManifest,
    platform: Platform,
    /// Smaller fits better.
    distance: u8,
    /// The digest in index.json that led to it, and those that led to others which fit as well.
    rivals: Vec<String>,
}

struct Search<'s> {
    source: &'s Source,
    platform: &'s Platform,
    /// The digest in index.json that is being followed.
    top: String,
    best: Option<Found>,
    there: BTreeSet<String>,
    documents: usize,
}

impl Search<'_> {
    fn image(&mut self, descriptor: &Descriptor) -> Result<(), Error> {
        self.top = descriptor.digest().to_string();
        self.descriptor(descriptor, 0)
    }

    fn descriptor(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), Error> {
        let role = role_of(descriptor);
        if role == Role::Other {
            return Ok(());
        }
        let said = descriptor.platform().as_ref().map(|platform| Platform {
            os: platform.os().to_string(),
            architecture: platform.architecture().to_string(),
            variant: platform.variant().clone(),
        });
        if let Some(said) = &said
            && distance(self.platform, said).is_none()
        {
            // What Docker keeps about an image beside it is for no machine.
            if said.os != "unknown" {
                self.there.insert(said.to_string());
            }
            return Ok(());
        }
        self.documents += 1;
        if depth > MAX_DEPTH || self.documents > MAX_DOCUMENTS {
            return Err(wrong("index.json", "leads through too many indexes".to_owned()));
        }
        let digest = Digest::parse(descriptor.digest().as_ref())?;
        let what = if role == Role::Index { "index" } else { "manifest" };
        let text = self.source.verified(what, &digest, descriptor.size())?;
        let what = format!("{what} {digest}");
        if role == Role::Index {
            for inner in document::index(&what, &text)?.manifests() {
                self.descriptor(inner, depth + 1)?;
            }
            return Ok(());
        }
        let manifest = document::manifest(&what, &text)?;
        let platform = match said {
            Some(said) => said,
            None => self.of_configuration(&manifest)?,
        };
        let Some(distance) = distance(self.platform, &platform) else {
            self.there.insert(platform.to_string());
            return Ok(());
        };
        match &mut self.best {
            Some(best) if best.distance < distance => {}
            // The order in an index is its maker's choice, and there may be more to tell platforms apart by than is read.
            Some(best) if best.distance == distance => {
                if best.digest != digest && best.platform == platform && !best.rivals.contains(&self.top) {
                    best.rivals.push(self.top.clone());
                }
            }
            _ => self.best = Some(Found { digest, manifest, platform, distance, rivals: vec![self.top.clone()] }),
        }
        Ok(())
    }

    /// What the image itself says.
    fn of_configuration(&self, manifest: &ImageManifest) -> Result<Platform, Error> {
        let (_, _, configuration) = read_configuration(self.source, manifest)?;
        Ok(of(&configuration))
    }
}

/// The platform that a configuration says.
pub(super) fn of(configuration: &super::ImageConfiguration) -> Platform {
    Platform {
        os: configuration.os().to_string(),
        architecture: configuration.architecture().to_string(),
        variant: configuration.variant().clone(),
    }
}

/// How far what is there is from what is wanted; `None` if it does not fit.
pub(super) fn distance(wanted: &Platform, there: &Platform) -> Option<u8> {
    // Some images do not say.
    let fits = |wanted: &str, there: &str| there.is_empty() || wanted == there;
    if !fits(&wanted.os, &there.os) || !fits(&wanted.architecture, &there.architecture) {
        return None;
    }
    match (&wanted.variant, &there.variant) {
        (wanted, there) if wanted == there => Some(0),
        (_, None) => Some(1),
        (None, Some(there)) if there == "v1" || wanted.architecture == "arm64" && there == "v8" => Some(0),
        // An older arm's programs run on a newer one.
        (Some(newer), Some(older)) if wanted.architecture == "arm" => {
            let number = |variant: &str| variant.strip_prefix('v').and_then(|number| number.parse::<u8>().ok());
            number(newer)?.checked_sub(number(older)?)
        }
        (Some(_), Some(_)) => None,
        (None, Some(_)) => Some(2),
    }
}

fn read_configuration(
    source: &Source,
    manifest: &ImageManifest,
) -> Result<(Digest, Vec<u8>, super::ImageConfiguration), Error> {
    let digest = Digest::parse(manifest.config().digest().as_ref())?;
    let text = source.verified("configuration", &digest, manifest.config().size())?;
    let configuration = document::configuration(&format!("configuration {digest}"), &text)?;
    Ok((digest, text, configuration))
}

fn image(source: &Source, found: Found, name: Option<String>) -> Result<Image, Error> {
    let (_, config_json, config) = read_configuration(source, &found.manifest)?;
    let what = format!("manifest {}", found.digest);
    let (layers, diff_ids) = (found.manifest.layers(), config.rootfs().diff_ids());
    if layers.len() != diff_ids.len() {
        let why = format!("has {} layers, its configuration {}", layers.len(), diff_ids.len());
        return Err(wrong(&what, why));
    }
    let layers = layers.iter().zip(diff_ids).map(|(descriptor, diff_id)| {
        let media_type = descriptor.media_type().as_ref();
        if !document::is_layer(media_type) {
            return Err(wrong(&what, format!("layers of type {media_type:?} are not supported")));
        }
        let digest = Digest::parse(descriptor.digest().as_ref())?;
        let blob = source.blob(&digest)?;
        if let Some(blob) = &blob
            && blob.size != descriptor.size()
        {
            let why = format!("has {} bytes in place of {}", blob.size, descriptor.size());
            return Err(Error::Content { what: format!("layer {digest}"), why });
        }
        Ok(Layer { diff_id: Digest::parse(diff_id)?, size: descriptor.size(), digest: Some(digest), blob })
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    let name = name.unwrap_or_else(|| found.digest.to_string());
    Ok(Image { name, id: found.digest, config, config_json, layers })
}
