//! `exec` into a container that runs.

use conformance::look;
use conformance::test::Done;

use super::{run_call, sleeper};

crate::cases! {
    exec_prints_and_ends,
    exec_of_what_cannot_be_run,
    exec_with_options,
    exec_detached,
    exec_reads_standard_input,
    exec_is_in_the_container,
    exec_into_what_has_ended,
    exec_ends_with_the_container,
    execs_at_once,
}

fn exec_prints_and_ends() -> Done {
    let container = sleeper("");
    let said = container.call("exec", &["sh", "-c", "echo out; echo err >&2; exit 7"]).run().exits(7);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    container.call("exec", &["sh", "-c", "kill -9 $$"]).run().exits(137);
    Ok(())
}

fn exec_of_what_cannot_be_run() -> Done {
    let container = sleeper("");
    container.call("exec", &["nosuch"]).run().exits(127);
    container.call("exec", &["/no/such"]).run().exits(127);
    container.call("exec", &["/etc/passwd"]).run().exits(126);
    assert_eq!(container.sh("echo fine"), "fine");
    Ok(())
}

fn exec_with_options() -> Done {
    let container = sleeper("-e A=image");
    let said = container.call("exec -e B=own -w /tmp -u guest", &["sh", "-c", "echo $A $B; pwd; id -u; id -g"]).run();
    assert_eq!(said.text(), "image own\n/tmp\n1000\n1000");
    let may_mount = |verb: &str| {
        let text = container.call(verb, &["sh", "-c", "grep CapEff /proc/self/status | cut -f2"]).run().text();
        u64::from_str_radix(&text, 16).expect("a number") & 1 << 21 != 0
    };
    assert!(!may_mount("exec") && may_mount("exec --privileged"), "CAP_SYS_ADMIN");
    Ok(())
}

fn exec_detached() -> Done {
    let container = sleeper("");
    container.call("exec -d", &["sh", "-c", "echo done >/tmp/mark; sleep 777"]).run().ok();
    look::eventually("the mark of the detached process", || {
        container.call("exec", &["cat", "/tmp/mark"]).run().out == "done\n"
    });
    assert_eq!(container.sh("ps -o args | grep -c '^sleep 777'"), "1");
    Ok(())
}

fn exec_reads_standard_input() -> Done {
    let container = sleeper("");
    let said = container.call("exec -i", &["wc", "-c"]).input(&"x".repeat(100_000)).run();
    assert_eq!(said.text(), "100000");
    Ok(())
}

fn exec_is_in_the_container() -> Done {
    let container = sleeper("");
    container.call("exec -d", &["sleep", "4321"]).run().ok();
    let init = container.pid();
    let mut found = None;
    look::eventually("the process of exec", || {
        let all = look::descendants(1);
        found = all.into_iter().find(|pid| {
            look::stat(*pid).is_some_and(|stat| stat.comm == "sleep") && look::cmdline(*pid).contains(&"4321".into())
        });
        found.is_some()
    });
    let pid = found.expect("just found");
    for kind in ["pid", "ipc", "uts", "net", "mnt", "cgroup"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(init, kind), "{kind}");
    }
    assert_eq!(look::cgroup_paths(pid), look::cgroup_paths(init));
    for field in ["CapEff", "CapBnd", "Seccomp", "NoNewPrivs"] {
        let of = |pid| look::field(&look::proc_text(pid, "status"), field);
        assert_eq!(of(pid), of(init), "{field}");
    }
    Ok(())
}

fn exec_into_what_has_ended() -> Done {
    let container = super::start("", &["true"]);
    assert_eq!(container.wait(), "0");
    container.call("exec", &["true"]).run().fails();
    Ok(())
}

fn exec_ends_with_the_container() -> Done {
    let container = sleeper("");
    let session = container.call("exec", &["sleep", "1000"]).start("/tmp/exec.log");
    look::eventually("the process of exec", || container.sh("ps -o args").contains("sleep 1000\n"));
    container.ok("kill");
    let mut session = session;
    look::eventually("the end of exec", || !session.is_running());
    assert_eq!(container.wait(), "137");
    Ok(())
}

fn execs_at_once() -> Done {
    let container = std::sync::Arc::new(sleeper(""));
    let one = |n: i32| {
        let container = container.clone();
        std::thread::spawn(move || container.sh(&format!("sleep 0.2; echo {n}")))
    };
    for (n, thread) in (0..10).map(one).collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(thread.join().expect("an exec failed"), n.to_string());
    }
    // A container whose first process is busy dying takes no more.
    run_call("--rm", &["true"]).run().ok();
    Ok(())
}
