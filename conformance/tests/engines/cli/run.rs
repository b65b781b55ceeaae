//! Containers that run in the foreground, to their end.

use conformance::image::Image;
use conformance::look;
use conformance::test::Done;

use super::{call, load, ok, run, run_call, sh, sleeper};

crate::cases! {
    prints_and_ends,
    exit_codes,
    a_program_that_is_not_there,
    a_program_that_may_not_be_executed,
    a_working_directory_that_is_a_file,
    standard_input,
    environment_directory_and_names,
    users_and_groups,
    the_images_own_words,
    an_init_of_the_engines,
    namespaces_of_the_host,
    namespaces_of_another_container,
    rlimits_and_oom_score,
    sysctls,
    many_at_once,
}

fn prints_and_ends() -> Done {
    let said = run("", &["sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("out\n", "err\n"));
    Ok(())
}

fn exit_codes() -> Done {
    for code in [0, 1, 7, 255] {
        run("", &["sh", "-c", &format!("exit {code}")]).exits(code);
    }
    // Killed by a signal that it does not handle.
    run("--init", &["sh", "-c", "kill -9 $$"]).exits(137);
    Ok(())
}

fn a_program_that_is_not_there() -> Done {
    run("", &["/no/such/program"]).exits(127).says("/no/such/program");
    run("", &["nosuch"]).exits(127).says("nosuch");
    Ok(())
}

fn a_program_that_may_not_be_executed() -> Done {
    run("", &["/etc/passwd"]).exits(126).says("/etc/passwd");
    run("", &["/tmp"]).exits(126).says("/tmp");
    Ok(())
}

fn a_working_directory_that_is_a_file() -> Done {
    let said = run("-w /etc/passwd", &["true"]).fails();
    assert!(said.err.contains("/etc/passwd"), "{}", said.err);
    Ok(())
}

fn standard_input() -> Done {
    let said = run_call("--rm -i", &["sh", "-c", "read a; echo got $a; cat"]).input("one\ntwo\n").run().ok();
    assert_eq!(said.out, "got one\ntwo\n");
    assert_eq!(sh("", "cat | wc -c"), "0", "without -i there is nothing to read");
    Ok(())
}

fn environment_directory_and_names() -> Done {
    let said = sh("-e A=b -w /home/guest -h box", "echo $A; pwd; hostname; cat /etc/hostname");
    assert_eq!(said, "b\n/home/guest\nbox\nbox");
    Ok(())
}

fn users_and_groups() -> Done {
    assert_eq!(sh("-u guest", "id -u; id -g"), "1000\n1000");
    assert_eq!(sh("-u 1234:77 --group-add 99", "id -u; id -g; id -G"), "1234\n77\n77 99");
    assert_eq!(sh("-u guest", "grep CapEff /proc/self/status"), "CapEff:\t0000000000000000");
    Ok(())
}

fn the_images_own_words() -> Done {
    let image = Image::new("docker.io/local/words:1").entrypoint(&["/bin/echo", "-n"]).cmd(&["a", "b"]);
    load(&image.env("X=y").user("guest").dir("/home/guest"));
    assert_eq!(ok(&["run", "--rm", "docker.io/local/words:1"]), "a b");
    assert_eq!(ok(&["run", "--rm", "docker.io/local/words:1", "c"]), "c");
    let script = "id -u; pwd; echo $X";
    let said = ok(&["run", "--rm", "--entrypoint", "sh", "docker.io/local/words:1", "-c", script]);
    assert_eq!(said, "1000\n/home/guest\ny");
    call(&["rmi", "docker.io/local/words:1"]).run().ok();
    Ok(())
}

fn an_init_of_the_engines() -> Done {
    let script = "(sleep 0.05 &); sleep 0.5; echo $$; ps -o pid,stat,comm | grep -c ' Z '; cat /proc/1/comm";
    let said = sh("--init", script);
    let lines: Vec<_> = said.lines().collect();
    assert_ne!(lines[0], "1", "the program is not the first process");
    assert_eq!(lines[1], "0", "the orphan was reaped");
    assert!(lines[2] != "sh", "{said}");
    Ok(())
}

fn namespaces_of_the_host() -> Done {
    let me = std::process::id() as i32;
    let container = sleeper("--pid host --ipc host --uts host --network host");
    let pid = container.pid();
    for kind in ["pid", "ipc", "uts", "net"] {
        assert_eq!(look::namespace(pid, kind), look::namespace(me, kind), "{kind}");
    }
    assert_ne!(look::namespace(pid, "mnt"), look::namespace(me, "mnt"));
    container.ok("stop");
    assert!(!look::is_alive(pid), "without a pid namespace every process is ended");
    Ok(())
}

fn namespaces_of_another_container() -> Done {
    let first = sleeper("--ipc shareable");
    let id = &first.id;
    let second = sleeper(&format!("--pid container:{id} --ipc container:{id} --network container:{id}"));
    for kind in ["pid", "ipc", "net"] {
        assert_eq!(look::namespace(first.pid(), kind), look::namespace(second.pid(), kind), "{kind}");
    }
    assert_eq!(second.sh("ps -o args | grep -c '^sleep 1000'"), "2");
    Ok(())
}

fn rlimits_and_oom_score() -> Done {
    let script = "ulimit -Sn; ulimit -Hn; cat /proc/self/oom_score_adj";
    assert_eq!(sh("--ulimit nofile=100:200 --oom-score-adj 500", script), "100\n200\n500");
    Ok(())
}

fn sysctls() -> Done {
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax";
    let options = "--sysctl net.ipv4.ip_unprivileged_port_start=81 --sysctl kernel.msgmax=4096";
    assert_eq!(sh(options, script), "81\n4096");
    Ok(())
}

fn many_at_once() -> Done {
    let threads: Vec<_> =
        (0..8).map(|n| std::thread::spawn(move || sh("--network none", &format!("echo {n}; sleep 0.3")))).collect();
    for (n, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().expect("a run failed"), n.to_string());
    }
    Ok(())
}
