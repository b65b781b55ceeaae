//! `linux.seccomp` (config-linux.md, Seccomp): filters that real system calls meet. The program `probe/call.c` makes
//! them by number.

use std::fs;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-75" => actions,
    "L-75" => actions_that_kill,
    "" => errno_of_the_default,
    "L-80" => operators,
    "L-80" => conditions_together,
    "L-77" => architectures,
    "L-79" => names,
    "" => newer_calls_are_unknown,
    "" => docker_profile,
    "" => with_and_without_new_privileges,
    "" => in_a_user_namespace,
    "" => exec_is_filtered,
    "" => hooks_do_not_need_more_calls,
    "L-78" => flags,
    "" => the_profile_may_forbid_all_that_is_left,
    "L-75,L-76,L-79,L-80" => bad_values,
}

/// Docker's profile for a container of default capabilities on x86_64.
const DOCKER: &str = include_str!("../../../runtime/src/seccomp/tests/docker.json");

// Harmless calls of x86_64.

pub(crate) const GETPRIORITY: &str = "n:140";

const SCHED_GET_PRIORITY_MAX: &str = "n:146";

/// A bundle with `probe/call.c` as /bin/call.
pub(crate) fn bundle(t: &Test<'_>) -> Result<Bundle, conformance::test::Skip> {
    t.needs(cfg!(target_arch = "x86_64"), "x86_64, whose system calls the tests know")?;
    let bundle = t.bundle();
    t.probe(&bundle, "call")?;
    Ok(bundle)
}

/// All calls are allowed but for these entries.
pub(crate) fn open(entries: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": entries})
}

/// What `/bin/call` prints under a filter, by lines.
#[track_caller]
pub(crate) fn calls(t: &Test<'_>, bundle: &mut Bundle, seccomp: &Value, calls: &[&str]) -> Vec<String> {
    bundle.linux("seccomp", seccomp.clone());
    bundle.args(&[&["/bin/call"], calls].concat());
    t.prints(bundle).lines().map(str::to_owned).collect()
}

fn actions(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes a filter from its cache that differs in errnoRet")?;
    let mut bundle = bundle(t)?;
    for (action, errno, expected) in [
        ("SCMP_ACT_ERRNO", None, "-1"),
        ("SCMP_ACT_ERRNO", Some(77), "-77"),
        ("SCMP_ACT_ERRNO", Some(0), "0"),
        ("SCMP_ACT_TRAP", None, "trapped"),
        // Without a tracer.
        ("SCMP_ACT_TRACE", None, "-38"),
        ("SCMP_ACT_TRACE", Some(5), "-38"),
        ("SCMP_ACT_LOG", None, "20"),
        ("SCMP_ACT_ALLOW", None, "20"),
    ] {
        let mut entry = json!({"names": ["getpriority"], "action": action});
        if let Some(errno) = errno {
            entry["errnoRet"] = json!(errno);
        }
        assert_eq!(calls(t, &mut bundle, &open(json!([entry])), &["h", GETPRIORITY]), [expected], "{action} {errno:?}");
    }
    Ok(())
}

fn actions_that_kill(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    for (action, thread) in [("SCMP_ACT_KILL", true), ("SCMP_ACT_KILL_THREAD", true), ("SCMP_ACT_KILL_PROCESS", false)]
    {
        let filter = open(json!([{"names": ["getpriority"], "action": action}]));
        bundle.linux("seccomp", filter).args(&["/bin/call", "n:39", GETPRIORITY, "n:39"]);
        let output = t.run(&bundle).exits(128 + 31);
        assert_eq!(output.stdout().lines().count(), 1, "{action}");
        bundle.args(&["/bin/call", "t:140", "n:39"]);
        let output = t.run(&bundle);
        match thread {
            true => assert_eq!(output.ok().stdout().lines().next(), Some("gone"), "{action}"),
            false => assert_eq!(output.exits(128 + 31).stdout(), "", "{action}"),
        }
    }
    Ok(())
}

/// All calls that a static program needs are allowed, others get the default.
fn closed(errno: Option<u32>, more: Value) -> Value {
    let needed = "arch_prctl brk capset close execve exit exit_group fcntl fstat futex getrandom ioctl mmap mprotect \
        munmap newfstatat prctl prlimit64 read readlink readlinkat rseq rt_sigaction rt_sigprocmask \
        rt_sigreturn set_robust_list set_tid_address write uname accept4 sendto recvfrom openat getpid \
        setgid setuid setgroups epoll_ctl";
    let needed: Vec<&str> = needed.split_whitespace().collect();
    let mut entries = vec![json!({"names": needed, "action": "SCMP_ACT_ALLOW"})];
    entries.extend(more.as_array().into_iter().flatten().cloned());
    let mut filter = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": entries,
    });
    if let Some(errno) = errno {
        filter["defaultErrnoRet"] = json!(errno);
    }
    filter
}

