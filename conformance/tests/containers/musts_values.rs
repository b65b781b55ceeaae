//! Rules of the specification on values that bind: what has to be there, what no
//! value may be, and that `features` claims nothing that is not known.
//!
//! Not here: the values of one property (its own topic's file), values by chance
//! (musts_random.rs).

use std::fs;

use conformance::bundle::Bundle;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "C-30" => required_properties_have_to_be_there,
    "C-70" => no_text_may_hold_a_nul,
    "C-48" => the_highest_number_is_no_user,
    "C-1" => versions_are_semantic,
    "C-63" => annotations_are_text,
    "B-3" => config_in_another_encoding,
    "L-90" => paths_to_hide_are_absolute,
    "L-63" => lines_of_resctrl_are_single,
    "L-38" => device_rules_without_numbers_are_for_all,
    "L-71" => memory_policy_needs_its_mode,
    "F-6" => every_mount_option_of_features_is_known,
    "F-11" => every_capability_of_features_is_known,
    "F-4" => features_has_no_properties_of_its_own,
    "F-9" => annotations_of_features_are_text,
}

/// Sets what a JSON pointer names, with the objects on the way to it.
fn set(bundle: &mut Bundle, pointer: &str, value: Value) {
    let mut place = &mut bundle.config;
    for name in pointer.split('/').skip(1) {
        place = &mut place[name];
    }
    *place = value;
}

fn required_properties_have_to_be_there(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "takes most of them for zero or empty")?;
    t.peer_differs(Kind::Crun, "takes most of them for zero or empty")?;
    let id_map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    for (pointer, whole, names) in [
        ("/root", json!({"path": "rootfs"}), &["path"][..]),
        ("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]), &["type", "soft", "hard"]),
        ("/process/scheduler", json!({"policy": "SCHED_OTHER"}), &["policy"]),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 4}), &["class"]),
        ("/hooks/createRuntime", json!([{"path": "/bin/true"}]), &["path"]),
        ("/mounts", json!([{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]), &["destination"]),
        ("/linux/namespaces", json!([{"type": "mount"}]), &["type"]),
        ("/linux/uidMappings", id_map, &["containerID", "hostID", "size"]),
        (
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 5}]),
            &["path", "type", "major", "minor"],
        ),
        ("/linux/resources/devices", json!([{"allow": true, "access": "rwm"}]), &["allow"]),
        ("/linux/personality", json!({"domain": "LINUX"}), &["domain"]),
    ] {
        let mut bundle = t.bundle();
        bundle.remove("/hostname");
        if pointer == "/linux/uidMappings" {
            bundle.user_namespace(100_000);
        }
        for name in names {
            let mut part = whole.clone();
            let object = if part.is_array() { &mut part[0] } else { &mut part };
            object.as_object_mut().expect("an object").remove(*name);
            set(&mut bundle, pointer, part);
            let output = t.create_call(&bundle, &t.id()).output().fails();
            t.proa_says(&output, &pointer[1..].replace('/', "."));
        }
        if !["/linux/uidMappings", "/linux/namespaces", "/mounts"].contains(&pointer) {
            set(&mut bundle, pointer, whole);
            t.run(&bundle).ok();
        }
    }
    t.assert_nothing_left();
    Ok(())
}

fn no_text_may_hold_a_nul(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "cuts the text there")?;
    let mut bundle = t.bundle();
    let whole = bundle.config.clone();
    for (pointer, value) in [
        ("/root/path", json!("rootfs\0x")),
        ("/process/args", json!(["/bin/true", "a\0b"])),
        ("/process/args", json!(["/bin/true\0x"])),
        ("/process/env", json!(["A=b\0c"])),
        ("/process/env", json!(["A\0B=c"])),
        ("/process/cwd", json!("/\0tmp")),
        ("/hostname", json!("a\0b")),
        ("/domainname", json!("a\0b")),
        ("/hooks/createRuntime", json!([{"path": "/bin/true\0x"}])),
        ("/hooks/createRuntime", json!([{"path": "/bin/true", "args": ["a\0b"]}])),
        ("/hooks/poststop", json!([{"path": "/bin/true", "env": ["A=\0"]}])),
        ("/mounts", json!([{"destination": "/a\0b", "type": "tmpfs", "source": "tmpfs"}])),
        ("/mounts", json!([{"destination": "/tmp", "type": "tmpfs", "source": "a\0b"}])),
        ("/mounts", json!([{"destination": "/tmp", "type": "tmpfs\0x", "source": "x"}])),
        ("/mounts", json!([{"destination": "/tmp", "type": "tmpfs", "source": "x", "options": ["size=1m\0"]}])),
        ("/linux/devices", json!([{"path": "/dev/a\0b", "type": "c", "major": 1, "minor": 5}])),
        ("/linux/maskedPaths", json!(["/proc/a\0b"])),
        ("/linux/readonlyPaths", json!(["/proc/a\0b"])),
        ("/linux/cgroupsPath", json!("/a\0b")),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/net\0x"}])),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward\0": "1"})),
        ("/linux/netDevices", json!({"a\0b": {}})),
    ] {
        if t.is(Kind::Runc) && ["/hostname", "/domainname", "/hooks/poststop", "/linux/netDevices"].contains(&pointer) {
            continue; // sets the name with it, warns, does not know them
        }
        bundle.config = whole.clone();
        set(&mut bundle, pointer, value.clone());
        let output = t.run(&bundle);
        assert!(!output.status.success(), "{pointer}: {value}");
    }
    if t.is_proa() {
        t.assert_nothing_left();
    }
    Ok(())
}

