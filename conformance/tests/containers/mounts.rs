//! `mounts`: what is mounted, in which order, from where.
//!
//! Not here: where it goes (mount_targets.rs), what each option word does
//! (mount_options.rs).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "L-1" => default_file_systems,
    "C-8" => mounts_are_in_listed_order,
    "C-11" => relative_source_counts_from_the_bundle,
    "" => bind_of_a_file,
    "" => bind_of_a_socket_and_a_device,
    "C-12" => bind_without_its_type,
    "" => rbind_takes_what_is_below,
    "" => bind_leaves_what_is_below,
    "" => source_that_is_not_there,
    "" => source_is_a_link_of_the_host,
    "C-13" => unknown_file_system,
    "C-23" => data_of_the_file_system,
    "" => bad_data_of_the_file_system,
    "" => tmpfs_takes_mode_and_size,
    "" => tmpfs_keeps_the_mode_of_what_it_covers,
    "" => mqueue_is_of_the_container,
    "" => proc_is_of_the_container,
    "" => many_mounts,
    "" => nothing_appears_on_the_host,
    "" => cgroup_mount,
    "" => cgroup_mount_read_only,
    "" => no_mounts_at_all,
}

fn default_file_systems(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for (point, kind) in
        [("/proc", "proc"), ("/sys", "sysfs"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")]
    {
        assert_eq!(look::mount(c.pid, point).fs_type, kind, "{point}");
    }
    assert!(look::mount(c.pid, "/sys").mount_options.contains_key("ro"));
    // A devpts of its own: the first terminal is number 0.
    assert_eq!(c.sh("ls /dev/pts"), "ptmx\n");
    Ok(())
}

fn mounts_are_in_listed_order(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/a", "tmpfs", "first", &["size=1m"]).mount("/a/b", "tmpfs", "second", &["size=2m"]);
    bundle.mount("/c/d", "tmpfs", "third", &[]).mount("/c", "tmpfs", "fourth", &[]);
    let text = t.sh(&mut bundle, "grep -cE ' /a(/b)? ' /proc/mounts; ls -A /a /c");
    assert_eq!(text, "2\n/a:\nb\n\n/c:\n", "what comes later covers what was there");
    Ok(())
}

fn relative_source_counts_from_the_bundle(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::create_dir(bundle.path.join("data")).expect("cannot make a directory");
    fs::write(bundle.path.join("data/file"), "of the bundle\n").expect("cannot write");
    bundle.mount("/data", "bind", "data", &["bind"]).mount("/file", "bind", "./data/../data/file", &["rbind"]);
    bundle.sh("cat /data/file /file");
    let id = t.id();
    let elsewhere = t.make_dir("elsewhere");
    assert_eq!(t.run_call(&bundle, &id).cwd(&elsewhere).output().ok().stdout(), "of the bundle\nof the bundle\n");
    Ok(())
}

fn bind_of_a_file(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let source = t.make_file("source", "before\n");
    bundle.bind(&source, "/etc/passwd", &["bind"]);
    assert_eq!(t.sh(&mut bundle, "cat /etc/passwd; echo after >/etc/passwd"), "before\n");
    assert_eq!(fs::read_to_string(source).ok().as_deref(), Some("after\n"), "the container writes to the host's file");
    Ok(())
}

fn bind_of_a_socket_and_a_device(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let socket = t.file("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("cannot listen");
    bundle.bind(&socket, "/run/socket", &["bind"]).bind(std::path::Path::new("/dev/zero"), "/data/zero", &["bind"]);
    assert_eq!(
        t.sh(&mut bundle, "[ -S /run/socket ] && stat -c '%F %t:%T' /data/zero"),
        "character special file 1:5\n"
    );
    Ok(())
}

fn bind_without_its_type(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let source = t.make_dir("source");
    fs::write(source.join("file"), "x").expect("cannot write");
    for (number, kind) in [json!("none"), json!("bind"), json!("ext4"), json!(null)].into_iter().enumerate() {
        bundle.push(
            "/mounts",
            json!({"destination": format!("/d{number}"), "source": source, "options": ["rbind"], "type": kind}),
        );
    }
    bundle.push("/mounts", json!({"destination": "/d4", "source": source, "options": ["bind"]}));
    assert_eq!(t.sh(&mut bundle, "cat /d?/file"), "xxxxx");
    Ok(())
}

/// A directory with a tmpfs mounted below it, in the suite's own mount namespace.
fn tree(t: &Test<'_>) -> std::path::PathBuf {
    let dir = t.make_dir("tree");
    fs::create_dir_all(dir.join("below")).expect("cannot make a directory");
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("sub"), &dir.join("below"), Some("tmpfs"), flags, None::<&str>).expect("cannot mount");
    fs::write(dir.join("below/file"), "x").expect("cannot write");
    dir
}

/// Unmounts what [`tree`] has mounted.
fn fell(dir: &std::path::Path) {
    nix::mount::umount(&dir.join("below")).expect("cannot unmount");
}

fn rbind_takes_what_is_below(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let dir = tree(t);
    bundle.bind(&dir, "/data", &["rbind"]);
    assert_eq!(t.sh(&mut bundle, "cat /data/below/file; grep -c ' /data' /proc/mounts"), "x2\n");
    fell(&dir);
    Ok(())
}

fn bind_leaves_what_is_below(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let dir = tree(t);
    bundle.bind(&dir, "/data", &["bind"]);
    assert_eq!(
        t.sh(&mut bundle, "ls /data /data/below; grep -c ' /data' /proc/mounts"),
        "/data:\nbelow\n\n/data/below:\n1\n"
    );
    fell(&dir);
    Ok(())
}

fn source_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.bind(&t.file("nowhere"), "/data", &["bind"]);
    let output = t.refuses(&bundle).exits(1).says("no such file or directory");
    for text in ["mounts[6]", "/data", "nowhere"] {
        t.proa_says(&output, text);
    }
    assert!(!t.is_proa() || !bundle.inside("/data").exists(), "the target was made for nothing");
    Ok(())
}

fn source_is_a_link_of_the_host(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let dir = t.make_dir("dir");
    fs::write(dir.join("file"), "x").expect("cannot write");
    symlink(&dir, t.file("link")).expect("cannot link");
    bundle.bind(&t.file("link"), "/data", &["bind"]);
    assert_eq!(t.sh(&mut bundle, "cat /data/file"), "x", "a source is the host's, links of the host count");
    Ok(())
}

fn unknown_file_system(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/data", "nosuchfs", "x", &[]);
    let output = t.refuses(&bundle).says("no such device");
    for text in ["mounts[6]", "nosuchfs"] {
        t.proa_says(&output, text);
    }
    Ok(())
}

fn data_of_the_file_system(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/data", "tmpfs", "named", &["nosuid", "size=3m", "nr_inodes=77", "noexec", "uid=5,gid=6"]);
    let c = t.start(&bundle);
    let mount = look::mount(c.pid, "/data");
    assert_eq!(mount.mount_source.as_deref(), Some("named"));
    let has =
        |name: &str, value: &str| mount.super_options.get(name).is_some_and(|found| found.as_deref() == Some(value));
    assert!(has("size", "3072k") && has("nr_inodes", "77") && has("uid", "5") && has("gid", "6"), "{mount:?}");
    assert!(mount.mount_options.contains_key("nosuid") && mount.mount_options.contains_key("noexec"), "{mount:?}");
    Ok(())
}

fn bad_data_of_the_file_system(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &["no-such-word=1"]);
    let output = t.refuses(&bundle).says("invalid argument");
    t.proa_says(&output, "mounts[6]");
    Ok(())
}

