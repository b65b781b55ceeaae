//! User namespaces: `linux.uidMappings`, `linux.gidMappings`, and what a
//! container in one is like.

use std::fs;
use std::os::unix::fs::MetadataExt;

use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-8" => mappings_exactly,
    "L-8" => several_mappings,
    "" => root_inside_is_a_user_outside,
    "" => user_inside,
    "" => groups_inside,
    "" => a_whole_container,
    "" => exec_in_it,
    "" => capabilities_are_full_inside,
    "" => mappings_without_a_namespace,
    "" => namespace_without_mappings,
    "C-70" => mappings_that_overlap,
    "" => user_without_a_mapping,
    "" => root_file_system_out_of_reach,
    "" => joined_by_path,
    "" => bind_whose_source_only_root_may_reach,
    "" => mounts_in_it_are_limited,
    "" => rlimits_in_it,
    "" => oom_score_in_it,
    "" => hooks_of_it,
    "" => no_more_than_asked_for,
}

fn map(entries: &[(u32, u32, u32)]) -> Value {
    entries
        .iter()
        .map(|(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}))
        .collect()
}

fn table(pid: i32, file: &str) -> Vec<Vec<u64>> {
    look::proc_text(pid, file)
        .lines()
        .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .collect()
}

fn mappings_exactly(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000).linux("gidMappings", map(&[(0, 200_000, 1000)]));
    bundle.config["mounts"][2]["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    let c = t.start(&bundle);
    assert_eq!(table(c.pid, "uid_map"), [[0, 100_000, 65536]]);
    assert_eq!(table(c.pid, "gid_map"), [[0, 200_000, 1000]]);
    assert_eq!(look::proc_text(c.pid, "setgroups"), "allow\n");
    Ok(())
}

fn several_mappings(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000);
    let lines = [(0, 100_000, 10), (10, 5, 1), (11, 300_000, 1000), (5000, 400_000, 1)];
    bundle.linux("uidMappings", map(&lines)).linux("gidMappings", map(&lines));
    let c = t.start(&bundle);
    let expected = lines.map(|(inside, outside, size)| vec![u64::from(inside), u64::from(outside), u64::from(size)]);
    assert_eq!(table(c.pid, "uid_map"), expected);
    assert_eq!(table(c.pid, "gid_map"), expected);
    Ok(())
}

fn root_inside_is_a_user_outside(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000);
    let c = t.start(&bundle);
    let status = c.proc_status();
    assert_eq!([status.ruid, status.euid, status.suid, status.fuid], [100_000; 4]);
    assert_eq!([status.rgid, status.egid, status.sgid, status.fgid], [100_000; 4]);
    assert_eq!(c.sh("id -u; id -g; touch /made; stat -c '%u:%g' /made"), "0\n0\n0:0\n");
    let made = fs::metadata(bundle.inside("/made")).expect("no file");
    assert_eq!((made.uid(), made.gid()), (100_000, 100_000));
    Ok(())
}

fn user_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000).process("user", json!({"uid": 1000, "gid": 1001}));
    let status = t.start(&bundle).proc_status();
    assert_eq!((status.euid, status.egid), (101_000, 101_001));
    Ok(())
}

fn groups_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000).process("user", json!({"uid": 0, "gid": 0, "additionalGids": [5, 6]}));
    assert_eq!(t.start(&bundle).proc_status().groups, [100_005, 100_006]);
    Ok(())
}

fn a_whole_container(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).namespace("cgroup", None).set("hostname", json!("inside"));
    bundle.mount("/data", "tmpfs", "tmpfs", &["size=1m"]).bind(&t.make_file("source", "x\n"), "/file", &["bind", "ro"]);
    bundle.linux("sysctl", json!({"net.ipv4.ip_forward": "1"}));
    let script = "hostname; cat /file; touch /data/x; echo x >/dev/null; cat /proc/sys/net/ipv4/ip_forward; ls -d /proc/1; ip -o link show lo | grep -c UP";
    assert_eq!(t.sh(&mut bundle, script), "inside\nx\n1\n/proc/1\n1\n");
    Ok(())
}

fn exec_in_it(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.user_namespace(100_000);
    let c = t.start(&bundle);
    assert_eq!(c.sh("id -u; readlink /proc/self/ns/user | grep -c user"), "0\n1\n");
    let output = c.exec_with(&["--user", "1000:1000"], &["id", "-u"]).output().ok();
    assert_eq!(output.stdout(), "1000\n");
    let status = c.exec(&["cat", "/proc/self/status"]).output().ok().stdout();
    assert_eq!(look::field(&status, "Groups").as_deref(), Some(""));
    c.exec_with(&["--user", "70000:0"], &["id"]).output().fails();
    Ok(())
}

fn capabilities_are_full_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).capabilities(&["CAP_SYS_ADMIN", "CAP_SYS_RESOURCE", "CAP_CHOWN"]);
    let text = t.sh(&mut bundle, "mount -t tmpfs tmpfs /tmp && echo mounted; chown 5 /etc/group && stat -c %u /etc/group; grep CapEff /proc/self/status");
    assert_eq!(text, "mounted\n5\nCapEff:\t0000000001200001\n");
    Ok(())
}

