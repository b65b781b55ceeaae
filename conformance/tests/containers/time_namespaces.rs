//! Time namespaces and `linux.timeOffsets`.

use std::fs;

use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::namespaces::{KINDS, add, own};

crate::cases! {
    "L-10" => time_offsets,
    "L-10" => time_namespace_without_offsets,
    "L-10" => time_offsets_without_a_namespace,
    "" => time_namespace_joined,
    "" => time_namespace_with_all_others,
}

fn time_offsets(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", None);
    bundle.linux(
        "timeOffsets",
        json!({"monotonic": {"secs": 1234, "nanosecs": 500}, "boottime": {"secs": -100, "nanosecs": 7}}),
    );
    let c = t.start(&bundle);
    let words: Vec<String> = look::proc_text(c.pid, "timens_offsets").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["monotonic", "1234", "500", "boottime", "-100", "7"]);
    let uptime = |text: String| text.split('.').next().and_then(|word| word.parse::<i64>().ok()).expect("an uptime");
    let (inside, outside) =
        (uptime(c.sh("cat /proc/uptime")), uptime(fs::read_to_string("/proc/uptime").expect("no uptime")));
    assert!((outside - inside - 100).abs() <= 2, "{inside} inside, {outside} outside");
    Ok(())
}

fn time_namespace_without_offsets(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", None);
    let c = t.start(&bundle);
    assert_ne!(look::namespace(c.pid, "time"), own("time"));
    let words: Vec<String> = look::proc_text(c.pid, "timens_offsets").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "0", "0"]);
    Ok(())
}

fn time_offsets_without_a_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 10}}));
    t.peer_differs(Kind::Crun, "passes over them")?;
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.timeOffsets");
    bundle.namespace("time", None).linux("timeOffsets", json!({"realtime": {"secs": 10}}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.timeOffsets");
    Ok(())
}

fn time_namespace_joined(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "fails to join a time namespace")?;
    let holder = Holder::new(&["--time", "--boottime", "5000"]);
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("time", Some(&holder.path("time")));
    let c = t.start(&bundle);
    assert_eq!(look::namespace(c.pid, "time"), look::namespace(holder.pid, "time"));
    assert!(look::proc_text(c.pid, "timens_offsets").contains("5000"));
    c.call("delete").options(&["--force"]).output().ok();
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 10}}));
    t.create_call(&bundle, &t.id()).output().fails();
    Ok(())
}

fn time_namespace_with_all_others(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "fails to write offsets in a user namespace")?;
    let mut bundle = t.sleeping_bundle();
    for (kind, _) in KINDS {
        add(&mut bundle, kind);
    }
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 86400}, "monotonic": {"secs": 3600}}));
    let c = t.start(&bundle);
    for (kind, file) in KINDS {
        assert_ne!(look::namespace(c.pid, file), own(file), "{kind}");
    }
    assert!(look::proc_text(c.pid, "timens_offsets").contains("86400"));
    let exec = c.sh("readlink /proc/self/ns/time; readlink /proc/1/ns/time");
    let lines: Vec<_> = exec.lines().collect();
    assert_eq!(lines[0], lines[1], "exec is in the time namespace");
    Ok(())
}
