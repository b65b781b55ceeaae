//! Containers that an unprivileged user makes, and what root of a user namespace makes, as engines without root do.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use conformance::bundle::{Bundle, give};
use conformance::look;
use conformance::runtime::{Call, Kind};
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};
use serde_json::{Value, json};

crate::cases! {
    "" => run_by_the_example_of_spec,
    "" => every_command,
    "" => subordinate_ids,
    "" => subordinate_ids_of_somebody_else,
    "" => without_the_programs_for_subordinate_ids,
    "" => groups_cannot_be_set_with_one_id,
    "" => no_user_namespace,
    "" => limits_without_a_cgroup,
    "" => a_cgroup_asked_for_by_path,
    "" => permission_insisted_on,
    "" => the_callers_cgroup_is_shown,
    "" => a_delegated_cgroup,
    "" => oom_score,
    "" => devices_are_the_hosts,
    "" => a_terminal,
    "" => hooks,
    "" => mapped_ids_take_the_hosts_root,
    "" => the_state_of_others_is_out_of_reach,
    "" => state_below_the_runtime_directory,
    "" => as_root_of_a_user_namespace,
    "" => a_user_namespace_in_a_user_namespace,
    "" => a_scope_of_the_users_systemd,
}

/// Anybody but root.
const UID: u32 = 1234;

fn as_user<'c>(call: Call<'c>) -> Call<'c> {
    call.wrapper(&["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"])
}

fn ids(entries: &[(u32, u32, u32)]) -> Value {
    entries
        .iter()
        .map(|(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}))
        .collect()
}

fn map(bundle: &mut Bundle, entries: &[(u32, u32, u32)]) {
    bundle.linux("uidMappings", ids(entries)).linux("gidMappings", ids(entries));
}

