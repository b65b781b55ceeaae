//! `/dev`: the default devices and links, `linux.devices`, and that the device
//! rules of the cgroup hold.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::sys::stat::{SFlag, major, makedev, minor, mknod};
use serde_json::{Value, json};

crate::cases! {
    "L-17" => default_devices,
    "L-17" => default_devices_work,
    "R-42" => default_links,
    "L-18" => ptmx_is_of_the_containers_devpts,
    "L-11" => device_of_each_type,
    "L-13" => device_mode_and_owner,
    "L-12" => device_outside_of_dev,
    "L-12" => device_in_a_directory_that_is_missing,
    "" => device_in_place_of_a_default_one,
    "L-14" => another_file_in_the_way,
    "C-70" => device_of_an_unknown_type,
    "C-70" => device_without_numbers,
    "" => devices_in_a_user_namespace,
    "" => dev_that_is_a_bind_is_left_alone,
    "" => dev_that_is_a_link_is_not_followed,
    "L-16" => unlisted_device_cannot_be_opened,
    "L-37" => device_rules_in_order,
    "L-37" => device_rules_hold_for_exec,
}

fn default_devices(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for (name, numbers) in
        [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9)), ("tty", (5, 0))]
    {
        let meta = fs::symlink_metadata(look::root_of(c.pid, &format!("/dev/{name}"))).expect("no such device");
        assert!(meta.file_type().is_char_device(), "{name}");
        assert_eq!((major(meta.rdev()), minor(meta.rdev())), numbers, "{name}");
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o666, 0, 0), "{name}");
    }
    Ok(())
}

fn default_devices_work(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let script = "echo x >/dev/null && cat /dev/null && head -c2 /dev/zero | wc -c && head -c2 /dev/urandom | wc -c \
        && head -c2 /dev/random | wc -c; echo x 2>/dev/null >/dev/full || echo full";
    assert_eq!(t.sh(&mut bundle, script), "2\n2\n2\nfull\n");
    bundle.process("user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(t.sh(&mut bundle, "echo x >/dev/null && head -c2 /dev/zero | wc -c"), "2\n", "for a user too");
    Ok(())
}

fn default_links(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        let link = fs::read_link(look::root_of(c.pid, &format!("/dev/{name}"))).expect("no link");
        assert_eq!(link.to_str(), Some(target), "{name}");
    }
    assert_eq!(c.sh("echo x >/dev/stdout"), "x\n");
    Ok(())
}

fn ptmx_is_of_the_containers_devpts(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let [ptmx, own] = ["/dev/ptmx", "/dev/pts/ptmx"].map(|path| c.sh(&format!("stat -L -c '%d %i %t:%T %a' {path}")));
    assert_eq!(ptmx, own);
    assert!(ptmx.ends_with(" 5:2 666\n"), "{ptmx}");
    Ok(())
}

/// Creates a container with these devices.
fn with_devices<'t>(t: &'t Test<'_>, devices: Value) -> conformance::container::Container<'t> {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("devices", devices);
    t.start(&bundle)
}

fn device_of_each_type(t: &Test<'_>) -> Done {
    let c = with_devices(
        t,
        json!([
            {"path": "/dev/c", "type": "c", "major": 1, "minor": 11, "fileMode": 0o600},
            {"path": "/dev/u", "type": "u", "major": 1, "minor": 7},
            {"path": "/dev/b", "type": "b", "major": 7, "minor": 3},
            {"path": "/dev/p", "type": "p"},
        ]),
    );
    let found = c.sh("cd /dev; stat -c '%n %F %t:%T' c u b p");
    assert_eq!(
        found,
        "c character special file 1:b\nu character special file 1:7\nb block special file 7:3\np fifo 0:0\n"
    );
    Ok(())
}

fn device_mode_and_owner(t: &Test<'_>) -> Done {
    let c = with_devices(
        t,
        json!([
            {"path": "/dev/a", "type": "c", "major": 1, "minor": 3, "fileMode": 0o421, "uid": 5, "gid": 6},
            {"path": "/dev/b", "type": "c", "major": 1, "minor": 5},
        ]),
    );
    let found = c.sh("cd /dev; stat -c '%a %u:%g' a b");
    assert_eq!(found, "421 5:6\n666 0:0\n");
    Ok(())
}

fn device_outside_of_dev(t: &Test<'_>) -> Done {
    let c = with_devices(t, json!([{"path": "/etc/zero", "type": "c", "major": 1, "minor": 5}]));
    assert_eq!(c.sh("head -c3 /etc/zero | wc -c"), "3\n");
    Ok(())
}

fn device_in_a_directory_that_is_missing(t: &Test<'_>) -> Done {
    let c = with_devices(t, json!([{"path": "/dev/made/for/it/zero", "type": "c", "major": 1, "minor": 5}]));
    assert_eq!(c.sh("head -c3 /dev/made/for/it/zero | wc -c; stat -c %a /dev/made"), "3\n755\n");
    Ok(())
}

