//! `process`: what the program may do: the five capability sets, resource
//! limits, no_new_privs, the OOM score. Looked at in /proc/PID of a running
//! program, by the numbers.

use std::fs;

use caps::Capability;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use procfs::process::{LimitValue, Process};
use serde_json::{Value, json};

crate::cases! {
    "C-36" => five_capability_sets_exactly,
    "C-36" => capabilities_of_a_user,
    "C-36" => ambient_capabilities_of_a_user,
    "C-36" => no_capabilities_at_all,
    "C-36" => capability_sets_left_out_are_empty,
    "C-37" => unknown_capability_warns,
    "C-37" => capability_that_the_runtime_lacks,
    "" => capabilities_of_exec_are_the_containers,
    "" => exec_with_more_capabilities,
    "C-34" => rlimits_soft_and_hard,
    "C-31" => rlimits_of_every_type,
    "C-32" => rlimit_of_an_unknown_type,
    "C-33" => rlimit_given_twice,
    "C-70" => rlimit_with_soft_above_hard,
    "" => rlimits_hold_for_exec,
    "" => rlimit_infinity,
    "C-39" => no_new_privileges,
    "C-40" => oom_score_adj_set,
    "C-41" => oom_score_adj_unset,
    "C-70" => oom_score_adj_out_of_range,
    "" => oom_score_adj_below_what_is_allowed,
}

fn bits(names: &[&str]) -> u64 {
    names.iter().map(|name| name.parse::<Capability>().expect("a capability").bitmask()).sum()
}

/// The sets of a process: inheritable, permitted, effective, bounding, ambient.
fn sets(pid: i32) -> [u64; 5] {
    let status = look::status(pid);
    [status.capinh, status.capprm, status.capeff, status.capbnd.unwrap_or(0), status.capamb.unwrap_or(0)]
}

#[track_caller]
fn sets_of(t: &Test<'_>, user: u32, capabilities: Value) -> [u64; 5] {
    let mut bundle = t.sleeping_bundle();
    bundle.process("capabilities", capabilities).process("user", json!({"uid": user, "gid": user}));
    sets(t.start(&bundle).pid)
}

