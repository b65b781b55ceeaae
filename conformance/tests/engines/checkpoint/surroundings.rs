//! Namespaces, mounts and privileges are after a restore what they were.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use conformance::holder::Holder;
use conformance::look;
use conformance::test::{Done, Skip, Test};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::subject::{Subject, privileges};
use super::table::{Outcome, ok, refusal, rows};

crate::cases! {
    namespaces_by_path,
    mounts,
    a_user_namespace,
    privileges_are_kept,
}

fn namespaces_by_path() -> Done {
    let joined = |t: &Test<'_>, option: &str, kind: &str, name: &str| -> Outcome {
        let holder = Holder::new(&[option]);
        let mut subject = Subject::counter(t);
        subject.bundle.namespace(kind, Some(&holder.path(name)));
        let subject = subject.run();
        subject.counts_on(2);
        let wanted = look::namespace(holder.pid, name);
        assert_eq!(look::namespace(subject.pid(), name), wanted);
        let pid = subject.goes_and_comes(&[]);
        subject.counts_on(2);
        let joined = look::namespace(pid, name) == wanted;
        assert!(joined || !t.is_proa(), "it is in another namespace");
        subject.is_killed_and_deleted();
        assert!(look::is_alive(holder.pid), "who else is in the namespace goes on");
        Ok(if joined { "ok" } else { "restored in another namespace" }.to_owned())
    };
    rows(&[
        ("a network namespace by path", &|t| joined(t, "--net", "network", "net")),
        ("an IPC namespace by path", &|t| joined(t, "--ipc", "ipc", "ipc")),
        ("a UTS namespace by path", &|t| joined(t, "--uts", "uts", "uts")),
        ("a pid namespace by path", &|t| joined(t, "--pid", "pid", "pid")),
        ("a cgroup namespace of its own", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.namespace("cgroup", None);
            let subject = subject.run();
            subject.counts_on(2);
            let pid = subject.goes_and_comes(&[]);
            subject.counts_on(2);
            assert_ne!(look::namespace(pid, "cgroup"), look::namespace(std::process::id() as i32, "cgroup"));
            ok()
        }),
        ("the host's network, IPC and UTS namespaces", &|t| {
            let mut subject = Subject::counter(t);
            for kind in ["network", "ipc", "uts"] {
                subject.bundle.without_namespace(kind);
            }
            subject.bundle.remove("/hostname");
            let subject = subject.run();
            subject.counts_on(2);
            let pid = subject.goes_and_comes(&[]);
            subject.counts_on(2);
            let me = std::process::id() as i32;
            let same = |name: &&str| look::namespace(pid, name) == look::namespace(me, name);
            let others: Vec<_> = ["net", "ipc", "uts"].into_iter().filter(|name| !same(name)).collect();
            assert!(others.is_empty() || !t.is_proa(), "not the host's: {others:?}");
            if others.is_empty() { ok() } else { Ok(format!("restored, but not in the host's {}", others.join(", "))) }
        }),
        ("the host name", &|t| {
            let subject = Subject::counting(t);
            subject.goes_and_comes(&[]);
            assert_eq!(subject.sh("hostname"), "conformance");
            ok()
        }),
    ])
}

/// Where what is mounted in a process, how, and of which kind.
fn table(pid: i32) -> Vec<String> {
    let text = look::proc_text(pid, "mountinfo");
    let mut table: Vec<String> = text
        .lines()
        .map(|line| {
            let (first, second) = line.split_once(" - ").expect("a line of mountinfo");
            let fields: Vec<_> = first.split(' ').collect();
            let kind: Vec<_> = second.split(' ').collect();
            let peers: Vec<_> = fields[6..].iter().map(|field| field.split(':').next().unwrap_or_default()).collect();
            let size = kind[2].split(',').filter(|word| ["size=", "mode=", "ro"].iter().any(|it| word.starts_with(it)));
            let size = if kind[0] == "tmpfs" { size.collect::<Vec<_>>().join(",") } else { String::new() };
            format!("{} of {} {} {} {} {size}", fields[4], fields[3], fields[5], peers.join(","), kind[0])
        })
        .collect();
    table.sort();
    table
}

fn mounts() -> Done {
    rows(&[
        ("binds, tmpfs, masked and read-only paths", &|t| all_mounts(t, false)),
        ("the same with a read-only root", &|t| all_mounts(t, true)),
        ("a fresh root, without the targets of mounts", &fresh_root),
        ("a root of layers", &layers),
    ])
}

