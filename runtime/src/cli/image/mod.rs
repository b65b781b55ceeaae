//! `proa image import`, `ls`, `rm` and `prune`.

mod progress;

use super::bundle::{limits, store};
use super::{App, print};
use crate::bundle::{platform, source, unpack, with_owners};
use crate::error::{Error, Result, bad};
pub(super) use progress::Shown;
use rootfs::store::{ImageEntry, Removed};
use serde_json::json;

pub(super) fn import(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let word = app.arg(0);
        let (path, reference) =
            source(word).ok_or_else(|| Error::Usage(format!("{word}: no such file or directory")))?;
        let (store, shown) = (store(app)?, Shown::new(app.flag("quiet")));
        let stored = unpack(&store, path, reference, &platform(app.value("platform"))?, &limits(app)?, &shown)?;
        print(&format!("{}\n", stored.id))?;
        Ok(0)
    })
}

pub(super) fn ls(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let images = store(app)?.images().map_err(said)?;
        if app.flag("quiet") {
            print(&images.iter().map(|image| format!("{}\n", image.id)).collect::<String>())?;
            return Ok(0);
        }
        match app.value("format") {
            None | Some("table") => print(&table(&images))?,
            Some("json") => print(&super::json_line(&images.iter().map(as_json).collect::<Vec<_>>())?)?,
            Some(other) => return Err(bad("--format", format_args!("{other:?} is neither table nor json"))),
        }
        Ok(0)
    })
}

pub(super) fn rm(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let (store, shown) = (store(app)?, Shown::new(app.flag("quiet")));
        for name in &app.parsed.args {
            let removed = store.remove_image(name, &shown).map_err(said)?;
            if app.flag("quiet") {
                continue;
            }
            print(&freed(&removed))?;
        }
        Ok(0)
    })
}

pub(super) fn prune(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let shown = Shown::new(app.flag("quiet"));
        let removed = store(app)?.prune(app.flag("all"), &shown).map_err(said)?;
        if !app.flag("quiet") {
            print(&freed(&removed))?;
        }
        Ok(0)
    })
}

/// The store's and the images' own sentences.
fn said(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

fn freed(removed: &Removed) -> String {
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let (images, layers) = (count(removed.images.len(), "image"), count(removed.layers.len(), "layer"));
    format!("removed {images} and {layers}, {}\n", size(removed.bytes))
}

fn as_json(image: &ImageEntry) -> serde_json::Value {
    json!({
        "id": image.id,
        "names": image.names,
        "created": crate::time::at(image.stored),
        "size": image.size,
        "shared": image.shared,
        "reclaimable": image.reclaimable,
        "bundles": image.bundles,
    })
}

fn table(images: &[ImageEntry]) -> String {
    let header = ["NAME", "ID", "SIZE", "SHARED", "RECLAIMABLE", "BUNDLES"].map(str::to_owned);
    let mut rows = vec![header];
    for image in images {
        let nameless = ["<none>".to_owned()];
        for name in if image.names.is_empty() { &nameless[..] } else { &image.names[..] } {
            rows.push([
                name.clone(),
                image.id.hex().chars().take(12).collect(),
                size(image.size),
                size(image.shared),
                size(image.reclaimable),
                image.bundles.to_string(),
            ]);
        }
    }
    super::list::columns(rows)
}

/// In powers of 1024, with one digit behind the point.
pub(super) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut unit = "B";
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, larger);
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_600_000, "1.5 MiB"), (64 << 30, "64.0 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert!(size(u64::MAX).ends_with("TiB"));
    }
}