fn five_capability_sets_exactly(t: &Test<'_>) -> Done {
    let found = sets_of(
        t,
        0,
        json!({
            "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
            "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
            "effective": ["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"],
            "inheritable": ["CAP_KILL", "CAP_CHOWN"],
            "ambient": ["CAP_KILL"],
        }),
    );
    let all = bits(&["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]);
    assert_eq!(found, [bits(&["CAP_KILL", "CAP_CHOWN"]), all, all, all, bits(&["CAP_KILL"])]);
    Ok(())
}

fn capabilities_of_a_user(t: &Test<'_>) -> Done {
    let names = ["CAP_KILL", "CAP_CHOWN"];
    let found = sets_of(t, 1000, json!({"bounding": names, "permitted": names, "effective": names}));
    // execve(2) by a user other than root drops what is not ambient.
    assert_eq!(found, [0, 0, 0, bits(&names), 0]);
    Ok(())
}

fn ambient_capabilities_of_a_user(t: &Test<'_>) -> Done {
    let all = ["CAP_KILL", "CAP_CHOWN"];
    let one = ["CAP_KILL"];
    let found = sets_of(
        t,
        1000,
        json!({"bounding": all, "permitted": all, "effective": all, "inheritable": one, "ambient": one}),
    );
    assert_eq!(found, [bits(&one), bits(&one), bits(&one), bits(&all), bits(&one)]);
    Ok(())
}

fn no_capabilities_at_all(t: &Test<'_>) -> Done {
    assert_eq!(sets_of(t, 0, json!({})), [0; 5]);
    t.peer_differs(Kind::Runc, "gives all capabilities where the property is left out")?;
    let mut bundle = t.sleeping_bundle();
    bundle.remove("/process/capabilities");
    assert_eq!(sets(t.start(&bundle).pid), [0; 5], "without the property");
    Ok(())
}

fn capability_sets_left_out_are_empty(t: &Test<'_>) -> Done {
    let all = bits(&["CAP_KILL", "CAP_CHOWN"]);
    let mut bundle = t.sleeping_bundle();
    bundle.process("capabilities", json!({"bounding": ["CAP_KILL", "CAP_CHOWN"]}));
    assert_eq!(sets(t.start(&bundle).pid), [0, 0, 0, all, 0]);
    // Without no_new_privs execve(2) by root raises to the bounding set.
    bundle.process("noNewPrivileges", json!(false));
    assert_eq!(sets(t.start(&bundle).pid), [0, all, all, all, 0]);
    Ok(())
}

fn unknown_capability_warns(t: &Test<'_>) -> Done {
    let names = ["CAP_KILL", "CAP_NO_SUCH_THING"];
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&names);
    let c = t.create(&bundle);
    c.start();
    assert_eq!(sets(c.pid)[3], bits(&["CAP_KILL"]));
    t.proa_says(&c.output, "CAP_NO_SUCH_THING");
    // Said once: standard error of what is executed is the program's.
    if t.is(Kind::Proa) {
        assert_eq!(c.exec(&["/bin/true"]).output().ok().stderr(), "");
    }
    Ok(())
}

fn capability_that_the_runtime_lacks(t: &Test<'_>) -> Done {
    let lacks = |name: Capability| !caps::has_cap(None, caps::CapSet::Permitted, name).unwrap_or(true);
    t.needs(lacks(Capability::CAP_SYS_RESOURCE), "a capability that root lacks here")?;
    t.peer_differs(Kind::Runc, "fails: the specification says it should not")?;
    t.peer_differs(Kind::Crun, "fails: the specification says it should not")?;
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_KILL", "CAP_SYS_RESOURCE"]);
    let c = t.create(&bundle);
    c.start();
    assert_eq!(sets(c.pid)[3], bits(&["CAP_KILL"]));
    t.proa_says(&c.output, "CAP_SYS_RESOURCE");
    Ok(())
}

fn capabilities_of_exec_are_the_containers(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    let names = ["CAP_KILL", "CAP_CHOWN"];
    bundle.process(
        "capabilities",
        json!({"bounding": names, "permitted": names, "effective": names, "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
    );
    let c = t.start(&bundle);
    let expected = [bits(&["CAP_KILL"]), bits(&names), bits(&names), bits(&names), bits(&["CAP_KILL"])];
    assert_eq!(exec_sets(&c.exec(&["cat", "/proc/self/status"]).output().ok().stdout()), expected);
    // As a user: what is ambient stays.
    let text = c.exec_with(&["--user", "1000:1000"], &["cat", "/proc/self/status"]).output().ok().stdout();
    let kill = bits(&["CAP_KILL"]);
    let found = exec_sets(&text);
    assert_eq!((found[3], found[2] & !kill), (bits(&names), 0), "{found:x?}");
    Ok(())
}

fn exec_with_more_capabilities(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "puts them in place of the container's")?;
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_KILL"]);
    let c = t.start(&bundle);
    let text = c
        .exec_with(&["--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"], &["cat", "/proc/self/status"])
        .output()
        .ok()
        .stdout();
    let found = exec_sets(&text);
    let all = bits(&["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"]);
    assert_eq!(found[1..4], [all, all, all], "{found:x?}");
    // The container itself has no more than before.
    assert_eq!(exec_sets(&c.exec(&["cat", "/proc/self/status"]).output().ok().stdout())[3], bits(&["CAP_KILL"]));
    Ok(())
}

fn exec_sets(status: &str) -> [u64; 5] {
    let set = |name: &str| {
        let text = look::field(status, name).unwrap_or_else(|| panic!("no {name} in {status}"));
        u64::from_str_radix(&text, 16).expect("a hexadecimal number")
    };
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(set)
}

/// The limits of a process by their names in getrlimit(2), soft and hard.
fn limits(pid: i32, name: &str) -> (u64, u64) {
    let limits = Process::new(pid).and_then(|process| process.limits()).expect("no limits");
    let limit = match name {
        "AS" => limits.max_address_space,
        "CORE" => limits.max_core_file_size,
        "CPU" => limits.max_cpu_time,
        "DATA" => limits.max_data_size,
        "FSIZE" => limits.max_file_size,
        "LOCKS" => limits.max_file_locks,
        "MEMLOCK" => limits.max_locked_memory,
        "MSGQUEUE" => limits.max_msgqueue_size,
        "NICE" => limits.max_nice_priority,
        "NOFILE" => limits.max_open_files,
        "NPROC" => limits.max_processes,
        "RSS" => limits.max_resident_set,
        "RTPRIO" => limits.max_realtime_priority,
        "RTTIME" => limits.max_realtime_timeout,
        "SIGPENDING" => limits.max_pending_signals,
        "STACK" => limits.max_stack_size,
        _ => panic!("no limit {name}"),
    };
    (number(limit.soft_limit), number(limit.hard_limit))
}

fn number(limit: LimitValue) -> u64 {
    match limit {
        LimitValue::Unlimited => u64::MAX,
        LimitValue::Value(value) => value,
    }
}

fn rlimits_soft_and_hard(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}]));
    let outside = limits(std::process::id() as i32, "NPROC");
    let c = t.start(&bundle);
    assert_eq!(limits(c.pid, "NOFILE"), (111, 222));
    assert_eq!(limits(c.pid, "NPROC"), outside, "a limit not listed is the caller's");
    bundle.process("rlimits", json!([]));
    let c = t.start(&bundle);
    assert_eq!(limits(c.pid, "NOFILE"), limits(std::process::id() as i32, "NOFILE"), "no list");
    Ok(())
}