fn errno_of_the_default(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "needs more calls than these after its filter is loaded")?;
    let mut bundle = bundle(t)?;
    for (errno, expected) in [(None, "-1"), (Some(99), "-99")] {
        assert_eq!(calls(t, &mut bundle, &closed(errno, json!([])), &[GETPRIORITY]), [expected]);
    }
    Ok(())
}

/// Each at both halves of an argument of 64 bits.
fn operators(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    let value = 0x5_0000_0007u64;
    let inputs = [7, value - 1, value, value + 1, value + (1 << 32)];
    let words: Vec<String> = inputs.iter().map(|input| format!("{SCHED_GET_PRIORITY_MAX}:{input}")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for (operator, holds) in [
        ("SCMP_CMP_EQ", [false, false, true, false, false]),
        ("SCMP_CMP_NE", [true, true, false, true, true]),
        ("SCMP_CMP_LT", [true, true, false, false, false]),
        ("SCMP_CMP_LE", [true, true, true, false, false]),
        ("SCMP_CMP_GT", [false, false, false, true, true]),
        ("SCMP_CMP_GE", [false, false, true, true, true]),
        // value is the mask then, and valueTwo what must be left.
        ("SCMP_CMP_MASKED_EQ", [false, false, true, false, false]),
    ] {
        let mut arg = json!({"index": 0, "value": value, "op": operator});
        if operator == "SCMP_CMP_MASKED_EQ" {
            arg["valueTwo"] = json!(value);
        }
        let entry =
            json!({"names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [arg]});
        let printed = calls(t, &mut bundle, &open(json!([entry])), &words);
        let found: Vec<bool> = printed.iter().map(|line| line == "-77").collect();
        let expected = if operator == "SCMP_CMP_MASKED_EQ" { [false, false, true, false, false] } else { holds };
        assert_eq!(found, expected, "{operator}: {printed:?}");
    }
    let arg = json!({"index": 0, "value": 0xf0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"});
    let entry = json!({"names": ["sched_get_priority_max"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [arg]});
    let printed = calls(t, &mut bundle, &open(json!([entry])), &["n:146:0x32f", "n:146:0xa10", "n:146:0x110f"]);
    assert_eq!(printed, ["-22", "-77", "-22"]);
    Ok(())
}

fn conditions_together(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    let arg = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let entry = |args| json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args});
    let words = ["n:140:0:0", "n:140:5:6", "n:140:5:0", "n:140:0:6"];
    let found = |printed: Vec<String>| printed.iter().map(|line| line == "-77").collect::<Vec<_>>();
    let both = calls(t, &mut bundle, &open(json!([entry(json!([arg(0, 5), arg(1, 6)]))])), &words);
    assert_eq!(found(both), [false, true, false, false], "conditions of a rule hold together");
    let either = calls(t, &mut bundle, &open(json!([entry(json!([arg(0, 5)])), entry(json!([arg(1, 6)]))])), &words);
    assert_eq!(found(either), [false, true, true, true], "rules are alternatives");
    let words = ["n:140:5", "n:140:6", "n:140:7"];
    let same = calls(t, &mut bundle, &open(json!([entry(json!([arg(0, 5), arg(0, 6)]))])), &words);
    assert_eq!(found(same), [true, true, false], "conditions on one argument are alternatives, as with runc");
    Ok(())
}

fn architectures(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    bundle.args(&["/bin/call", "i:20"]);
    t.needs(t.run(&bundle).status.success(), "calls of 32-bit x86")?;
    let mut filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
    bundle.linux("seccomp", filter.clone()).args(&["/bin/call", "i:20"]);
    t.run(&bundle).exits(128 + 31);
    filter["architectures"] = json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let printed = calls(t, &mut bundle, &filter, &["i:96", GETPRIORITY, "i:24", "x:140"]);
    assert_eq!(printed, ["-77", "-77", "0", "-77"], "x86, the machine's own that is not listed, another call, x32");
    filter["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    bundle.linux("seccomp", filter).args(&["/bin/call", "x:39"]);
    t.run(&bundle).exits(128 + 31);
    Ok(())
}

fn names(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    let names = json!(["getpriority", "no_such_call", "s390_pci_mmio_read"]);
    let filter = open(json!([{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
    assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["-77"]);
    if t.is_proa() {
        let said = t.run(&bundle).ok().stderr();
        assert!(said.contains("no_such_call") && !said.contains("s390"), "a warning about unknown names: {said}");
    }
    Ok(())
}

/// A profile cannot have meant to forbid what is younger than itself: a C library tries something older on ENOSYS only.
fn newer_calls_are_unknown(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "needs more calls than these after its filter is loaded")?;
    t.peer_differs(Kind::Crun, "answers the default")?;
    let mut bundle = bundle(t)?;
    let printed = calls(t, &mut bundle, &closed(None, json!([])), &["n:433", "n:435:0:0", GETPRIORITY]);
    assert_eq!(printed, ["-38", "-38", "-1"], "fspick, clone3, getpriority");
    let rule = json!([{"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]);
    let printed = calls(t, &mut bundle, &closed(None, rule), &["n:433", "n:435:0:0", "n:436"]);
    assert_eq!(printed, ["-1", "-77", "-38"], "with clone3 named");
    Ok(())
}

fn docker() -> Value {
    serde_json::from_str(DOCKER).expect("Docker's profile is JSON")
}

fn docker_profile(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    let words = ["n:165", "n:56:0x10000000", "n:250", "n:101:0", "n:41:40:1", "n:39", "n:999", "i:20"];
    for no_new_privileges in [true, false] {
        bundle.process("noNewPrivileges", json!(no_new_privileges));
        let printed = calls(t, &mut bundle, &docker(), &words);
        let unknown = if t.is(Kind::Crun) { "-1" } else { "-38" };
        assert_eq!(
            printed[..5],
            ["-1", "-1", "-1", "-14", "-1"].map(|line| if line == "-14" { printed[3].as_str() } else { line })
        );
        assert!(printed[5] == "1" && printed[6] == unknown && printed[7] == "1", "{printed:?}");
    }
    Ok(())
}

/// Seccomp and Seccomp_filters of proc(5), and the capabilities.
const STATUS: &str = "sed -n '/^Seccomp/p;/^Cap/p;/^NoNew/p' /proc/self/status";

fn with_and_without_new_privileges(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle(STATUS);
    let all = ["CAP_CHOWN", "CAP_KILL", "CAP_SYS_ADMIN"];
    for capabilities in [&[][..], &["CAP_CHOWN", "CAP_KILL"], &all] {
        for uid in [0, 1000] {
            for no_new_privileges in [true, false] {
                bundle.process("user", json!({"uid": uid, "gid": uid}));
                bundle.process("noNewPrivileges", json!(no_new_privileges));
                bundle.config["process"]["capabilities"] = json!({
                    "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
                    "inheritable": capabilities, "ambient": capabilities,
                });
                bundle.linux("seccomp", Value::Null);
                let without = t.prints(&bundle);
                bundle.linux("seccomp", docker());
                let with = t.prints(&bundle);
                let rest =
                    |text: &str| text.lines().filter(|l| !l.starts_with("Seccomp")).collect::<Vec<_>>().join("\n");
                assert_eq!(rest(&with), rest(&without), "capabilities {capabilities:?}, uid {uid}");
                assert_eq!(look::field(&with, "Seccomp").as_deref(), Some("2"));
                assert_eq!(look::field(&with, "Seccomp_filters").as_deref(), Some("1"));
                // Who waits to be started has no more either.
                let c = t.create(&bundle);
                let status = look::proc_text(c.pid, "status");
                assert_eq!(look::field(&status, "CapPrm"), look::field(&without, "CapPrm"), "of a created container");
                t.call(&["delete", "--force", &c.id]).output().ok();
            }
        }
    }
    Ok(())
}

fn in_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    bundle.user_namespace(100_000);
    for no_new_privileges in [true, false] {
        bundle.process("noNewPrivileges", json!(no_new_privileges));
        let filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
        assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["-77"]);
    }
    Ok(())
}

fn exec_is_filtered(t: &Test<'_>) -> Done {
    let mut bundle = bundle(t)?;
    let filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
    bundle.linux("seccomp", filter).args(&["/bin/sleep", "1000"]);
    for no_new_privileges in [true, false] {
        bundle.process("noNewPrivileges", json!(no_new_privileges));
        let c = t.start(&bundle);
        assert_eq!(c.exec(&["/bin/call", GETPRIORITY]).output().ok().stdout(), "-77\n");
        assert_eq!(look::field(&c.sh(STATUS), "Seccomp").as_deref(), Some("2"));
        let status = look::proc_text(c.pid, "status");
        let own = look::field(&status, "CapEff");
        assert_eq!(look::field(&c.sh(STATUS), "CapEff"), own);
        c.kill("KILL");
        c.wait();
        c.delete();
    }
    Ok(())
}

/// What proa does for hooks of the container is done before a filter is loaded.
fn hooks_do_not_need_more_calls(t: &Test<'_>) -> Done {
    t.proa_only("peers make the call themselves after the filter is loaded")?;
    let mut bundle = bundle(t)?;
    bundle.process("noNewPrivileges", json!(false));
    bundle.set("hooks", json!({"startContainer": [{"path": "/bin/true"}]}));
    let filter = open(json!([{"names": ["prctl"], "action": "SCMP_ACT_ERRNO"}]));
    assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["20"]);
    Ok(())
}

fn flags(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes unknown flags")?;
    let mut bundle = bundle(t)?;
    let mut filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]),
    ] {
        filter["flags"] = flags;
        assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["-77"]);
    }
    // Means something only for a listener, and the kernel refuses it without.
    if t.is_proa() {
        filter["flags"] = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
        assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["-77"]);
    }
    filter["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_NONE"]);
    bundle.linux("seccomp", filter);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.seccomp.flags[1]: \"SECCOMP_FILTER_FLAG_NONE\"");
    Ok(())
}

