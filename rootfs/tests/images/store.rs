//! The store over time: what is shared, removed, and left by processes that were killed or come at once.

use crate::make::{Scratch, Tar, dir, file, image};
use crate::{import, import_with};
use rootfs::image::{Image, Layer, Platform};
use rootfs::store::{BundleEntry, Limits, Progress, Silent, Store, Xattrs};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// Layers that were unpacked.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn layers(&self, layers: &[&Layer]) {
        self.0.lock().unwrap().extend(layers.iter().map(|layer| layer.diff_id.to_string()));
    }
}

fn tar(name: &str) -> Tar {
    Tar::of(&[dir("d"), file(&format!("d/{name}"), &name.repeat(10_000))])
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).map_or(0, Iterator::count)
}

fn bundle(scratch: &Scratch, name: &str, image: &rootfs::store::Stored) -> BundleEntry {
    let path = scratch.join(name);
    fs::create_dir(&path).unwrap();
    fs::write(path.join("config.json"), "{}").unwrap();
    BundleEntry { path, image: image.id.clone(), layers: image.layers.clone(), volumes: vec!["v".into()] }
}

#[test]
fn layers_are_shared() {
    let scratch = Scratch::new();
    let (store, limits) = (scratch.join("store"), Limits::default());
    image(&scratch.join("one"), &[&tar("a"), &tar("b")]);
    image(&scratch.join("two"), &[&tar("a"), &tar("c")]);
    let told = Told::default();
    let one = import_with(&store, &scratch.join("one"), &limits, &told).unwrap();
    assert_eq!(told.0.lock().unwrap().len(), 2);
    let again = import_with(&store, &scratch.join("one"), &limits, &told).unwrap();
    assert_eq!((told.0.lock().unwrap().len(), &again.layers), (2, &one.layers));
    let two = import_with(&store, &scratch.join("two"), &limits, &told).unwrap();
    assert_eq!((told.0.lock().unwrap().len(), &two.layers[0]), (3, &one.layers[0]));
    drop((one, again, two));
    // Both are called `test`: the name is the newer's.
    let store = Store::open(&store).unwrap();
    let images = store.images().unwrap();
    assert_eq!(images.iter().map(|image| image.names.len()).collect::<Vec<_>>(), [0, 1]);
    assert!(images.iter().all(|image| image.shared > 0 && image.size == image.shared + image.reclaimable));
    let usage = store.usage().unwrap();
    assert_eq!(usage.apparent, usage.layers + usage.shared);
    assert_eq!(usage.layers, usage.reclaimable);
    assert_eq!(store.find("test").unwrap().id, images[1].id);
    assert_eq!(store.find(&images[0].id.hex()[..12]).unwrap().id, images[0].id);
    assert!(store.find("").is_err());
    // What has no name is nobody's.
    let removed = store.prune(false, &Silent).unwrap();
    assert_eq!((removed.images.len(), removed.layers.len(), removed.bytes), (1, 1, images[0].reclaimable));
    assert_eq!(store.prune(false, &Silent).unwrap(), Default::default());
    store.remove_image("test", &Silent).unwrap();
    assert_eq!(store.usage().unwrap(), Default::default());
    assert!(store.remove_image("test", &Silent).unwrap_err().to_string().contains("no image \"test\""));
    assert_eq!(count(&store.dir().join("tmp")), 0);
}