fn mappings_without_a_namespace(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "passes over them")?;
    t.peer_differs(Kind::Crun, "passes over them")?;
    let mut bundle = t.bundle();
    bundle.linux("uidMappings", map(&[(0, 100_000, 65536)])).linux("gidMappings", map(&[(0, 100_000, 65536)]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "uidMappings");
    Ok(())
}

fn namespace_without_mappings(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.namespace("user", None);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "uidMappings");
    bundle.linux("uidMappings", map(&[(0, 100_000, 65536)]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "gidMappings");
    Ok(())
}

fn mappings_that_overlap(t: &Test<'_>) -> Done {
    for lines in
        [&[(0, 100_000, 100), (50, 200_000, 100)][..], &[(0, 100_000, 100), (500, 100_050, 100)], &[(0, 100_000, 0)]]
    {
        let mut bundle = t.bundle();
        bundle.user_namespace(100_000).linux("uidMappings", map(lines)).linux("gidMappings", map(lines));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "uidMappings");
    }
    Ok(())
}

fn user_without_a_mapping(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).process("user", json!({"uid": 70_000, "gid": 0}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.user");
    Ok(())
}

fn root_file_system_out_of_reach(t: &Test<'_>) -> Done {
    use std::os::unix::fs::PermissionsExt;
    // What the namespace's root may not enter cannot be its root.
    let mut bundle = t.sh_bundle("echo x >/made");
    bundle.user_namespace(100_000);
    let closed = t.make_dir("closed");
    fs::rename(bundle.rootfs(), closed.join("rootfs")).expect("cannot rename");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    bundle.config["root"]["path"] = json!(closed.join("rootfs"));
    let output = t.run(&bundle);
    if !output.status.success() {
        t.assert_clean_failure(&output);
    }
    Ok(())
}

fn joined_by_path(t: &Test<'_>) -> Done {
    let holder = Holder::new(&["--user", "--map-root-user", "--net", "--ipc"]);
    let mut bundle = t.sleeping_bundle();
    for (kind, file) in [("user", "user"), ("network", "net"), ("ipc", "ipc")] {
        bundle.namespace(kind, Some(&holder.path(file)));
    }
    bundle.config["mounts"][2]["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    let c = t.start(&bundle);
    for file in ["user", "net", "ipc"] {
        assert_eq!(look::namespace(c.pid, file), look::namespace(holder.pid, file), "{file}");
    }
    // The others belong to the namespace joined, or nothing could be mounted.
    assert_eq!(c.sh("id -u; hostname"), "0\nconformance\n");
    c.call("delete").options(&["--force"]).output().ok();
    Ok(())
}

fn bind_whose_source_only_root_may_reach(t: &Test<'_>) -> Done {
    use std::os::unix::fs::PermissionsExt;
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    let closed = t.make_dir("closed");
    fs::write(closed.join("file"), "reached\n").expect("cannot write");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    bundle.bind(&closed.join("file"), "/file", &["bind", "ro"]);
    assert_eq!(t.sh(&mut bundle, "cat /file"), "reached\n");
    Ok(())
}

fn mounts_in_it_are_limited(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).capabilities(&["CAP_SYS_ADMIN"]);
    bundle.bind(&t.make_dir("dir"), "/data", &["bind", "ro"]);
    let text = t.sh(
        &mut bundle,
        "mount -o remount,rw /proc/sys 2>/dev/null; echo x 2>/dev/null >/proc/sys/kernel/core_pattern || echo refused",
    );
    assert_eq!(text, "refused\n");
    Ok(())
}

fn rlimits_in_it(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    bundle.process(
        "rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    );
    assert_eq!(t.sh(&mut bundle, "ulimit -Sn; ulimit -Hn; ulimit -Hc"), "111\n222\n0\n");
    Ok(())
}

fn oom_score_in_it(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).process("oomScoreAdj", json!(321));
    assert_eq!(t.sh(&mut bundle, "cat /proc/self/oom_score_adj"), "321\n");
    Ok(())
}

fn hooks_of_it(t: &Test<'_>) -> Done {
    let log = t.file("log");
    let hook = t.file("hook");
    conformance::bundle::write_script(&hook, &format!("cat >/dev/null; id -u >>{}", log.display()));
    let mut bundle = t.bundle();
    bundle
        .user_namespace(100_000)
        .set("hooks", json!({"createRuntime": [{"path": hook}], "poststop": [{"path": hook}]}));
    t.run(&bundle).ok();
    assert_eq!(
        fs::read_to_string(&log).ok().as_deref(),
        Some("0\n0\n"),
        "hooks of the runtime's namespace are the host's root"
    );
    Ok(())
}

fn no_more_than_asked_for(t: &Test<'_>) -> Done {
    // Only the user namespace: the container's others are the host's, in which
    // its root has no power.
    let mut bundle = t.bundle();
    bundle.remove("/hostname");
    bundle.user_namespace(100_000).without_namespace("uts").capabilities(&["CAP_SYS_ADMIN"]);
    let text = t.sh(&mut bundle, "hostname taken 2>/dev/null || echo refused");
    assert_eq!(text, "refused\n");
    Ok(())
}
