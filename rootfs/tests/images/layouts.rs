//! Where images are and how one is chosen: layouts, archives, indexes, platforms, names.

use crate::make::{Layout, OCI, Packed, Scratch, Tar, file, image, pack};
use crate::{import, look};
use rootfs::image::{Digest, Image, Platform};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

fn tar(name: &str) -> Tar {
    Tar::of(&[file(name, "content")])
}

fn open(path: &Path, reference: Option<&str>, platform: &str) -> Result<Image, String> {
    Image::open(path, reference, &Platform::parse(platform).unwrap()).map_err(|error| error.to_string())
}

fn why(path: &Path, reference: Option<&str>, platform: &str) -> String {
    open(path, reference, platform).err().expect("is refused")
}

#[test]
fn a_layout_as_directory_and_archive_in_every_packing() {
    for packed in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
        let scratch = Scratch::new();
        let layout = crate::make::packed_image(&scratch.join("image"), &[&tar("a"), &tar("b")], packed);
        layout.archive(&scratch.join("image.tar"));
        let from_archive = import(&scratch.join("store"), &scratch.join("image.tar")).unwrap();
        let tree = look::merged(&from_archive, &scratch.join("look"));
        assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a", "b"]);
        let from_directory = import(&scratch.join("store"), &scratch.join("image")).unwrap();
        assert_eq!((from_archive.id, from_archive.layers), (from_directory.id, from_directory.layers));
        let opened = Image::open(&scratch.join("image.tar"), None, &Platform::host()).unwrap();
        assert_eq!((opened.name(), opened.layers().len()), ("library/test", 2));
        assert_eq!(opened.config().config().as_ref().unwrap().cmd().as_ref().unwrap(), &["sh"]);
        assert_eq!(Digest::of(opened.config_json()).algorithm(), "sha256");
    }
}

#[test]
fn a_platform_is_chosen_through_indexes() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("image"));
    let with = |mut descriptor: Value, platform: Value| {
        descriptor["platform"] = platform;
        descriptor
    };
    let amd = layout.manifest(&[&tar("amd")], Packed::Plain, ("linux", "amd64"));
    let arm7 = layout.manifest(&[&tar("arm7")], Packed::Gzip, ("linux", "arm"));
    let arm5 = layout.manifest(&[&tar("arm5")], Packed::Gzip, ("linux", "arm"));
    let windows = layout.manifest(&[&tar("windows")], Packed::Gzip, ("windows", "amd64"));
    let arms = json!({"schemaVersion": 2, "manifests": [
        with(arm5.clone(), json!({"os": "linux", "architecture": "arm", "variant": "v5"})),
        with(arm7.clone(), json!({"os": "linux", "architecture": "arm", "variant": "v7"})),
    ]});
    let nested = layout.json(&arms, &format!("{OCI}.index.v1+json"));
    let list = json!({"schemaVersion": 2, "manifests": [
        with(layout.json(&json!({}), &format!("{OCI}.manifest.v1+json")), json!({"os": "unknown", "architecture": "unknown"})),
        layout.json(&json!({"some": "thing"}), "application/x-unknown"),
        with(windows.clone(), json!({"os": "windows", "architecture": "amd64", "os.version": "10"})),
        nested,
        // Without a platform: its configuration has it.
        amd.clone(),
    ]});
    let list = layout.json(&list, "application/vnd.docker.distribution.manifest.list.v2+json");
    layout.add(list, Some("multi"));
    let id = |platform: &str| open(&layout.path, None, platform).unwrap().id().to_string();
    assert_eq!(id("linux/amd64"), amd["digest"].as_str().unwrap());
    assert_eq!(id("linux/arm/v7"), arm7["digest"].as_str().unwrap());
    assert_eq!(id("linux/arm/v6"), arm5["digest"].as_str().unwrap());
    assert_eq!(id("linux/arm"), arm5["digest"].as_str().unwrap());
    assert_eq!(id("windows/amd64"), windows["digest"].as_str().unwrap());
    let none = why(&layout.path, None, "linux/riscv64");
    assert!(none.contains("no image for linux/riscv64, but linux/amd64"), "{none}");
    assert!(!none.contains("unknown"), "{none}");
    assert!(why(&layout.path, None, "linux/arm/v4").contains("linux/arm/v4"));
}

