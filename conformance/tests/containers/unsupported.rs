//! Properties that proa does not carry out yet: they are refused by name, as
//! nothing that was asked for may be ignored in silence.
//!
//! To be taken out one by one as each is built.

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "R-29" => mapped_mounts,
    "R-29" => tmpcopyup,
    "" => empty_values_ask_for_nothing,
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