/// As docs/images.md has it, with the directory that is written to under the name of a root, to look into it.
fn layers(t: &Test<'_>) -> Outcome {
    t.proa_only("roots of layers")?;
    let mut subject = Subject::counter(t);
    let bundle = &mut subject.bundle;
    let layer = t.file("layer");
    fs::rename(bundle.rootfs(), &layer).expect("cannot rename");
    for name in ["upper", "work"] {
        fs::create_dir_all(bundle.path.join("writable").join(name)).expect("cannot make a directory");
    }
    std::os::unix::fs::symlink("writable/upper", bundle.rootfs()).expect("cannot link");
    let prefix = "io.github.proa.root";
    let layers = (format!("{prefix}.layers"), layer);
    bundle.set("annotations", json!({layers.0: layers.1, format!("{prefix}.writable"): "writable"}));
    bundle.set("root", json!({"path": "no-root"}));
    let subject = subject.run();
    subject.counts_on(2);
    subject.sh("echo changed >/etc/group; rm /etc/passwd");
    subject.checkpoint(&[]).ok();
    subject.is_gone();
    t.assert_nothing_left();
    let frozen = subject.count();
    subject.restored(&[]);
    assert!(subject.counts_on(2) > frozen);
    assert_eq!(
        subject.sh("cat /etc/group; ls /etc/passwd 2>/dev/null; grep -c '^overlay / ' /proc/mounts"),
        "changed\n1"
    );
    subject.is_killed_and_deleted();
    ok()
}

/// As when an engine restores to a root that it has just made of the image.
fn fresh_root(t: &Test<'_>) -> Outcome {
    let (volume, file) = (t.make_dir("volume"), t.make_file("file", "one"));
    fs::write(volume.join("file"), "volume").expect("cannot write");
    let mut subject = Subject::counter(t);
    subject.bundle.bind(&volume, "/srv/some/volume", &["bind", "rw"]);
    subject.bundle.bind(&file, "/opt/some/file", &["bind", "ro"]);
    subject.bundle.mount("/scratch", "tmpfs", "tmpfs", &["nosuid"]);
    let subject = subject.run();
    subject.counts_on(2);
    subject.checkpoint(&[]).ok();
    for target in ["/srv", "/opt", "/scratch"] {
        fs::remove_dir_all(subject.bundle.inside(target)).expect("made by the runtime");
    }
    for target in ["/proc", "/dev", "/sys"] {
        fs::remove_dir(subject.bundle.inside(target)).expect("empty");
    }
    subject.restored(&[]);
    subject.counts_on(2);
    assert_eq!(subject.sh("cat /srv/some/volume/file; echo; cat /opt/some/file; echo >/scratch/x"), "volume\none");
    subject.is_killed_and_deleted();
    ok()
}

