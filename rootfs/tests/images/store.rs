//! The store over time: what is shared, removed, and left by processes that were killed or come at once.

use crate::make::{Layout, Packed, Scratch, Tar, dir, file, hard_link, image};
use crate::{import, import_with};
use rootfs::image::{Digest, Image, Layer, Platform};
use rootfs::store::{BundleEntry, Limits, Progress, Silent, Store, Xattrs};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Layers that were unpacked.
#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Progress for Told {
    fn layers(&self, layers: &[&Layer]) {
        self.0.lock().unwrap().extend(layers.iter().map(|layer| layer.diff_id.to_string()));
    }
}

/// How many layers are to be unpacked, and are.
#[derive(Default)]
struct Counted(Mutex<(usize, usize)>);

impl Progress for Counted {
    fn layers(&self, layers: &[&Layer]) {
        self.0.lock().unwrap().0 = layers.len();
    }

    fn done(&self, _: &Digest) {
        let mut counted = self.0.lock().unwrap();
        counted.1 += 1;
        assert!(counted.1 <= counted.0, "layer {} of {}", counted.1, counted.0);
    }
}

/// Has no layer go on before this many have begun, but not for ever.
struct Together {
    wanted: usize,
    begun: Mutex<HashSet<Digest>>,
    changed: Condvar,
    in_vain: AtomicBool,
}

impl Progress for Together {
    fn advanced(&self, layer: &Digest, _: u64) {
        let mut begun = self.begun.lock().unwrap();
        begun.insert(layer.clone());
        self.changed.notify_all();
        let alone = |begun: &mut HashSet<Digest>| begun.len() < self.wanted && !self.in_vain.load(Ordering::Relaxed);
        let (_begun, waited) = self.changed.wait_timeout_while(begun, Duration::from_secs(20), alone).unwrap();
        self.in_vain.fetch_or(waited.timed_out(), Ordering::Relaxed);
    }
}

/// What is mounted somewhere, as long as a test goes on.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

/// While something is told, others may use the store.
struct Unlocked<'p>(&'p Path, Mutex<Vec<String>>);

