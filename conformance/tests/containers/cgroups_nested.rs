//! Cgroups among others: one that is there already, one below a threaded one, a runtime inside a container, and what a
//! container sees of all hierarchies.

use std::fs;
use std::path::Path;
use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::container::Container;
use conformance::look::{self, Cgroups};
use conformance::test::{Done, Test};
use serde_json::json;

use crate::cgroups::{own_path, places, with_path};

crate::cases! {
    "" => an_empty_cgroup_that_is_there,
    "" => below_a_threaded_cgroup,
    "" => every_hierarchy_is_mounted,
    "" => processes_in_cgroups_of_the_containers_own,
    "" => a_runtime_in_a_container,
    "" => a_runtime_in_a_container_that_hands_down,
}

fn an_empty_cgroup_that_is_there(t: &Test<'_>) -> Done {
    let path = own_path(t);
    let first = with_path(t, &path);
    let dirs = places(first.pid);
    first.delete();
    // In version 1 such a one has neither processors nor memory nodes yet.
    dirs.iter().for_each(|dir| fs::create_dir(dir).expect("cannot make a cgroup"));
    let c = with_path(t, &path);
    c.start();
    assert_eq!(places(c.pid), dirs);
    c.call("delete").options(&["--force"]).output().ok();
    dirs.iter().filter(|dir| dir.exists()).for_each(|dir| fs::remove_dir(dir).expect("cannot remove a cgroup"));
    Ok(())
}

/// It can hold threads of the processes above alone.
fn below_a_threaded_cgroup(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    let path = own_path(t);
    let above = Path::new("/sys/fs/cgroup").join(&path[1..]);
    fs::create_dir_all(above.join("threads")).expect("cannot make a cgroup");
    fs::write(above.join("threads/cgroup.type"), "threaded").expect("cannot make it threaded");
    let mut bundle = t.bundle();
    bundle.linux("cgroupsPath", json!(format!("{path}/c")));
    let output = t.create_call(&bundle, &t.id()).output();
    let kept = above.join("threads").exists();
    for dir in [above.join("threads"), above.clone()] {
        fs::remove_dir(dir).expect("cannot remove a cgroup");
    }
    let output = output.fails();
    assert!(kept, "what create had not made is gone");
    t.proa_says(&output, "is below a threaded cgroup");
    t.assert_clean_failure(&output);
    Ok(())
}

