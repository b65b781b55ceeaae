//! Faults that proa once had, each as somebody met it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use conformance::console::Master;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

crate::cases! {
    "" => exec_joins_what_the_container_has_not_what_a_path_leads_to_now,
    "C-36" => capability_names_are_those_of_the_manual,
    "" => devices_on_standard_input_keep_their_owner,
    "" => created_container_paused_and_resumed,
    "" => caller_that_ignores_its_children,
    "" => exec_that_cannot_write_its_pid_file_leaves_nothing,
    "R-16" => poststart_failure_without_a_cgroup_ends_the_container,
    "" => no_mount_namespace_no_mount,
    "C-23" => words_of_a_cgroup_mount_count,
    "L-13" => file_mode_with_the_type_in_it,
    "" => empty_home_is_none,
    "" => exec_env_needs_a_value,
    "" => exec_cap_is_ambient_where_inheritable,
    "" => exec_stays_without_a_keyring,
    "" => exec_process_inherits_what_it_does_not_say,
    "" => stray_files_in_the_state_root,
    "" => bad_command_line_in_the_log,
    "" => failed_run_takes_its_pid_file_back,
    "" => empty_mount_option,
    "" => hostname_of_the_host_is_safe,
    "" => terminal_while_device_rules_are_written,
    "" => any_umask_of_the_caller,
    "C-16" => shared_mounts_reach_the_host,
    "" => delete_right_after_kill,
    "" => delete_after_kill_with_many_groups,
    "L-5" => cgroup_namespace_has_the_containers_root_without_clone3,
}

/// Kubernetes' Bidirectional: a volume whose mounts the host is to see, in a root file system that is shared for it.
fn shared_mounts_reach_the_host(t: &Test<'_>) -> Done {
    let dir = t.make_dir("volume");
    let private = t.make_dir("private");
    for dir in [&dir, &private] {
        mount(Some("volume"), dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("cannot mount");
        fs::create_dir(dir.join("inside")).expect("cannot make a directory");
    }
    let before = look::mounts(std::process::id() as i32).len();
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN"]).linux("rootfsPropagation", json!("rshared"));
    bundle.bind(&dir, "/shared", &["rbind", "rshared"]).bind(&private, "/private", &["rbind", "rprivate"]);
    let c = t.start(&bundle);
    assert_eq!(look::mounts(std::process::id() as i32).len(), before, "nothing else of the host's is changed");
    c.sh("mount -t tmpfs there /shared/inside; mount -t tmpfs there /private/inside");
    let here = std::process::id() as i32;
    assert!(look::is_mounted(here, &dir.join("inside").to_string_lossy()), "a mount in a shared volume");
    assert!(!look::is_mounted(here, &private.join("inside").to_string_lossy()), "a mount in a private volume");
    c.call("delete").options(&["--force"]).output().ok();
    for dir in [&dir.join("inside"), &dir, &private] {
        umount2(dir, MntFlags::MNT_DETACH).expect("cannot unmount");
    }
    Ok(())
}

fn exec_joins_what_the_container_has_not_what_a_path_leads_to_now(t: &Test<'_>) -> Done {
    let donor = t.sleeper();
    let link = t.file("netns");
    symlink(format!("/proc/{}/ns/net", donor.pid), &link).expect("cannot link");
    let mut bundle = t.sleeping_bundle();
    bundle.without_namespace("network").namespace("network", Some(&link));
    let c = t.start(&bundle);
    fs::remove_file(&link).expect("cannot unlink");
    symlink("/proc/self/ns/net", &link).expect("cannot link");
    let inside = c.sh("readlink /proc/self/ns/net");
    assert_eq!(inside.trim(), format!("net:[{}]", look::namespace(donor.pid, "net")));
    Ok(())
}

fn capability_names_are_those_of_the_manual(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes names without CAP_")?;
    let mut bundle = t.sh_bundle("grep CapEff /proc/self/status");
    bundle.capabilities(&["CHOWN", "cap_kill", "CAP_AUDIT_WRITE"]);
    assert_eq!(t.prints(&bundle), "CapEff:\t0000000020000000\n");
    Ok(())
}

fn devices_on_standard_input_keep_their_owner(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "gives them away")?;
    let node = t.file("full");
    nix::sys::stat::mknod(
        &node,
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 7),
    )
    .expect("cannot make a node");
    let mut bundle = t.bundle();
    bundle.args(&["/bin/true"]).process("user", json!({"uid": 1000, "gid": 1000}));
    let stdin = fs::File::open(&node).expect("cannot open");
    t.run_call(&bundle, &t.id()).stdin(stdin).output().ok();
    assert_eq!(fs::metadata(&node).expect("no node").uid(), 0);
    Ok(())
}

