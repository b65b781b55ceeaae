//! Images that lie elsewhere: archives, links in a layout, what the configuration and the caller's words say.

use conformance::layout::{self, Layer, Layout};
use conformance::tarball::{Entry, tar};
use conformance::test::Done;
use serde_json::{Value, json};

use super::hostile::{Want, Watch};
use super::hostile_documents::{layout, value};

use Want::{Contained, Either, Refused};

crate::cases! {
    hostile_archives,
    hostile_links_in_a_layout,
    hostile_configurations,
    hostile_words,
}

fn hostile_configurations() -> Done {
    let mut watch = Watch::begin();
    let mut tries = |what: String, config: Value, want| {
        let mut layout = layout();
        layout.config["config"] = config;
        watch.tries_files(&what, &layout.files(), want);
    };
    for (key, wrong) in [
        ("User", json!("../../etc/passwd")),
        ("User", json!("no-such-user")),
        ("User", json!("-1")),
        ("User", json!("4294967295:0")),
        ("User", json!("a\nb")),
        ("WorkingDir", json!("../../..")),
        ("WorkingDir", json!("/a\0b")),
        ("WorkingDir", json!(5)),
        ("Env", json!(["A\0=b", "=x", "", "B"])),
        ("Env", json!("A=b")),
        ("Cmd", json!([])),
        ("Cmd", json!([""])),
        ("Cmd", json!("x")),
        ("Cmd", json!(["a\0b"])),
        ("Entrypoint", json!({})),
        ("Labels", json!({ "a": 5 })),
        ("Labels", json!({ "": "x" })),
        ("Volumes", json!({ "/": {} })),
        ("Volumes", json!({ "../../canary": {} })),
        ("Volumes", json!({ "/proc": {} })),
        ("ExposedPorts", json!({ "999999/tcp": {} })),
        ("ExposedPorts", json!([])),
        ("StopSignal", json!("\u{1b}[31m")),
    ] {
        let mut config = json!({ "Cmd": ["/a"] });
        config[key] = wrong.clone();
        tries(format!("{key}: {wrong}"), config, Either);
    }
    let labels: serde_json::Map<String, Value> =
        (0..20_000).map(|n| (format!("label{n}"), json!("x".repeat(20)))).collect();
    tries("many labels".into(), json!({ "Cmd": ["/a"], "Labels": labels }), Either);
    tries("a long command".into(), json!({ "Cmd": vec!["x".repeat(100); 10_000] }), Either);
    // /etc/passwd of the image is never the host's.
    for target in [
        "/etc/passwd",
        "../../../../etc/passwd",
        "/proc/self/root/etc/passwd",
        "/dev/zero",
        "/fifo",
        "/etc",
        "/etc/passwd2",
    ] {
        let layer = Layer::of(&[
            Entry::dir("etc"),
            Entry::symlink("etc/passwd", target),
            Entry::fifo("fifo"),
            Entry::device("dev/zero", 1, 5),
        ]);
        let layout = Layout::new([layer]).with("User", json!("user"));
        watch.tries_files(&format!("passwd is {target}"), &layout.files(), Refused);
    }
    let large = Layer::of(&[Entry::file("etc/passwd", "x:x:1:1::/:/\n".repeat(1_000_000))]);
    watch.tries_files("a large passwd", &Layout::new([large]).with("User", json!("x")).files(), Either);
    watch.end()
}

