//! Properties that proa does not carry out yet: they are refused by name, as
//! nothing that was asked for may be ignored in silence.
//!
//! To be taken out one by one as each is built.

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "R-29" => labels,
    "R-29" => limits,
    "R-29" => mapped_mounts,
    "R-29" => tmpcopyup,
    "" => empty_values_ask_for_nothing,
    "" => options_of_exec,
}

/// A container with this property is refused, and the message names it.
#[track_caller]
fn refused(t: &Test<'_>, pointer: &str, value: Value) {
    let mut bundle = t.bundle();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer starts with /");
    bundle.config.pointer_mut(parent).expect("no such property")[name] = value;
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, &pointer.trim_start_matches('/').replace('/', "."));
}

fn labels(t: &Test<'_>) -> Done {
    t.proa_only("not built yet")?;
    refused(t, "/process/apparmorProfile", json!("some-profile"));
    refused(t, "/process/selinuxLabel", json!("system_u:system_r:container_t:s0"));
    refused(t, "/linux/mountLabel", json!("system_u:object_r:container_file_t:s0"));
    Ok(())
}

fn limits(t: &Test<'_>) -> Done {
    t.proa_only("not built yet")?;
    for (name, value) in [
        ("memory", json!({"limit": 1 << 30})),
        ("cpu", json!({"shares": 512})),
        ("cpu", json!({"cpus": "0"})),
        ("pids", json!({"limit": 100})),
        ("blockIO", json!({"weight": 100})),
        ("hugepageLimits", json!([{"pageSize": "2MB", "limit": 0}])),
        ("network", json!({"classID": 5})),
        ("rdma", json!({"mlx5_1": {"hcaHandles": 1}})),
        ("unified", json!({"memory.high": "1000000000"})),
    ] {
        let mut bundle = t.bundle();
        bundle.config["linux"]["resources"][name] = value;
        let output = t.refuses(&bundle).exits(1);
        t.proa_says(&output, &format!("linux.resources.{name}"));
    }
    Ok(())
}

fn mapped_mounts(t: &Test<'_>) -> Done {
    t.proa_only("not built yet")?;
    let dir = t.make_dir("dir");
    for word in ["idmap", "ridmap"] {
        let mut bundle = t.bundle();
        bundle.bind(&dir, "/data", &["bind", word]);
        let output = t.refuses(&bundle).exits(1);
        t.proa_says(&output, "mounts[6]");
        t.proa_says(&output, word);
    }
    let mut bundle = t.bundle();
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    bundle.push(
        "/mounts",
        json!({"destination": "/data", "source": dir, "options": ["bind"], "uidMappings": map, "gidMappings": map}),
    );
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "mounts[6]");
    Ok(())
}

fn tmpcopyup(t: &Test<'_>) -> Done {
    t.proa_only("not built yet")?;
    let mut bundle = t.bundle();
    bundle.mount("/etc", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "mounts[6]");
    t.proa_says(&output, "tmpcopyup");
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

fn options_of_exec(t: &Test<'_>) -> Done {
    t.proa_only("not built yet")?;
    let c = t.sleeper();
    for (option, value, word) in
        [("--apparmor", "some-profile", "apparmor"), ("--process-label", "system_u:system_r:container_t:s0", "label")]
    {
        let output = c.exec_with(&[option, value], &["true"]).output().fails();
        t.proa_says(&output, word);
    }
    Ok(())
}