/// A bundle and a state root of the user's, with the user as root of the container.
fn bundle(t: &Test<'_>) -> Bundle {
    let mut bundle = t.bundle();
    bundle.namespace("user", None);
    map(&mut bundle, &[(0, UID, 1)]);
    // Without a network namespace sysfs is not the container's to mount.
    bundle.mount_at("/dev/pts")["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    fs::create_dir_all(&t.runtime.root).expect("cannot make the state root");
    chown(&t.runtime.root, Some(UID), Some(UID)).expect("cannot chown");
    give(&bundle.rootfs(), UID);
    bundle
}

fn run_by_the_example_of_spec(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    let written = t.make_dir("written");
    chown(&written, Some(UID), Some(UID)).expect("cannot chown");
    as_user(t.call(&["spec", "--rootless"])).cwd(&written).output().ok();
    let text = fs::read_to_string(written.join("config.json")).expect("spec wrote nothing");
    bundle.config = serde_json::from_str(&text).expect("no JSON");
    bundle
        .process("terminal", json!(false))
        .sh("id -u; cat /proc/self/uid_map; echo fine >/dev/null && echo $HOSTNAME");
    let output = as_user(t.run_call(&bundle, &t.id())).output().ok();
    let words: Vec<_> = output.stdout().split_whitespace().map(str::to_owned).collect();
    assert_eq!(words[..4], ["0", "0", "1234", "1"], "{words:?}");
    assert_eq!(output.stderr(), "");
    Ok(())
}

fn every_command(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    bundle.args(&["/bin/sleep", "1000"]);
    let id = t.id();
    bundle.write();
    let dir = t.make_dir("users");
    chown(&dir, Some(UID), Some(UID)).expect("cannot chown");
    let pid_file = dir.join("pid");
    let options =
        ["--bundle", bundle.path.to_str().expect("no text"), "--pid-file", pid_file.to_str().expect("no text")];
    as_user(t.call(&["create", &id])).options(&options).output().ok();
    let pid: i32 = fs::read_to_string(&pid_file).expect("no pid file").parse().expect("no pid");
    assert_eq!(look::status(pid).euid, UID);
    as_user(t.call(&["start", &id])).output().ok();
    let output = as_user(t.call(&["exec", &id, "/bin/sh", "-c", "id -u; touch /made"])).output().ok();
    assert_eq!(output.stdout(), "0\n");
    assert_eq!(fs::metadata(bundle.inside("/made")).expect("nothing made").uid(), UID);
    let state: Value = serde_json::from_str(&as_user(t.call(&["state", &id])).output().ok().stdout()).expect("no JSON");
    assert_eq!(state["status"], "running");
    assert!(as_user(t.call(&["list"])).output().ok().stdout().contains(&id));
    let output = as_user(t.call(&["delete", &id])).output().fails();
    t.phrase(&output, &["is not stopped"]);
    as_user(t.call(&["kill", &id, "KILL"])).output().ok();
    look::eventually("the end of the container", || !look::is_alive(pid));
    as_user(t.call(&["delete", &id])).output().ok();
    t.assert_nothing_left();
    Ok(())
}

/// A file that this process's mount namespace, which is not the host's, shows in the place of another.
struct Cover(PathBuf);

impl Cover {
    fn new(t: &Test<'_>, path: &str, content: &str) -> Cover {
        let file = t.make_file(&format!("cover{}", path.replace('/', "-")), content);
        let none = None::<&str>;
        mount(Some(&file), path, none, MsFlags::MS_BIND, none).expect("cannot cover a file");
        Cover(path.into())
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        umount(&self.0).expect("cannot uncover a file");
    }
}

/// What newuidmap(1) and newgidmap(1) read.
fn give_subordinate_ids(t: &Test<'_>, lines: &str) -> [Cover; 3] {
    let users = fs::read_to_string("/etc/passwd").expect("no users");
    let user = format!("{users}conformance:x:{UID}:{UID}::/:/bin/sh\n");
    [Cover::new(t, "/etc/passwd", &user), Cover::new(t, "/etc/subuid", lines), Cover::new(t, "/etc/subgid", lines)]
}

fn subordinate_ids(t: &Test<'_>) -> Done {
    t.needs(Path::new("/usr/bin/newuidmap").exists(), "newuidmap")?;
    let mut bundle = bundle(t);
    map(&mut bundle, &[(0, UID, 1), (1, 300_000, 100), (101, 400_000, 100)]);
    bundle.process("user", json!({"uid": 150, "gid": 5, "additionalGids": [7, 8]}));
    bundle.sh("id; cat /proc/self/uid_map");
    let covers = give_subordinate_ids(t, &format!("{UID}:300000:100\n{UID}:400000:100\n"));
    let text = as_user(t.run_call(&bundle, &t.id())).output().ok().stdout();
    drop(covers);
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!(words[..3], ["uid=150", "gid=5", "groups=7,8"]);
    assert_eq!(words[3..], ["0", "1234", "1", "1", "300000", "100", "101", "400000", "100"]);
    Ok(())
}

fn subordinate_ids_of_somebody_else(t: &Test<'_>) -> Done {
    t.needs(Path::new("/usr/bin/newuidmap").exists(), "newuidmap")?;
    let mut bundle = bundle(t);
    map(&mut bundle, &[(0, UID, 1), (1, 300_000, 100)]);
    let covers = give_subordinate_ids(t, "1:300000:100\n");
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    drop(covers);
    t.proa_says(&output, "linux.uidMappings: /usr/bin/newuidmap exited with status 1");
    t.proa_says(&output, "not allowed");
    t.assert_clean_failure(&output);
    Ok(())
}

fn without_the_programs_for_subordinate_ids(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    let mut bundle = bundle(t);
    map(&mut bundle, &[(0, UID, 1), (1, 300_000, 100)]);
    let there = Path::new("/usr/bin/newuidmap").exists();
    let cover = there.then(|| Cover::new(t, "/usr/bin/newuidmap", ""));
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    drop(cover);
    t.proa_says(&output, "linux.uidMappings: an unprivileged user can map other ids");
    t.proa_says(&output, "newuidmap");
    t.assert_clean_failure(&output);
    Ok(())
}

fn groups_cannot_be_set_with_one_id(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    bundle.process("user", json!({"uid": 0, "gid": 0, "additionalGids": [0]}));
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    t.proa_says(&output, "process.user.additionalGids");
    t.assert_clean_failure(&output);
    Ok(())
}

fn no_user_namespace(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes one that nobody asked for")?;
    let mut bundle = bundle(t);
    bundle.remove("/linux/uidMappings").remove("/linux/gidMappings").without_namespace("user");
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    t.proa_says(&output, "linux.namespaces: without root privileges a container needs a user namespace");
    t.assert_clean_failure(&output);
    Ok(())
}

fn limits_without_a_cgroup(t: &Test<'_>) -> Done {
    t.not_by_systemd("a user without a session has none")?;
    t.peer_differs(Kind::Crun, "ignores them")?;
    let mut bundle = bundle(t);
    bundle.linux("resources", json!({"pids": {"limit": 10}}));
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    t.proa_says(&output, "linux.resources: limits need a cgroup, and none can be made");
    t.assert_clean_failure(&output);
    Ok(())
}

fn a_cgroup_asked_for_by_path(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "goes on without")?;
    let mut bundle = bundle(t);
    bundle.linux("cgroupsPath", json!(format!("/{}-path", t.tag())));
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    t.proa_says(&output, "linux.cgroupsPath: mkdir");
    t.assert_clean_failure(&output);
    Ok(())
}