fn hostile_archives() -> Done {
    let mut watch = Watch::begin();
    let image = watch.t.text("image.tar");
    let mut tries = |what: &str, bytes: Vec<u8>, want| {
        std::fs::write(&image, bytes).expect("cannot write");
        watch.tries(what, &image, &[], want);
    };
    let docker = || layout().docker_archive("a:b");
    for (what, config, layers) in [
        ("a configuration outside", json!("../../../etc/passwd"), json!(["x/layer.tar"])),
        ("an absolute one", json!("/etc/passwd"), json!(["x/layer.tar"])),
        ("none", json!(null), json!(["x/layer.tar"])),
        ("layers outside", json!(0), json!(["../../../etc/passwd"])),
        ("layers that are none", json!(0), json!([5, null])),
        ("no layers", json!(0), json!([])),
    ] {
        let mut files = docker();
        let mut manifest = value(&files, "manifest.json");
        if config != 0 {
            manifest[0]["Config"] = config;
        }
        manifest[0]["Layers"] = layers;
        files.insert("manifest.json".into(), manifest.to_string().into_bytes());
        tries(what, layout::archive(&files), Refused);
    }
    let files = docker();
    let path = value(&files, "manifest.json")[0]["Layers"][0].as_str().expect("a path").to_owned();
    let entries = |change: &dyn Fn(&str, &[u8]) -> Vec<Entry>| -> Vec<u8> {
        tar(&files.iter().flat_map(|(path, data)| change(path, data)).collect::<Vec<_>>())
    };
    let only = |wanted: &str, entry: Entry| {
        let wanted = wanted.to_owned();
        entries(&move |path: &str, data: &[u8]| {
            if path == wanted { vec![entry.clone()] } else { vec![Entry::file(path, data)] }
        })
    };
    tries("a layer that is a link outside", only(&path, Entry::symlink(&path, "/etc/passwd")), Refused);
    tries("a layer that is a hard link outside", only(&path, Entry::hard_link(&path, "/etc/passwd")), Refused);
    tries("a layer that is a link to itself", only(&path, Entry::symlink(&path, &path)), Refused);
    tries("a layer that is a fifo", only(&path, Entry::fifo(&path)), Refused);
    tries("a manifest that is a link", only("manifest.json", Entry::symlink("manifest.json", "/etc/passwd")), Refused);
    tries("each twice", entries(&|path, data| vec![Entry::file(path, data), Entry::file(path, data)]), Either);
    tries("names outside", entries(&|path, data| vec![Entry::file(format!("../{path}"), data)]), Refused);
    tries("absolute names", entries(&|path, data| vec![Entry::file(format!("/{path}"), data)]), Either);
    tries(
        "many other files",
        {
            let more: Vec<Entry> = (0..50_000).map(|n| Entry::file(format!("more/{n}"), "")).collect();
            let all: Vec<Entry> = files.iter().map(|(path, data)| Entry::file(path, data)).chain(more).collect();
            tar(&all)
        },
        Either,
    );
    let mut manifest = value(&files, "manifest.json");
    let one = manifest[0].clone();
    manifest.as_array_mut().expect("a list").extend(vec![one; 5000]);
    let mut many = files.clone();
    many.insert("manifest.json".into(), manifest.to_string().into_bytes());
    tries("one image five thousand times", layout::archive(&many), Either);
    for text in ["[]", "{}", "[null]", "[{}]", "null", "[[[["] {
        let mut files = docker();
        files.insert("manifest.json".into(), text.into());
        tries(text, layout::archive(&files), Refused);
    }
    tries("an empty tar", tar(&[]), Refused);
    tries("nothing", Vec::new(), Refused);
    tries("garbage", vec![0xa5; 100_000], Refused);
    tries("a compressed archive", layout::gzip(&layout::archive(&files)), Either);
    watch.end()
}

fn hostile_links_in_a_layout() -> Done {
    let mut watch = Watch::begin();
    let paths: Vec<String> = layout().files().into_keys().collect();
    for path in &paths {
        for target in ["/etc/passwd", "/dev/zero", "/proc/self/mem", "../../../../etc/shadow"] {
            let image = watch.t.write(&layout().files(), "linked");
            let path = watch.t.path("linked").join(path);
            std::fs::remove_file(&path).expect("cannot remove");
            std::os::unix::fs::symlink(target, &path).expect("cannot link");
            watch.tries(&format!("{} is {target}", path.display()), &image, &[], Refused);
            std::fs::remove_file(&path).expect("cannot remove");
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("cannot make a fifo");
            watch.tries(&format!("{} is a fifo", path.display()), &image, &[], Refused);
            std::fs::remove_dir_all(&image).expect("cannot remove");
        }
    }
    watch.end()
}

fn hostile_words() -> Done {
    let mut watch = Watch::begin();
    let image = watch.t.write(&layout().files(), "layout");
    for (words, want) in [
        (&["--platform", "../../x"][..], Refused),
        (&["--user", "../../etc/passwd"], Refused),
        (&["--user", "0:0:0"], Refused),
        (&["--workdir", "relative"], Refused),
        (&["--env", "=x"], Refused),
        (&["--max-size", "0"], Refused),
        (&["--max-size", "-1"], Refused),
        (&["--max-size", "99999999999999999999G"], Refused),
        (&["--network", "../../x"], Refused),
        (&["--network", "/etc/passwd"], Refused),
        (&["--userns", "x"], Refused),
        (&["--hostname", "a\nb"], Either),
        (&["--user", "1:2"], Contained),
    ] {
        watch.tries(&format!("{words:?}"), &image, words, want);
    }
    // Nothing of a name becomes a path of the store.
    for name in ["../../canary", "/canary", ".", "..", "a/../../b", "a\nb", "a:b:c"] {
        let mut files = layout().files();
        let mut index = value(&files, "index.json");
        index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
        index["manifests"][0]["annotations"]["io.containerd.image.name"] = json!(name);
        files.insert("index.json".into(), index.to_string().into_bytes());
        watch.tries_files(&format!("the name {name:?}"), &files, Either);
    }
    watch.end()
}
