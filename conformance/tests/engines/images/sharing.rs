//! What bundles of one image share: the layers, which are unpacked once, counted truly, and kept while they are used.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use conformance::layout::{Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use conformance::tree::Tree;
use serde_json::{Value, json};

use super::{PROA, Test, busybox, call, layers_of, merged, mounts, names, same};
use crate::command::Call;

crate::cases! {
    a_second_bundle_touches_no_layer,
    images_share_layers,
    what_the_store_says_adds_up,
    layers_in_use_are_kept,
    bundles_and_their_containers,
    what_is_no_bundle_is_not_removed,
    a_directory_of_others_is_no_store,
    names_go_one_by_one,
    volumes_with_a_name_are_kept,
    many_at_once,
    bundles_are_whole_while_others_prune,
    nothing_is_mounted_on_the_host,
}

fn file(name: &str, size: usize) -> Layer {
    let data: Vec<u8> = (0..size).map(|n| (n * 7 + n / 251 + name.len()) as u8).collect();
    Layer::of(&[Entry::dir("."), Entry::dir("data"), Entry::file(format!("data/{name}"), data)])
}

fn a_second_bundle_touches_no_layer() -> Done {
    let t = Test::begin();
    let layout = Layout::new([busybox().gzip(), file("a", 5 << 20), file("b", 5 << 20).gzip()]);
    t.bundle_of(&layout, "one");
    let image = t.text("one.image");
    let layers = t.store().join("layers");
    let before = Tree::of(&layers);
    let log = t.text("trace");
    let calls =
        "trace=open,openat,openat2,creat,read,pread64,readv,preadv,write,pwrite64,writev,copy_file_range,sendfile,mmap";
    let words =
        ["-f", "-qq", "-yy", "-e", calls, "-o", &log, PROA, "bundle", "create", "--image", &image, &t.text("two")];
    Call::new("strace", &words).env("PROA_STORE", &t.text("store")).run().ok();
    let trace = fs::read_to_string(&log).expect("a trace");
    let (mut read, mut written) = (0u64, 0u64);
    for line in trace.lines() {
        let moved: u64 = line.rsplit_once("= ").and_then(|(_, n)| n.split(' ').next()?.parse().ok()).unwrap_or(0);
        if line.contains("read") && line.contains(&image) {
            read += moved;
        }
        if line.contains("write") && line.contains(&t.text("store")) {
            written += moved;
        }
        let makes = line.contains("O_CREAT") || line.contains("O_WRONLY") || line.contains("O_RDWR");
        assert!(!(makes && line.contains("/layers/")), "opened to be written: {line}");
    }
    // The documents: not the layers, which are ten megabytes.
    assert!(read < 100_000 && written < 100_000, "{read} bytes read, {written} written");
    assert_eq!(before, Tree::of(&layers), "the layers are others");
    assert_eq!(layers_of(&t.path("one")), layers_of(&t.path("two")));
    same(&merged(&t.path("one")), &merged(&t.path("two")));
    // By the image's name and id no image is needed.
    let id = t.proa(&["image", "ls", "-q"]).run().text();
    fs::remove_dir_all(&image).expect("cannot remove");
    t.create(&id, &[], "three").run().ok();
    t.create(&id["sha256:".len()..][..12], &[], "four").run().ok();
    assert_eq!(layers_of(&t.path("one")), layers_of(&t.path("four")));
    Ok(())
}

fn images_share_layers() -> Done {
    let t = Test::begin();
    let base = || [busybox(), file("base", 1 << 20)];
    t.bundle_of(&Layout::new(base().into_iter().chain([file("one", 1000)])), "one");
    let first = names(&t.store().join("layers"));
    t.bundle_of(&Layout::new(base().into_iter().chain([file("two", 1000).gzip()])), "two");
    let second = names(&t.store().join("layers"));
    assert_eq!((first.len(), second.len()), (3, 4));
    // The same tar in another form is the same layer.
    t.bundle_of(&Layout::new(base().map(Layer::gzip).into_iter().chain([file("one", 1000).zstd()])), "three");
    assert_eq!(names(&t.store().join("layers")), second);
    Ok(())
}

/// Bytes on disk below a directory.
fn du(dir: &Path) -> u64 {
    let text = call("du", &["-s", "--block-size=1", &dir.display().to_string()]).text();
    text.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
}

