//! `linux.cgroupsPath`: where the container's processes are, on version 1 and 2,
//! and that the cgroup ends with the container.
//!
//! Not here: the cgroup namespace and mount (namespaces.rs, mounts.rs), device
//! rules (devices.rs).

use std::fs;
use std::path::{Path, PathBuf};

use conformance::look::{self, Cgroups};
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "" => init_in_a_cgroup_below,
    "" => the_owner_of_a_writable_cgroup,
    "L-26" => absolute_path,
    "L-27" => relative_path,
    "L-27" => no_path,
    "L-28" => same_path_same_place,
    "L-30" => missing_cgroups_are_made,
    "L-29" => path_with_dots,
    "" => init_is_there_before_start,
    "" => children_and_exec_are_there,
    "R-37" => cgroup_ends_with_the_container,
    "" => cgroups_made_inside_end_too,
    "L-25" => cgroup_that_is_not_empty,
    "L-25" => cgroup_that_is_frozen,
    "R-38" => cgroup_that_was_there_before,
    "" => without_cgroups,
    "" => manager_that_is_unknown,
    "" => systemd_that_is_not_there,
    "" => every_hierarchy_of_version_1,
}

/// The directories that processes of a container are in, one per hierarchy that
/// it has a cgroup of its own in.
pub(crate) fn places(pid: i32) -> Vec<PathBuf> {
    let own = look::cgroup_paths(std::process::id() as i32);
    let unified = look::cgroups() == Cgroups::Unified;
    look::cgroup_paths(pid)
        .into_iter()
        .filter(|(name, path)| own.get(name) != Some(path) && (!unified || name.is_empty()))
        .map(|(name, path)| {
            let mount = match (unified, name.as_str()) {
                (true, _) => "/sys/fs/cgroup".to_owned(),
                (false, "") => "/sys/fs/cgroup/unified".to_owned(),
                (false, name) => format!("/sys/fs/cgroup/{}", name.trim_start_matches("name=")),
            };
            Path::new(&mount).join(path.trim_start_matches('/'))
        })
        .collect()
}

pub(crate) fn with_path<'t>(t: &'t Test<'_>, path: &str) -> conformance::container::Container<'t> {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("cgroupsPath", json!(path));
    t.create(&bundle)
}

/// A path for a container, below one that only this test has.
pub(crate) fn own_path(t: &Test<'_>) -> String {
    format!("/{}-cg{}", t.tag(), t.id().rsplit('-').next().unwrap_or_default())
}

fn absolute_path(t: &Test<'_>) -> Done {
    let path = own_path(t);
    let c = with_path(t, &path);
    let places = places(c.pid);
    assert!(!places.is_empty(), "in no cgroup of its own");
    for place in &places {
        assert!(place.ends_with(&path[1..]), "{places:?}");
        let depth = if look::cgroups() == Cgroups::Unified { 5 } else { 6 };
        assert_eq!(place.components().count(), depth, "counts from the mount point: {places:?}");
        let procs = fs::read_to_string(place.join("cgroup.procs")).expect("no cgroup.procs");
        assert_eq!(procs.trim(), c.pid.to_string());
    }
    Ok(())
}

fn relative_path(t: &Test<'_>) -> Done {
    let path = own_path(t);
    let c = with_path(t, &path[1..]);
    assert!(places(c.pid).iter().all(|place| place.ends_with(&path[1..])), "{:?}", places(c.pid));
    Ok(())
}

fn no_path(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    let places = places(c.pid);
    assert!(!places.is_empty(), "in no cgroup of its own");
    assert!(places.iter().all(|place| place.to_string_lossy().contains(&c.id)), "{places:?}");
    Ok(())
}

fn same_path_same_place(t: &Test<'_>) -> Done {
    let path = own_path(t);
    let first = with_path(t, &path);
    let place = places(first.pid);
    first.delete();
    let second = with_path(t, &path);
    assert_eq!(places(second.pid), place);
    Ok(())
}

fn missing_cgroups_are_made(t: &Test<'_>) -> Done {
    let path = own_path(t);
    let c = with_path(t, &format!("{path}/a/b"));
    let places = places(c.pid);
    assert!(places.iter().all(|place| place.ends_with(format!("{}/a/b", &path[1..]))), "{places:?}");
    c.delete();
    assert!(places.iter().all(|place| !place.exists()), "{places:?}");
    // Those above it are nobody's now: peers leave them, and so may proa.
    for place in places {
        for above in place.ancestors().skip(1).take(2) {
            fs::remove_dir(above).ok();
        }
    }
    Ok(())
}