#[test]
fn names() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("image"));
    let descriptors = ["a", "b", "c"].map(|name| layout.manifest(&[&tar(name)], Packed::Gzip, ("linux", "amd64")));
    layout.add(descriptors[0].clone(), Some("docker.io/library/one:1.0"));
    layout.add(descriptors[1].clone(), Some("example.org:5000/two:2.0"));
    let mut both = descriptors[2].clone();
    both["annotations"] =
        json!({"io.containerd.image.name": "docker.io/x/three:3.0", "org.opencontainers.image.ref.name": "3.0"});
    layout.manifests.push(both);
    layout.write_index();
    let digest = |at: usize| descriptors[at]["digest"].as_str().unwrap();
    let named = |name: &str| open(&layout.path, Some(name), "amd64").map(|image| image.id().to_string());
    for (name, at) in [
        ("one:1.0", 0),
        ("docker.io/library/one:1.0", 0),
        ("1.0", 0),
        ("example.org:5000/two:2.0", 1),
        ("2.0", 1),
        ("3.0", 2),
        ("x/three:3.0", 2),
    ] {
        assert_eq!(named(name).as_deref(), Ok(digest(at)), "{name}");
    }
    assert_eq!(named(digest(1)).as_deref(), Ok(digest(1)));
    assert_eq!(open(&layout.path, Some("3.0"), "amd64").unwrap().name(), "docker.io/x/three:3.0");
    let ambiguous = why(&layout.path, None, "amd64");
    assert!(
        ambiguous.contains("several images") && ambiguous.contains("one:1.0") && ambiguous.contains("three:3.0"),
        "{ambiguous}"
    );
    let missing = why(&layout.path, Some("four"), "amd64");
    assert!(missing.contains("no image \"four\"") && missing.contains("two:2.0"), "{missing}");
    layout.add(layout.manifest(&[&tar("d")], Packed::Gzip, ("linux", "amd64")), Some("other:1.0"));
    assert!(why(&layout.path, Some("1.0"), "amd64").contains("several images"));
}

#[test]
fn images_without_a_name() {
    let scratch = Scratch::new();
    let mut layout = Layout::new(&scratch.join("image"));
    let descriptors = ["a", "b"].map(|name| layout.manifest(&[&tar(name)], Packed::Gzip, ("linux", "amd64")));
    let digest = |at: usize| descriptors[at]["digest"].as_str().unwrap();
    layout.add(descriptors[0].clone(), None);
    layout.add(layout.manifest(&[&tar("c")], Packed::Gzip, ("linux", "arm64")), None);
    // The same twice, one for each platform.
    layout.add(descriptors[0].clone(), None);
    assert_eq!(open(&layout.path, None, "amd64").unwrap().id().as_str(), digest(0));
    layout.add(descriptors[1].clone(), None);
    let ambiguous = why(&layout.path, None, "amd64");
    assert!([0, 1].into_iter().all(|at| ambiguous.contains(digest(at))), "{ambiguous}");
    assert!(ambiguous.contains("several images"), "{ambiguous}");
    assert_eq!(open(&layout.path, Some(digest(1)), "amd64").unwrap().id().as_str(), digest(1));
    open(&layout.path, None, "arm64").unwrap();
}

