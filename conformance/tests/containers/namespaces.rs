//! `linux.namespaces` and `linux.timeOffsets`: each kind new, shared with the
//! runtime, or joined by path, in any mix.
//!
//! Not here: the ids of user namespaces (ids.rs).

use std::fs;
use std::path::Path;

use conformance::bundle::Bundle;
use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{mount, umount};
use serde_json::json;

crate::cases! {
    "L-5" => each_kind_new,
    "L-6" => each_kind_shared,
    "L-4" => each_kind_joined,
    "L-4" => several_joined_at_once,
    "L-4" => joined_and_new_in_one,
    "" => pid_namespace_joined,
    "L-4" => path_of_the_wrong_kind,
    "L-4" => path_that_is_no_namespace,
    "L-3" => path_that_is_not_there,
    "L-3" => path_must_be_absolute,
    "L-7" => kind_listed_twice,
    "C-70" => kind_that_is_unknown,
    "L-6" => without_a_mount_namespace,
    "" => no_mounts_beside_a_user_namespace_alone,
    "" => no_mounts_of_the_hosts_without_a_mount_namespace,
    "" => mounts_on_the_host_of_a_bundle_that_moved,
    "" => loopback_is_up_in_a_new_network,
    "" => two_containers_in_one_network,
    "" => joined_mount_namespace,
    "L-10" => time_offsets,
    "L-10" => time_namespace_without_offsets,
    "L-10" => time_offsets_without_a_namespace,
    "" => time_namespace_joined,
    "" => time_namespace_with_all_others,
    "" => cgroup_namespace_begins_at_the_container,
    "" => exec_is_in_every_namespace,
    "" => ipc_is_not_shared_by_two_containers,
    "" => namespaces_end_with_the_container,
}

/// The kinds as config.json and as /proc/PID/ns name them.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("user", "user"),
];

fn own(kind: &str) -> u64 {
    look::namespace(std::process::id() as i32, kind)
}

/// A bundle without hostname and such, so that each namespace can be left out.
fn plain(t: &Test<'_>) -> Bundle {
    let mut bundle = t.sleeping_bundle();
    bundle.remove("/hostname");
    bundle
}

fn add(bundle: &mut Bundle, kind: &str) {
    if kind == "user" {
        bundle.user_namespace(100_000)
    } else {
        bundle.namespace(kind, None)
    };
}

fn each_kind_new(t: &Test<'_>) -> Done {
    for (kind, file) in KINDS {
        let mut bundle = plain(t);
        add(&mut bundle, kind);
        let c = t.create(&bundle);
        assert_ne!(look::namespace(c.pid, file), own(file), "{kind} is the runtime's");
        c.delete();
    }
    let mut bundle = plain(t);
    for (kind, _) in KINDS {
        add(&mut bundle, kind);
    }
    let c = t.start(&bundle);
    for (kind, file) in KINDS {
        assert_ne!(look::namespace(c.pid, file), own(file), "{kind} is the runtime's");
    }
    Ok(())
}

fn each_kind_shared(t: &Test<'_>) -> Done {
    for (kind, file) in KINDS {
        if kind == "mount" {
            continue; // not a container
        }
        let mut bundle = plain(t);
        bundle.without_namespace(kind);
        if kind == "network" {
            // The host's sysfs shows the host's network alone.
            *bundle.mount_at("/sys") =
                json!({"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]});
        }
        let c = t.create(&bundle);
        assert_eq!(look::namespace(c.pid, file), own(file), "{kind} is not the runtime's");
        c.delete();
    }
    Ok(())
}

const OPTIONS: [(&str, &str, &str); 6] = [
    ("network", "net", "--net"),
    ("ipc", "ipc", "--ipc"),
    ("uts", "uts", "--uts"),
    ("cgroup", "cgroup", "--cgroup"),
    ("pid", "pid", "--pid"),
    ("time", "time", "--time"),
];

fn each_kind_joined(t: &Test<'_>) -> Done {
    for (kind, file, option) in OPTIONS {
        if kind == "time" && t.is(Kind::Crun) {
            continue; // fails
        }
        let holder = Holder::new(&[option]);
        let mut bundle = plain(t);
        bundle.namespace(kind, Some(&holder.path(file)));
        let c = t.create(&bundle);
        assert_eq!(look::namespace(c.pid, file), look::namespace(holder.pid, file), "{kind}");
        c.start();
        assert_eq!(look::namespace(c.pid, file), look::namespace(holder.pid, file), "{kind}");
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

fn several_joined_at_once(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--net", "--ipc", "--uts"]);
    let mut bundle = plain(t);
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.namespace(kind, Some(&holder.path(file)));
    }
    let c = t.start(&bundle);
    for file in ["net", "ipc", "uts"] {
        assert_eq!(look::namespace(c.pid, file), look::namespace(holder.pid, file), "{file}");
    }
    for file in ["pid", "mnt"] {
        assert_ne!(look::namespace(c.pid, file), own(file), "{file}");
    }
    c.call("delete").options(&["--force"]).output().ok();
    Ok(())
}

fn joined_and_new_in_one(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "fails to make a time namespace where one is joined")?;
    let holder = Holder::new(&["--pid", "--net"]);
    let mut bundle = plain(t);
    bundle.namespace("pid", Some(&holder.path("pid"))).namespace("network", Some(&holder.path("net")));
    bundle.namespace("time", None).namespace("cgroup", None);
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 1000}}));
    let c = t.start(&bundle);
    for file in ["pid", "net"] {
        assert_eq!(look::namespace(c.pid, file), look::namespace(holder.pid, file), "{file}");
    }
    for file in ["mnt", "ipc", "uts", "time", "cgroup"] {
        assert_ne!(look::namespace(c.pid, file), own(file), "{file}");
    }
    c.call("delete").options(&["--force"]).output().ok();
    Ok(())
}

