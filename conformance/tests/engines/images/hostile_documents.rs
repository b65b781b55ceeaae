//! Images whose documents lie: index, manifest, configuration, and where blobs are said to be.

use conformance::layout::{self, Files, Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use serde_json::{Value, json};

use super::hostile::{Want, Watch};

crate::cases! {
    hostile_digests_as_paths,
    hostile_missing_parts,
    hostile_documents_without_form,
    hostile_depth_and_size,
    hostile_indexes,
    hostile_numbers_of_layers,
}

use Want::{Either, Refused};

fn layer() -> Layer {
    Layer::of(&[Entry::file("a", "content")])
}

pub(super) fn layout() -> Layout {
    Layout::new([layer()])
}

pub(super) fn value(files: &Files, path: &str) -> Value {
    serde_json::from_slice(&files[path]).expect("JSON")
}

fn hostile_digests_as_paths() -> Done {
    let mut watch = Watch::begin();
    for digest in [
        "sha256:../../etc/passwd",
        "sha256:../../../../../../etc/passwd",
        "../../etc/passwd:x",
        "/etc/passwd",
        "sha256:/etc/passwd",
        "",
        ":",
        "sha256:",
        "sha256",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        "sha512:abc",
        "sha256:ABCDEF",
        "sha256:a/../b",
        "sha256:a\0b",
        "sha256:a\nb",
        "sha256:\u{1b}[31m",
    ] {
        let wrong = json!(digest);
        watch.tries_files(
            &format!("layer {digest:?}"),
            &layout().files_with(|it| it["layers"][0]["digest"] = wrong.clone()),
            Refused,
        );
        watch.tries_files(
            &format!("config {digest:?}"),
            &layout().files_with(|it| it["config"]["digest"] = wrong.clone()),
            Refused,
        );
        let mut files = layout().files();
        let mut index = value(&files, "index.json");
        index["manifests"][0]["digest"] = wrong.clone();
        files.insert("index.json".into(), index.to_string().into_bytes());
        watch.tries_files(&format!("manifest {digest:?}"), &files, Refused);
        watch.tries_files(
            &format!("diff id {digest:?}"),
            &Layout::new([Layer { diff_id: digest.into(), ..layer() }]).files(),
            Refused,
        );
    }
    watch.end()
}

fn hostile_missing_parts() -> Done {
    let mut watch = Watch::begin();
    let paths: Vec<String> = layout().files().into_keys().collect();
    for path in &paths {
        let mut files = layout().files();
        files.remove(path);
        watch.tries_files(&format!("without {path}"), &files, Refused);
        files.insert(path.clone(), Vec::new());
        watch.tries_files(&format!("{path} is empty"), &files, Refused);
        files.insert(path.clone(), vec![0; 10_000]);
        watch.tries_files(&format!("{path} is zeros"), &files, Refused);
        files.remove(path);
        files.insert(format!("{path}/x"), Vec::new());
        watch.tries_files(&format!("{path} is a directory"), &files, Refused);
    }
    for version in [r#"{}"#, r#"{"imageLayoutVersion":"2.0.0"}"#, r#"{"imageLayoutVersion":1}"#, "[]", "1.0.0"] {
        let mut files = layout().files();
        files.insert("oci-layout".into(), version.into());
        watch.tries_files(&format!("oci-layout {version}"), &files, Refused);
    }
    let empty = watch.t.path("empty");
    std::fs::create_dir(&empty).expect("cannot make a directory");
    for image in [
        "/dev/null",
        "/dev/zero",
        "/proc/self/mem",
        "/etc/passwd",
        "/proc",
        "/no/such",
        "",
        ":",
        "/",
        ".",
        &empty.display().to_string(),
    ] {
        watch.tries(image, image, &[], Refused);
    }
    watch.end()
}

fn hostile_documents_without_form() -> Done {
    let mut watch = Watch::begin();
    for wrong in [
        json!(null),
        json!([]),
        json!({}),
        json!("x"),
        json!(-1),
        json!(1e300),
        json!([null]),
        json!([[]]),
        json!([{}]),
        json!(["x"]),
    ] {
        for key in ["schemaVersion", "mediaType", "config", "layers"] {
            let want = if matches!(key, "schemaVersion" | "mediaType") { Either } else { Refused };
            watch.tries_files(
                &format!("manifest {key}: {wrong}"),
                &layout().files_with(|it| it[key] = wrong.clone()),
                want,
            );
        }
        for key in ["mediaType", "digest", "size"] {
            let want = if key == "mediaType" { Either } else { Refused };
            watch.tries_files(
                &format!("layer {key}: {wrong}"),
                &layout().files_with(|it| it["layers"][0][key] = wrong.clone()),
                want,
            );
        }
        let mut files = layout().files();
        let mut index = value(&files, "index.json");
        index["manifests"] = wrong.clone();
        files.insert("index.json".into(), index.to_string().into_bytes());
        watch.tries_files(&format!("manifests: {wrong}"), &files, Refused);
        files.insert("index.json".into(), wrong.to_string().into_bytes());
        watch.tries_files(&format!("index: {wrong}"), &files, Refused);
    }
    for text in ["{", "}", "[", "{\"a\":", "{\"manifests\":[}", "\u{feff}{}", "{} {}", "{\"manifests\":[]}garbage"] {
        let mut files = layout().files();
        files.insert("index.json".into(), text.into());
        watch.tries_files(&format!("index {text:?}"), &files, Refused);
    }
    for media in [
        "application/vnd.oci.image.layer.v1.tar+encrypted",
        "application/vnd.oci.image.layer.v1.tar+xz",
        "text/plain",
        "application/vnd.in-toto+json",
    ] {
        watch.tries_files(media, &layout().files_with(|it| it["layers"][0]["mediaType"] = json!(media)), Refused);
    }
    let urls = |it: &mut Value| {
        it["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
        it["layers"][0]["urls"] = json!(["http://127.0.0.1:1/layer", "file:///etc/passwd"]);
    };
    watch.tries_files("a layer elsewhere", &layout().files_with(urls), Either);
    watch.end()
}

fn hostile_depth_and_size() -> Done {
    let mut watch = Watch::begin();
    for (what, text) in [
        ("lists", "[".repeat(1_000_000)),
        ("closed lists", "[".repeat(100_000) + &"]".repeat(100_000)),
        ("objects", "{\"a\":".repeat(500_000)),
        ("a manifest of lists", format!("{{\"manifests\":{}", "[".repeat(1_000_000))),
        (
            "annotations",
            format!(
                "{{\"schemaVersion\":2,\"annotations\":{},\"manifests\":[]}}",
                "{\"a\":".repeat(50_000) + "1" + &"}".repeat(50_000)
            ),
        ),
        ("a long text", format!("{{\"manifests\":\"{}\"}}", "x".repeat(20 << 20))),
        ("a long number", format!("{{\"manifests\":{}}}", "9".repeat(5 << 20))),
        ("blanks", " ".repeat(40 << 20)),
    ] {
        let mut files = layout().files();
        files.insert("index.json".into(), text.clone().into_bytes());
        watch.tries_files(&format!("index: {what}"), &files, Refused);
        // As the manifest, and as the configuration, each with a true digest.
        let mut files = layout().files();
        let mut descriptor =
            layout::add(&mut files, "application/vnd.oci.image.manifest.v1+json", text.clone().into_bytes());
        layout::set_index(&mut files, &[descriptor.clone()]);
        watch.tries_files(&format!("manifest: {what}"), &files, Refused);
        descriptor["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
        let mut config = Files::new();
        layout::add(&mut config, "", text.into_bytes());
        let mut files = layout().files_with(|it| it["config"] = descriptor);
        files.extend(config);
        watch.tries_files(&format!("config: {what}"), &files, Refused);
    }
    // A document that is larger than its descriptor says, or said to be enormous.
    for size in [json!(1u64 << 40), json!(5), json!(0)] {
        let mut files = layout().files();
        let mut index = value(&files, "index.json");
        index["manifests"][0]["size"] = size.clone();
        files.insert("index.json".into(), index.to_string().into_bytes());
        watch.tries_files(&format!("a manifest of {size}"), &files, Refused);
    }
    watch.end()
}

fn hostile_indexes() -> Done {
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    let mut watch = Watch::begin();
    // A digest cannot be in what it is of; but an index may be said to be a manifest, and come again and again.
    let mut files = layout().files();
    let inner =
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [value(&files, "index.json")["manifests"][0]] });
    let mut descriptor =
        layout::add(&mut files, "application/vnd.oci.image.manifest.v1+json", inner.to_string().into_bytes());
    layout::set_index(&mut files, &[descriptor.clone()]);
    watch.tries_files("an index as manifest", &files, Either);
    descriptor["mediaType"] = json!(INDEX);
    for _ in 0..2000 {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
        descriptor = layout::add(&mut files, INDEX, index.to_string().into_bytes());
    }
    layout::set_index(&mut files, &[descriptor]);
    watch.tries_files("two thousand indexes", &files, Refused);
    // Two of each in thirty: a thousand million ways.
    let mut files = layout().files();
    let mut both = vec![json!({ "mediaType": INDEX, "digest": layout::digest(b"none"), "size": 4 })];
    for n in 0..30 {
        let index =
            json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": both, "annotations": { "n": n.to_string() } });
        let one = layout::add(&mut files, INDEX, index.to_string().into_bytes());
        let mut two = one.clone();
        two["annotations"] = json!({ "again": "yes" });
        both = vec![one, two];
    }
    layout::set_index(&mut files, &both);
    watch.tries_files("a thousand million ways", &files, Refused);
    let mut files = layout().files();
    let one = value(&files, "index.json")["manifests"][0].clone();
    layout::set_index(&mut files, &vec![one.clone(); 20_000]);
    watch.tries_files("one image many times", &files, Either);
    layout::set_index(&mut files, &[one.clone(), one]);
    watch.tries_files("one name twice", &files, Either);
    // A manifest that is an index too.
    let both = layout().files_with(|it| it["manifests"] = json!([]));
    watch.tries_files("an index in a manifest", &both, Either);
    watch.end()
}

fn hostile_numbers_of_layers() -> Done {
    let mut watch = Watch::begin();
    watch.tries_files("no layers", &Layout::new([]).files(), Refused);
    let empty = Layer::of(&[]);
    watch.tries_files("ten thousand layers", &Layout::new(vec![empty.clone(); 10_000]).files(), Refused);
    let other = |n: usize| Layer::of(&[Entry::file(format!("f{n}"), "")]);
    watch.tries_files("five thousand layers", &Layout::new((0..5000).map(other)).files(), Refused);
    watch.tries_files(
        "more layers than diff ids",
        &layout().files_with(|it| {
            let one = it["layers"][0].clone();
            it["layers"].as_array_mut().expect("a list").push(one);
        }),
        Refused,
    );
    watch.tries_files("fewer layers than diff ids", &layout().files_with(|it| it["layers"] = json!([])), Refused);
    watch.end()
}
