//! One image in all forms that it may lie in: the tree is the same, and so are the layers in the store.

use conformance::layout::{self, Files, Layer, Layout};
use conformance::tarball::{Entry, TIME, tar};
use conformance::test::Done;
use conformance::tree::Tree;
use serde_json::{Value, json};

use super::{Test, call, layers_of, merged, same};

crate::cases! {
    skopeos_forms,
    compressions,
    streams_of_several_parts,
    an_archive_of_old_docker,
    dockers_media_types,
    a_layer_that_comes_twice,
    references,
    platforms,
    an_index_in_an_index,
    an_archive_with_other_names,
}

fn entries() -> [Vec<Entry>; 2] {
    let root = || Entry::dir(".").time(TIME, 1);
    [
        vec![
            root(),
            Entry::dir("a").time(1, 2),
            Entry::file("a/file", "content".repeat(100_000)).mode(0o4711).owner(5, 6).time(3, 4).xattr("user.x", "y"),
            Entry::hard_link("a/again", "a/file"),
            Entry::file("zeros", vec![0; 300_000]),
            Entry::file("gone", ""),
        ],
        vec![Entry::whiteout("", "gone"), Entry::symlink("link", "a/file"), Entry::fifo("fifo"), root()],
    ]
}

fn plain() -> Vec<Layer> {
    entries().iter().map(|it| Layer::of(it)).collect()
}

/// What the image of [`plain`] has to be.
fn wanted(t: &Test) -> Tree {
    t.write(&Layout::new(plain()).files(), "wanted");
    t.umoci(&format!("oci:{}:latest", t.text("wanted")), "wanted")
}

fn skopeos_forms() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    let source = format!("oci:{}:latest", t.text("wanted"));
    let mut stored = None;
    for (name, words, transport, reference) in [
        ("oci", &[][..], "oci", ":other"),
        ("oci-archive", &[], "oci-archive", ":other"),
        ("docker-archive", &[], "docker-archive", ":name/of:tag"),
        ("gzip", &["--dest-compress-format", "gzip", "--dest-compress"], "oci", ":latest"),
        ("zstd", &["--dest-compress-format", "zstd", "--dest-compress"], "oci", ":latest"),
        ("zstd-archive", &["--dest-compress-format", "zstd", "--dest-compress"], "oci-archive", ":latest"),
        ("zstd-chunked", &["--dest-compress-format", "zstd:chunked", "--dest-compress"], "oci", ":latest"),
        ("docker-types", &["--format", "v2s2"], "docker-archive", ":name:tag"),
    ] {
        let path = t.text(name);
        let to = format!("{transport}:{path}{reference}");
        call("skopeo", &[&["copy", "-q", "--insecure-policy"], words, &[&source, &to]].concat()).ok();
        t.create(&path, &[], &format!("{name}.b")).run().ok();
        same(&merged(&t.path(&format!("{name}.b"))), &wanted);
        t.create(&format!("{path}{reference}"), &[], &format!("{name}.named")).run().ok();
        let layers = layers_of(&t.path(&format!("{name}.b")));
        assert_eq!(&layers, stored.get_or_insert(layers.clone()), "{name}: other layers");
    }
    t.is_tidy();
    Ok(())
}

fn compressions() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    let [below, above] = entries();
    for (name, layers) in [
        ("plain", vec![Layer::of(&below), Layer::of(&above)]),
        ("gzip", vec![Layer::of(&below).gzip(), Layer::of(&above).gzip()]),
        ("zstd", vec![Layer::of(&below).zstd(), Layer::of(&above).zstd()]),
        ("mixed", vec![Layer::of(&below).zstd(), Layer::of(&above).gzip()]),
    ] {
        same(&merged(&t.bundle_of(&Layout::new(layers), name)), &wanted);
    }
    Ok(())
}

fn streams_of_several_parts() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    let [below, above] = entries();
    let bytes = tar(&below);
    let (first, second) = bytes.split_at(bytes.len() / 2 + 77);
    let skipped = |text: &[u8]| [&[0x50, 0x2a, 0x4d, 0x18][..], &(text.len() as u32).to_le_bytes(), text].concat();
    for (name, form, blob) in [
        ("members", "tar+gzip", [layout::gzip(first), layout::gzip(b""), layout::gzip(second)].concat()),
        ("frames", "tar+zstd", [layout::zstd(first), skipped(b"to be passed over"), layout::zstd(second)].concat()),
        ("led", "tar+zstd", [skipped(b""), layout::zstd(&bytes), skipped(&[7; 4000])].concat()),
    ] {
        let layer = Layer { form, blob, diff_id: layout::digest(&bytes) };
        same(&merged(&t.bundle_of(&Layout::new([layer, Layer::of(&above)]), name)), &wanted);
    }
    Ok(())
}

fn an_archive_of_old_docker() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    let files = Layout::new(plain()).docker_archive("example.org/a/b:c");
    std::fs::write(t.path("old.tar"), layout::archive(&files)).expect("cannot write");
    t.create(&t.text("old.tar"), &[], "old").run().ok();
    same(&merged(&t.path("old")), &wanted);
    t.create(&format!("{}:example.org/a/b:c", t.text("old.tar")), &[], "named").run().ok();
    t.create(&format!("{}:example.org/a/b:d", t.text("old.tar")), &[], "other")
        .run()
        .exits(1)
        .says("example.org/a/b:c");
    Ok(())
}

