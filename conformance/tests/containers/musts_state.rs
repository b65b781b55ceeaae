//! Rules of runtime.md that bind: what the state is, what create has done when it
//! returns, what delete may take away.
//!
//! Not here: a container's life in general (lifecycle.rs), what errors say
//! (errors.rs).

use std::fs;
use std::path::Path;

use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::hooks::with_hooks;

crate::cases! {
    "R-11" => state_has_the_form_of_the_schema_in_every_status,
    "R-26" => create_makes_the_whole_environment,
    "R-14" => nothing_written_after_create_counts,
    "R-38" => delete_leaves_what_create_did_not_make,
    "R-38" => delete_leaves_the_cgroups_of_others,
    "R-34" => signals_to_a_stopped_container_reach_nobody,
    "L-9" => mappings_change_no_owner,
}

/// What the schema of the state asks for; `status` is the word it has to have.
#[track_caller]
fn assert_is_a_state(state: &Value, status: &str) {
    let object = state.as_object().unwrap_or_else(|| panic!("not an object: {state}"));
    for name in ["ociVersion", "id", "status", "bundle"] {
        assert!(object.get(name).is_some_and(Value::is_string), "{name}: {state}");
    }
    let version: Vec<_> = state["ociVersion"].as_str().unwrap_or_default().splitn(3, '.').collect();
    assert!(version.len() == 3 && version[..2].iter().all(|part| part.parse::<u32>().is_ok()), "{state}");
    assert_eq!(state["status"], status, "{state}");
    assert!(state["bundle"].as_str().is_some_and(|path| path.starts_with('/')), "{state}");
    if let Some(pid) = object.get("pid") {
        assert!(pid.is_u64(), "pid: {state}");
    }
    if status == "created" || status == "running" {
        assert!(state["pid"].as_u64().is_some_and(|pid| pid > 0), "pid: {state}");
    }
    if let Some(annotations) = object.get("annotations") {
        let all = annotations.as_object().unwrap_or_else(|| panic!("annotations: {state}"));
        assert!(all.values().all(Value::is_string), "annotations: {state}");
    }
}

fn state_has_the_form_of_the_schema_in_every_status(t: &Test<'_>) -> Done {
    for annotations in [json!({}), json!({"org.example.key": "a value", "org.example.empty": ""})] {
        let (mut bundle, log) = with_hooks(t, &["createRuntime", "poststop"], "echo \"$INPUT\" >$LOG/$KIND");
        bundle.set("annotations", annotations);
        let c = t.create(&bundle);
        let of_hook = |kind: &str| -> Value { serde_json::from_str(&log.read(kind)).expect("not JSON") };
        if !t.is(Kind::Crun) {
            // Which gives hooks a version of two numbers.
            let status = if t.is(Kind::Runc) { "creating" } else { "created" };
            assert_is_a_state(&of_hook("createRuntime"), status);
        }
        assert_is_a_state(&c.state(), "created");
        c.start();
        assert_is_a_state(&c.state(), "running");
        c.murder();
        assert_is_a_state(&c.state(), "stopped");
        c.delete();
        if !t.is(Kind::Crun) {
            assert_is_a_state(&of_hook("poststop"), "stopped");
        }
        fs::remove_dir_all(&log.dir).expect("cannot remove");
    }
    Ok(())
}

/// What of a container can be seen from outside and must not change by start.
fn seen(pid: i32) -> Vec<String> {
    let mut seen = vec![look::proc_text(pid, "mountinfo"), look::proc_text(pid, "cgroup")];
    for kind in ["mnt", "net", "uts", "ipc", "pid", "cgroup"] {
        seen.push(format!("{kind} {}", look::namespace(pid, kind)));
    }
    seen
}

fn create_makes_the_whole_environment(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    let source = t.make_file("source", "of the host\n");
    bundle.config["root"]["readonly"] = json!(true);
    bundle.namespace("cgroup", None).set("hostname", json!("all-there")).set("domainname", json!("all.domain"));
    bundle.mount("/tmp", "tmpfs", "given", &["nosuid"]).bind(&source, "/etc/passwd", &["bind", "ro"]);
    bundle.linux("devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 7}]));
    bundle.linux("sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.linux("maskedPaths", json!(["/proc/meminfo"])).linux("readonlyPaths", json!(["/proc/sys"]));
    let path = format!("/{}-whole", t.tag());
    bundle.linux("cgroupsPath", json!(path));
    let c = t.create(&bundle);
    for kind in ["mnt", "net", "uts", "ipc", "pid", "cgroup"] {
        let own = look::namespace(std::process::id() as i32, kind);
        assert_ne!(look::namespace(c.pid, kind), own, "{kind}");
    }
    assert!(look::mount(c.pid, "/").mount_options.contains_key("ro"), "the root");
    assert_eq!(look::mount(c.pid, "/tmp").mount_source.as_deref(), Some("given"));
    assert!(look::mount(c.pid, "/proc/sys").mount_options.contains_key("ro"), "a read-only path");
    assert!(look::is_mounted(c.pid, "/proc/meminfo"), "a masked path");
    assert_eq!(c.read("/etc/passwd"), "of the host\n");
    assert!(fs::symlink_metadata(look::root_of(c.pid, "/dev/extra")).is_ok(), "a device");
    assert!(fs::symlink_metadata(look::root_of(c.pid, "/dev/stdout")).is_ok(), "a link");
    assert!(look::cgroup_paths(c.pid).values().any(|found| *found == path), "the cgroup");
    let script = "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward";
    assert_eq!(c.sh(script), "all-there\nall.domain\n1\n");
    let before = seen(c.pid);
    c.assert_status("created");
    c.start();
    assert_eq!(seen(c.pid), before, "start has changed the environment");
    Ok(())
}

fn nothing_written_after_create_counts(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo $MARK; pwd; hostname; exec sleep 1000");
    bundle.process("env", json!(["PATH=/bin", "MARK=first"]));
    let c = t.create(&bundle);
    let log = t.file("log");
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("echo ran >>{}", log.display())]}]);
    bundle.set("hooks", json!({"startContainer": hook, "poststart": hook, "poststop": hook}));
    bundle.set("hostname", json!("second")).set("root", json!({"path": "nowhere"}));
    bundle.process("env", json!(["PATH=/bin", "MARK=second"])).process("cwd", json!("/etc"));
    bundle.linux("cgroupsPath", json!(format!("/{}-second", t.tag())));
    bundle.write();
    c.start();
    c.prints("first\n/\nconformance\n");
    if t.is_proa() {
        // Peers read it again for exec.
        assert_eq!(c.sh("echo $MARK; pwd"), "first\n/\n", "of exec");
    }
    fs::write(bundle.path.join("config.json"), "{ broken").expect("cannot write");
    c.murder();
    c.delete();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "", "a hook of the second config.json");
    t.assert_nothing_left();
    Ok(())
}