fn created_container_paused_and_resumed(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "says it is created")?;
    let c = t.create(&t.sleeping_bundle());
    c.call("pause").output().ok();
    c.assert_status("paused");
    c.call("start").output().fails().says("paused");
    c.call("resume").output().ok();
    c.assert_status("created");
    c.start();
    c.assert_status("running");
    Ok(())
}

fn caller_that_ignores_its_children(t: &Test<'_>) -> Done {
    let hook = t.file("hook");
    conformance::bundle::write_script(&hook, "#!/bin/sh\nexit 0\n");
    let mut bundle = t.sh_bundle("exit 3");
    bundle.set("hooks", json!({"createRuntime": [{"path": hook}]}));
    let ignoring = ["/bin/sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
    t.run_call(&bundle, &t.id()).wrapper(&ignoring).output().exits(3);
    let c = t.sleeper();
    c.exec(&["/bin/sh", "-c", "exit 4"]).wrapper(&ignoring).output().exits(4);
    Ok(())
}

fn exec_that_cannot_write_its_pid_file_leaves_nothing(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves it")?;
    let c = t.sleeper();
    let before = look::descendants(c.pid).len();
    c.exec_with(&["--detach", "--pid-file", "/nonexistent/pid"], &["/bin/sleep", "77"]).output().fails();
    let pids = c.call("ps").options(&["--format", "json"]).output().json();
    assert_eq!(pids.as_array().map(Vec::len), Some(1 + before), "{pids}");
    Ok(())
}

fn poststart_failure_without_a_cgroup_ends_the_container(t: &Test<'_>) -> Done {
    t.proa_only("peers have no such combination")?;
    let mut bundle = t.sleeping_bundle();
    bundle.set("hooks", json!({"poststart": [{"path": "/bin/false"}]}));
    let id = t.id();
    let output = t.create_call(&bundle, &id).global("--cgroup-manager=disabled").output();
    let c = t.container(id, output);
    c.call("start").global("--cgroup-manager=disabled").output().fails().says("poststart");
    look::eventually("init to end", || {
        conformance::reaper::collect();
        !look::is_alive(c.pid)
    });
    Ok(())
}

fn no_mount_namespace_no_mount(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "cannot do without")?;
    t.peer_differs(Kind::Runc, "cannot do without")?;
    let mut bundle = t.bundle();
    bundle.set("mounts", json!([])).args(&["/bin/true"]);
    bundle.config["root"]["readonly"] = json!(false);
    bundle.config["linux"] = json!({"namespaces": []});
    bundle.remove("/hostname");
    let before = look::mounts(std::process::id() as i32).len();
    t.run(&bundle).ok();
    assert_eq!(look::mounts(std::process::id() as i32).len(), before, "a mount is left");
    Ok(())
}

fn words_of_a_cgroup_mount_count(t: &Test<'_>) -> Done {
    t.proa_only("peers on cgroup v1 ignore them")?;
    let mut bundle = t.bundle();
    bundle.config["mounts"].as_array_mut().expect("no mounts").retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "bogus_option=3"]);
    t.refuses(&bundle);
    Ok(())
}

