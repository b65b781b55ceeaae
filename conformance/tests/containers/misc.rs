//! The smaller properties: sysctl, personality, the session keyring,
//! annotations; and config.json as a document: versions, unknown properties,
//! values of a wrong type.

use std::fs;

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-74" => sysctl_of_each_namespace,
    "L-74" => sysctl_with_slashes,
    "L-74" => sysctl_of_the_host_is_refused,
    "L-74" => sysctl_without_its_namespace_is_refused,
    "" => sysctl_of_the_hostname_is_refused,
    "" => sysctl_that_does_not_exist,
    "L-92" => personality_linux32,
    "L-92" => personality_linux,
    "L-92" => personality_of_exec,
    "C-70" => personality_unknown,
    "" => session_keyring_of_its_own,
    "" => session_keyring_of_the_caller,
    "C-63" => annotations_with_odd_values,
    "C-64" => annotation_with_an_empty_key,
    "C-2" => versions_of_the_specification,
    "C-1" => version_must_be_there,
    "B-4" => same_name_twice,
    "C-69" => unknown_properties_are_ignored,
    "" => null_is_as_if_left_out,
    "" => empty_values_ask_for_nothing,
    "" => values_of_a_wrong_type,
    "L-59" => resctrl_that_is_not_there,
}

fn with_sysctl(t: &Test<'_>, name: &str, value: &str, path: &str) -> String {
    let mut bundle = t.bundle();
    bundle.linux("sysctl", json!({name: value}));
    t.sh(&mut bundle, &format!("cat /proc/sys/{path}"))
}

fn sysctl_of_each_namespace(t: &Test<'_>) -> Done {
    for (name, value, path) in [
        ("net.ipv4.ip_forward", "1", "net/ipv4/ip_forward"),
        ("net.ipv4.ping_group_range", "5 6", "net/ipv4/ping_group_range"),
        ("net.core.somaxconn", "77", "net/core/somaxconn"),
        ("kernel.msgmax", "4096", "kernel/msgmax"),
        ("kernel.shmmni", "99", "kernel/shmmni"),
        ("kernel.shm_rmid_forced", "1", "kernel/shm_rmid_forced"),
        ("kernel.sem", "32001 1024000000 500 3200", "kernel/sem"),
        ("fs.mqueue.queues_max", "33", "fs/mqueue/queues_max"),
        ("kernel.domainname", "by.sysctl", "kernel/domainname"),
    ] {
        let host = fs::read_to_string(format!("/proc/sys/{path}"));
        let inside = with_sysctl(t, name, value, path);
        assert_eq!(
            inside.split_whitespace().collect::<Vec<_>>(),
            value.split_whitespace().collect::<Vec<_>>(),
            "{name}"
        );
        assert_eq!(fs::read_to_string(format!("/proc/sys/{path}")).ok(), host.ok(), "{name} of the host has changed");
    }
    Ok(())
}

fn sysctl_with_slashes(t: &Test<'_>) -> Done {
    assert_eq!(with_sysctl(t, "net/ipv4/ip_forward", "1", "net/ipv4/ip_forward"), "1\n");
    assert_eq!(with_sysctl(t, "net/ipv4/conf/lo/accept_redirects", "0", "net/ipv4/conf/lo/accept_redirects"), "0\n");
    Ok(())
}

#[track_caller]
fn refuses_sysctl(t: &Test<'_>, name: &str, without: Option<&str>) {
    let mut bundle = t.bundle();
    bundle.linux("sysctl", json!({name: "1"}));
    if let Some(kind) = without {
        bundle.remove("/hostname").without_namespace(kind);
    }
    let output = t.refuses(&bundle);
    t.proa_says(&output, name);
    t.proa_says(&output, "linux.sysctl");
}

fn sysctl_of_the_host_is_refused(t: &Test<'_>) -> Done {
    for name in [
        "kernel.core_pattern",
        "vm.overcommit_memory",
        "kernel.sysrq",
        "fs.file-max",
        "debug.exception-trace",
        "user.max_user_namespaces",
        "nosuch.thing",
    ] {
        if name.starts_with("user") && t.is(Kind::Crun) {
            continue; // takes it
        }
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let before = fs::read_to_string(&path).ok();
        refuses_sysctl(t, name, None);
        assert_eq!(fs::read_to_string(&path).ok(), before, "{name} of the host has changed");
    }
    Ok(())
}