/// Everything below a directory, with sizes.
fn tree(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![dir.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).expect("cannot list").filter_map(Result::ok) {
            let meta = entry.metadata().expect("cannot stat");
            if meta.is_dir() {
                left.push(entry.path());
            }
            found.push(format!("{} {}", entry.path().display(), if meta.is_file() { meta.len() } else { 0 }));
        }
    }
    found.sort();
    found
}

fn delete_leaves_what_create_did_not_make(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--net", "--ipc"]);
    let data = t.make_dir("data");
    fs::write(data.join("file"), "x").expect("cannot write");
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("network", Some(&holder.path("net"))).namespace("ipc", Some(&holder.path("ipc")));
    bundle.bind(&data, "/tmp", &["rbind"]);
    let root = bundle.rootfs();
    nix::mount::mount(Some("kept"), &root.join("home"), Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("cannot mount");
    bundle.write();
    let before = (tree(&bundle.path), tree(&data));
    let c = t.start(&bundle);
    c.call("delete").options(&["--force"]).output().ok();
    assert_eq!((tree(&bundle.path), tree(&data)), before);
    assert!(look::is_alive(holder.pid), "the owner of the namespaces that were joined");
    assert!(look::is_mounted(std::process::id() as i32, root.join("home").to_str().expect("UTF-8")));
    nix::mount::umount(&root.join("home")).expect("cannot unmount");
    Ok(())
}

fn delete_leaves_the_cgroups_of_others(t: &Test<'_>) -> Done {
    let unified = look::cgroups() == look::Cgroups::Unified;
    let mount = Path::new(if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" });
    let above = mount.join(format!("{}-others", t.tag()));
    fs::create_dir_all(above.join("other")).expect("cannot make a cgroup");
    let mut bundle = t.sleeping_bundle();
    bundle.linux("cgroupsPath", json!(format!("/{}-others/mine", t.tag())));
    let c = t.start(&bundle);
    assert!(above.join("mine").exists(), "the container's own");
    c.murder();
    c.delete();
    assert!(!above.join("mine").exists() && above.join("other").exists(), "after delete");
    // What peers leave of the place in other hierarchies goes too.
    for dir in look::cgroup_dirs().iter().rev().filter(|dir| dir.to_string_lossy().contains(t.tag())) {
        fs::remove_dir(dir).expect("cannot remove a cgroup");
    }
    Ok(())
}

fn signals_to_a_stopped_container_reach_nobody(t: &Test<'_>) -> Done {
    // A child of init lives on where it has no pid namespace to end with.
    let mut bundle = t.sh_bundle("sleep 999 & echo $!; wait");
    bundle.without_namespace("pid");
    let c = t.start(&bundle);
    c.prints("\n");
    let child: i32 = c.stdout().trim().parse().expect("a pid");
    c.murder();
    // KILL is how engines end what a container has left.
    for signal in ["TERM", "USR1", "STOP"] {
        c.call("kill").arg(signal).output().fails();
    }
    assert!(look::is_alive(child), "it was signalled all the same");
    c.assert_status("stopped");
    c.delete();
    t.assert_nothing_left();
    Ok(())
}

fn mappings_change_no_owner(t: &Test<'_>) -> Done {
    use std::os::unix::fs::{MetadataExt, chown};
    let mut bundle = t.sh_bundle("stat -c %u /etc/theirs /etc/others");
    bundle.user_namespace(100_000);
    let owners = [("theirs", 100_007), ("others", 5)];
    for (name, owner) in owners {
        let file = bundle.inside(&format!("/etc/{name}"));
        fs::write(&file, "").expect("cannot write");
        chown(&file, Some(owner), Some(owner)).expect("cannot chown");
    }
    assert_eq!(t.prints(&bundle), "7\n65534\n");
    for (name, owner) in owners {
        let meta = fs::metadata(bundle.inside(&format!("/etc/{name}"))).expect("not there");
        assert_eq!((meta.uid(), meta.gid()), (owner, owner), "{name}");
    }
    Ok(())
}