fn file_mode_with_the_type_in_it(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("stat -c %a /dev/odd");
    bundle.linux("devices", json!([{"path": "/dev/odd", "type": "c", "major": 1, "minor": 3, "fileMode": 0o20640}]));
    assert_eq!(t.prints(&bundle), "640\n");
    t.proa_only("peers take any bits")?;
    bundle.linux("devices", json!([{"path": "/dev/odd", "type": "c", "major": 1, "minor": 3, "fileMode": 0o60640}]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.devices[0].fileMode");
    Ok(())
}

fn empty_home_is_none(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves it empty")?;
    let mut bundle = t.sh_bundle("env | grep -c ^HOME=; echo $HOME");
    bundle.process("env", json!(["HOME=", "PATH=/bin"]));
    fs::create_dir_all(bundle.inside("/etc")).expect("cannot make /etc");
    fs::write(bundle.inside("/etc/passwd"), "root:x:0:0::/here:/bin/sh\n").expect("cannot write");
    assert_eq!(t.prints(&bundle), "1\n/here\n");
    Ok(())
}

fn exec_env_needs_a_value(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "drops it")?;
    let c = t.sleeper();
    c.exec_with(&["--env", "SECRET"], &["/bin/true"]).env("SECRET", "x").output().fails();
    Ok(())
}

fn exec_cap_is_ambient_where_inheritable(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "gives it otherwise")?;
    let mut bundle = t.sleeping_bundle();
    let net_raw = json!(["CAP_NET_RAW"]);
    bundle.process("capabilities", json!({"bounding": net_raw, "permitted": net_raw, "inheritable": net_raw}));
    let c = t.start(&bundle);
    let options = ["--user", "1000", "--cap", "CAP_NET_RAW"];
    let text = c.exec_with(&options, &["/bin/sh", "-c", "grep CapAmb /proc/self/status"]).output().ok().stdout();
    assert_eq!(text, "CapAmb:\t0000000000002000\n");
    Ok(())
}

fn exec_stays_without_a_keyring(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes one for exec")?;
    let id = t.id();
    let output = t.create_call(&t.sleeping_bundle(), &id).options(&["--no-new-keyring"]).output().ok();
    let c = t.container(id, output);
    c.start();
    let text = c.sh(&format!("grep -c _ses.{} /proc/keys || :", c.id));
    // The default masks /proc/keys; the host sees them all.
    assert!(text.starts_with('0'), "{text}");
    let keys = fs::read_to_string("/proc/keys").unwrap_or_default();
    assert!(!keys.contains(&format!("_ses.{}", c.id)), "{keys}");
    Ok(())
}

fn exec_process_inherits_what_it_does_not_say(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "gives none")?;
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 0, "gid": 0, "umask": 0o077}));
    let c = t.start(&bundle);
    let script = "umask; grep CapEff /proc/self/status";
    let document = json!({"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"]});
    let file = t.make_file("process.json", &document.to_string());
    let output = t.call(&["exec", "--process"]).arg(&file).arg(&c.id).output().ok();
    assert_eq!(output.stdout(), "0077\nCapEff:\t0000000020000420\n");
    Ok(())
}

fn stray_files_in_the_state_root(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "stumbles over them")?;
    let c = t.create(&t.sleeping_bundle());
    let stray = t.runtime.root.join("stray");
    fs::write(&stray, "x").expect("cannot write");
    let text = t.call(&["list", "-q"]).output().ok().stdout();
    assert_eq!(text, format!("{}\n", c.id));
    fs::remove_file(stray).expect("cannot remove");
    Ok(())
}

fn bad_command_line_in_the_log(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not log it")?;
    t.peer_differs(Kind::Runc, "logs only what follows the global flags")?;
    let log = t.file("log.json");
    let options = ["--log-format", "json", "create", "--no-such-flag", "x"];
    t.call(&["--log"]).arg(&log).args(&options).output().fails();
    let text = fs::read_to_string(&log).expect("no log");
    let line: serde_json::Value = serde_json::from_str(&text).expect("not one JSON document");
    assert_eq!(line["level"], "error");
    assert!(line["msg"].as_str().is_some_and(|message| message.contains("no-such-flag")), "{line}");
    Ok(())
}

