//! `linux.namespaces`: each kind new, shared with the
//! runtime, or joined by path, in any mix.
//!
//! Not here: the ids of user namespaces (ids.rs), clocks (time_namespaces.rs),
//! containers without a mount namespace (host_mounts.rs).

use std::fs;
use std::path::Path;

use conformance::bundle::Bundle;
use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
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
    "" => loopback_is_up_in_a_new_network,
    "" => two_containers_in_one_network,
    "" => joined_mount_namespace,
    "" => cgroup_namespace_begins_at_the_container,
    "" => exec_is_in_every_namespace,
    "" => ipc_is_not_shared_by_two_containers,
    "" => namespaces_end_with_the_container,
}

/// The kinds as config.json and as /proc/PID/ns name them.
pub(crate) const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
    ("user", "user"),
];

pub(crate) fn own(kind: &str) -> u64 {
    look::namespace(std::process::id() as i32, kind)
}

/// A bundle without hostname and such, so that each namespace can be left out.
pub(crate) fn plain(t: &Test<'_>) -> Bundle {
    let mut bundle = t.sleeping_bundle();
    bundle.remove("/hostname");
    bundle
}

pub(crate) fn add(bundle: &mut Bundle, kind: &str) {
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
