//! config.json from an image's configuration: what the image-spec's conversion says, beside what umoci makes of it.

use conformance::layout::{Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use serde_json::{Value, json};

use super::{Test, busybox, call, json as read};

crate::cases! {
    as_umoci_converts_it,
    commands_and_entrypoints,
    environments,
    users,
    devices_in_the_place_of_files,
    too_many_volumes,
    what_goes_with_what,
    working_directories,
    labels_are_no_orders,
    other_runtimes_refuse_it,
    a_program_runs_as_the_image_says,
}

fn layout() -> Layout {
    let passwd =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv/web:/bin/sh\nguest:x:1000:1000::/home/guest:/bin/sh\n";
    let group = "root:x:0:\nweb:x:34:\naudio:x:29:web,guest\ntape:x:26:web\nguest:x:1000:\n";
    Layout::new([
        busybox(),
        Layer::of(&[
            Entry::dir("etc"),
            Entry::file("etc/passwd", passwd),
            Entry::file("etc/group", group),
            Entry::dir("srv/web").owner(33, 34),
        ]),
    ])
}

/// config.json of a bundle with these words behind `bundle create`, and behind the directory.
#[track_caller]
fn config(t: &Test, layout: &Layout, words: &[&str], program: &[&str]) -> Value {
    let name = format!("b{}", super::names(t.dir.path()).len());
    let image = t.write(&layout.files(), &format!("{name}.image"));
    let bundle = t.text(&name);
    let all = [&["bundle", "create", "-q", "--image", &image], words, &[&bundle], program].concat();
    t.proa(&all).run().ok();
    t.proa(&["plan", "--bundle", &bundle]).run().ok();
    read(&t.path(&name).join("config.json"))
}

/// To open one is to have the kernel make a disk.
fn devices_in_the_place_of_files() -> Done {
    let t = Test::begin();
    let disk = std::path::Path::new("/sys/block/loop222");
    assert!(!disk.exists(), "there is such a disk: this test says nothing here");
    let devices = ["passwd", "group"].map(|name| Entry::block_device(format!("etc/{name}"), 7, 222));
    let layout = Layout::new([busybox(), Layer::of(&[Entry::dir("etc")]), Layer::of(&devices)]);
    t.bundle_of(&layout, "b");
    assert!(!disk.exists(), "a device of the image was opened");
    t.create(&t.text("b.image"), &["--user", "web"], "c").run().fails().says("no such user");
    Ok(())
}

fn too_many_volumes() -> Done {
    let t = Test::begin();
    for (count, fits) in [(128, true), (129, false)] {
        let volumes: serde_json::Map<String, Value> = (0..count).map(|n| (format!("/v{n}"), json!({}))).collect();
        let image = t.write(&Layout::new([busybox()]).with("Volumes", json!(volumes)).files(), &format!("i{count}"));
        let said = t.create(&image, &[], &format!("b{count}")).run();
        assert_eq!(said.success(), fits, "{count}: {}", said.err);
    }
    Ok(())
}

fn what_goes_with_what() -> Done {
    let t = Test::begin();
    let image = t.write(&Layout::new([busybox()]).with("Env", json!(["=x", "y", "Z=1"])).files(), "image");
    t.create(&image, &["--read-only", "--size", "1G"], "b").run().fails().says("--size");
    t.proa(&["bundle", "create", "--image", &image, ""]).run().fails().says("is empty");
    t.create(&image, &[], "b").run().ok();
    let env = read(&t.path("b").join("config.json"))["process"]["env"].clone();
    assert_eq!(env.as_array().map(Vec::len), Some(2), "{env}");
    t.proa(&["plan", "--bundle", &t.text("b")]).run().ok();
    // A link is what it leads to.
    std::fs::create_dir(t.path("real")).expect("cannot make a directory");
    std::os::unix::fs::symlink(t.path("real"), t.path("link")).expect("cannot link");
    t.create(&image, &[], "link").run().ok();
    assert!(t.proa(&["bundle", "ls"]).run().text().contains(&t.text("real")));
    t.proa(&["bundle", "rm", &t.text("link")]).run().ok();
    assert!(!t.path("real").exists());
    Ok(())
}

fn as_umoci_converts_it() -> Done {
    let t = Test::begin();
    for (number, (user, dir)) in
        [("", ""), ("web", "/srv/web"), ("33", "/"), ("web:audio", "/tmp"), ("1000:7", "/new/dir"), ("guest", "/")]
            .into_iter()
            .enumerate()
    {
        let mut layout = layout()
            .with("User", json!(user))
            .with("WorkingDir", json!(dir))
            .with("Entrypoint", json!(["/bin/echo", "-n"]))
            .with("Cmd", json!(["two words", ""]))
            .with("Env", json!(["PATH=/bin:/usr/bin", "A=b=c", "EMPTY=", "LANG=C.UTF-8"]))
            .with("ExposedPorts", json!({ "80/tcp": {}, "53/udp": {} }))
            .with("Labels", json!({ "com.example.key": "value", "org.opencontainers.image.title": "a title" }))
            .with("StopSignal", json!("SIGQUIT"));
        layout.config["author"] = json!("An Author <a@example.org>");
        layout.config["created"] = json!("2020-02-02T02:02:02Z");
        let name = format!("b{number}");
        let ours = read(&t.bundle_of(&layout, &name).join("config.json"));
        call(
            "umoci",
            &[
                "unpack",
                "--image",
                &format!("{}:latest", t.text(&format!("{name}.image"))),
                &t.text(&format!("{name}.umoci")),
            ],
        )
        .ok();
        let theirs = read(&t.path(&format!("{name}.umoci/config.json")));
        for pointer in ["/process/args", "/process/cwd", "/process/user/uid", "/process/user/gid"] {
            assert_eq!(ours.pointer(pointer), theirs.pointer(pointer), "{user:?}: {pointer}");
        }
        let groups = |config: &Value| {
            let list = config["process"]["user"]["additionalGids"].as_array().cloned().unwrap_or_default();
            let mut groups: Vec<u64> = list.iter().filter_map(Value::as_u64).collect();
            groups.retain(|group| Some(*group) != config["process"]["user"]["gid"].as_u64());
            groups.sort_unstable();
            groups
        };
        assert_eq!(groups(&ours), groups(&theirs), "{user:?}: groups");
        let env = |config: &Value| -> Vec<String> {
            let list = config["process"]["env"].as_array().expect("a list").iter();
            list.filter_map(Value::as_str)
                .filter(|it| !it.starts_with("HOME=") && !it.starts_with("TERM="))
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(env(&ours), env(&theirs), "{user:?}: the environment");
        let theirs = theirs["annotations"].as_object().expect("annotations");
        for (key, value) in theirs {
            let (mut one, mut other): (Vec<&str>, Vec<&str>) = (
                value.as_str().unwrap_or("").split(',').collect(),
                ours["annotations"][key].as_str().unwrap_or("").split(',').collect(),
            );
            one.sort_unstable();
            other.sort_unstable();
            assert_eq!(one, other, "{key}");
        }
        for key in ours["annotations"].as_object().expect("annotations").keys() {
            assert!(theirs.contains_key(key) || key.starts_with("io.github.proa.root."), "{key} is proa's alone");
        }
    }
    Ok(())
}

fn commands_and_entrypoints() -> Done {
    let t = Test::begin();
    let both = layout().with("Entrypoint", json!(["entry", "-e"])).with("Cmd", json!(["cmd", "-c"]));
    for (words, program, wanted) in [
        (&[][..], &[][..], json!(["entry", "-e", "cmd", "-c"])),
        (&[], &["own", "-o"], json!(["entry", "-e", "own", "-o"])),
        (&["--entrypoint", "other"], &[], json!(["other"])),
        (&["--entrypoint", "other"], &["own", "--image", "x"], json!(["other", "own", "--image", "x"])),
        (&["--entrypoint", ""], &["own"], json!(["own"])),
    ] {
        assert_eq!(config(&t, &both, words, program)["process"]["args"], wanted, "{words:?} {program:?}");
    }
    let none = layout().with("Cmd", json!(null));
    assert_eq!(config(&t, &none, &[], &["own"])["process"]["args"], json!(["own"]));
    let image = t.write(&none.files(), "none");
    t.create(&image, &[], "refused").run().exits(1).says("command");
    assert!(!t.path("refused").exists());
    Ok(())
}

fn environments() -> Done {
    let t = Test::begin();
    let env =
        |words: &[&str], image: Value| config(&t, &layout().with("Env", image), words, &[])["process"]["env"].clone();
    assert_eq!(env(&[], json!(["A=b", "PATH=/x"])), json!(["A=b", "PATH=/x"]));
    assert_eq!(env(&["-e", "A=c", "--env", "B=a=b"], json!(["A=b", "PATH=/x"])), json!(["A=c", "PATH=/x", "B=a=b"]));
    assert!(env(&[], json!(null))[0].as_str().is_some_and(|path| path.starts_with("PATH=/usr/local/sbin:")));
    assert_eq!(env(&["--env", "A="], json!(["A=b", "PATH=/x"])), json!(["A=", "PATH=/x"]));
    Ok(())
}

fn users() -> Done {
    let t = Test::begin();
    let user = |words: &[&str], image: &str| {
        config(&t, &layout().with("User", json!(image)), words, &[])["process"]["user"].clone()
    };
    assert_eq!(user(&[], "web"), json!({ "uid": 33, "gid": 34, "additionalGids": [26, 29] }));
    assert_eq!(user(&[], "33:audio"), json!({ "uid": 33, "gid": 29 }));
    assert_eq!(user(&["--user", "guest"], "web"), json!({ "uid": 1000, "gid": 1000, "additionalGids": [29] }));
    assert_eq!(user(&["--user", "7:8"], "nobody-knows"), json!({ "uid": 7, "gid": 8 }));
    let image = t.write(&layout().with("User", json!("nobody-knows")).files(), "unknown");
    t.create(&image, &[], "refused").run().exits(1).says("nobody-knows");
    t.create(&image, &["--user", "web:nobody-knows"], "refused").run().exits(1).says("nobody-knows");
    // No capabilities that are in force for who is not root.
    let config = config(&t, &layout().with("User", json!("web")), &[], &[]);
    assert_eq!(config["process"]["capabilities"]["effective"], json!([]));
    Ok(())
}

fn working_directories() -> Done {
    let t = Test::begin();
    for (image, words, wanted) in [
        ("", &[][..], "/"),
        ("/srv/web", &[], "/srv/web"),
        ("srv", &[], "/srv"),
        ("/srv", &["--workdir", "/tmp"], "/tmp"),
    ] {
        assert_eq!(config(&t, &layout().with("WorkingDir", json!(image)), words, &[])["process"]["cwd"], wanted);
    }
    let image = t.write(&layout().with("WorkingDir", json!("/new/dir")).files(), "image");
    let words = [
        "bundle",
        "create",
        "-q",
        "--image",
        &image,
        "--hostname",
        "named",
        &t.text("made"),
        "sh",
        "-c",
        "pwd; hostname",
    ];
    t.proa(&words).run().ok();
    assert_eq!(t.run("made").text(), "/new/dir\nnamed");
    Ok(())
}

fn labels_are_no_orders() -> Done {
    let t = Test::begin();
    let labels = json!({
        "io.github.proa.root.layers": "/", "io.github.proa.root.writable": "/etc", "io.github.proa.root.overlay-options": "metacopy=on",
        "io.github.proa.root.mapped-ids": "idmap", "io.github.proa.cgroup.init": "x", "io.github.proa.landlock": "{}",
        "io.github.proa.new-one": "x", "org.systemd.property.KillMode": "'none'", "run.oci.keep_original_groups": "1", "fine": "kept",
    });
    let config = config(&t, &layout().with("Labels", labels), &[], &[]);
    let annotations = config["annotations"].as_object().expect("annotations");
    let strange: Vec<_> = annotations
        .keys()
        .filter(|key| {
            (key.starts_with("io.github.proa.") && !matches!(key.as_str(), super::LAYERS | super::WRITABLE))
                || key.starts_with("org.systemd")
                || key.starts_with("run.oci")
        })
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert_eq!(annotations["fine"], "kept");
    assert_ne!(annotations[super::LAYERS], "/");
    assert_ne!(annotations[super::WRITABLE], "/etc");
    Ok(())
}

fn other_runtimes_refuse_it() -> Done {
    let t = Test::begin();
    let bundle = t.bundle_of(&layout().with("Cmd", json!(["true"])), "b");
    t.run("b").ok();
    for runtime in ["runc", "crun"] {
        let said =
            call(runtime, &["--root", &t.text("states"), "run", "--bundle", &bundle.display().to_string(), "other"])
                .fails();
        assert!(said.err.contains("rootfs"), "{runtime}: {}", said.err);
    }
    assert!(!bundle.join("rootfs").exists());
    Ok(())
}

fn a_program_runs_as_the_image_says() -> Done {
    let t = Test::begin();
    let script = "id -u; id -g; id -G; pwd; echo $A; echo $HOME; touch here && echo fine; grep -c . /proc/self/mounts >/dev/null && echo mounts";
    let layout = layout()
        .with("User", json!("web"))
        .with("WorkingDir", json!("/srv/web"))
        .with("Env", json!(["A=b c", "PATH=/bin"]));
    t.bundle_of(&layout.with("Cmd", json!(["sh", "-c", script])), "b");
    assert_eq!(t.run("b").text(), "33\n34\n34 26 29\n/srv/web\nb c\n/srv/web\nfine\nmounts");
    Ok(())
}