fn every_hierarchy_is_mounted(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == Cgroups::Hybrid, "cgroup v1")?;
    for (options, writable) in [(&["nosuid"][..], true), (&["nosuid", "ro"], false)] {
        let mut bundle = t.sleeping_bundle();
        bundle.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
        let c = t.start(&bundle);
        let paths = look::cgroup_paths(c.pid);
        let v1: Vec<&str> = paths.keys().filter(|names| !names.is_empty()).map(String::as_str).collect();
        assert!(!v1.is_empty(), "in no hierarchy");
        for names in v1 {
            // Hierarchies without a controller have a name, and all are to be found by each of their controllers.
            for name in names.trim_start_matches("name=").split(',') {
                assert!(c.sh(&format!("cat /sys/fs/cgroup/{name}/cgroup.procs")).starts_with("1\n"), "{name}");
                let made = c.sh(&format!("cd /sys/fs/cgroup/{name} && mkdir b 2>/dev/null && rmdir b && echo made; :"));
                assert_eq!(made == "made\n", writable, "{name} {options:?}");
            }
        }
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// They are the container's wherever it has put them: seen, signalled, frozen and ended with it.
fn processes_in_cgroups_of_the_containers_own(t: &Test<'_>) -> Done {
    t.not_by_systemd("may move processes of version 1 about, the others are tested there")?;
    let mut bundle = t.sh_bundle(
        "for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -w $dir/cgroup.procs ] || continue; \
             mkdir -p $dir/below/deep; cat $dir/cpuset.cpus > $dir/below/cpuset.cpus; \
             cat $dir/cpuset.mems > $dir/below/cpuset.mems; cat $dir/cpuset.cpus > $dir/below/deep/cpuset.cpus; \
             cat $dir/cpuset.mems > $dir/below/deep/cpuset.mems; done 2>/dev/null
         sh -c 'for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do [ -d $dir/below/deep ] && echo $$ > $dir/below/deep/cgroup.procs; \
             done; trap \"echo told; exit\" USR1; echo there; while :; do sleep 0.05; done' &
         while :; do wait; done",
    );
    bundle.namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL"]);
    let c = t.start(&bundle);
    c.prints("there");
    let deep = || -> Vec<i32> {
        let all: Vec<i32> =
            serde_json::from_str(&c.call("ps").options(&["--format", "json"]).output().ok().stdout()).expect("no JSON");
        // Of short-lived ones some are gone by now.
        let text = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let below = |pid: &i32| text(pid).lines().any(|line| line.ends_with("/below/deep"));
        all.into_iter().filter(below).collect()
    };
    assert!(!deep().is_empty(), "ps does not list what is in a cgroup below");
    let signal = || c.call("kill").options(&["--all"]).arg("USR1").output().ok();
    if look::cgroups() == Cgroups::Unified || look::own_controller("freezer").is_some() {
        c.call("pause").output().ok();
        signal();
        std::thread::sleep(Duration::from_millis(200));
        assert!(!c.stdout().contains("told"), "it is not frozen");
        c.call("resume").output().ok();
    } else {
        signal();
    }
    c.prints("told");
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

/// A container with a writable cgroup mount that may do what a runtime does, with the runtime and a bundle in it.
fn outer<'t>(t: &'t Test<'_>, inner: &mut Bundle, annotations: serde_json::Value) -> Container<'t> {
    let mut bundle = t.sleeping_bundle();
    bundle.set("annotations", annotations).namespace("cgroup", None);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    bundle.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    bundle.capabilities(&[
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_ADMIN",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SYS_PTRACE",
    ]);
    fs::copy(&t.runtime.program, bundle.inside("/bin/runtime")).expect("cannot copy the runtime");
    inner.write();
    fs::rename(&inner.path, bundle.inside("/inner")).expect("cannot move a bundle");
    t.start(&bundle)
}

const RUN: [&str; 7] = ["/bin/runtime", "--root", "/tmp/state", "run", "--bundle", "/inner", "in"];

fn a_runtime_in_a_container(t: &Test<'_>) -> Done {
    t.proa_only("a static program, which any root file system can run")?;
    let mut inner = t.bundle();
    inner.sh("cat /proc/self/cgroup");
    let c = outer(t, &mut inner, json!({}));
    let text = c.exec(&RUN).output().ok().stdout();
    let unified = look::cgroups() == Cgroups::Unified;
    let found = text.lines().filter(|line| line.ends_with("/in")).count();
    let v1 = look::cgroup_paths(c.pid).keys().filter(|names| !names.is_empty()).count();
    assert!(if unified { found == 1 } else { found >= v1 }, "{text}");
    assert_eq!(c.sh("ls /tmp/state; find /sys/fs/cgroup -name in -type d"), "", "the inner container's are left");
    let Some(memory) = look::own_controller("memory") else { return Ok(()) };
    // Its own processes are in the cgroup that would have to hand memory down.
    c.sh("cd /inner && sed -i 's/\"resources\": {/\"resources\": {\"memory\": {\"limit\": 50000000},/' config.json");
    let output = c.exec(&RUN).output();
    if memory.unified {
        let output = output.fails();
        t.proa_says(&output, "linux.resources.memory.limit: the controller \"memory\" is not available in ");
        t.proa_says(&output, "has processes of its own");
    } else {
        output.ok();
    }
    Ok(())
}

fn a_runtime_in_a_container_that_hands_down(t: &Test<'_>) -> Done {
    t.proa_only("an annotation of proa's")?;
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    let limited = look::own_controller("memory").is_some();
    let mut inner = t.bundle();
    inner.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    inner.sh("grep ^0:: /proc/self/cgroup; cat /sys/fs/cgroup/memory.max 2>/dev/null; :");
    if limited {
        inner.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    }
    let c = outer(t, &mut inner, json!({"io.github.proa.cgroup.init": "init"}));
    let text = c.exec(&RUN).output().ok().stdout();
    assert!(text.starts_with("0::/\n"), "{text}");
    assert_eq!(text.lines().nth(1), limited.then_some("67108864"), "{text}");
    Ok(())
}