fn pid_namespace_joined(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--pid"]);
    let mut bundle = t.sh_bundle("ps -o pid,args; exec sleep 1000");
    bundle.namespace("pid", Some(&holder.path("pid")));
    let c = t.start(&bundle);
    c.prints("sleep 1000");
    assert!(
        c.stdout().lines().any(|line| line.trim().starts_with("1 ")),
        "sees the other container's init: {}",
        c.stdout()
    );
    let inner = c.proc_status().nspid.unwrap_or_default();
    assert!(inner.len() >= 2 && inner.last() != Some(&1), "{inner:?}");
    assert_eq!(c.state()["pid"], c.pid);
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    assert!(look::is_alive(holder.pid), "the namespace's owner was killed too");
    c.delete();
    Ok(())
}

fn path_of_the_wrong_kind(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--net", "--ipc", "--uts"]);
    for (kind, file) in
        [("network", "ipc"), ("ipc", "uts"), ("uts", "net"), ("pid", "net"), ("mount", "net"), ("cgroup", "uts")]
    {
        let mut bundle = plain(t);
        bundle.namespace(kind, Some(&holder.path(file)));
        let id = t.id();
        let output = t.create_call(&bundle, &id).output().fails();
        t.proa_says(&output, "linux.namespaces");
        assert!(!t.runtime.root.join(&id).exists() || !t.is_proa(), "a state directory is left");
    }
    Ok(())
}

fn path_that_is_no_namespace(t: &Test<'_>) -> Done {
    let file = t.make_file("file", "x");
    for path in [file.as_path(), Path::new("/dev/null"), Path::new("/")] {
        let mut bundle = plain(t);
        bundle.namespace("network", Some(path));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.namespaces");
    }
    Ok(())
}

fn path_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = plain(t);
    bundle.namespace("network", Some(Path::new("/proc/self/ns/no-such")));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.namespaces");
    Ok(())
}

fn path_must_be_absolute(t: &Test<'_>) -> Done {
    let mut bundle = plain(t);
    fs::copy("/dev/null", bundle.path.join("net")).ok();
    bundle.namespace("network", Some(Path::new("net")));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.namespaces");
    Ok(())
}