#[test]
fn a_bundle_keeps_its_layers() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.join("store")).unwrap();
    assert!(store.bundles().unwrap().is_empty());
    assert_eq!(store.prune(true, &Silent).unwrap(), Default::default());
    image(&scratch.join("image"), &[&tar("a"), &tar("b")]);
    let stored = import(store.dir(), &scratch.join("image")).unwrap();
    let entry = bundle(&scratch, "bundle", &stored);
    store.add_bundle(&entry).unwrap();
    assert_eq!(store.bundles().unwrap(), std::slice::from_ref(&entry));
    drop(stored);
    assert_eq!((store.images().unwrap()[0].bundles, store.images().unwrap()[0].reclaimable), (1, 0));
    assert_eq!(store.prune(true, &Silent).unwrap(), Default::default());
    assert_eq!(store.remove_image("test", &Silent).unwrap().layers, Vec::<String>::new());
    assert!(entry.layers.iter().all(|layer| layer.join("d").is_dir()));
    // Its directory has been removed by other means.
    fs::remove_file(entry.path.join("config.json")).unwrap();
    assert!(store.bundles().unwrap().is_empty());
    let removed = store.prune(false, &Silent).unwrap();
    assert_eq!((removed.bundles, removed.layers.len()), (vec![entry.path.clone()], 2));
    assert!(!store.remove_bundle(&entry.path).unwrap());
    store.add_bundle(&entry).unwrap();
    assert!(store.remove_bundle(&entry.path).unwrap());
}

#[test]
fn what_killed_processes_left_is_swept_and_what_works_is_not() {
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a")]);
    let stored = import(&scratch.join("store"), &scratch.join("image")).unwrap();
    drop(stored);
    let tmp = scratch.join("store/tmp");
    for name in ["1-0", "left"] {
        fs::create_dir_all(tmp.join(name).join("diff/deep/er")).unwrap();
    }
    fs::create_dir(tmp.join("held")).unwrap();
    let held = fs::File::open(tmp.join("held")).unwrap();
    held.lock().unwrap();
    import(&scratch.join("store"), &scratch.join("image")).unwrap();
    assert_eq!(count(&tmp), 1);
    drop(held);
    Store::open(&scratch.join("store")).unwrap().prune(false, &Silent).unwrap();
    assert_eq!(count(&tmp), 0);
}

#[test]
fn an_image_whose_layer_is_gone_is_unpacked_again() {
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a"), &tar("b")]);
    let layer = import(&scratch.join("store"), &scratch.join("image")).unwrap().layers[0].clone();
    fs::remove_dir_all(layer.parent().unwrap()).unwrap();
    import(&scratch.join("store"), &scratch.join("image")).unwrap();
    assert!(layer.join("d/a").exists());
}

#[test]
fn the_same_image_many_times_at_once() {
    let scratch = Scratch::new();
    let layers: Vec<Tar> = (0..5).map(|number| tar(&number.to_string())).collect();
    image(&scratch.join("image"), &layers.iter().collect::<Vec<_>>());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| drop(import(&scratch.join("store"), &scratch.join("image")).unwrap()));
        }
    });
    assert_eq!((count(&scratch.join("store/layers")), count(&scratch.join("store/tmp"))), (5, 0));
    assert_eq!(Store::open(&scratch.join("store")).unwrap().images().unwrap().len(), 1);
}

#[test]
fn nothing_is_removed_while_an_image_is_held() {
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a")]);
    let stored = import(&scratch.join("store"), &scratch.join("image")).unwrap();
    let store = Store::open(&scratch.join("store")).unwrap();
    let removed = std::thread::scope(|scope| {
        let pruning = scope.spawn(|| store.prune(true, &Silent).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(stored.layers[0].join("d/a").exists());
        let entry = bundle(&scratch, "bundle", &stored);
        store.add_bundle(&entry).unwrap();
        drop(stored);
        pruning.join().unwrap()
    });
    assert_eq!(removed, Default::default());
}

#[test]
fn one_store_has_one_kind_of_marks() {
    let scratch = Scratch::new();
    image(&scratch.join("one"), &[&tar("a")]);
    image(&scratch.join("two"), &[&tar("a"), &tar("b")]);
    import(&scratch.join("store"), &scratch.join("one")).unwrap();
    let image = Image::open(&scratch.join("two"), None, &Platform::host()).unwrap();
    let store = Store::open(&scratch.join("store")).unwrap();
    let error = store.import(&image, &Limits::default(), Xattrs::User, &Silent).unwrap_err().to_string();
    assert!(error.contains("another kind of user"), "{error}");
}