fn permission_insisted_on(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no such option")?;
    t.peer_differs(Kind::Runc, "does what it can all the same")?;
    let bundle = bundle(t);
    let output = as_user(t.run_call(&bundle, &t.id())).global("--rootless=false").output().fails();
    t.proa_says(&output, "linux.cgroupsPath: mkdir");
    t.assert_clean_failure(&output);
    Ok(())
}

/// Who may not make a cgroup stays in the caller's, and a mount of type cgroup shows that one.
fn the_callers_cgroup_is_shown(t: &Test<'_>) -> Done {
    t.not_by_systemd("a user without a session has none")?;
    let mut bundle = bundle(t);
    bundle.without_namespace("cgroup");
    bundle.config["mounts"].as_array_mut().expect("mounts").retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let dir = match look::cgroups() {
        look::Cgroups::Unified => "/sys/fs/cgroup",
        look::Cgroups::Hybrid => "/sys/fs/cgroup/systemd",
    };
    bundle.sh(&format!("cat {dir}/cgroup.procs >/dev/null && mkdir {dir}/a 2>/dev/null || echo read-only"));
    let output = as_user(t.run_call(&bundle, &t.id())).output().ok();
    assert_eq!(output.stdout(), "read-only\n");
    assert_eq!(output.stderr(), "");
    Ok(())
}

fn a_delegated_cgroup(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == look::Cgroups::Unified, "a pure cgroup v2")?;
    // As systemd delegates one: the directory and the files that manage what is below.
    let above = Path::new("/sys/fs/cgroup").join(format!("{}-delegated", t.tag()));
    fs::create_dir_all(above.join("own")).expect("cannot make a cgroup");
    for dir in [&above, &above.join("own")] {
        chown(dir, Some(UID), Some(UID)).expect("cannot chown");
        for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            chown(dir.join(file), Some(UID), Some(UID)).expect("cannot chown");
        }
    }
    let mut bundle = bundle(t);
    bundle.args(&["/bin/sleep", "1000"]).write();
    let id = t.id();
    let enter = format!("echo $$ >{}/own/cgroup.procs && exec \"$@\"", above.display());
    let user = ["sh", "-c", &enter, "sh", "setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"];
    let call = |args: &[&str]| t.call(args).wrapper(&user);
    call(&["create", &id]).options(&["--bundle", bundle.path.to_str().expect("no text")]).output().ok();
    let state: Value = serde_json::from_str(&call(&["state", &id]).output().ok().stdout()).expect("no JSON");
    let pid = state["pid"].as_i64().expect("no pid") as i32;
    let path = look::cgroup_paths(pid).remove("").unwrap_or_default();
    assert!(path.ends_with(&format!("{}-delegated/{id}", t.tag())), "{path}");
    assert_eq!(fs::metadata(above.join(&id)).expect("no cgroup").uid(), UID);
    call(&["start", &id]).output().ok();
    call(&["exec", &id, "/bin/true"]).output().ok();
    call(&["pause", &id]).output().ok();
    call(&["resume", &id]).output().ok();
    call(&["delete", "--force", &id]).output().ok();
    assert!(!above.join(&id).exists());
    look::eventually("the delegated cgroups to be empty", || fs::remove_dir(above.join("own")).is_ok());
    fs::remove_dir(&above).expect("cannot remove the cgroup");
    Ok(())
}