fn kind_listed_twice(t: &Test<'_>) -> Done {
    let mut bundle = plain(t);
    bundle.push("/linux/namespaces", json!({"type": "uts"}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.namespaces");
    Ok(())
}

fn kind_that_is_unknown(t: &Test<'_>) -> Done {
    for kind in ["", "net", "PID", "nosuch"] {
        let mut bundle = plain(t);
        bundle.push("/linux/namespaces", json!({"type": kind}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.namespaces");
    }
    Ok(())
}

/// As when any other kind is not listed, the container has that of the runtime: its mounts are there, and go with it.
fn without_a_mount_namespace(t: &Test<'_>) -> Done {
    let me = std::process::id() as i32;
    let mut bundle = t.sleeping_bundle();
    bundle.without_namespace("mount").mount("/m", "tmpfs", "tmpfs", &["size=1m"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/interrupts"]);
    bundle.config["root"]["readonly"] = json!(true);
    let root = bundle.rootfs();
    let below = || look::mounts(me).iter().filter(|mount| mount.mount_point.starts_with(&root)).count();
    let c = t.start(&bundle);
    assert_eq!(look::namespace(c.pid, "mnt"), look::namespace(me, "mnt"));
    if !t.is(Kind::Runc) {
        let text = c
            .sh("touch /m/file && wc -c </proc/interrupts; touch /file 2>/dev/null || echo read-only; ls -d /dev/null");
        assert_eq!(text, "0\nread-only\n/dev/null\n");
        assert!(root.join("m/file").exists(), "not on the host");
    }
    assert!(below() > 5, "{} mounts", below());
    if t.is_proa() {
        // Whose mounts would go with the first one's.
        let (output, before) = (t.create_call(&bundle, &t.id()).output().fails(), below());
        t.proa_says(&output, "is mounted in it");
        assert_eq!(below(), before);
    }
    c.murder();
    c.delete();
    if t.is_proa() {
        assert_eq!(below(), 0, "mounts are left");
    }
    // Nor does what fails leave one.
    bundle.args(&["/no/such/program"]);
    t.refuses(&bundle);
    if t.is_proa() {
        assert_eq!(below(), 0, "mounts are left");
    }
    Ok(())
}

/// What is done to them, masks or the end of the container, would be done to the host.
fn no_mounts_of_the_hosts_without_a_mount_namespace(t: &Test<'_>) -> Done {
    t.proa_only("peers mount them")?;
    let dir = t.make_dir("dir");
    let mut bundle = t.bundle();
    bundle.without_namespace("mount").bind(&dir, "/data", &["rbind"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]: /data: a mount of what is the host's needs a mount namespace");
    let mut bundle = t.bundle();
    bundle.without_namespace("mount").mount("/data", "tmpfs", "tmpfs", &["rshared"]);
    t.refuses(&bundle);
    // Nor a root that has mounts in it, whose copies would stay in other mount namespaces.
    let mut bundle = t.bundle();
    bundle.without_namespace("mount");
    let below = bundle.inside("/tmp");
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("cannot mount");
    let output = t.create_call(&bundle, &t.id()).output().fails();
    umount(&below).expect("cannot unmount");
    t.proa_says(&output, "root.path");
    Ok(())
}

fn mounts_on_the_host_of_a_bundle_that_moved(t: &Test<'_>) -> Done {
    t.proa_only("peers leave them")?;
    let me = std::process::id() as i32;
    let before = look::mounts(me).len();
    let mut bundle = t.sleeping_bundle();
    bundle.without_namespace("mount");
    let c = t.start(&bundle);
    let moved = bundle.path.with_file_name("moved");
    fs::rename(&bundle.path, &moved).expect("cannot rename");
    // Something on top is not taken away, and not forgotten either.
    let none = None::<&str>;
    let root = moved.join("rootfs");
    mount(Some("tmpfs"), &root, Some("tmpfs"), nix::mount::MsFlags::empty(), none).expect("cannot mount");
    c.murder();
    let output = c.call("delete").output().fails();
    t.proa_says(&output, "somebody else's");
    umount(&root).expect("cannot unmount");
    c.delete();
    assert_eq!(look::mounts(me).len(), before, "a mount is left");
    Ok(())
}

fn no_mounts_beside_a_user_namespace_alone(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes a mount namespace")?;
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).without_namespace("mount");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts: needs a mount namespace beside a user namespace");
    Ok(())
}

fn loopback_is_up_in_a_new_network(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let text = t.sh(&mut bundle, "ls /sys/class/net; ip -o addr show lo; ip -o link show lo");
    assert!(text.starts_with("lo\n"), "{text}");
    assert!(text.contains("127.0.0.1/8") && text.contains("LOOPBACK,UP"), "{text}");
    Ok(())
}

fn two_containers_in_one_network(t: &Test<'_>) -> Done {
    let first = t.sleeper();
    let mut bundle = t.sleeping_bundle();
    let path = format!("/proc/{}/ns/net", first.pid);
    bundle.namespace("network", Some(Path::new(&path)));
    let second = t.start(&bundle);
    assert_eq!(look::namespace(second.pid, "net"), look::namespace(first.pid, "net"));
    first.murder();
    assert_eq!(second.sh("ip -o link show lo | grep -c LOOPBACK"), "1\n", "the network lives on");
    Ok(())
}

fn joined_mount_namespace(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--mount"]);
    let mut bundle = plain(t);
    bundle.namespace("mount", Some(&holder.path("mnt"))).set("mounts", json!([]));
    bundle.linux("maskedPaths", json!([])).linux("readonlyPaths", json!([]));
    bundle.mount("/proc", "proc", "proc", &[]);
    let id = t.id();
    let output = t.create_call(&bundle, &id).output();
    if output.status.success() {
        let c = t.container(id, output);
        assert_eq!(look::namespace(c.pid, "mnt"), look::namespace(holder.pid, "mnt"));
        c.call("delete").options(&["--force"]).output().ok();
    } else {
        // To refuse is well too, as long as it says what.
        t.proa_says(&output, "linux.namespaces");
    }
    Ok(())
}

fn time_offsets(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", None);
    bundle.linux(
        "timeOffsets",
        json!({"monotonic": {"secs": 1234, "nanosecs": 500}, "boottime": {"secs": -100, "nanosecs": 7}}),
    );
    let c = t.start(&bundle);
    let words: Vec<String> = look::proc_text(c.pid, "timens_offsets").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["monotonic", "1234", "500", "boottime", "-100", "7"]);
    let uptime = |text: String| text.split('.').next().and_then(|word| word.parse::<i64>().ok()).expect("an uptime");
    let (inside, outside) =
        (uptime(c.sh("cat /proc/uptime")), uptime(fs::read_to_string("/proc/uptime").expect("no uptime")));
    assert!((outside - inside - 100).abs() <= 2, "{inside} inside, {outside} outside");
    Ok(())
}

fn time_namespace_without_offsets(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", None);
    let c = t.start(&bundle);
    assert_ne!(look::namespace(c.pid, "time"), own("time"));
    let words: Vec<String> = look::proc_text(c.pid, "timens_offsets").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "0", "0"]);
    Ok(())
}

fn time_offsets_without_a_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 10}}));
    t.peer_differs(Kind::Crun, "passes over them")?;
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.timeOffsets");
    bundle.namespace("time", None).linux("timeOffsets", json!({"realtime": {"secs": 10}}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.timeOffsets");
    Ok(())
}

fn time_namespace_joined(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "fails to join a time namespace")?;
    let holder = Holder::new(&["--time", "--boottime", "5000"]);
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", Some(&holder.path("time")));
    let c = t.start(&bundle);
    assert_eq!(look::namespace(c.pid, "time"), look::namespace(holder.pid, "time"));
    assert!(look::proc_text(c.pid, "timens_offsets").contains("5000"));
    c.call("delete").options(&["--force"]).output().ok();
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 10}}));
    t.create_call(&bundle, &t.id()).output().fails();
    Ok(())
}