fn path_with_dots(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "goes on with some of them")?;
    t.peer_differs(Kind::Runc, "cleans it up and goes on")?;
    let mut bundle = t.bundle();
    for path in ["/../../x", "/a/../b", "..", "a/.."] {
        bundle.linux("cgroupsPath", json!(path));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.cgroupsPath");
    }
    Ok(())
}

fn init_is_there_before_start(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    let before = look::proc_text(c.pid, "cgroup");
    c.start();
    assert_eq!(look::proc_text(c.pid, "cgroup"), before);
    Ok(())
}

fn children_and_exec_are_there(t: &Test<'_>) -> Done {
    let c = t.start(&t.sh_bundle("sleep 999 & echo ready; wait"));
    c.prints("ready");
    let expected = look::proc_text(c.pid, "cgroup");
    for pid in look::descendants(c.pid) {
        assert_eq!(look::proc_text(pid, "cgroup"), expected);
    }
    assert_eq!(c.exec(&["cat", "/proc/self/cgroup"]).output().ok().stdout(), expected);
    Ok(())
}

fn cgroup_ends_with_the_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let places = places(c.pid);
    c.murder();
    c.delete();
    let left: Vec<_> = places.iter().filter(|place| place.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}

fn cgroups_made_inside_end_too(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev"]);
    let c = t.start(&bundle);
    let place = if look::cgroups() == Cgroups::Unified { "" } else { "/memory" };
    c.sh(&format!("mkdir -p /sys/fs/cgroup{place}/below/deeper; sleep 100 >/dev/null 2>&1 & echo $! >/sys/fs/cgroup{place}/below/deeper/cgroup.procs"));
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn cgroup_that_is_not_empty(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "puts a second container there")?;
    let path = own_path(t);
    let first = with_path(t, &path);
    let mut bundle = t.sleeping_bundle();
    bundle.linux("cgroupsPath", json!(path));
    let id = t.id();
    let output = t.create_call(&bundle, &id).output().fails();
    assert!(!t.is_proa() || !t.runtime.root.join(&id).exists(), "{}", output.stderr());
    t.proa_says(&output, "cgroup");
    first.assert_status("created");
    assert!(places(first.pid).iter().all(|place| place.exists()), "the first container's cgroup is gone");
    Ok(())
}

fn cgroup_that_is_frozen(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    t.peer_differs(Kind::Crun, "thaws it")?;
    let path = own_path(t);
    let place = Path::new("/sys/fs/cgroup").join(&path[1..]);
    fs::create_dir(&place).expect("cannot make a cgroup");
    fs::write(place.join("cgroup.freeze"), "1").expect("cannot freeze");
    let mut bundle = t.sleeping_bundle();
    bundle.linux("cgroupsPath", json!(path));
    let output = t.create_call(&bundle, &t.id()).output().fails();
    t.proa_says(&output, "cgroup");
    if place.exists() {
        fs::write(place.join("cgroup.freeze"), "0").expect("cannot thaw");
        fs::remove_dir(&place).expect("cannot remove a cgroup");
    }
    Ok(())
}

fn cgroup_that_was_there_before(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    let path = own_path(t);
    let above = Path::new("/sys/fs/cgroup").join(&path[1..]);
    fs::create_dir_all(above.join("other")).expect("cannot make a cgroup");
    let c = with_path(t, &format!("{path}/mine"));
    c.delete();
    assert!(above.join("other").exists(), "what create had not made is gone");
    fs::remove_dir(above.join("other")).expect("cannot remove a cgroup");
    fs::remove_dir(&above).expect("cannot remove a cgroup");
    Ok(())
}