fn the_highest_number_is_no_user(t: &Test<'_>) -> Done {
    // To setresuid(2) it means to stay who one is, which is root.
    for user in [
        json!({"uid": u32::MAX, "gid": 0}),
        json!({"uid": 0, "gid": u32::MAX}),
        json!({"uid": 0, "gid": 0, "additionalGids": [u32::MAX]}),
    ] {
        if t.is(Kind::Crun) && user["additionalGids"].is_null() {
            continue; // runs as root
        }
        let mut bundle = t.bundle();
        bundle.process("user", user.clone());
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.user");
    }
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": u32::MAX - 1, "gid": u32::MAX - 1}));
    let status = t.start(&bundle).proc_status();
    assert_eq!((status.euid, status.egid), (u32::MAX - 1, u32::MAX - 1), "the highest there is");
    Ok(())
}

fn versions_are_semantic(t: &Test<'_>) -> Done {
    t.proa_only("peers do not look")?;
    let mut bundle = t.bundle();
    for version in ["1.0.0-rc.5+dev", "1.2.0+001", "1.0.0-0a.b-c", "1.3.0-alpha.0", "1.2.3--x"] {
        bundle.set("ociVersion", json!(version));
        t.run(&bundle).ok();
    }
    for version in [
        "1.0",
        "1.0.0.0",
        "01.0.0",
        "1.00.0",
        "1.0.0-",
        "1.0.0+",
        "1.0.0-a..b",
        "1.0.0-01",
        "1.0.0-ü",
        "v1.0.0",
        "1.0.0 ",
        " 1.0.0",
        "1.+0.0",
        "1.0.0-a+b+c",
        "1.-0.0",
        "1..0",
    ] {
        bundle.set("ociVersion", json!(version));
        let output = t.create_call(&bundle, &t.id()).output().fails();
        t.proa_says(&output, "ociVersion");
    }
    t.assert_nothing_left();
    Ok(())
}

fn annotations_are_text(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "passes over some")?;
    let mut bundle = t.bundle();
    for annotations in
        [json!({"a": 5}), json!({"a": true}), json!({"a": {}}), json!({"a": ["b"]}), json!(["a"]), json!("a")]
    {
        bundle.set("annotations", annotations);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "annotations");
    }
    Ok(())
}

fn config_in_another_encoding(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "puts a mark in the place of what it cannot read")?;
    t.peer_differs(Kind::Crun, "takes any bytes")?;
    let mut bundle = t.bundle();
    bundle.set("hostname", json!("MARK"));
    bundle.write();
    let path = bundle.path.join("config.json");
    let text = fs::read_to_string(&path).expect("no config.json");
    let latin1 = text.replace("MARK", "\u{fffd}").into_bytes();
    let latin1: Vec<u8> = latin1.split(|byte| *byte == 0xef).collect::<Vec<_>>().join(&0xfc);
    let wide: Vec<u8> = std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let surrogate = text.replace("MARK", "\\ud800").into_bytes();
    for bytes in [latin1, wide, surrogate] {
        fs::write(&path, bytes).expect("cannot write");
        let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(t.id()).output().fails();
        t.assert_clean_failure(&output);
        t.proa_says(&output, "config.json");
    }
    Ok(())
}

fn paths_to_hide_are_absolute(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "takes relative ones")?;
    t.peer_differs(Kind::Crun, "takes relative ones")?;
    let mut bundle = t.bundle();
    for name in ["maskedPaths", "readonlyPaths"] {
        for path in ["proc/meminfo", "", "./etc"] {
            bundle.linux(name, json!(["/proc/sys", path]));
            let output = t.refuses(&bundle);
            t.proa_says(&output, &format!("linux.{name}[1]"));
        }
        bundle.linux(name, json!([]));
    }
    Ok(())
}