/// With no_new_privs only execve is left to do.
fn the_profile_may_forbid_all_that_is_left(t: &Test<'_>) -> Done {
    t.proa_only("how much a runtime needs is its own")?;
    let mut bundle = bundle(t)?;
    let names: Vec<&str> = "execve exit_group write brk arch_prctl set_tid_address set_robust_list rseq prlimit64 \
        readlinkat readlink getrandom mprotect mmap newfstatat fstat ioctl"
        .split_whitespace()
        .collect();
    let filter = json!({
        "defaultAction": "SCMP_ACT_KILL_PROCESS",
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    assert_eq!(calls(t, &mut bundle, &filter, &[]), [""; 0]);
    // A program that is gone by then is still reported.
    let c = t.create(&bundle);
    fs::remove_file(bundle.inside("/bin/call")).expect("cannot remove");
    c.call("start").output().fails().says("no such file or directory");
    c.wait();
    Ok(())
}

fn bad_values(t: &Test<'_>) -> Done {
    t.proa_only("its messages")?;
    let mut bundle = t.bundle();
    let args = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let entry = json!({"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "args": args});
    let good = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]});
    bundle.linux("seccomp", good.clone());
    t.run(&bundle).ok();
    for (pointer, value, says) in [
        ("/defaultAction", json!("SCMP_ACT_NONE"), "defaultAction: \"SCMP_ACT_NONE\""),
        ("/defaultAction", Value::Null, "defaultAction: missing"),
        ("/defaultErrnoRet", json!(5), "defaultErrnoRet: 5"),
        ("/architectures", json!(["SCMP_ARCH_X86", "amd64"]), "architectures[1]: \"amd64\""),
        ("/listenerMetadata", json!("m"), "listenerMetadata"),
        ("/syscalls/0/names", json!([]), "syscalls[0].names"),
        ("/syscalls/0/action", json!("ERRNO"), "syscalls[0].action: \"ERRNO\""),
        ("/syscalls/0/action", Value::Null, "syscalls[0].action: missing"),
        ("/syscalls/0/errnoRet", json!(4096), "syscalls[0].errnoRet: 4096"),
        ("/syscalls/0/args/0/index", json!(6), "syscalls[0].args[0].index: 6"),
        ("/syscalls/0/args/0/op", json!("EQ"), "syscalls[0].args[0].op: \"EQ\""),
        ("/syscalls/0/args/0/value", Value::Null, "syscalls[0].args[0].value: missing"),
    ] {
        let mut filter = good.clone();
        match filter.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => filter[pointer.trim_start_matches('/')] = value,
        }
        bundle.linux("seccomp", filter);
        let output = t.refuses(&bundle).exits(1);
        t.proa_says(&output, &format!("linux.seccomp.{says}"));
    }
    Ok(())
}