fn all_mounts(t: &Test<'_>, readonly: bool) -> Outcome {
    let data = t.make_dir("data");
    let kept = t.make_dir("kept");
    fs::write(kept.join("file"), "of the host").expect("cannot write");
    let tree = t.make_dir("tree");
    let below = t.make_dir("tree/below");
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("cannot mount");
    fs::write(below.join("file"), "below").expect("cannot write");
    let one = t.make_file("one", "one");
    let mut subject = Subject::counter(t);
    let counted = subject.bundle.inside("/count");
    let bundle = &mut subject.bundle;
    bundle.bind(&data, "/data", &["bind", "rw"]);
    bundle.bind(&kept, "/kept", &["bind", "ro", "nosuid", "nodev"]);
    bundle.bind(&tree, "/tree", &["rbind", "rw"]);
    bundle.bind(&one, "/etc/one", &["bind", "ro"]);
    bundle.mount("/scratch", "tmpfs", "tmpfs", &["nosuid", "size=1m"]);
    bundle.push("/linux/maskedPaths", json!("/etc/group"));
    bundle.push("/linux/maskedPaths", json!("/home"));
    bundle.push("/linux/readonlyPaths", json!("/etc/passwd"));
    bundle.linux("rootfsPropagation", json!("rprivate"));
    if readonly {
        // It counts in the directory of the host, by a link.
        for name in ["count", "count.new"] {
            std::os::unix::fs::symlink(format!("/data/{name}"), bundle.inside(name)).expect("cannot link");
        }
        bundle.args(&["/bin/sh", "-c", "n=0; while :; do n=$((n+1)); echo $n >/data/count; sleep 0.2; done"]);
        bundle.set("root", json!({"path": "rootfs", "readonly": true}));
    }
    let count = || -> u64 {
        let file = if readonly { data.join("count") } else { counted.clone() };
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    let subject = subject.run();
    look::eventually("it to count", || count() > 1);
    subject.sh("echo kept >/scratch/file; echo shared >/dev/shm/file");
    let before = table(subject.pid());
    subject.checkpoint(&[]).ok();
    subject.is_gone();
    // What is the host's may change meanwhile.
    fs::write(data.join("meanwhile"), "changed").expect("cannot write");
    let pid = subject.restored(&[]);
    let frozen = count();
    look::eventually("it to count on", || count() > frozen);
    let files = "cat /scratch/file /dev/shm/file /data/meanwhile; echo; cat /kept/file; echo; cat /tree/below/file; \
        echo; cat /etc/one; echo; cat /etc/group; ls /home; touch /kept/x 2>/dev/null; touch /scratch/x && echo fine";
    let said = subject.sh(files);
    assert_eq!(said, "kept\nshared\nchanged\nof the host\nbelow\none\nfine");
    let after = table(pid);
    let gone: Vec<_> = before.iter().filter(|line| !after.contains(line)).collect();
    let new: Vec<_> = after.iter().filter(|line| !before.contains(line)).collect();
    subject.is_killed_and_deleted();
    let lost = umount2(&below, MntFlags::empty()).is_err();
    let what = "a mount of the host below a bind was unmounted";
    assert!(!lost || !t.is_proa(), "{what}");
    if lost {
        return Ok(format!("restored, but {what}"));
    }
    let differs = format!("before {gone:?}, after {new:?}");
    assert!(gone.is_empty() && new.is_empty() || !t.is_proa(), "the mounts differ: {differs}");
    if gone.is_empty() && new.is_empty() { ok() } else { Ok(format!("restored, but the mounts differ: {differs}")) }
}

fn a_user_namespace() -> Done {
    rows(&[
        ("a user namespace", &|t| mapped(t, true)),
        ("a user namespace, the directory of images made by the runtime", &|t| mapped(t, false)),
    ])
}

fn mapped(t: &Test<'_>, directory_for_all: bool) -> Outcome {
    let mut subject = Subject::counter(t);
    subject.bundle.user_namespace(100_000);
    let subject = subject.run();
    subject.counts_on(2);
    if directory_for_all {
        fs::create_dir(&subject.images).expect("cannot make a directory");
        fs::set_permissions(&subject.images, fs::Permissions::from_mode(0o755)).expect("cannot chmod");
    }
    let before = privileges(subject.pid());
    subject.checkpoint(&[]).ok();
    let output = subject.restore(&[]);
    if !directory_for_all && !t.is_proa() && !output.status.success() {
        return Ok(refusal(&output));
    }
    output.ok();
    let pid = subject.pid();
    subject.counts_on(2);
    assert_eq!(privileges(pid), before);
    let map = look::proc_text(pid, "uid_map").split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(map, "0 100000 65536");
    assert_eq!(subject.sh("id -u; stat -c %u /bin"), "0\n0");
    subject.is_killed_and_deleted();
    ok()
}

fn privileges_are_kept() -> Done {
    rows(&[
        ("seccomp, no_new_privs, capabilities, limits", &|t| kept(t, false)),
        ("the same of another user", &|t| kept(t, true)),
    ])
}

fn kept(t: &Test<'_>, user: bool) -> Outcome {
    // CRIU asks for the limits of a process of another user (prlimit(2)).
    let resource = caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    if user && !resource.unwrap_or(false) {
        return Err(Skip("CRIU needs CAP_SYS_RESOURCE for it".to_owned()));
    }
    let mut subject = Subject::counter(t);
    fs::set_permissions(subject.bundle.rootfs(), fs::Permissions::from_mode(0o777)).expect("cannot chmod");
    let bundle = &mut subject.bundle;
    let id = if user { 1000 } else { 0 };
    bundle.process("user", json!({"uid": id, "gid": id, "additionalGids": [5, 7], "umask": 0o27}));
    bundle.capabilities(&["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    bundle.config["process"]["capabilities"]["inheritable"] = json!(["CAP_KILL"]);
    bundle.config["process"]["capabilities"]["ambient"] = json!(["CAP_KILL"]);
    let calls = json!([{"names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO"}]);
    bundle.linux("seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls}));
    let subject = subject.run();
    subject.counts_on(2);
    let look = |pid: i32| privileges(pid) + "\n" + &look::proc_text(pid, "limits");
    let before = look(subject.pid());
    assert!(before.contains("NoNewPrivs: 1\n") && before.contains("Seccomp: 2\n"), "{before}");
    let pid = subject.goes_and_comes(&[]);
    subject.counts_on(2);
    assert_eq!(look(pid), before);
    let said = subject.sh("grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status | tr -d '\\t\\n'");
    assert_eq!(said, "NoNewPrivs:1Seccomp:2");
    subject.is_killed_and_deleted();
    ok()
}