fn lines_of_resctrl_are_single(t: &Test<'_>) -> Done {
    t.proa_only("peers do not look, or look after they have looked for resctrl")?;
    for (rdt, property) in [
        (json!({"memBwSchema": "MB:0=20\nL3:0=f"}), "linux.intelRdt.memBwSchema"),
        (json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
        (json!({"l3CacheSchema": "L3:0=f\n"}), "linux.intelRdt.l3CacheSchema"),
        (json!({"schemata": ["L3:0=f", "MB:0=20\n"]}), "linux.intelRdt.schemata[1]"),
    ] {
        let mut bundle = t.bundle();
        bundle.linux("intelRdt", rdt);
        let output = t.refuses(&bundle);
        t.proa_says(&output, property);
    }
    Ok(())
}

fn device_rules_without_numbers_are_for_all(t: &Test<'_>) -> Done {
    let script = "mknod /dev/kmsg c 1 11; mknod /dev/loop b 7 1; mknod /dev/second c 4 77; cd /dev; for f in kmsg loop second; do \
        dd if=$f of=/dev/null count=0 2>&1 | grep -q 'not permitted' || echo $f; done; echo end";
    let mut bundle = t.bundle();
    let deny = json!({"allow": false, "access": "rwm"});
    for (rule, text) in [
        (json!({"allow": true}), "kmsg\nloop\nsecond\nend\n"),
        (json!({"allow": true, "type": "a"}), "kmsg\nloop\nsecond\nend\n"),
        (json!({"allow": true, "type": "c"}), "kmsg\nsecond\nend\n"),
        (json!({"allow": true, "type": "b"}), "loop\nend\n"),
        (json!({"allow": true, "type": "c", "major": 1}), "kmsg\nend\n"),
        (json!({"allow": true, "type": "c", "minor": 77}), "second\nend\n"),
        (json!({"allow": true, "type": "c", "major": 4, "minor": 78}), "end\n"),
    ] {
        let mut rule = rule;
        rule["access"] = json!("rwm");
        bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
        bundle.linux("resources", json!({"devices": [deny, rule]}));
        assert_eq!(t.sh(&mut bundle, script), text, "{rule}");
    }
    Ok(())
}

fn memory_policy_needs_its_mode(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know memoryPolicy")?;
    let mut bundle = t.bundle();
    for policy in [json!({}), json!({"nodes": "0"}), json!({"mode": "", "nodes": "0"})] {
        bundle.linux("memoryPolicy", policy);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.memoryPolicy");
    }
    Ok(())
}

fn features(t: &Test<'_>) -> Value {
    t.call(&["features"]).output().ok().json()
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("not an array: {list}"));
    list.iter().map(|item| item.as_str().expect("not a string").to_owned()).collect()
}

fn every_mount_option_of_features_is_known(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "hands defaults to the file system, which refuses it")?;
    t.peer_differs(Kind::Crun, "fails at some of the recursive words")?;
    let words = strings(&features(t)["mountOptions"]);
    assert!(words.len() > 50, "{words:?}");
    let dir = t.make_dir("dir");
    let mut bundle = t.sleeping_bundle();
    let mut points = 0;
    for word in &words {
        let point = format!("/at/{word}");
        match word.as_str() {
            // Which need a mount that is there, or mappings: see mapped_ids.rs.
            "remount" | "idmap" | "ridmap" => continue,
            "bind" | "rbind" => bundle.bind(&dir, &point, &[word]),
            // A word that is not known would be data, which a bind mount refuses
            // to have and tmpfs does not know.
            _ if word.starts_with('r') => bundle.bind(&dir, &point, &["rbind", word]),
            _ => bundle.mount(&point, "tmpfs", "tmpfs", &[word]),
        };
        points += 1;
    }
    let c = t.create(&bundle);
    assert_eq!(c.sh("grep -c ' /at/' /proc/mounts").trim(), points.to_string());
    c.delete();
    let mut bundle = t.bundle();
    bundle.mount("/at", "tmpfs", "tmpfs", &["nosuchword"]);
    t.refuses(&bundle);
    Ok(())
}

fn every_capability_of_features_is_known(t: &Test<'_>) -> Done {
    let features = features(t);
    let names = strings(&features["linux"]["capabilities"]);
    let mut bundle = t.bundle();
    let lacks = |name: &str| {
        let name = name.parse::<caps::Capability>().expect("a capability");
        !caps::has_cap(None, caps::CapSet::Permitted, name).unwrap_or(true)
    };
    let names: Vec<_> = names.iter().filter(|name| !lacks(name)).map(String::as_str).collect();
    bundle.capabilities(&names);
    let output = t.run(&bundle).ok();
    assert_eq!(output.stderr(), "", "a warning of a capability that is claimed");
    for kind in strings(&features["linux"]["namespaces"]) {
        if kind == "user" {
            bundle.user_namespace(100_000);
        } else {
            bundle.namespace(&kind, None);
        }
    }
    t.run(&bundle).ok();
    Ok(())
}

fn features_has_no_properties_of_its_own(t: &Test<'_>) -> Done {
    let features = features(t);
    let known = "ociVersionMin ociVersionMax hooks mountOptions linux annotations potentiallyUnsafeConfigAnnotations";
    let of_linux =
        "namespaces capabilities cgroup seccomp apparmor selinux intelRdt memoryPolicy netDevices mountExtensions";
    for (value, known) in [(&features, known), (&features["linux"], of_linux)] {
        for name in value.as_object().expect("an object").keys() {
            assert!(known.split(' ').any(|known| known == name), "{name}");
        }
    }
    Ok(())
}

fn annotations_of_features_are_text(t: &Test<'_>) -> Done {
    let features = features(t);
    let annotations = features["annotations"].as_object().expect("annotations");
    for (name, value) in annotations {
        assert!(!name.is_empty() && value.is_string(), "{name:?}: {value}");
    }
    Ok(())
}