fn rlimits_of_every_type(t: &Test<'_>) -> Done {
    // Each lower than what it is on any machine, and enough for busybox.
    let wanted = [
        ("AS", 1 << 30),
        ("CORE", 0),
        ("CPU", 60),
        ("DATA", 1 << 28),
        ("FSIZE", 1 << 20),
        ("LOCKS", 50),
        ("MEMLOCK", 32768),
        ("MSGQUEUE", 65536),
        ("NICE", 0),
        ("NOFILE", 64),
        ("NPROC", 400),
        ("RSS", 1 << 29),
        ("RTPRIO", 0),
        ("RTTIME", 900_000),
        ("SIGPENDING", 100),
        ("STACK", 1 << 20),
    ];
    let list: Vec<_> = wanted
        .iter()
        .map(|(name, value)| json!({"type": format!("RLIMIT_{name}"), "soft": value, "hard": value}))
        .collect();
    let mut bundle = t.sleeping_bundle();
    bundle.process("rlimits", json!(list));
    let c = t.start(&bundle);
    for (name, value) in wanted {
        assert_eq!(limits(c.pid, name), (value, value), "RLIMIT_{name}");
    }
    Ok(())
}

fn rlimit_of_an_unknown_type(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    for name in ["RLIMIT_NOSUCH", "NOFILE", "rlimit_nofile", ""] {
        if t.is(Kind::Crun) && name != "RLIMIT_NOSUCH" {
            continue; // crun takes the short form, in any case
        }
        bundle.process("rlimits", json!([{"type": name, "soft": 1, "hard": 1}]));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.rlimits[0]");
    }
    Ok(())
}

fn rlimit_given_twice(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "applies the last one")?;
    t.peer_differs(Kind::Runc, "applies the last one")?;
    let entry = json!({"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100});
    let mut bundle = t.bundle();
    bundle.process("rlimits", json!([entry, entry]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "RLIMIT_NOFILE");
    Ok(())
}

fn rlimit_with_soft_above_hard(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 200, "hard": 100}]));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.rlimits[0]");
    Ok(())
}

fn rlimits_hold_for_exec(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "exec has the caller's limits")?;
    let mut bundle = t.sleeping_bundle();
    bundle.process("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222}]));
    let c = t.start(&bundle);
    assert_eq!(c.sh("ulimit -Sn; ulimit -Hn"), "111\n222\n");
    Ok(())
}

fn rlimit_infinity(t: &Test<'_>) -> Done {
    t.needs(limits(std::process::id() as i32, "FSIZE").1 == u64::MAX, "an unlimited file size")?;
    let mut bundle = t.sleeping_bundle();
    bundle.process("rlimits", json!([{"type": "RLIMIT_FSIZE", "soft": 4096, "hard": u64::MAX}]));
    assert_eq!(limits(t.start(&bundle).pid, "FSIZE"), (4096, u64::MAX));
    Ok(())
}

fn no_new_privileges(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    for (value, seen) in [(json!(true), 1), (json!(false), 0), (Value::Null, 0)] {
        bundle.process("noNewPrivileges", value);
        let c = t.start(&bundle);
        assert_eq!(c.proc_status().nonewprivs, Some(seen));
        if !t.is(Kind::Crun) {
            let exec = c.exec(&["cat", "/proc/self/status"]).output().ok().stdout();
            assert_eq!(look::field(&exec, "NoNewPrivs"), Some(seen.to_string()), "of exec");
        }
    }
    let c = t.start(&bundle);
    let exec = c.exec_with(&["--no-new-privs"], &["cat", "/proc/self/status"]).output().ok().stdout();
    assert_eq!(look::field(&exec, "NoNewPrivs"), Some("1".to_owned()), "exec --no-new-privs");
    Ok(())
}

fn oom_score(pid: i32) -> i32 {
    look::proc_text(pid, "oom_score_adj").trim().parse().expect("a number")
}

fn oom_score_adj_set(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("oomScoreAdj", json!(567));
    let c = t.start(&bundle);
    assert_eq!(oom_score(c.pid), 567);
    if !t.is(Kind::Crun) {
        assert_eq!(c.sh("cat /proc/self/oom_score_adj"), "567\n", "of exec");
    }
    Ok(())
}

fn oom_score_adj_unset(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    assert_eq!(oom_score(t.start(&bundle).pid), oom_score(std::process::id() as i32));
    let id = t.id();
    let wrapper = ["/bin/sh", "-c", "echo 345 >/proc/self/oom_score_adj; exec \"$@\"", "sh"];
    let output = t.create_call(&bundle, &id).wrapper(&wrapper).output().ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(oom_score(c.pid), 345, "the caller's stays");
    Ok(())
}

fn oom_score_adj_out_of_range(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    for value in [1001, -1001] {
        bundle.process("oomScoreAdj", json!(value));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.oomScoreAdj");
    }
    Ok(())
}

fn oom_score_adj_below_what_is_allowed(t: &Test<'_>) -> Done {
    let may = caps::has_cap(None, caps::CapSet::Effective, Capability::CAP_SYS_RESOURCE).unwrap_or(true);
    t.needs(!may, "a caller that may not lower its score (CAP_SYS_RESOURCE)")?;
    let lowest =
        fs::read_to_string("/proc/self/oom_score_adj").expect("a score").trim().parse::<i32>().expect("a number");
    let mut bundle = t.bundle();
    bundle.process("oomScoreAdj", json!(lowest - 1));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.oomScoreAdj");
    Ok(())
}