fn device_in_place_of_a_default_one(t: &Test<'_>) -> Done {
    let c = with_devices(
        t,
        json!([{"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o444, "gid": 6}]),
    );
    assert_eq!(c.sh("stat -c '%a %u:%g' /dev/zero"), "444 0:6\n");
    Ok(())
}

fn another_file_in_the_way(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "hides the file behind the device")?;
    t.peer_differs(Kind::Crun, "leaves the file and goes on")?;
    let mut bundle = t.bundle();
    bundle.linux("devices", json!([{"path": "/etc/passwd", "type": "c", "major": 1, "minor": 5}]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.devices[0]");
    assert!(bundle.inside("/etc/passwd").is_file());
    Ok(())
}

fn device_of_an_unknown_type(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes something else")?;
    for kind in [json!("x"), json!(""), json!("cc"), Value::Null] {
        let mut bundle = t.bundle();
        bundle.linux("devices", json!([{"path": "/dev/x", "type": kind, "major": 1, "minor": 5}]));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.devices[0]");
    }
    Ok(())
}

fn device_without_numbers(t: &Test<'_>) -> Done {
    t.proa_only("peers take 0:0, which is no device")?;
    let mut bundle = t.bundle();
    bundle.linux("devices", json!([{"path": "/dev/x", "type": "c"}]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.devices[0]");
    bundle.linux("devices", json!([{"path": "dev/x", "type": "c", "major": 1, "minor": 5}]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.devices[0]");
    Ok(())
}

fn devices_in_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    bundle.linux("devices", json!([{"path": "/dev/full2", "type": "c", "major": 1, "minor": 7}]));
    // A user namespace may not make devices: the host's are bound, if there are such.
    bundle.linux("devices", json!([{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]));
    let script = "echo x >/dev/null && head -c2 /dev/zero | wc -c; stat -c '%F %t:%T' /dev/null /dev/kmsg /dev/tty";
    assert_eq!(
        t.sh(&mut bundle, script),
        "2\ncharacter special file 1:3\ncharacter special file 1:b\ncharacter special file 5:0\n"
    );
    Ok(())
}

fn dev_that_is_a_bind_is_left_alone(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let dev = t.make_dir("dev");
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(dir)).expect("cannot make a directory");
    }
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        mknod(&dev.join(name), SFlag::S_IFCHR, mode, makedev(major, minor)).expect("cannot make a device");
    }
    *bundle.mount_at("/dev") = json!({"destination": "/dev", "type": "bind", "source": dev, "options": ["rbind"]});
    t.run(&bundle).ok();
    let links: Vec<_> = ["fd", "stdin", "stdout", "stderr", "core", "ptmx"]
        .into_iter()
        .filter(|name| dev.join(name).is_symlink())
        .collect();
    assert!(links.is_empty() || t.is(Kind::Crun), "made in the host's directory: {links:?}");
    Ok(())
}

fn dev_that_is_a_link_is_not_followed(t: &Test<'_>) -> Done {
    for target in ["canary", "../../../../../../../../canary"] {
        let mut bundle = t.bundle();
        let canary = t.make_dir("canary");
        for name in ["null", "ptmx", "fd"] {
            fs::write(canary.join(name), "untouched").expect("cannot write");
        }
        let target = if target == "canary" {
            canary.to_str().expect("UTF-8").to_owned()
        } else {
            format!("../../../../../../../..{}", canary.display())
        };
        fs::remove_dir(bundle.inside("/dev")).expect("cannot remove");
        std::os::unix::fs::symlink(target, bundle.inside("/dev")).expect("cannot link");
        bundle.config["mounts"]
            .as_array_mut()
            .expect("mounts")
            .retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
        // Refused or made below the root: both are well.
        t.run(&bundle);
        let mut names: Vec<_> = fs::read_dir(&canary)
            .expect("cannot list")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        assert_eq!(names, ["fd", "null", "ptmx"]);
        for name in names {
            assert_eq!(fs::read_to_string(canary.join(name)).ok().as_deref(), Some("untouched"));
        }
    }
    Ok(())
}

/// Whether a program with CAP_MKNOD can open the kernel's log (1:11) and the
/// memory (1:1) by nodes of its own, for reading and writing.
const OPEN: &str = "mknod /kmsg c 1 11 && dd if=/kmsg of=/dev/null count=0 2>/dev/null && echo read; \
    dd if=/dev/null of=/kmsg count=0 conv=notrunc 2>/dev/null && echo write; echo x >/dev/null && echo null";

fn unlisted_device_cannot_be_opened(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
    assert_eq!(t.sh(&mut bundle, OPEN), "null\n");
    Ok(())
}

fn device_rules_in_order(t: &Test<'_>) -> Done {
    let deny = json!({"allow": false, "access": "rwm"});
    let kmsg =
        |allow: bool, access: &str| json!({"allow": allow, "type": "c", "major": 1, "minor": 11, "access": access});
    for (rules, text) in [
        (json!([deny, kmsg(true, "r")]), "read\nnull\n"),
        (json!([deny, kmsg(true, "rw")]), "read\nwrite\nnull\n"),
        (json!([deny, {"allow": true, "type": "c", "major": 1, "access": "rwm"}]), "read\nwrite\nnull\n"),
        (json!([deny, kmsg(true, "rwm"), kmsg(false, "w")]), "read\nnull\n"),
        (json!([{"allow": true, "access": "rwm"}]), "read\nwrite\nnull\n"),
    ] {
        let mut bundle = t.bundle();
        bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
        bundle.linux("resources", json!({"devices": rules}));
        assert_eq!(t.sh(&mut bundle, OPEN), text, "{rules}");
    }
    Ok(())
}

fn device_rules_hold_for_exec(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
    let c = t.start(&bundle);
    assert_eq!(c.sh(OPEN), "null\n");
    Ok(())
}