/// An archive of `docker save`, with what older versions wrote.
fn docker(path: &Path, tars: &[&Tar], tags: &[&[&str]], link: bool) -> String {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    let mut add = |name: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, content).unwrap();
    };
    let host = Platform::host();
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(&tar.0).to_string()).collect();
    let mut images = Vec::new();
    let mut last = String::new();
    for (number, tags) in tags.iter().enumerate() {
        let config = json!({"os": host.os, "architecture": host.architecture, "n": number, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = config.to_string().into_bytes();
        last = Digest::of(&config).hex().to_owned();
        add(&format!("{last}.json"), &config);
        let layers: Vec<String> = (0..tars.len()).map(|at| format!("layer{at}/layer.tar")).collect();
        images.push(json!({"Config": format!("{last}.json"), "RepoTags": tags, "Layers": layers}));
    }
    for (at, tar) in tars.iter().enumerate() {
        let name = if link { format!("real{at}.tar") } else { format!("layer{at}/layer.tar") };
        add(&name, &tar.0);
    }
    add("manifest.json", Value::from(images).to_string().as_bytes());
    if link {
        for at in 0..tars.len() {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            builder.append_link(&mut header, format!("layer{at}/layer.tar"), format!("../real{at}.tar")).unwrap();
        }
    }
    builder.finish().unwrap();
    last
}

#[test]
fn archives_of_docker_save() {
    for link in [false, true] {
        let scratch = Scratch::new();
        let path = scratch.join("saved.tar");
        let id = docker(&path, &[&tar("a"), &tar("b")], &[&["busybox:latest", "busybox:1"]], link);
        let stored = import(&scratch.join("store"), &path).unwrap();
        assert_eq!((stored.id.hex(), &*stored.name), (&*id, "busybox:latest"));
        assert_eq!(look::merged(&stored, &scratch.join("look")).keys().collect::<Vec<_>>(), ["", "a", "b"]);
        let host = Platform::host().to_string();
        assert_eq!(open(&path, Some("1"), &host).unwrap().name(), "busybox:1");
        assert!(why(&path, Some("2"), &host).contains("busybox:1"));
        assert!(why(&path, None, "linux/other").contains("no image for linux/other"));
    }
    let scratch = Scratch::new();
    let path = scratch.join("saved.tar");
    docker(&path, &[&tar("a")], &[&["x:1"], &["y:1"]], false);
    let host = Platform::host().to_string();
    assert!(why(&path, None, &host).contains("x:1, y:1"));
    assert!(why(&path, Some("1"), &host).contains("several"));
    assert_eq!(open(&path, Some("y:1"), &host).unwrap().name(), "y:1");
}

#[test]
fn what_is_no_image() {
    let scratch = Scratch::new();
    let host = Platform::host().to_string();
    assert!(why(&scratch.join("missing"), None, &host).contains("No such file"));
    assert!(why(&scratch.0, None, &host).contains("no OCI image layout"));
    assert!(why(Path::new("/dev/null"), None, &host).contains("neither a directory nor a file"));
    for (content, expected) in [
        (pack(&tar("a").0, Packed::Gzip), "uncompress it with gzip"),
        (tar("a").0, "no OCI image layout"),
        (b"text".repeat(1000), "tar archive"),
        (tar("a").0[..700].to_vec(), "tar archive"),
    ] {
        fs::write(scratch.join("file"), content).unwrap();
        let found = why(&scratch.join("file"), None, &host);
        assert!(found.contains(expected), "{found}");
    }
}

#[test]
fn documents_that_are_wrong() {
    let host = Platform::host().to_string();
    let broken = |change: &dyn Fn(&mut Layout)| {
        let scratch = Scratch::new();
        let mut layout = image(&scratch.join("image"), &[&tar("a")]);
        change(&mut layout);
        layout.write_index();
        why(&layout.path, None, &host)
    };
    let manifest = |document: Value| {
        broken(&|layout| {
            let descriptor = layout.json(&document, &format!("{OCI}.manifest.v1+json"));
            layout.manifests = vec![descriptor];
        })
    };
    let layer = json!({"mediaType": "x", "digest": Digest::of(b"").as_str(), "size": 0});
    assert!(manifest(json!({"schemaVersion": 1, "layers": []})).contains("schema version 1"));
    assert!(manifest(json!({"schemaVersion": 2, "layers": [], "manifests": [], "config": layer})).contains("both"));
    assert!(manifest(json!({"schemaVersion": 2})).contains("no layers"));
    assert!(manifest(json!([1, 2])).contains("schemaVersion"));
    assert!(manifest(json!({"schemaVersion": 2, "layers": [], "config": layer})).contains("is not in"));
    assert!(
        broken(&|layout| fs::write(layout.path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0"}"#).unwrap())
            .contains("2.0")
    );
    assert!(broken(&|layout| layout.manifests.clear()).contains("no image"));
    assert!(broken(&|layout| layout.manifests[0]["size"] = json!(5)).contains("in place of 5"));
    let climbing = broken(&|layout| layout.manifests[0]["digest"] = json!("sha256:../../x"));
    assert!(climbing.contains("index.json: Invalid"), "{climbing}");
    let host_platform = Platform::host();
    let with = |media_type: &str, kind: &str| {
        broken(&|layout| {
            let tar = tar("a");
            let blob = layout.blob(&tar.0, media_type);
            let diff_id = Digest::of(&tar.0).to_string();
            let config = json!({"os": host_platform.os, "architecture": host_platform.architecture, "rootfs": {"type": kind, "diff_ids": [diff_id]}});
            layout.manifests = vec![layout.manifest_of(config, &[blob])];
        })
    };
    assert!(with("application/vnd.oci.image.layer.v1.tar+brotli", "layers").contains("brotli\" are not supported"));
    assert!(with("application/vnd.oci.image.layer.v1.tar", "blocks").contains("not layers"));
    // Larger than a document can be.
    assert!(
        broken(&|layout| {
            let descriptor = layout.blob(&vec![b' '; (4 << 20) + 1], &format!("{OCI}.manifest.v1+json"));
            layout.manifests = vec![descriptor];
        })
        .contains("more than")
    );
    // An index that leads to itself cannot be made, but many that lead to many can.
    let deep = broken(&|layout| {
        let mut descriptor = layout.manifests[0].clone();
        for _ in 0..20 {
            let index = json!({"schemaVersion": 2, "manifests": vec![descriptor; 3]});
            descriptor = layout.json(&index, &format!("{OCI}.index.v1+json"));
        }
        layout.manifests = vec![descriptor];
    });
    assert!(deep.contains("too many indexes"), "{deep}");
}