fn oom_score(t: &Test<'_>) -> Done {
    for (asked, score) in [(300, "300\n"), (-500, "0\n")] {
        let mut bundle = bundle(t);
        bundle.process("oomScoreAdj", json!(asked)).sh("cat /proc/self/oom_score_adj");
        assert_eq!(as_user(t.run_call(&bundle, &t.id())).output().ok().stdout(), score);
    }
    Ok(())
}

fn devices_are_the_hosts(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    bundle.sh("for d in null zero full random urandom tty; do stat -c '%n %t:%T' /dev/$d; done; head -c 3 /dev/zero | wc -c; stat -c %u /dev/null");
    let text = as_user(t.run_call(&bundle, &t.id())).output().ok().stdout();
    let numbers: Vec<_> = text.split_whitespace().skip(1).step_by(2).take(6).collect();
    assert_eq!(numbers, ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"], "{text}");
    assert!(text.ends_with("3\n65534\n"), "{text}");
    Ok(())
}

fn a_terminal(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    bundle.process("terminal", json!(true)).sh("tty; stat -c %u $(tty)");
    let pty = nix::pty::openpty(None, None).expect("no terminal");
    // Its user's, as a login makes it.
    let name = nix::unistd::ttyname(&pty.slave).expect("no name");
    chown(name, Some(UID), None).expect("cannot chown");
    let running = as_user(t.run_call(&bundle, &t.id())).terminal(pty.slave).spawn();
    let output = running.wait(&t.runtime).ok();
    let mut bytes = [0; 4096];
    let length = nix::unistd::read(&pty.master, &mut bytes).expect("cannot read");
    let text = String::from_utf8_lossy(&bytes[..length]).replace('\r', "");
    assert_eq!(text, "/dev/pts/0\n0\n", "{}", output.command);
    Ok(())
}

fn hooks(t: &Test<'_>) -> Done {
    let dir = t.make_dir("users");
    chown(&dir, Some(UID), Some(UID)).expect("cannot chown");
    let hook = t.file("hook");
    conformance::bundle::write_script(&hook, &format!("cat >/dev/null; id -u >>{}/log", dir.display()));
    let mut bundle = bundle(t);
    bundle.set("hooks", json!({"createRuntime": [{"path": hook}], "poststop": [{"path": hook}]}));
    as_user(t.run_call(&bundle, &t.id())).output().ok();
    let log = fs::read_to_string(dir.join("log")).expect("no hook has run");
    assert_eq!(log, "1234\n1234\n", "hooks have the rights of the user");
    Ok(())
}

fn mapped_ids_take_the_hosts_root(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "says so in other words")?;
    let dir = t.make_dir("dir");
    let mut bundle = bundle(t);
    bundle.bind(&dir, "/data", &["bind", "idmap"]);
    let output = as_user(t.run_call(&bundle, &t.id())).output().fails();
    t.proa_says(&output, "\"/data\": map ids");
    t.assert_clean_failure(&output);
    Ok(())
}

fn the_state_of_others_is_out_of_reach(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for args in
        [&["state", &c.id][..], &["exec", &c.id, "/bin/true"], &["kill", &c.id, "KILL"], &["delete", "--force", &c.id]]
    {
        let output = as_user(t.call(args)).output().fails();
        t.proa_says(&output, "permission denied");
    }
    assert!(look::is_alive(c.pid));
    Ok(())
}

fn state_below_the_runtime_directory(t: &Test<'_>) -> Done {
    let bundle = bundle(t);
    bundle.write();
    let dir = t.make_dir("users");
    chown(&dir, Some(UID), Some(UID)).expect("cannot chown");
    let call = |args: &[&str]| as_user(t.call(args)).default_root().env("XDG_RUNTIME_DIR", &dir);
    let id = t.id();
    call(&["create", &id]).options(&["--bundle", bundle.path.to_str().expect("no text")]).output().ok();
    let root = fs::read_dir(&dir).expect("cannot read").next().expect("no state root").expect("cannot read").path();
    assert!(root.join(&id).is_dir(), "{}", root.display());
    // The sticky bit keeps what looks old from being cleared away (XDG Base Directory Specification).
    assert_eq!(fs::metadata(&root).expect("no state root").permissions().mode() & 0o7777, 0o1700);
    call(&["delete", "--force", &id]).output().ok();
    fs::remove_dir(&root).expect("something is left");
    Ok(())
}