fn without_cgroups(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "has no --cgroup-manager")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"] = json!(null);
    bundle.remove("/linux/resources");
    let id = t.id();
    let output = t.create_call(&bundle, &id).global("--cgroup-manager=disabled").output().ok();
    let c = t.container(id, output);
    assert_eq!(places(c.pid), [] as [PathBuf; 0]);
    c.call("start").global("--cgroup-manager=disabled").output().ok();
    assert_eq!(c.sh("echo fine"), "fine\n");
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn manager_that_is_unknown(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "has no --cgroup-manager")?;
    let bundle = t.bundle();
    t.run_call(&bundle, &t.id()).global("--cgroup-manager=cgroupfs").output().ok();
    let output = t.run_call(&bundle, &t.id()).global("--cgroup-manager=nosuch").output().fails();
    t.assert_clean_failure(&output);
    Ok(())
}

fn systemd_that_is_not_there(t: &Test<'_>) -> Done {
    t.needs(!Path::new("/run/systemd/system").exists(), "a machine without systemd")?;
    let mut bundle = t.bundle();
    bundle.linux("cgroupsPath", json!(format!("system.slice:{}:{}", t.tag(), t.id())));
    let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
    t.assert_clean_failure(&output);
    t.proa_says(&output, "systemd");
    Ok(())
}

fn every_hierarchy_of_version_1(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == Cgroups::Hybrid, "cgroup v1")?;
    let path = own_path(t);
    let c = with_path(t, &path);
    let found = look::cgroup_paths(c.pid);
    for name in ["cpu", "cpuset", "memory", "devices", "freezer", "pids", "blkio"] {
        let place = found.iter().find(|(names, _)| names.split(',').any(|one| one == name));
        assert_eq!(place.map(|(_, path)| path), Some(&path), "{name}: {found:?}");
    }
    Ok(())
}

fn init_in_a_cgroup_below(t: &Test<'_>) -> Done {
    t.proa_only("an annotation of proa's")?;
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN"]).set("annotations", json!({"io.github.proa.cgroup.init": "init"}));
    bundle.namespace("cgroup", None).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw"]);
    let c = t.start(&bundle);
    let path = look::cgroup_paths(c.pid).remove("").unwrap_or_default();
    assert!(path.ends_with(&format!("/{}/init", c.id)), "{path}");
    // The root of what it sees is its own cgroup, from which it can hand down what that has.
    let script = "grep ^0:: /proc/self/cgroup; cd /sys/fs/cgroup; cat init/cgroup.procs | head -1; mkdir other && \
        [ \"$(cat cgroup.controllers)\" = \"$(cat cgroup.subtree_control)\" ] && \
        [ \"$(cat cgroup.controllers)\" = \"$(cat other/cgroup.controllers)\" ] && echo all";
    assert_eq!(c.sh(script), "0::/init\n1\nall\n");
    c.call("pause").output().ok();
    c.assert_status("paused");
    c.call("resume").output().ok();
    let pids: Vec<i32> =
        serde_json::from_str(&c.call("ps").options(&["--format", "json"]).output().ok().stdout()).expect("no JSON");
    assert_eq!(pids, [c.pid]);
    c.kill("KILL");
    c.wait();
    c.delete();
    t.assert_nothing_left();
    for name in ["", "a/b", "..", "a.b"] {
        let mut bundle = t.bundle();
        bundle.set("annotations", json!({"io.github.proa.cgroup.init": name}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("annotations[\"io.github.proa.cgroup.init\"]: {name:?}"));
    }
    Ok(())
}

fn the_owner_of_a_writable_cgroup(t: &Test<'_>) -> Done {
    use std::os::unix::fs::MetadataExt;
    t.needs(look::cgroups() == Cgroups::Unified, "a pure cgroup v2")?;
    t.peer_differs(conformance::runtime::Kind::Runc, "changes it with systemd alone")?;
    t.peer_differs(conformance::runtime::Kind::Crun, "changes it for systemd's containers alone")?;
    for (options, owner) in [(&["rw"][..], 100_000), (&["ro"], 0)] {
        let mut bundle = t.sleeping_bundle();
        bundle.user_namespace(100_000).namespace("cgroup", None);
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
        let c = t.create(&bundle);
        let path = Path::new("/sys/fs/cgroup").join(&look::cgroup_paths(c.pid).remove("").unwrap_or_default()[1..]);
        for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
            assert_eq!(fs::metadata(path.join(file)).expect("no cgroup").uid(), owner, "{file} {options:?}");
        }
        assert_eq!(fs::metadata(path.join("cgroup.freeze")).expect("no cgroup").uid(), 0);
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}