fn time_namespace_with_all_others(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "fails to write offsets in a user namespace")?;
    let mut bundle = t.sleeping_bundle();
    for (kind, _) in KINDS {
        add(&mut bundle, kind);
    }
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 86400}, "monotonic": {"secs": 3600}}));
    let c = t.start(&bundle);
    for (kind, file) in KINDS {
        assert_ne!(look::namespace(c.pid, file), own(file), "{kind}");
    }
    assert!(look::proc_text(c.pid, "timens_offsets").contains("86400"));
    let exec = c.sh("readlink /proc/self/ns/time; readlink /proc/1/ns/time");
    let lines: Vec<_> = exec.lines().collect();
    assert_eq!(lines[0], lines[1], "exec is in the time namespace");
    Ok(())
}

fn cgroup_namespace_begins_at_the_container(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("cgroup", None);
    let c = t.start(&bundle);
    // Of the hierarchies that the container is in by its own cgroup.
    let inside = c.exec(&["cat", "/proc/self/cgroup"]).output().ok().stdout();
    let outside = look::cgroup_paths(c.pid);
    let own = look::cgroup_paths(std::process::id() as i32);
    for line in inside.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (name, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        if outside.get(name) != own.get(name) {
            assert_eq!(path, "/", "{name}: {inside}");
        }
    }
    Ok(())
}

fn exec_is_in_every_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    for (kind, _) in KINDS {
        add(&mut bundle, kind);
    }
    let c = t.start(&bundle);
    let script = KINDS
        .iter()
        .map(|(_, file)| format!("readlink /proc/self/ns/{file}; readlink /proc/1/ns/{file}; "))
        .collect::<String>();
    let text = c.sh(&script);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 16, "{text}");
    for pair in lines.chunks(2) {
        assert_eq!(pair[0], pair[1]);
    }
    Ok(())
}

fn ipc_is_not_shared_by_two_containers(t: &Test<'_>) -> Done {
    let (a, b) = (t.sleeper(), t.sleeper());
    for file in ["ipc", "uts", "net", "pid", "mnt"] {
        assert_ne!(look::namespace(a.pid, file), look::namespace(b.pid, file), "{file}");
    }
    a.sh("hostname | grep -q conformance");
    Ok(())
}

fn namespaces_end_with_the_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let net = look::namespace(c.pid, "net");
    c.call("delete").options(&["--force"]).output().ok();
    let left: Vec<_> = procfs::process::all_processes()
        .expect("no processes")
        .filter_map(|process| {
            let process = process.ok()?;
            let id = fs::metadata(format!("/proc/{}/ns/net", process.pid)).ok()?;
            (std::os::unix::fs::MetadataExt::ino(&id) == net).then_some(process.pid)
        })
        .collect();
    assert!(left.is_empty(), "in the container's network still: {left:?}");
    Ok(())
}
