//! What a hostile image, program or configuration tries, as somebody has tried it.
//!
//! Not here: links in the image (mount_targets.rs), faults met without ill will (regressions.rs).

use std::fs;
use std::os::unix::fs::symlink;

use conformance::look;
use conformance::runtime::Kind;
use conformance::spy;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "" => entering_process_shows_nothing_of_the_host,
    "" => cwd_makes_nothing_through_a_magic_link,
    "" => cgroup_mount_goes_where_others_may,
    "" => config_that_is_no_file,
    "R-4" => a_program_whose_first_thread_has_ended_runs_on,
    "" => hooks_take_no_descriptors_of_init,
    "" => a_filter_that_answers_for_the_kernel,
    "" => a_filter_that_denies_the_end,
    "" => exec_joins_no_mount_namespace_of_the_inits_making,
    "" => a_multiplexer_that_is_none,
    "" => who_else_is_in_the_cgroup_lives,
    "" => a_cgroup_that_the_container_froze,
}

fn entering_process_shows_nothing_of_the_host(t: &Test<'_>) -> Done {
    let caught = spy::host_directories_seen(t, &t.make_dir("caller"))?;
    assert!(caught.is_empty(), "directories of the host: {caught:?}");
    Ok(())
}

fn cwd_makes_nothing_through_a_magic_link(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "makes it and then refuses")?;
    t.peer_differs(Kind::Crun, "makes it and then refuses")?;
    let canary = t.make_dir("canary");
    let pid = std::process::id();
    let outside = format!("/proc/{pid}/root{}", canary.display());
    for through_image in [false, true] {
        let mut bundle = t.bundle();
        bundle.without_namespace("pid");
        symlink(&outside, bundle.inside("/wl")).expect("cannot link");
        let cwd = if through_image { "/wl/evil".to_owned() } else { format!("{outside}/evil") };
        bundle.process("cwd", json!(cwd));
        t.run(&bundle).fails();
        assert_eq!(fs::read_dir(&canary).expect("no canary").count(), 0, "{cwd} was made on the host");
    }
    Ok(())
}

fn cgroup_mount_goes_where_others_may(t: &Test<'_>) -> Done {
    t.proa_only("peers were not tried")?;
    for target in ["/proc", "/proc/sys"] {
        let mut bundle = t.bundle();
        bundle.config["mounts"]
            .as_array_mut()
            .expect("no mounts")
            .retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with("/sys")));
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
        fs::create_dir_all(bundle.inside("/sys/fs")).expect("cannot make a directory");
        symlink(target, bundle.inside("/sys/fs/cgroup")).expect("cannot link");
        let output = t.refuses(&bundle);
        t.proa_says(&output, "mounts[");
    }
    Ok(())
}

fn config_that_is_no_file(t: &Test<'_>) -> Done {
    t.proa_only("peers wait")?;
    let bundle = t.bundle();
    for make in [true, false] {
        let config = bundle.path.join("config.json");
        fs::remove_file(&config).ok();
        if make {
            nix::unistd::mkfifo(&config, nix::sys::stat::Mode::S_IRUSR).expect("cannot make a pipe");
        } else {
            symlink("/dev/zero", &config).expect("cannot link");
        }
        let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(t.id()).output().fails();
        t.proa_says(&output, "no regular file");
    }
    Ok(())
}

fn a_program_whose_first_thread_has_ended_runs_on(t: &Test<'_>) -> Done {
    t.proa_only("peers take it for stopped")?;
    let mut bundle = t.bundle();
    bundle.args(&["/bin/lead"]);
    t.probe(&bundle, "lead")?;
    let c = t.start(&bundle);
    look::eventually("the first thread ends", || look::proc_text(c.pid, "stat").contains(") Z "));
    c.assert_status("running");
    c.call("delete").output().fails();
    c.kill("KILL");
    c.delete();
    Ok(())
}

fn hooks_take_no_descriptors_of_init(t: &Test<'_>) -> Done {
    t.proa_only("peers were not tried")?;
    let mut bundle = t.sleeping_bundle();
    t.probe(&bundle, "steal")?;
    bundle.set("hooks", json!({"startContainer": [{"path": "/bin/steal", "timeout": 5}]}));
    let c = t.start(&bundle);
    assert_eq!(c.read("/taken"), "0\n");
    Ok(())
}

