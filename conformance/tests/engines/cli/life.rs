//! Containers that run on their own: started, stopped, killed, paused, restarted, removed.

use std::time::Duration;

use conformance::look;
use conformance::test::Done;

use super::{SLEEP, call, is_podman, ok, run_call, sleeper, start};

crate::cases! {
    detached,
    create_then_start,
    stop_asks_first,
    stop_kills_who_does_not_listen,
    kill_with_a_signal,
    pause_and_unpause,
    remove_what_is_paused,
    remove_by_force,
    started_again,
    restarted,
    restart_policy_on_failure,
    restart_policy_always,
    a_start_that_fails_leaves_nothing,
    killed_from_outside,
}

fn detached() -> Done {
    let container = sleeper("--name alone");
    let pid = container.pid();
    assert_eq!(container.status(), "running");
    assert_eq!(look::cmdline(pid), SLEEP);
    assert!(ok(&["ps", "--format", "{{.Names}}"]).contains("alone"));
    // Whoever started it is gone; nobody of the engine's is in its session.
    let stat = look::stat(pid).expect("it runs");
    assert_eq!(stat.session, pid);
    container.ok("stop");
    assert_eq!(container.wait(), "0");
    assert_eq!(container.status(), "exited");
    assert!(!look::is_alive(pid));
    Ok(())
}

fn create_then_start() -> Done {
    let mut words = vec!["create", "--name", "later", conformance::image::BUSYBOX];
    words.extend(["sh", "-c", "echo begun; exit 4"]);
    ok(&words);
    let said = call(&["start", "-a", "later"]).run().exits(4);
    assert_eq!(said.out, "begun\n");
    Ok(())
}

fn stop_asks_first() -> Done {
    let container = start("--stop-signal USR1", &["sh", "-c", "trap 'exit 8' USR1; sleep 1000 & wait"]);
    container.sh("true");
    container.ok("stop");
    assert_eq!(container.wait(), "8");
    Ok(())
}

fn stop_kills_who_does_not_listen() -> Done {
    let container = start("", &["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]);
    let begun = std::time::Instant::now();
    container.ok("stop -t 1");
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(8), "{took:?}");
    assert_eq!(container.wait(), "137");
    Ok(())
}

fn kill_with_a_signal() -> Done {
    let container = start("", &["sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 0.1; done"]);
    look::eventually("the container to listen", || container.ok("logs").contains("ready"));
    container.ok("kill -s USR1");
    look::eventually("the signal", || container.ok("logs").contains("usr1"));
    container.ok("kill");
    assert_eq!(container.wait(), "137");
    container.call("kill", &[]).run().fails();
    Ok(())
}

fn pause_and_unpause() -> Done {
    let container = start("", &["sh", "-c", "while :; do echo x >>/tmp/log; sleep 0.02; done"]);
    look::eventually("the container to write", || container.sh("cat /tmp/log 2>/dev/null | wc -l") != "0");
    let pid = container.pid();
    let size = || std::fs::metadata(look::root_of(pid, "/tmp/log")).expect("it writes").len();
    container.ok("pause");
    assert_eq!(container.status(), "paused");
    let before = size();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(size(), before, "a paused container writes");
    container.call("exec", &["true"]).run().fails();
    container.ok("unpause");
    assert_eq!(container.status(), "running");
    look::eventually("the container to go on", || size() > before);
    Ok(())
}

fn remove_what_is_paused() -> Done {
    let container = sleeper("");
    let pid = container.pid();
    container.ok("pause");
    container.ok("rm -f");
    assert!(!look::is_alive(pid));
    container.call("inspect", &[]).run().fails();
    Ok(())
}

fn remove_by_force() -> Done {
    let container = sleeper("");
    let pid = container.pid();
    container.call("rm", &[]).run().fails();
    assert!(look::is_alive(pid));
    container.ok("rm -f");
    assert!(!look::is_alive(pid));
    Ok(())
}

fn started_again() -> Done {
    let container = start("", &["sh", "-c", "echo x >>/log; cat /log | wc -l"]);
    for _ in 0..2 {
        container.wait();
        container.ok("start");
    }
    container.wait();
    assert_eq!(container.ok("logs"), "1\n2\n3", "the file system is kept");
    Ok(())
}

fn restarted() -> Done {
    let container = sleeper("");
    let pid = container.pid();
    container.ok("restart");
    let again = container.pid();
    assert!(again != pid && look::is_alive(again) && !look::is_alive(pid));
    Ok(())
}

fn restart_policy_on_failure() -> Done {
    let container = start("--restart on-failure:2", &["sh", "-c", "echo x; exit 3"]);
    look::eventually("three runs", || {
        container.ok("logs").lines().filter(|line| *line == "x").count() == 3 && container.status() == "exited"
    });
    assert_eq!(container.inspect("/RestartCount").as_i64(), Some(2));
    assert_eq!(container.inspect("/State/ExitCode").as_i64(), Some(3));
    Ok(())
}

fn restart_policy_always() -> Done {
    let container = sleeper("--restart always");
    let pid = container.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    look::eventually("another first process", || {
        let now = container.inspect("/State/Pid").as_i64();
        container.status() == "running" && now.is_some_and(|now| now > 0 && now != i64::from(pid))
    });
    assert_eq!(container.sh("echo fine"), "fine");
    container.ok("stop");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(container.status(), "exited", "what the user stops stays stopped");
    Ok(())
}

fn a_start_that_fails_leaves_nothing() -> Done {
    let said = run_call("-d --name broken", &["/no/such/program"]).run().fails();
    assert!(said.err.contains("/no/such/program"), "{}", said.err);
    let status = ok(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "broken"]);
    assert_eq!(status, "created 0");
    let again = call(&["start", "broken"]).run().fails();
    assert!(again.err.contains("/no/such/program"), "{}", again.err);
    Ok(())
}

fn killed_from_outside() -> Done {
    let container = sleeper("");
    let pid = container.pid();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    assert_eq!(container.wait(), "137");
    look::eventually("the engine to know", || container.status() == "exited");
    // Podman keeps such a container's exit, and Docker too, until it is removed.
    assert_eq!(container.inspect("/State/ExitCode").as_i64(), Some(137));
    assert!(!container.inspect("/State/OOMKilled").as_bool().unwrap_or(is_podman()));
    Ok(())
}
