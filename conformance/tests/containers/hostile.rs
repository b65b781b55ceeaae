//! What a hostile image, program or configuration tries, as somebody has tried it.
//!
//! Not here: links in the image (mount_targets.rs), faults met without ill will (regressions.rs).

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use conformance::look;
use conformance::runtime::Kind;
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
}

/// CVE-2016-9962: who may trace the processes of a container sees what one that enters has open, from its first moment.
fn entering_process_shows_nothing_of_the_host(t: &Test<'_>) -> Done {
    let seen = t.make_dir("seen");
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_SYS_PTRACE"]).bind(&seen, "/seen", &["bind"]);
    t.probe(&bundle, "spy")?;
    bundle.sh("exec /bin/spy >/seen/log");
    let c = t.start(&bundle);
    look::eventually("the spy to watch", || fs::read_to_string(seen.join("log")).is_ok_and(|log| !log.is_empty()));
    for _ in 0..120 {
        c.exec(&["/bin/true"]).output().ok();
    }
    c.kill("KILL");
    c.wait();
    let name = |path: &std::path::Path| fs::metadata(path).map(|meta| format!("{}:{}", meta.dev(), meta.ino())).ok();
    let mut host: Vec<_> =
        [t.runtime.root.clone(), t.runtime.root.join(&c.id), "/".into()].iter().filter_map(|path| name(path)).collect();
    host.extend(look::cgroup_dirs().iter().filter_map(|path| name(path)));
    let log = fs::read_to_string(seen.join("log")).expect("no log");
    let caught: Vec<_> = log.lines().filter(|line| host.iter().any(|name| name == line)).collect();
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