fn dockers_media_types() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    let layers = plain().into_iter().map(Layer::gzip);
    same(&merged(&t.bundle_of(&Layout::new(layers).docker(), "docker")), &wanted);
    Ok(())
}

fn a_layer_that_comes_twice() -> Done {
    let t = Test::begin();
    let empty = || Layer::of(&[]);
    let layers = plain().into_iter().chain([empty(), plain().remove(1), empty()]);
    let layout = Layout::new(layers);
    t.bundle_of(&layout, "b");
    t.same("b", &format!("oci:{}:latest", t.text("b.image")));
    // Overlayfs takes no directory twice.
    t.bundle_of(&Layout::new([super::busybox(), empty(), empty()]).with("Cmd", json!(["echo", "fine"])), "run");
    assert_eq!(t.run("run").text(), "fine");
    Ok(())
}

/// The manifest of a layout of one file, added to `files` under a name, for a platform.
fn manifest(files: &mut Files, text: &str, name: Option<&str>, architecture: Option<&str>) -> Value {
    let mut layout = Layout::new([Layer::of(&[Entry::dir("."), Entry::file("which", text)])]);
    if let Some(architecture) = architecture {
        layout.config["architecture"] = json!(architecture);
    }
    let mut more = layout.files();
    let index: Value = serde_json::from_slice(&more.remove("index.json").expect("an index")).expect("JSON");
    files.extend(more);
    let mut descriptor = index["manifests"][0].clone();
    descriptor.as_object_mut().expect("an object").remove("annotations");
    if let Some(name) = name {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    }
    if let Some(architecture) = architecture {
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    }
    descriptor
}

#[track_caller]
fn which(t: &Test, image: &str, words: &[&str], bundle: &str) -> String {
    t.create(image, words, bundle).run().ok();
    let layers = layers_of(&t.path(bundle));
    std::fs::read_to_string(layers[0].join("which")).expect("the file")
}

fn references() -> Done {
    let t = Test::begin();
    let mut files = Files::new();
    let one = manifest(&mut files, "one", Some("one"), None);
    let two = manifest(&mut files, "two", Some("registry.example/path/two:v2"), None);
    layout::set_index(&mut files, &[one, two]);
    let path = t.write(&files, "layout");
    assert_eq!(which(&t, &format!("{path}:one"), &[], "b1"), "one");
    assert_eq!(which(&t, &format!("{path}:registry.example/path/two:v2"), &[], "b2"), "two");
    for wrong in ["", ":", ":three", ":on", ":../one", ":one/../one", ":sha256:00"] {
        let said = t.create(&format!("{path}{wrong}"), &[], "b3").run().exits(1);
        assert_eq!(said.err.trim().lines().count(), 1, "{wrong}: {}", said.err);
        assert!(!t.path("b3").exists(), "{wrong}");
    }
    t.create(&path, &[], "b3").run().exits(1).says("one").says("two:v2");
    t.is_tidy();
    Ok(())
}

fn platforms() -> Done {
    let t = Test::begin();
    let mut files = Files::new();
    let other = manifest(&mut files, "other", None, Some("s390x"));
    let own = manifest(&mut files, "own", None, Some(layout::architecture()));
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [other, own] });
    let mut inner = layout::add(&mut files, "application/vnd.oci.image.index.v1+json", index.to_string().into_bytes());
    inner["annotations"] = json!({ "org.opencontainers.image.ref.name": "multi" });
    layout::set_index(&mut files, &[inner]);
    let path = t.write(&files, "layout");
    assert_eq!(which(&t, &format!("{path}:multi"), &[], "b1"), "own");
    assert_eq!(which(&t, &path, &["--platform", "linux/s390x"], "b2"), "other");
    t.create(&path, &["--platform", "linux/riscv64"], "b3").run().exits(1).says("riscv64").says("s390x");
    t.create(&path, &["--platform", "nonsense/with/many/parts"], "b3").run().exits(1);
    // Platforms at the top of a layout, as some tools write it.
    let other = manifest(&mut files, "other", None, Some("s390x"));
    let own = manifest(&mut files, "own", None, Some(layout::architecture()));
    layout::set_index(&mut files, &[other, own]);
    let path = t.write(&files, "flat");
    assert_eq!(which(&t, &path, &[], "b4"), "own");
    Ok(())
}

fn an_index_in_an_index() -> Done {
    let t = Test::begin();
    let mut files = Files::new();
    let mut descriptor = manifest(&mut files, "deep", None, None);
    for _ in 0..3 {
        let media = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": media, "manifests": [descriptor] });
        descriptor = layout::add(&mut files, media, index.to_string().into_bytes());
    }
    layout::set_index(&mut files, &[descriptor]);
    let path = t.write(&files, "layout");
    assert_eq!(which(&t, &path, &[], "b"), "deep");
    Ok(())
}

/// Tars of other tools begin names with `./`, and have directories.
fn an_archive_with_other_names() -> Done {
    let t = Test::begin();
    let wanted = wanted(&t);
    for format in ["gnu", "posix", "ustar"] {
        let script = format!("cd '{}' && tar --format={format} -cf '{}' .", t.text("wanted"), t.text(format));
        super::script(&script);
        t.create(&t.text(format), &[], &format!("{format}.b")).run().ok();
        same(&merged(&t.path(&format!("{format}.b"))), &wanted);
    }
    Ok(())
}