/// Root of a user namespace with many ids and a mount namespace, in which engines call the runtime.
const INSIDE: [&str; 7] = ["unshare", "--user", "--map-root-user", "--mount", "--propagation=slave", "--", "env"];

fn as_root_of_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    give(&bundle.rootfs(), 0);
    chown(&t.runtime.root, Some(0), Some(0)).expect("cannot chown");
    bundle.remove("/linux/uidMappings").remove("/linux/gidMappings").without_namespace("user");
    bundle.process("oomScoreAdj", json!(-900));
    bundle.sh("id -u; stat -c %t:%T /dev/null; cat /proc/self/oom_score_adj; mount | grep -c ' /proc '");
    let output = t.run_call(&bundle, &t.id()).wrapper(&INSIDE).global("--rootless=auto").output().ok();
    assert_eq!(output.stdout(), "0\n1:3\n0\n1\n");
    assert_eq!(output.stderr(), "");
    Ok(())
}

fn a_user_namespace_in_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t);
    give(&bundle.rootfs(), 0);
    chown(&t.runtime.root, Some(0), Some(0)).expect("cannot chown");
    map(&mut bundle, &[(0, 0, 1)]);
    bundle.sh("id -u; cat /proc/self/uid_map");
    let text = t.run_call(&bundle, &t.id()).wrapper(&INSIDE).output().ok().stdout();
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "0", "0", "1"]);
    Ok(())
}

fn a_scope_of_the_users_systemd(t: &Test<'_>) -> Done {
    t.needs(Path::new("/run/user/1000/bus").exists(), "a user's systemd")?;
    t.needs(look::cgroups() == look::Cgroups::Unified, "a pure cgroup v2")?;
    // From a session that is not below that systemd: neither clone3 nor a write gets a process there.
    let session = [
        "setpriv",
        "--reuid=1000",
        "--regid=1000",
        "--clear-groups",
        "--",
        "env",
        "XDG_RUNTIME_DIR=/run/user/1000",
        "DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus",
    ];
    let mut bundle = bundle(t);
    map(&mut bundle, &[(0, 1000, 1)]);
    give(&bundle.rootfs(), 1000);
    chown(&t.runtime.root, Some(1000), Some(1000)).expect("cannot chown");
    bundle
        .args(&["/bin/sleep", "1000"])
        .linux("resources", json!({"pids": {"limit": 50}, "memory": {"limit": 64 << 20}}));
    bundle.write();
    let id = t.id();
    let call = |args: &[&str]| t.call(args).global("--systemd-cgroup").wrapper(&session);
    call(&["create", &id]).options(&["--bundle", bundle.path.to_str().expect("no text")]).output().ok();
    let state: Value = serde_json::from_str(&call(&["state", &id]).output().ok().stdout()).expect("no JSON");
    let pid = state["pid"].as_i64().expect("no pid") as i32;
    let path = look::cgroup_paths(pid).remove("").unwrap_or_default();
    assert!(path.contains("/user@1000.service/") && path.ends_with(&format!("/proa-{id}.scope")), "{path}");
    let files = look::controller(pid, "memory").expect("no memory");
    assert_eq!((files.read("pids.max"), files.read("memory.max")), ("50".to_owned(), "67108864".to_owned()));
    call(&["start", &id]).output().ok();
    let exec = call(&["exec", &id, "/bin/sleep", "1000"]).spawn();
    look::eventually("a second process", || files.read("pids.current") == "2");
    call(&["update", &id]).options(&["--pids-limit", "51"]).output().ok();
    assert_eq!(files.read("pids.max"), "51");
    call(&["pause", &id]).output().ok();
    call(&["resume", &id]).output().ok();
    call(&["kill", &id, "KILL"]).output().ok();
    exec.wait(&t.runtime);
    look::eventually("the end of the container", || !look::is_alive(pid));
    call(&["delete", &id]).output().ok();
    t.assert_nothing_left();
    Ok(())
}