fn sysctl_without_its_namespace_is_refused(t: &Test<'_>) -> Done {
    for (name, kind) in [
        ("net.ipv4.ip_forward", "network"),
        ("kernel.shmmni", "ipc"),
        ("fs.mqueue.queues_max", "ipc"),
        ("kernel.domainname", "uts"),
    ] {
        let before = fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok();
        refuses_sysctl(t, name, Some(kind));
        assert_eq!(fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).ok(), before);
    }
    Ok(())
}

fn sysctl_of_the_hostname_is_refused(t: &Test<'_>) -> Done {
    refuses_sysctl(t, "kernel.hostname", None);
    Ok(())
}

fn sysctl_that_does_not_exist(t: &Test<'_>) -> Done {
    refuses_sysctl(t, "net.no.such.thing", None);
    let mut bundle = t.bundle();
    bundle.linux("sysctl", json!({"net.ipv4.ip_forward": "not a number"}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "net.ipv4.ip_forward");
    for name in ["net/../kernel/core_pattern", "net.ipv4/../../kernel.sysrq", "net..ipv4"] {
        bundle.linux("sysctl", json!({name: "0"}));
        t.refuses(&bundle);
    }
    Ok(())
}

fn personality(pid: i32) -> String {
    look::proc_text(pid, "personality").trim().to_owned()
}

fn personality_linux32(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("personality", json!({"domain": "LINUX32"}));
    let c = t.start(&bundle);
    assert_eq!(personality(c.pid), "00000008");
    assert_ne!(c.sh("uname -m").trim(), "x86_64");
    Ok(())
}

fn personality_linux(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("personality", json!({"domain": "LINUX"}));
    let id = t.id();
    let output = t.create_call(&bundle, &id).wrapper(&["setarch", "linux32"]).output();
    let output = output.ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(personality(c.pid), "00000000", "asked for, whatever the caller's is");
    Ok(())
}

fn personality_of_exec(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("personality", json!({"domain": "LINUX32"}));
    let c = t.start(&bundle);
    assert_eq!(c.sh("cat /proc/self/personality"), "00000008\n");
    Ok(())
}

fn personality_unknown(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("personality", json!({"domain": "BSD"}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.personality");
    Ok(())
}

/// /proc/keys lists the keys the reader may see, its session keyring among them.
const KEYS: &str = "cat /proc/keys";

fn session_keyring_of_its_own(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle(&format!("{KEYS}; exec sleep 1000"));
    bundle.linux("maskedPaths", json!([]));
    let c = t.start(&bundle);
    let name = format!("_ses.{}", c.id);
    if t.is(Kind::Crun) {
        c.prints(&c.id); // names it otherwise
        return Ok(());
    }
    c.prints(&name);
    assert_eq!(c.sh(KEYS).matches(&name).count(), 1, "exec joins the same keyring");
    Ok(())
}

fn session_keyring_of_the_caller(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle(KEYS);
    bundle.linux("maskedPaths", json!([]));
    let id = t.id();
    let output = t.run_call(&bundle, &id).options(&["--no-new-keyring"]).output().ok();
    assert!(!output.stdout().contains(&id), "{}", output.stdout());
    Ok(())
}

fn annotations_with_odd_values(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    let annotations =
        json!({"org.example.empty": "", "org.example.text": "ü \"quoted\"\n\t\\ \u{1f980}", "no dots": "x"});
    bundle.set("annotations", annotations.clone());
    let c = t.create(&bundle);
    assert_eq!(c.state()["annotations"], annotations);
    Ok(())
}

fn annotation_with_an_empty_key(t: &Test<'_>) -> Done {
    t.proa_only("peers do not look")?;
    let mut bundle = t.bundle();
    bundle.set("annotations", json!({"": "x"}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "annotations");
    Ok(())
}

fn versions_of_the_specification(t: &Test<'_>) -> Done {
    for version in ["1.0.0", "1.0.2-dev", "1.1.0", "1.2.1"] {
        let mut bundle = t.sleeping_bundle();
        bundle.set("ociVersion", json!(version));
        let c = t.create(&bundle);
        assert!(c.state()["ociVersion"].is_string());
        c.delete();
    }
    t.proa_only("peers do not look")?;
    for version in ["2.0.0", "one", "", "1"] {
        let mut bundle = t.bundle();
        bundle.set("ociVersion", json!(version));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "ociVersion");
    }
    Ok(())
}

fn version_must_be_there(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "does not look")?;
    let mut bundle = t.bundle();
    bundle.remove("/ociVersion");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "ociVersion");
    Ok(())
}

fn same_name_twice(t: &Test<'_>) -> Done {
    t.proa_only("peers take the last one")?;
    let bundle = t.bundle();
    bundle.write();
    let path = bundle.path.join("config.json");
    let text = fs::read_to_string(&path).expect("no config.json");
    fs::write(&path, text.replacen('{', "{\"hostname\": \"first\",", 1)).expect("cannot write");
    let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(t.id()).output().fails();
    t.assert_clean_failure(&output);
    t.proa_says(&output, "hostname");
    Ok(())
}

fn unknown_properties_are_ignored(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo fine");
    let odd = json!({"a": [1, {"b": null}], "c": 1e3});
    bundle.set("org.example.unknown", odd.clone()).process("unknown", odd.clone()).linux("unknown", odd.clone());
    bundle.config["root"]["unknown"] = odd.clone();
    bundle.config["mounts"][0]["unknown"] = odd.clone();
    bundle.config["linux"]["namespaces"][0]["unknown"] = odd;
    assert_eq!(t.prints(&bundle), "fine\n");
    Ok(())
}

fn null_is_as_if_left_out(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo fine");
    for name in ["hooks", "annotations", "domainname"] {
        bundle.set(name, Value::Null);
    }
    for name in ["rlimits", "oomScoreAdj", "consoleSize", "ioPriority", "scheduler"] {
        bundle.process(name, Value::Null);
    }
    for name in
        ["devices", "sysctl", "uidMappings", "gidMappings", "resources", "personality", "seccomp", "timeOffsets"]
    {
        bundle.linux(name, Value::Null);
    }
    if t.is(Kind::Crun) {
        return Ok(()); // does not take null everywhere
    }
    assert_eq!(t.prints(&bundle), "fine\n");
    Ok(())
}

fn values_of_a_wrong_type(t: &Test<'_>) -> Done {
    for (pointer, value) in [
        ("/process/args", json!("sh")),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_296_u64)),
        ("/process/terminal", json!("yes")),
        ("/root", json!([])),
        ("/mounts", json!({})),
        ("/linux/namespaces", json!("pid")),
        ("/hostname", json!(5)),
    ] {
        if t.is(Kind::Crun) {
            continue; // converts much of it
        }
        let mut bundle = t.bundle();
        *bundle.config.pointer_mut(pointer).expect("no such property") = value;
        let output = t.refuses(&bundle);
        let name = pointer.trim_start_matches('/').replace('/', ".");
        t.proa_says(&output, &name);
    }
    Ok(())
}

fn resctrl_that_is_not_there(t: &Test<'_>) -> Done {
    let mounted = fs::read_to_string("/proc/self/mountinfo").is_ok_and(|text| text.contains(" - resctrl "));
    let mut bundle = t.bundle();
    bundle.linux("intelRdt", json!({"closID": "guaranteed", "l3CacheSchema": "L3:0=f"}));
    if !mounted {
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.intelRdt");
    }
    t.needs(mounted, "resctrl: schemata, monitoring and removal are not tested")?;
    Ok(())
}

fn empty_values_ask_for_nothing(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "writes an empty label")?;
    let mut bundle = t.sh_bundle("echo fine");
    bundle.process("apparmorProfile", json!("")).process("selinuxLabel", json!("")).linux("mountLabel", json!(""));
    bundle.config["linux"]["resources"] =
        json!({"devices": [], "memory": {}, "cpu": {}, "unified": {}, "hugepageLimits": []});
    assert_eq!(t.prints(&bundle), "fine\n");
    Ok(())
}
