//! What images are called: no name stands for what was pinned by its digest, and a tag is nobody's alone.

use crate::make::{Layout, Packed, Scratch, Tar, file, image};
use crate::{import, refused_image};
use rootfs::image::{Image, Platform};
use rootfs::store::{Limits, Store};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

fn manifest(layout: &Layout, content: &str) -> Value {
    let host = Platform::host();
    layout.manifest(&[&Tar::of(&[file("a", content)])], Packed::Plain, (&host.os, &host.architecture))
}

fn open(path: &Path, reference: Option<&str>) -> Image {
    Image::open(path, reference, &Platform::host()).unwrap()
}

#[test]
fn a_digest_is_no_name() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("image"));
    let (mut evil, good) = (manifest(&layout, "evil"), manifest(&layout, "good"));
    let digest = good["digest"].as_str().unwrap();
    evil["annotations"] =
        json!({"org.opencontainers.image.ref.name": digest, "io.containerd.image.name": format!("x@{digest}")});
    layout.add(evil.clone(), None);
    assert_eq!(open(&layout.path, None).name(), evil["digest"].as_str().unwrap());
    layout.add(good.clone(), Some("good:1"));
    layout.archive(&scratch.join("image.tar"));
    for path in [&layout.path, &scratch.join("image.tar")] {
        assert_eq!(open(path, Some(digest)).id().as_str(), digest);
    }
    // Nor is it one in a store, whatever is written there.
    let evil = import(&scratch.join("store"), &image(&scratch.join("evil"), &[&Tar::of(&[file("b", "")])]).path);
    let record = scratch.join("store/images").join(format!("{}.json", evil.unwrap().id.hex()));
    layout.manifests.remove(0);
    layout.write_index();
    drop(import(&scratch.join("store"), &layout.path).unwrap());
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("library/test"));
    fs::write(&record, text.replace("library/test", digest)).unwrap();
    let store = Store::open(&scratch.join("store")).unwrap();
    assert_eq!(store.find(digest).unwrap().id.as_str(), digest);
    assert_eq!(store.find("good:1").unwrap().id.as_str(), digest);
}

/// An archive of `docker save` with two images.
fn docker(path: &Path, evil: &[&str]) -> [String; 2] {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        builder.append_data(&mut header, name, content).unwrap();
    };
    let host = Platform::host();
    let layer = Tar::of(&[file("a", "")]);
    let diff_id = rootfs::image::Digest::of(&layer.0).to_string();
    let digests = ["good", "evil"].map(|author| {
        let config = json!({"os": host.os, "architecture": host.architecture, "author": author, "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let digest = rootfs::image::Digest::of(config.to_string().as_bytes());
        add(&format!("{}.json", digest.hex()), config.to_string().as_bytes());
        digest.to_string()
    });
    add("layer.tar", &layer.0);
    let of = |digest: &str, tags: &[&str]| json!({"Config": format!("{}.json", &digest[7..]), "RepoTags": tags, "Layers": ["layer.tar"]});
    let evil: Vec<&str> = evil.iter().copied().chain([&*digests[0]]).collect();
    add("manifest.json", json!([of(&digests[1], &evil), of(&digests[0], &["good:1"])]).to_string().as_bytes());
    builder.finish().unwrap();
    digests
}

#[test]
fn a_digest_is_no_name_in_an_archive_of_docker() {
    let scratch = Scratch::new();
    let path = scratch.join("saved.tar");
    let [good, evil] = docker(&path, &["new\nline:1", "  "]);
    assert_eq!(open(&path, Some(&good)).id().as_str(), good);
    assert_eq!(open(&path, Some(&good)).name(), "good:1");
    assert_eq!(open(&path, Some(&evil)).name(), evil);
    let why = Image::open(&path, None, &Platform::host()).err().unwrap().to_string();
    assert!(why.contains("good:1") && !why.contains('\n'), "{why}");
}

#[test]
fn a_tag_belongs_to_its_file() {
    let scratch = Scratch::new();
    let store = Store::open(&scratch.join("store")).unwrap();
    let name = |path: &str| import(store.dir(), &scratch.join(path)).unwrap().name.clone();
    for (directory, called) in [("busybox", "busybox:latest"), ("Web.oci", "web:latest")] {
        let mut layout = Layout::new(&scratch.join(directory));
        layout.add(manifest(&layout, directory), Some("latest"));
        assert_eq!(name(directory), called);
        assert_eq!(open(&layout.path, Some("latest")).name(), called);
        layout.archive(&scratch.join(&format!("{directory}-2.tar")));
    }
    assert_eq!(name("busybox-2.tar"), "busybox-2:latest");
    let named = |name: &str| store.find(name).unwrap().id.clone();
    assert_ne!(named("busybox:latest"), named("web:latest"));
    assert!(store.find("latest").is_err());
    // Nothing a repository could be called: it is known by its digest.
    let mut layout = Layout::new(&scratch.join("a directory"));
    layout.add(manifest(&layout, "nameless"), Some("latest"));
    assert_eq!(name("a directory"), layout.manifests[0]["digest"].as_str().unwrap());
}

#[test]
fn files_that_are_none_are_not_opened() {
    let scratch = Scratch::new();
    let layout = image(&scratch.join("image"), &[&Tar::of(&[file("a", "")])]);
    // A socket says something else to who opens it.
    let _socket = UnixListener::bind(scratch.join("socket")).unwrap();
    fs::remove_file(layout.path.join("index.json")).unwrap();
    symlink(scratch.join("socket"), layout.path.join("index.json")).unwrap();
    let why = refused_image(&scratch.join("store"), &layout.path, &Limits::default());
    assert!(why.ends_with("index.json: it is no regular file"), "{why}");
    let why = refused_image(&scratch.join("store"), &scratch.join("socket"), &Limits::default());
    assert!(why.ends_with("socket: is neither a directory nor a file"), "{why}");
}

#[test]
fn what_is_wrong_with_an_image_names_it() {
    let scratch = Scratch::new();
    let layout = image(&scratch.join("image"), &[&Tar::of(&[file("a", "")])]);
    let path = layout.path.display();
    let why = || refused_image(&scratch.join("store"), &layout.path, &Limits::default());
    let blob = layout.path.join("blobs/sha256").join(&layout.manifests[0]["digest"].as_str().unwrap()[7..]);
    fs::remove_file(blob).unwrap();
    assert!(why().starts_with(&format!("image: {path}: manifest sha256:")), "{}", why());
    fs::remove_file(layout.path.join("index.json")).unwrap();
    assert_eq!(why(), format!("image: {path}: index.json: is missing"));
}