fn images(t: &Test) -> BTreeMap<String, Value> {
    let text = t.proa(&["image", "ls", "--format", "json"]).run().text();
    let list: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    // The tag, before which the store has the name of the layout.
    let tag = |image: &Value| image["names"][0].as_str().and_then(|name| name.split(':').nth(1)).map(str::to_owned);
    list.into_iter().map(|image| (tag(&image).unwrap_or("none".to_owned()), image)).collect()
}

#[track_caller]
fn about(said: &Value, disk: u64) {
    let said = said.as_u64().expect("a number");
    // A directory takes no block in a tmpfs, and one elsewhere.
    assert!(said.abs_diff(disk) <= disk / 20 + 200_000, "{said}, but {disk} on disk");
}

fn what_the_store_says_adds_up() -> Done {
    let t = Test::begin();
    let image = |name: &str, layers: Vec<Layer>| {
        let mut files = Layout::new(layers).files();
        let mut index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
        files.insert("index.json".into(), index.to_string().into_bytes());
        t.write(&files, name)
    };
    let one = image("one", vec![file("base", 4 << 20), file("one", 2 << 20), file("used", 3 << 20)]);
    let two = image("two", vec![file("base", 4 << 20), file("two", 1 << 20)]);
    t.create(&one, &[], "b").run().ok();
    t.proa(&["image", "import", "-q", &two]).run().ok();
    let all = images(&t);
    about(&all["one"]["size"], 9 << 20);
    about(&all["one"]["shared"], 4 << 20);
    about(&all["one"]["reclaimable"], 0);
    about(&all["two"]["size"], 5 << 20);
    about(&all["two"]["shared"], 4 << 20);
    about(&all["two"]["reclaimable"], 1 << 20);
    assert_eq!((&all["one"]["bundles"], &all["two"]["bundles"]), (&json!(1), &json!(0)));
    let layers = du(&t.store().join("layers"));
    let said = |name: &str, key: &str| all[name][key].as_u64().expect("a number");
    about(&json!(said("one", "size") + said("two", "size") - said("two", "shared")), layers);
    // What is said to be freed is freed.
    let before = du(&t.store());
    t.proa(&["image", "rm", "two:two"]).run().ok();
    about(&json!(before - du(&t.store())), said("two", "reclaimable"));
    about(&images(&t)["one"]["shared"], 0);
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    about(&images(&t)["one"]["reclaimable"], 9 << 20);
    t.proa(&["image", "prune", "--all"]).run().ok();
    assert!(du(&t.store()) < 100_000);
    Ok(())
}

fn layers_in_use_are_kept() -> Done {
    let t = Test::begin();
    let layout = Layout::new([busybox(), file("a", 1000)]).with("Cmd", json!(["sh", "-c", "ls /data"]));
    t.bundle_of(&layout, "b");
    let before = names(&t.store().join("layers"));
    t.proa(&["image", "prune", "--all"]).run().ok();
    assert_eq!(names(&t.store().join("layers")), before, "pruned below a bundle");
    t.proa(&["image", "rm", "b.image:latest"]).run().ok();
    t.proa(&["image", "prune", "--all"]).run().ok();
    assert_eq!(names(&t.store().join("layers")), before, "removed below a bundle");
    assert_eq!(t.run("b").text(), "a");
    // A bundle that was removed by hand is none.
    fs::remove_dir_all(t.path("b")).expect("cannot remove");
    t.proa(&["image", "prune", "--all"]).run().ok();
    for part in ["layers", "chains", "images", "bundles", "tmp"] {
        assert_eq!(names(&t.store().join(part)), [""; 0], "left in {part}");
    }
    Ok(())
}

