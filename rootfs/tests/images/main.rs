//! Images of every form, good and hostile, through the store and an overlay of what it keeps. Root, on a file system
//! that overlay can be laid over.

mod hostile;
mod layers;
mod layouts;
mod look;
mod make;
mod names;
mod store;

use make::{Scratch, Tar, image};
use rootfs::image::{Image, Platform};
use rootfs::store::{Error, Limits, Progress, Silent, Store, Stored, Xattrs};
use std::path::Path;

fn import(store: &Path, image: &Path) -> Result<Stored, Error> {
    import_with(store, image, &Limits::default(), &Silent)
}

fn import_with(store: &Path, image: &Path, limits: &Limits, progress: &dyn Progress) -> Result<Stored, Error> {
    let image = Image::open(image, None, &Platform::host())?;
    Store::open(store)?.import(&image, limits, Xattrs::Trusted, progress)
}

/// The tree that an image of these layers makes.
fn unpacked(layers: &[&Tar]) -> look::Tree {
    let scratch = Scratch::new();
    image(&scratch.join("image"), layers);
    let stored = import(&scratch.join("store"), &scratch.join("image")).unwrap();
    look::merged(&stored, &scratch.join("look"))
}

/// Why an image of these layers is refused. Nothing of it may be left.
fn refused(layers: &[&Tar]) -> String {
    let scratch = Scratch::new();
    image(&scratch.join("image"), layers);
    refused_image(&scratch.join("store"), &scratch.join("image"), &Limits::default())
}

fn refused_image(store: &Path, image: &Path, limits: &Limits) -> String {
    let error = import_with(store, image, limits, &Silent).expect_err("is refused").to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    for kind in ["layers", "chains", "images", "tmp"] {
        let left = std::fs::read_dir(store.join(kind)).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{kind} after: {error}");
    }
    error
}
