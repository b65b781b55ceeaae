//! `events`: figures in runc's JSON, and notices of kills for want of memory.

use std::time::Duration;

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::resources::needs;

crate::cases! {
    "" => figures_once,
    "" => figures_of_every_kind,
    "" => figures_every_interval_until_the_end,
    "" => a_kill_for_want_of_memory,
    "" => figures_count,
    "" => a_reader_that_goes_away,
    "" => nothing_to_tell,
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn figures_once(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    let c = t.sleeper();
    let text = c.call("events").options(&["--stats"]).output().ok().stdout();
    assert_eq!(text.lines().count(), 1, "{text}");
    let event = parse(&text);
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(c.id)));
    let mut keys: Vec<_> = event["data"].as_object().expect("no data").keys().cloned().collect();
    keys.sort();
    assert_eq!(keys, ["blkio", "cpu", "cpuset", "hugetlb", "intel_rdt", "memory", "network_interfaces", "pids"]);
    let data = &event["data"];
    for (path, names) in [
        ("/cpu", &["usage", "throttling"][..]),
        ("/cpu/usage", &["kernel", "user"]),
        ("/cpuset", &["cpu_exclusive", "memory_migrate", "sched_relax_domain_level"]),
        ("/memory", &["usage", "swap", "kernel", "kernelTCP"]),
        ("/memory/usage", &["limit", "failcnt"]),
    ] {
        for name in names {
            assert!(data.pointer(&format!("{path}/{name}")).is_some(), "no {path}/{name}: {data}");
        }
    }
    Ok(())
}

fn figures_count(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    needs(t, "pids")?;
    needs(t, "memory")?;
    let mut bundle = t.sh_bundle("sleep 1000 & i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; wait");
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    let c = t.start(&bundle);
    c.prints("done");
    let data = parse(&c.call("events").options(&["--stats"]).output().ok().stdout())["data"].clone();
    assert_eq!(data["pids"], json!({"current": 2, "limit": 50}));
    assert_eq!(data["memory"]["usage"]["limit"], json!(64 << 20));
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 4096), "{data}");
    assert!(data["memory"]["raw"].as_object().is_some_and(|raw| raw.len() > 10), "{data}");
    if needs(t, "cpu").is_ok() || needs(t, "cpuacct").is_ok() {
        assert!(data["cpu"]["usage"]["total"].as_u64().is_some_and(|time| time > 1_000_000), "{data}");
    }
    Ok(())
}

/// What each kind of figure is called, and that numbers are numbers, where the machine counts it.
fn figures_of_every_kind(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    let c = t.start(
        &t.sh_bundle("dd if=/dev/zero of=/file bs=1M count=4 oflag=direct 2>/dev/null; echo done; exec sleep 1000"),
    );
    c.prints("done");
    let data = parse(&c.call("events").options(&["--stats"]).output().ok().stdout())["data"].clone();
    let number = |path: &str| data.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path}: {data}"));
    let mut seen = 0;
    for (controller, name) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "blkio")] {
        let there = look::controller(c.pid, controller).filter(|files| files.unified);
        let file = format!("{}.pressure", if name == "blkio" { "io" } else { name });
        if there.is_some_and(|files| files.get(&file).is_some()) {
            for part in ["some", "full"] {
                for figure in ["avg10", "avg60", "avg300", "total"] {
                    assert!(number(&format!("/{name}/psi/{part}/{figure}")) >= 0.0);
                }
            }
            seen += 1;
        }
    }
    if needs(t, "blkio").is_ok() {
        // Where / is no disk there is nothing to count.
        for entry in data["blkio"]["ioServiceBytesRecursive"].as_array().into_iter().flatten() {
            let mut keys: Vec<_> = entry.as_object().expect("no entry").keys().map(String::as_str).collect();
            keys.retain(|key| *key != "value" && *key != "minor");
            assert_eq!(keys, ["major", "op"], "{entry}");
            seen += 1;
        }
    }
    if needs(t, "hugetlb").is_ok() {
        for (size, figures) in data["hugetlb"].as_object().expect("no hugetlb") {
            assert!(size.ends_with("MB") || size.ends_with("GB") || size.ends_with("KB"), "{size}");
            assert_eq!(figures["failcnt"], json!(0), "{figures}");
            seen += 1;
        }
        assert!(data["hugetlb"]["2MB"].is_object(), "{data}");
    }
    t.needs(seen > 0, "a kind of figure that not every machine has")?;
    Ok(())
}

fn figures_every_interval_until_the_end(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    t.peer_differs(Kind::Runc, "begins after the first interval")?;
    let c = t.sleeper();
    let events = c.call("events").options(&["--interval", "100ms"]).spawn();
    look::eventually("three lines", || events.stdout().lines().count() >= 3);
    c.kill("KILL");
    let output = events.wait(&t.runtime).ok();
    assert!(output.stdout().lines().all(|line| parse(line)["type"] == "stats"));
    Ok(())
}

fn a_kill_for_want_of_memory(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    needs(t, "memory")?;
    let mut bundle = t.sh_bundle("cat /tmp/fifo; dd if=/dev/zero of=/dev/null bs=200M count=1; exec sleep 1000");
    nix::unistd::mkfifo(&bundle.inside("/tmp/fifo"), nix::sys::stat::Mode::S_IRWXU).expect("cannot make a fifo");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 50 << 20, "swap": 50 << 20});
    let c = t.start(&bundle);
    let events = c.call("events").options(&["--interval", "1h"]).spawn();
    look::eventually("a first line", || !events.stdout().is_empty() || t.is(Kind::Runc));
    std::thread::sleep(Duration::from_millis(200));
    std::fs::write(bundle.inside("/tmp/fifo"), "go\n").expect("cannot write");
    let oom = |line: &str| parse(line)["type"] == "oom";
    look::eventually("the notice", || events.stdout().lines().any(oom));
    let line = events.stdout().lines().find(|line| oom(line)).map(parse).expect("no notice");
    assert_eq!(line, json!({"type": "oom", "id": c.id}));
    c.kill("KILL");
    events.wait(&t.runtime).ok();
    Ok(())
}

fn a_reader_that_goes_away(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    t.peer_differs(Kind::Runc, "begins after the first interval")?;
    let c = t.sleeper();
    let call = c.call("events").options(&["--interval", "50ms"]);
    let output = call.wrapper(&["sh", "-c", "\"$@\" | head -n 1", "sh"]).output().ok();
    assert_eq!(output.stdout().lines().count(), 1);
    Ok(())
}

fn nothing_to_tell(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no events")?;
    let c = t.start(&t.bundle());
    c.wait();
    let output = c.call("events").options(&["--stats"]).output().fails();
    t.phrase(&output, &["is not running"]);
    let output = t.call(&["events", "nowhere"]).output().fails();
    t.phrase(&output, &["does not exist"]);
    let c = t.sleeper();
    for interval in ["0s", "fast", "-1s"] {
        let output = c.call("events").options(&["--interval", interval]).output().fails();
        t.proa_says(&output, &format!("--interval: {interval:?} is no duration"));
    }
    Ok(())
}