fn bundles_and_their_containers() -> Done {
    let t = Test::begin();
    let layout = Layout::new([busybox()]).with("Cmd", json!(["sh", "-c", "echo kept >/v/file; echo gone >/file"]));
    let image = t.write(&layout.files(), "image");
    t.create(&image, &["--volume", "kept:/v"], "b").run().ok();
    t.create(&image, &["--volume", "kept:/v"], "b").run().exits(1).says("b");
    t.proa(&["create", "--bundle", &t.text("b"), "c1"]).run().ok();
    t.proa(&["bundle", "rm", &t.text("b")]).run().exits(1).says("c1");
    t.proa(&["start", "c1"]).run().ok();
    conformance::look::eventually("its end", || t.proa(&["state", "c1"]).run().out.contains("stopped"));
    t.proa(&["bundle", "rm", &t.text("b")]).run().exits(1).says("c1");
    t.proa(&["delete", "c1"]).run().ok();
    assert_eq!(fs::read_to_string(t.path("b/writable/upper/file")).expect("what it wrote"), "gone\n");
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    assert!(!t.path("b").exists());
    t.proa(&["bundle", "rm", &t.text("b")]).run().exits(1);
    t.create(&image, &["--volume", "kept:/v"], "b").run().ok();
    assert!(t.proa(&["volume", "ls"]).run().text().contains("kept"));
    assert_eq!(t.proa(&["bundle", "ls"]).run().text().lines().count(), 2);
    t.proa(&["volume", "rm", "kept"]).run().exits(1);
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    t.proa(&["image", "prune", "--all"]).run().ok();
    assert!(t.proa(&["volume", "ls"]).run().text().contains("kept"), "pruned with the images");
    t.proa(&["volume", "rm", "kept"]).run().ok();
    Ok(())
}

fn a_directory_of_others_is_no_store() -> Done {
    let t = Test::begin();
    let image = t.write(&Layout::new([busybox()]).files(), "image");
    let theirs = ["srv/tmp/job/file", "srv/volumes/pg/_data/file", "srv/layers/x/file"].map(|name| t.path(name));
    for path in &theirs {
        fs::create_dir_all(path.parent().expect("a directory")).expect("cannot make a directory");
        fs::write(path, "theirs").expect("cannot write");
    }
    let store = t.text("srv");
    let bundle = t.text("b");
    for words in [
        &["image", "import", "--store", &store, &image][..],
        &["image", "prune", "--all", "--store", &store],
        &["volume", "prune", "--all", "--store", &store],
        &["volume", "create", "--store", &store, "v"],
        &["bundle", "create", "--store", &store, "--image", &image, &bundle],
    ] {
        t.proa(words).run().exits(1).says("--store");
    }
    assert!(theirs.iter().all(|path| path.exists()) && !t.path("b").exists());
    // One that has nothing in it, or only the networks, may become one.
    for (store, inside) in [("new", "new"), ("with", "with/networks/c")] {
        fs::create_dir_all(t.path(inside)).expect("cannot make a directory");
        t.proa(&["image", "import", "-q", "--store", &t.text(store), &image]).run().ok();
        t.proa(&["volume", "create", "--store", &t.text(store)]).run().ok();
    }
    t.proa(&["volume", "create", "--store", &t.text("volumes-first")]).run().ok();
    t.proa(&["image", "import", "-q", "--store", &t.text("volumes-first"), &image]).run().ok();
    Ok(())
}

fn names_go_one_by_one() -> Done {
    let t = Test::begin();
    let files = Layout::new([busybox()]).files();
    let (one, two) = (t.write(&files, "one"), t.write(&files, "two"));
    for image in [&one, &two] {
        t.proa(&["image", "import", "-q", image]).run().ok();
    }
    t.proa(&["image", "rm", "-q", "one:latest"]).run().ok();
    t.proa(&["image", "rm", "one:latest"]).run().fails().says("one:latest");
    assert!(t.proa(&["image", "ls"]).run().text().contains("\ntwo:latest "), "the other name is gone");
    t.proa(&["image", "rm", "two:latest"]).run().ok();
    assert!(images(&t).is_empty() && names(&t.store().join("layers")).is_empty());
    for image in [&one, &two] {
        t.proa(&["image", "import", "-q", image]).run().ok();
    }
    let id = t.proa(&["image", "ls", "-q"]).run().text();
    t.proa(&["image", "rm", id.lines().next().expect("an id")]).run().ok();
    assert!(images(&t).is_empty());
    Ok(())
}

fn volumes_with_a_name_are_kept() -> Done {
    let t = Test::begin();
    let nameless = t.proa(&["volume", "create"]).run().text();
    t.proa(&["volume", "create", "data"]).run().ok();
    assert!(t.proa(&["volume", "prune"]).run().text().contains(&nameless));
    assert_eq!(t.proa(&["volume", "ls", "-q"]).run().text(), "data");
    t.proa(&["volume", "prune", "--all"]).run().ok();
    assert_eq!(t.proa(&["volume", "ls", "-q"]).run().text(), "");
    Ok(())
}