fn tmpfs_takes_mode_and_size(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &["mode=0751", "size=1m"]);
    let text = t.sh(
        &mut bundle,
        "stat -c %a /data; dd if=/dev/zero of=/data/file bs=64k count=32 2>/dev/null; stat -c %s /data/file",
    );
    assert_eq!(text, "751\n1048576\n");
    Ok(())
}

fn tmpfs_keeps_the_mode_of_what_it_covers(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::create_dir(bundle.inside("/data")).expect("cannot make a directory");
    fs::set_permissions(bundle.inside("/data"), fs::Permissions::from_mode(0o1731)).expect("cannot chmod");
    bundle.mount("/data", "tmpfs", "tmpfs", &[]).mount("/fresh", "tmpfs", "tmpfs", &[]);
    let text = t.sh(&mut bundle, "stat -c %a /data /fresh");
    if t.is(Kind::Crun) {
        assert!(text.starts_with("1731\n"), "{text}");
    } else {
        assert_eq!(text, "1731\n1777\n");
    }
    Ok(())
}

fn mqueue_is_of_the_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    assert_eq!(look::mount(c.pid, "/dev/mqueue").fs_type, "mqueue");
    assert_eq!(c.sh("touch /dev/mqueue/q; ls /dev/mqueue"), "q\n");
    assert_eq!(t.sleeper().sh("ls /dev/mqueue"), "", "another container has its own");
    Ok(())
}