fn a_filter_that_answers_for_the_kernel(t: &Test<'_>) -> Done {
    t.proa_only("peers hang")?;
    let mut bundle = t.bundle();
    let entry = json!({"names": ["write"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0});
    bundle.process("noNewPrivileges", json!(false));
    bundle.linux("seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}));
    t.refuses(&bundle);
    Ok(())
}

/// Neither execve nor exit: the process ends all the same.
fn a_filter_that_denies_the_end(t: &Test<'_>) -> Done {
    t.proa_only("peers were not tried")?;
    let mut bundle = t.bundle();
    let entry = json!({"names": ["execve", "execveat", "exit", "exit_group"], "action": "SCMP_ACT_ERRNO"});
    bundle.process("noNewPrivileges", json!(true));
    bundle.linux("seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]}));
    let c = t.create(&bundle);
    c.call("start").output().fails();
    c.wait();
    c.assert_status("stopped");
    c.delete();
    Ok(())
}

/// In a user namespace of its own an unprivileged init mounts what it likes, and exec would run it with exec's rights.
fn exec_joins_no_mount_namespace_of_the_inits_making(t: &Test<'_>) -> Done {
    t.proa_only("peers join what the init has")?;
    let mut bundle = t.bundle();
    bundle.process("user", json!({"uid": 1000, "gid": 1000})).process("noNewPrivileges", json!(true));
    // busybox has no unshare among the applets that are linked.
    bundle.args(&["/bin/busybox", "unshare", "-U", "-r", "-m", "/bin/sh", "-c", "echo in; exec sleep 1000"]);
    let c = t.start(&bundle);
    c.prints("in");
    let output = c.exec_with(&["--user", "0"], &["/bin/id"]).output().fails();
    t.proa_says(&output, "has left the container's mount namespace for one of its own");
    c.kill("KILL");
    c.wait();
    // One that the container may make itself, in the user namespace that exec comes into too, is its own affair.
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN"]);
    bundle.args(&["/bin/busybox", "unshare", "-m", "/bin/sh", "-c", "echo in; exec sleep 1000"]);
    let c = t.start(&bundle);
    c.prints("in");
    assert_eq!(c.sh("echo fine"), "fine\n");
    Ok(())
}

/// A file that answers as it likes could pass off descriptors of the runtime as terminals.
fn a_multiplexer_that_is_none(t: &Test<'_>) -> Done {
    t.proa_only("peers were not tried")?;
    for device in ["null", "zero", "ptmx"] {
        let mut bundle = t.sh_bundle("mount --bind /other/$DEVICE /dev/pts/ptmx && echo covered; exec sleep 1000");
        bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        // The multiplexer of another devpts is none of this one's either.
        match device {
            "ptmx" => bundle.mount("/other", "devpts", "devpts", &["newinstance", "ptmxmode=0666"]),
            _ => bundle.mount("/other", "tmpfs", "tmpfs", &[]),
        };
        bundle.push("/process/env", json!(format!("DEVICE={device}")));
        if device != "ptmx" {
            bundle.sh("mknod /other/$DEVICE c 1 3; mount --bind /other/$DEVICE /dev/pts/ptmx && echo covered; exec sleep 1000");
            bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_MKNOD"]);
        }
        let c = t.start(&bundle);
        c.prints("covered");
        let receiver = conformance::console::Receiver::listen(&t.file("s"));
        let options = ["--tty", "--detach", "--console-socket", receiver.path.to_str().expect("no text")];
        let output = c.exec_with(&options, &["/bin/true"]).output().fails();
        t.proa_says(&output, "/dev/pts/ptmx");
        fs::remove_file(&receiver.path).expect("cannot remove a socket");
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// A container that has ended, with a pid namespace of its own, has nobody in its cgroup: another may have been put there.
fn who_else_is_in_the_cgroup_lives(t: &Test<'_>) -> Done {
    t.proa_only("peers refuse the second, or remove the state of the first")?;
    t.not_by_systemd("has one scope of a name")?;
    let path = format!("/{}-shared", t.tag());
    let with = |script: &str| {
        let mut bundle = t.sh_bundle(script);
        bundle.linux("cgroupsPath", json!(path));
        t.start(&bundle)
    };
    let first = with("exit 0");
    first.wait();
    let second = with("exec sleep 1000");
    first.call("delete").output().fails();
    first.call("delete").options(&["--force"]).output().fails();
    first.call("kill").options(&["--all"]).arg("KILL").output().ok();
    assert!(look::is_alive(second.pid), "another container was killed");
    second.assert_status("running");
    second.call("delete").options(&["--force"]).output().ok();
    first.call("delete").output().ok();
    t.assert_nothing_left();
    Ok(())
}

/// On cgroup v1 a frozen process does not die, whoever froze it.
fn a_cgroup_that_the_container_froze(t: &Test<'_>) -> Done {
    t.proa_only("peers do not end it")?;
    let v1 = look::own_controller("freezer").is_some_and(|files| !files.unified);
    t.needs(v1 || look::cgroups() == look::Cgroups::Unified, "a freezer")?;
    for command in ["kill", "delete"] {
        let freeze = match v1 {
            true => "cd /sys/fs/cgroup/freezer && mkdir x && echo 1 >x/cgroup.procs && echo FROZEN >x/freezer.state",
            false => "cd /sys/fs/cgroup && mkdir x && echo 1 >x/cgroup.procs && echo 1 >x/cgroup.freeze",
        };
        let mut bundle = t.sh_bundle(&format!("echo up; {freeze}; sleep 1000"));
        bundle.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
        let c = t.start(&bundle);
        c.prints("up");
        look::eventually("it is frozen", || {
            let state = |file: &str| {
                look::cgroup_dirs().iter().any(|dir| {
                    dir.to_string_lossy().contains(&c.id)
                        && fs::read_to_string(dir.join(file)).is_ok_and(|text| ["FROZEN", "1"].contains(&text.trim()))
                })
            };
            state("x/freezer.state") || state("x/cgroup.freeze")
        });
        match command {
            "kill" => {
                c.kill("KILL");
                assert_eq!(c.wait(), 128 + 9);
                c.delete();
            }
            _ => drop(c.call("delete").options(&["--force"]).output().ok()),
        }
        t.assert_nothing_left();
    }
    Ok(())
}