fn what_is_no_bundle_is_not_removed() -> Done {
    let t = Test::begin();
    let bundle = t.bundle_of(&Layout::new([busybox()]), "b");
    fs::create_dir(t.path("other")).expect("cannot make a directory");
    fs::write(t.path("other/config.json"), "{}").expect("cannot write");
    fs::create_dir(t.path("full")).expect("cannot make a directory");
    fs::write(t.path("full/file"), "").expect("cannot write");
    std::os::unix::fs::symlink(&bundle, t.path("link")).expect("cannot link");
    for wrong in ["other", "full", "no", "b/writable", "b/..", "store", "."] {
        let said = t.proa(&["bundle", "rm", &t.text(wrong)]).run().exits(1);
        assert_eq!(said.err.trim().lines().count(), 1, "{wrong}: {}", said.err);
    }
    for wrong in ["other", "full", "b", "b/config.json", "no/such/dir", "store"] {
        t.create(&t.text("b.image"), &[], wrong).run().exits(1);
    }
    assert!(
        t.path("full/file").exists() && t.path("other/config.json").exists() && bundle.join("config.json").exists()
    );
    assert_eq!(t.run("b").err, "");
    // An empty directory may become one.
    fs::create_dir(t.path("empty")).expect("cannot make a directory");
    t.create(&t.text("b.image"), &[], "empty").run().ok();
    Ok(())
}

fn spawn(t: &Test, words: &[&str]) -> Child {
    let mut command = Command::new(PROA);
    command.args(words).env("PROA_STORE", t.store()).stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().expect("cannot run proa")
}

fn many_at_once() -> Done {
    let t = Test::begin();
    let layers = (0..6).map(|n| file(&format!("f{n}"), 1 << 20).gzip());
    let image = t.write(&Layout::new(layers).files(), "image");
    let bundles: Vec<String> = (0..12).map(|n| t.text(&format!("b{n}"))).collect();
    let all: Vec<Child> =
        bundles.iter().map(|it| spawn(&t, &["bundle", "create", "-q", "--image", &image, it])).collect();
    for mut child in all {
        assert!(child.wait().expect("a child").success(), "one of many failed");
    }
    t.is_tidy();
    assert_eq!(names(&t.store().join("layers")).len(), 6);
    let first = merged(Path::new(&bundles[0]));
    same(&merged(Path::new(&bundles[11])), &first);
    let all: Vec<Child> = bundles.iter().map(|it| spawn(&t, &["bundle", "rm", it])).collect();
    for mut child in all {
        assert!(child.wait().expect("a child").success(), "one of many failed");
    }
    assert_eq!(t.proa(&["bundle", "ls"]).run().text().lines().count(), 1);
    Ok(())
}

fn bundles_are_whole_while_others_prune() -> Done {
    let t = Test::begin();
    let image = t.write(&Layout::new((0..4).map(|n| file(&format!("f{n}"), 100_000))).files(), "image");
    t.create(&image, &[], "good").run().ok();
    let good = merged(&t.path("good"));
    t.proa(&["bundle", "rm", &t.text("good")]).run().ok();
    for turn in 0..25 {
        let prunes: Vec<Child> = (0..3).map(|_| spawn(&t, &["image", "prune", "--all", "-q"])).collect();
        let name = format!("b{turn}");
        t.create(&image, &[], &name).run().ok();
        for mut prune in prunes {
            assert!(prune.wait().expect("a child").success(), "a prune failed");
        }
        same(&merged(&t.path(&name)), &good);
        t.proa(&["bundle", "rm", &t.text(&name)]).run().ok();
    }
    t.is_tidy();
    Ok(())
}

fn nothing_is_mounted_on_the_host() -> Done {
    let t = Test::begin();
    let before = mounts();
    let layout = Layout::new([busybox(), file("a", 1000)]).with("Cmd", json!(["sleep", "1000"]));
    t.bundle_of(&layout, "b");
    t.proa(&["create", "--bundle", &t.text("b"), "c1"]).run().ok();
    assert_eq!(mounts(), before);
    t.proa(&["start", "c1"]).run().ok();
    assert_eq!(mounts(), before);
    t.proa(&["delete", "--force", "c1"]).run().ok();
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    assert_eq!(mounts(), before);
    // The store is for its owner alone: setuid programs of images lie in it.
    assert_eq!(fs::metadata(t.store()).expect("a store").mode() & 0o077, 0);
    Ok(())
}