fn proc_is_of_the_container(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    assert_eq!(t.sh(&mut bundle, "cd /proc; echo [0-9]*"), "1\n");
    Ok(())
}

fn many_mounts(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let source = t.make_file("source", "x");
    for number in 0..200 {
        bundle.bind(&source, &format!("/many/{number}"), &["bind", "ro", "nosuid"]);
    }
    assert_eq!(t.sh(&mut bundle, "grep -c ' /many/' /proc/mounts; cat /many/199"), "200\nx");
    Ok(())
}

fn nothing_appears_on_the_host(t: &Test<'_>) -> Done {
    // The suite's own mount namespace is the runtime's, and its mounts are shared.
    let before = look::proc_text(std::process::id() as i32, "mountinfo");
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &["rshared"]).bind(&t.make_dir("dir"), "/dir", &["rbind", "rshared"]);
    let c = t.create(&bundle);
    assert_eq!(look::proc_text(std::process::id() as i32, "mountinfo"), before, "after create");
    c.start();
    assert_eq!(look::proc_text(std::process::id() as i32, "mountinfo"), before, "after start");
    Ok(())
}

fn cgroup_mount(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("cgroup", None).mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime"],
    );
    let c = t.start(&bundle);
    if look::cgroups() == look::Cgroups::Unified {
        assert_eq!(look::mount(c.pid, "/sys/fs/cgroup").fs_type, "cgroup2");
        let root = c.sh("grep ' /sys/fs/cgroup ' /proc/self/mountinfo | cut -d' ' -f4");
        assert_eq!(root, "/\n", "the container's cgroup is the root of what it sees");
        assert_eq!(
            c.sh(
                "cat /sys/fs/cgroup/cgroup.procs | head -n1; mkdir /sys/fs/cgroup/below && rmdir /sys/fs/cgroup/below"
            ),
            "1\n"
        );
    } else {
        let mount = look::mount(c.pid, "/sys/fs/cgroup/memory");
        assert_eq!(mount.fs_type, "cgroup");
        assert!(c.sh("cat /sys/fs/cgroup/memory/cgroup.procs").starts_with("1\n"));
    }
    Ok(())
}

fn cgroup_mount_read_only(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("cgroup", None).mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", "ro"],
    );
    let c = t.start(&bundle);
    let place = if look::cgroups() == look::Cgroups::Unified { "" } else { "/memory" };
    assert_eq!(c.sh(&format!("mkdir /sys/fs/cgroup{place}/below 2>/dev/null || echo refused")), "refused\n");
    assert!(look::mount(c.pid, &format!("/sys/fs/cgroup{place}")).mount_options.contains_key("ro"));
    Ok(())
}

fn no_mounts_at_all(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.set("mounts", json!([])).linux("maskedPaths", json!([])).linux("readonlyPaths", json!([]));
    t.peer_differs(Kind::Runc, "looks for /proc/sys in the container")?;
    assert_eq!(t.sh(&mut bundle, "echo alone; ls /proc"), "alone\n");
    t.peer_differs(Kind::Crun, "asks for the property")?;
    bundle.remove("/mounts").remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    assert_eq!(t.sh(&mut bundle, "echo alone"), "alone\n");
    Ok(())
}
