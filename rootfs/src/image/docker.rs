//! Archives of `docker save` as it wrote them before it wrote image layouts, and as skopeo still does: a manifest.json
//! that names a configuration and uncompressed layers by their names in the archive.

use super::document::{self, DockerImage, wrong};
use super::layout::{distance, of};
use super::names::{familiar, is_name, stored, tag};
use super::source::Source;
use super::{Digest, Error, Image, Layer, Platform};

pub(super) fn open(
    source: &Source,
    manifest: &[u8],
    reference: Option<&str>,
    platform: &Platform,
) -> Result<Image, Error> {
    let mut images = document::docker_images(manifest)?;
    images.iter_mut().for_each(|image| image.repo_tags.retain(|name| is_name(name)));
    let (image, name) = choose(source, &images, reference)?;
    let missing = |name: &str| wrong("manifest.json", format!("names {name:?}, which is not in the archive"));
    let config_json = source.document(&image.config)?.ok_or_else(|| missing(&image.config))?;
    let id = Digest::of(&config_json);
    let hex = hex(image);
    if hex.len() == 64 && hex != id.hex() {
        return Err(Error::Content { what: image.config.clone(), why: format!("its content has digest {id}") });
    }
    let config = document::configuration(&image.config, &config_json)?;
    let there = of(&config);
    if distance(platform, &there).is_none() {
        let path = source.path().to_owned();
        return Err(Error::NoPlatform { path, platform: platform.clone(), there: vec![there.to_string()] });
    }
    let diff_ids = config.rootfs().diff_ids();
    if image.layers.len() != diff_ids.len() {
        let why = format!("names {} layers, the configuration {}", image.layers.len(), diff_ids.len());
        return Err(wrong("manifest.json", why));
    }
    let layers = image.layers.iter().zip(diff_ids).map(|(name, diff_id)| {
        let blob = source.find(name)?.ok_or_else(|| missing(name))?;
        Ok(Layer { diff_id: Digest::parse(diff_id)?, size: blob.size, digest: None, blob: Some(blob) })
    });
    let layers = layers.collect::<Result<_, Error>>()?;
    let name = name.and_then(|name| stored(source.path(), &name));
    Ok(Image { name: name.unwrap_or_else(|| id.to_string()), id, config, config_json, layers })
}

/// What the configuration is called: its digest, with or without a directory and an extension.
fn hex(image: &DockerImage) -> &str {
    let file = image.config.rsplit('/').next().unwrap_or_default();
    file.strip_suffix(".json").unwrap_or(file)
}

fn choose<'i>(
    source: &Source,
    images: &'i [DockerImage],
    reference: Option<&str>,
) -> Result<(&'i DockerImage, Option<String>), Error> {
    let path = || source.path().to_owned();
    let names = |images: &[&DockerImage]| -> Vec<String> {
        images
            .iter()
            .flat_map(|i| if i.repo_tags.is_empty() { vec![i.config.clone()] } else { i.repo_tags.clone() })
            .collect()
    };
    let all: Vec<&DockerImage> = images.iter().collect();
    let Some(reference) = reference else {
        return match images {
            [] => Err(Error::NoImage { path: path(), why: "has no image in its manifest.json".to_owned() }),
            [image] => Ok((image, image.repo_tags.first().cloned())),
            _ => Err(Error::Ambiguous { path: path(), names: names(&all) }),
        };
    };
    if let Ok(digest) = Digest::parse(reference) {
        let image = images.iter().find(|image| hex(image) == digest.hex());
        let missing = || Error::NoSuchName { path: path(), name: reference.to_owned(), names: names(&all) };
        return image.map(|image| (image, image.repo_tags.first().cloned())).ok_or_else(missing);
    }
    let with = |matches: &dyn Fn(&str) -> bool| -> Vec<(&'i DockerImage, Option<String>)> {
        let name = |image: &DockerImage| image.repo_tags.iter().find(|name| matches(name)).cloned();
        images.iter().filter_map(|image| name(image).map(|name| (image, Some(name)))).collect()
    };
    let mut found = with(&|name| familiar(name) == familiar(reference));
    if found.is_empty() {
        found = with(&|name| tag(name) == Some(reference));
    }
    match found.len() {
        0 => Err(Error::NoSuchName { path: path(), name: reference.to_owned(), names: names(&all) }),
        1 => Ok(found.remove(0)),
        _ => Err(Error::Ambiguous { path: path(), names: found.into_iter().filter_map(|(_, name)| name).collect() }),
    }
}