impl Progress for Unlocked<'_> {
    fn warning(&self, text: &str) {
        fs::File::open(self.0.join("lock")).unwrap().try_lock_shared().expect("the store is not locked");
        self.1.lock().unwrap().push(text.to_owned());
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
    let hex = images[0].id.hex();
    assert_eq!(store.find(&format!("sha256:{}", &hex[..4])).unwrap().id, images[0].id);
    assert_eq!(store.find(images[0].id.as_str()).unwrap().id, images[0].id);
    // Nothing that is only like an id.
    for name in
        ["", "sha256:", &hex[..3], &format!("test:{}", &hex[..1]), &format!("absent:{hex}"), &format!("sha512:{hex}")]
    {
        let said = store.find(name).unwrap_err().to_string();
        assert!(said.starts_with("no image"), "{name}: {said}");
        assert!(store.remove_image(name, &Silent).is_err());
    }
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
    let refused = |image: &Image| {
        let error = store.import(image, &Limits::default(), Xattrs::User, &Silent).unwrap_err().to_string();
        assert!(error.contains("another kind of user"), "{error}");
    };
    refused(&image);
    // Nor is an image that is there already.
    let image = Image::open(&scratch.join("one"), None, &Platform::host()).unwrap();
    refused(&image);
    let record = scratch.join("store/images").join(format!("{}.json", image.id().hex()));
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace(r#""xattrs":"trusted""#, r#""xattrs":"user""#)).unwrap();
    let error = store.find("test").unwrap_err().to_string();
    assert!(error.contains("another kind of user"), "{error}");
    // Older records do not say.
    fs::write(&record, text.replace(r#","xattrs":"trusted""#, "")).unwrap();
    store.find("test").unwrap();
}

#[test]
fn layers_are_unpacked_at_once() {
    let wanted = std::thread::available_parallelism().unwrap().get().min(2);
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a"), &tar("b")]);
    let together =
        Together { wanted, begun: Mutex::default(), changed: Condvar::new(), in_vain: AtomicBool::new(false) };
    import_with(&scratch.join("store"), &scratch.join("image"), &Limits::default(), &together).unwrap();
    assert!(!together.in_vain.into_inner(), "one after another");
}

#[test]
fn layers_that_are_unpacked_once_more_are_told_of_and_paid_for_once() {
    let scratch = Scratch::new();
    let store = scratch.join("store");
    let import = |name: &str, layers: &[&Tar], entries: u64| {
        image(&scratch.join(name), layers);
        let counted = Counted::default();
        let limits = Limits { entries, ..Limits::default() };
        import_with(&store, &scratch.join(name), &limits, &counted).unwrap();
        counted.0.into_inner().unwrap()
    };
    let hidden = tar("b");
    let hides = Tar::of(&[dir("d"), file("d/.wh.b", ""), file("d/c", "")]);
    // What the last link is to is known from the layer below only.
    let depends = Tar::of(&[dir("d"), file("d/x", ""), file("d/y", ""), hard_link("d/z", "d/b")]);
    assert_eq!(import("depends", &[&hidden, &depends], 6), (2, 2));
    // By itself it is in the store already, and of no use.
    assert_eq!(import("hides", &[&hidden, &hides], 3), (1, 1));
    assert_eq!(import("unfit", &[&hides], 3), (1, 1));
    assert_eq!(import("twice", &[&hidden, &hides, &hidden, &hides], 5), (2, 2));
    Store::open(&store).unwrap().prune(true, &Silent).unwrap();
    assert_eq!(import("again", &[&hidden, &hides, &hidden, &hides], 10), (4, 4));
    let empty = Tar::default().end();
    image(&scratch.join("many"), &vec![&empty; 501]);
    let said = crate::import(&store, &scratch.join("many")).unwrap_err().to_string();
    assert_eq!(said, "image: library/test: has 501 layers, not 1 to 500");
}

#[test]
fn a_name_is_one_image_s() {
    let scratch = Scratch::new();
    let host = Platform::host();
    let store = Store::open(&scratch.join("store")).unwrap();
    let named = |content: &str, name: &str| {
        let mut layout = Layout::new(&scratch.join(content));
        layout.add(layout.manifest(&[&tar(content)], Packed::Gzip, (&host.os, &host.architecture)), Some(name));
        import(store.dir(), &layout.path).unwrap().id
    };
    let record = |id: &Digest| store.dir().join("images").join(format!("{}.json", id.hex()));
    let names = |id: &Digest| store.images().unwrap().into_iter().find(|image| image.id == *id).unwrap().names;
    let a = named("a", "docker.io/library/x:1");
    let b = named("b", "x:1");
    assert_eq!((names(&a), names(&b)), (vec![], vec!["x:1".to_owned()]));
    fs::remove_dir_all(scratch.join("b")).unwrap();
    assert_eq!(named("b", "docker.io/library/x:1"), b);
    assert_eq!(names(&b), ["x:1"]);
    // Who gave the name to the newer one was killed before the older one had lost it.
    let mut older: serde_json::Value = serde_json::from_slice(&fs::read(record(&a)).unwrap()).unwrap();
    older["names"] = serde_json::json!(["x:1"]);
    older["stored"] = serde_json::json!(older["stored"].as_u64().unwrap() - 1);
    fs::write(record(&a), older.to_string()).unwrap();
    assert_eq!(store.find("x:1").unwrap().id, b);
    fs::remove_dir_all(scratch.join("a")).unwrap();
    named("a", "x:1");
    assert_eq!((names(&a), names(&b)), (vec!["x:1".to_owned()], vec![]));
}

#[test]
fn what_cannot_be_swept_is_in_nobody_s_way() {
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a")]);
    let path = scratch.join("store");
    drop(import(&path, &scratch.join("image")).unwrap());
    let busy = path.join("tmp/left/mnt");
    fs::create_dir_all(&busy).unwrap();
    rustix::mount::mount("none", &busy, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let _busy = Mounted(busy);
    let told = Unlocked(&path, Mutex::default());
    import_with(&path, &scratch.join("image"), &Limits::default(), &told).unwrap();
    Store::open(&path).unwrap().prune(false, &told).unwrap();
    let told = told.1.into_inner().unwrap();
    assert!(told.len() == 2 && told.iter().all(|text| text.contains("tmp/left")), "{told:?}");
}

#[test]
fn an_image_is_removed_once() {
    let scratch = Scratch::new();
    image(&scratch.join("image"), &[&tar("a")]);
    let stored = import(&scratch.join("store"), &scratch.join("image")).unwrap();
    let store = Store::open(&scratch.join("store")).unwrap();
    let removed = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| store.remove_image("test", &Silent).is_ok()));
        std::thread::sleep(Duration::from_millis(100));
        drop(stored);
        both.map(|one| usize::from(one.join().unwrap()))
    });
    assert_eq!(removed.iter().sum::<usize>(), 1);
}