fn failed_run_takes_its_pid_file_back(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "leaves it")?;
    t.peer_differs(Kind::Crun, "leaves it")?;
    let mut bundle = t.bundle();
    let program = bundle.inside("/bin/notaprogram");
    fs::write(&program, "\u{7f}no program").expect("cannot write");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("cannot chmod");
    bundle.args(&["/bin/notaprogram"]);
    let file = t.file("pid");
    t.run_call(&bundle, &t.id()).options(&["--detach", "--pid-file"]).options(&[&file]).output().fails();
    assert!(!file.exists(), "the pid file is left");
    Ok(())
}

fn empty_mount_option(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo fine");
    bundle.mount("/data", "tmpfs", "tmpfs", &["", "nosuid"]);
    assert_eq!(t.prints(&bundle), "fine\n");
    Ok(())
}

fn hostname_of_the_host_is_safe(t: &Test<'_>) -> Done {
    t.proa_only("peers rename the host")?;
    let mut bundle = t.bundle();
    bundle.without_namespace("uts").namespace("uts", Some("/proc/self/ns/uts".as_ref()));
    bundle.set("hostname", json!("pwned"));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "hostname");
    Ok(())
}

/// cgroup v1 takes device rules one by one, and the first denies everything.
fn terminal_while_device_rules_are_written(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&["/bin/true"]).process("terminal", json!(true));
    for _ in 0..20 {
        let (_master, slave) = Master::open();
        t.run_call(&bundle, &t.id()).terminal(slave).spawn().wait(&t.runtime).exits(0);
    }
    Ok(())
}

fn cgroup_namespace_has_the_containers_root_without_clone3(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "its C library cannot do without")?;
    let deny = t.helper("deny");
    for errno in ["ENOSYS", "EPERM"] {
        let mut bundle = t.sh_bundle("grep -v ':/$' /proc/self/cgroup || :");
        bundle.namespace("cgroup", None);
        let wrapper = [deny.as_os_str(), errno.as_ref(), "clone3".as_ref(), "--".as_ref()];
        let output = t.run_call(&bundle, &t.id()).wrapper(&wrapper).output().ok();
        assert_eq!(output.stdout(), "", "a cgroup that is not the root of the namespace");
    }
    Ok(())
}

fn any_umask_of_the_caller(t: &Test<'_>) -> Done {
    t.proa_only("peers were not tried")?;
    for mask in [0, 0o777] {
        let (id, bundle) = (t.id(), t.sleeping_bundle());
        let output = t.create_call(&bundle, &id).umask(mask).output().ok();
        let c = t.container(id, output);
        let mode = |path: &std::path::Path| fs::metadata(path).expect("no state").mode() & 0o7777;
        let dir = t.runtime.root.join(&c.id);
        assert_eq!((mode(&dir), mode(&dir.join("state.json"))), (0o700, 0o600), "umask {mask:o}");
        c.delete();
    }
    Ok(())
}

/// The kernel may take a while for what it was told.
fn delete_right_after_kill(t: &Test<'_>) -> Done {
    t.proa_only("peers say that it is not stopped, now and then")?;
    for _ in 0..20 {
        let mut bundle = t.sh_bundle("dd if=/dev/zero of=/dev/shm/fill bs=1M count=30 2>/dev/null; exec sleep 100");
        bundle.mount_at("/dev/shm")["options"] = json!(["size=64m"]);
        let c = t.start(&bundle);
        look::eventually("the program runs", || look::cmdline(c.pid).first().is_some_and(|name| name == "sleep"));
        c.kill("KILL");
        c.delete();
    }
    Ok(())
}

/// The status of a process grows with its groups, and says at its end that a signal waits.
fn delete_after_kill_with_many_groups(t: &Test<'_>) -> Done {
    t.proa_only("peers say that it is not stopped, now and then")?;
    let mut bundle = t.sleeping_bundle();
    let groups: Vec<u32> = (5000..5900).collect();
    bundle.config["process"]["user"]["additionalGids"] = json!(groups);
    for _ in 0..5 {
        let c = t.start(&bundle);
        c.kill("KILL");
        c.delete();
    }
    Ok(())
}
