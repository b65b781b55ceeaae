//! Descriptors: the program sees standard input, output and error, what was
//! asked to be preserved, and nothing else, whatever the runtime was given or
//! has opened itself.

use std::fs::{self, File};
use std::os::fd::OwnedFd;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::runtime::{Call, Kind};
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "R-40" => three_descriptors_and_no_more,
    "R-40" => inherited_descriptors_are_closed,
    "R-40" => three_descriptors_in_exec,
    "" => created_init_holds_nothing_of_the_host,
    "R-41" => preserve_fds,
    "" => preserve_fds_in_exec,
    "" => preserve_fds_that_are_not_open,
    "R-41" => listen_fds,
    "" => listen_fds_of_another_process,
    "" => listen_fds_and_preserve_fds,
    "" => standard_streams_are_the_callers,
    "" => a_null_of_the_callers_becomes_the_containers,
    "" => closed_standard_streams,
    "" => many_open_files_of_the_runtime,
}

/// Prints the numbers of the open descriptors: a shell of its own lists them
/// without opening one, from the outside in.
fn open_fds(pid: i32) -> Vec<i32> {
    look::fds(pid).into_keys().collect()
}

fn file(t: &Test<'_>, content: &str) -> OwnedFd {
    let path = t.make_file(&format!("content-{content}"), content);
    File::open(path).expect("cannot open").into()
}

/// containerd's shim gives every process without streams a /dev/null that can only be read.
fn a_null_of_the_callers_becomes_the_containers(t: &Test<'_>) -> Done {
    let bundle = t.sh_bundle("echo to the output && echo to the error >&2 && cat && exit 6");
    let wrapper = ["/bin/sh", "-c", "exec \"$@\" </dev/null >&0 2>&0", "sh"];
    t.run_call(&bundle, &t.id()).wrapper(&wrapper).output().exits(6);
    Ok(())
}

fn three_descriptors_and_no_more(t: &Test<'_>) -> Done {
    assert_eq!(open_fds(t.sleeper().pid), [0, 1, 2]);
    let id = t.id();
    let running = t.run_call(&t.sleeping_bundle(), &id).spawn();
    let mut pid = 0;
    look::eventually("the container to run", || {
        let state = t.call(&["state", &id]).output();
        pid = if state.status.success() { state.json()["pid"].as_i64().unwrap_or(0) as i32 } else { 0 };
        pid > 0 && look::cmdline(pid) == ["/bin/sleep", "1000"]
    });
    assert_eq!(open_fds(pid), [0, 1, 2], "in the foreground");
    t.call(&["kill", &id, "KILL"]).output().ok();
    running.wait(&t.runtime).exits(128 + 9);
    Ok(())
}

fn with_extra_fds<'r>(mut call: Call<'r>, t: &Test<'_>) -> Call<'r> {
    for number in [3, 4, 7, 20, 500] {
        let fd = if number == 4 { File::open("/").expect("cannot open /").into() } else { file(t, "extra") };
        call = call.fd(fd, number);
    }
    call
}

fn inherited_descriptors_are_closed(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let id = t.id();
    let output = with_extra_fds(t.create_call(&bundle, &id), t).output().ok();
    let c = t.container(id, output);
    with_extra_fds(c.call("start"), t).output().ok();
    look::eventually("the program to run", || look::cmdline(c.pid) == ["/bin/sleep", "1000"]);
    assert_eq!(open_fds(c.pid), [0, 1, 2]);
    Ok(())
}

fn three_descriptors_in_exec(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let pid_file = t.file("exec.pid");
    let options = ["--detach", "--pid-file", pid_file.to_str().expect("UTF-8")];
    with_extra_fds(c.exec_with(&options, &["/bin/sleep", "999"]), t).output().ok();
    let pid: i32 = fs::read_to_string(&pid_file).expect("no pid file").parse().expect("no pid");
    look::eventually("the program to run", || look::cmdline(pid) == ["/bin/sleep", "999"]);
    assert_eq!(open_fds(pid), [0, 1, 2]);
    Ok(())
}

fn created_init_holds_nothing_of_the_host(t: &Test<'_>) -> Done {
    // Before start the init is the runtime's own code: what it holds open must
    // not lead out of the container, in case its program gets at it.
    t.peer_differs(Kind::Crun, "holds a directory of its state open")?;
    let c = t.create(&t.sleeping_bundle());
    let mounts: Vec<_> = look::mounts(c.pid).iter().map(|mount| mount.mnt_id.to_string()).collect();
    for (number, target) in look::fds(c.pid) {
        let link = format!("/proc/{}/fd/{number}", c.pid);
        let is_proc = nix::sys::statfs::statfs(link.as_str())
            .is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC);
        if fs::metadata(&link).is_ok_and(|meta| meta.is_dir()) && !is_proc {
            let info = look::proc_text(c.pid, &format!("fdinfo/{number}"));
            let mount = look::field(&info, "mnt_id").unwrap_or_default();
            assert!(mounts.contains(&mount), "descriptor {number} -> {target} is on no mount of the container");
        }
    }
    Ok(())
}

/// A bundle that prints what its descriptors from 3 on have to say.
fn reader(t: &Test<'_>) -> Bundle {
    t.sh_bundle(
        "echo fds=$LISTEN_FDS pid=$LISTEN_PID; for n in 3 4 5 6; do cat <&$n 2>/dev/null && echo \" at $n\"; done; :",
    )
}

fn preserve_fds(t: &Test<'_>) -> Done {
    let call = t.run_call(&reader(t), &t.id()).options(&["--preserve-fds", "2"]);
    let call = call.fd(file(t, "three"), 3).fd(file(t, "four"), 4).fd(file(t, "five"), 5);
    assert_eq!(call.output().ok().stdout(), "fds= pid=\nthree at 3\nfour at 4\n");
    // Through create and start too.
    let id = t.id();
    let call =
        t.create_call(&reader(t), &id).options(&["--preserve-fds", "1"]).fd(file(t, "three"), 3).fd(file(t, "four"), 4);
    let output = call.output().ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(c.wait(), 0);
    assert_eq!(c.stdout(), "fds= pid=\nthree at 3\n");
    Ok(())
}

fn preserve_fds_in_exec(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let script = "cat <&3; cat <&4 2>/dev/null || echo ' closed'";
    let call = c.exec_with(&["--preserve-fds", "1"], &["/bin/sh", "-c", script]);
    let output = call.fd(file(t, "three"), 3).fd(file(t, "four"), 4).output().ok();
    assert_eq!(output.stdout(), "three closed\n");
    Ok(())
}

fn preserve_fds_that_are_not_open(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "passes over descriptors that are not open")?;
    let bundle = t.bundle();
    let call = t.create_call(&bundle, &t.id()).options(&["--preserve-fds", "200"]).fd(file(t, "three"), 3);
    let output = call.output().fails();
    if !t.is(Kind::Runc) {
        t.assert_clean_failure(&output); // runc leaves an empty state directory
    }
    if t.is_proa() {
        t.create_call(&bundle, &t.id()).options(&["--preserve-fds", "-1"]).output().fails();
    }
    let output = t.create_call(&bundle, &t.id()).options(&["--preserve-fds", "x"]).output().fails();
    assert!(!output.stderr().is_empty());
    Ok(())
}

/// LISTEN_PID has to be the runtime's own, which a shell knows just before it
/// becomes it.
const AS_LISTENER: [&str; 4] = ["/bin/sh", "-c", "LISTEN_PID=$$ LISTEN_FDS=2 exec \"$@\"", "sh"];

fn listen_fds(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not set LISTEN_FDS")?;
    let call = t.run_call(&reader(t), &t.id()).wrapper(&AS_LISTENER);
    let output = call.fd(file(t, "three"), 3).fd(file(t, "four"), 4).fd(file(t, "five"), 5).output().ok();
    assert_eq!(output.stdout(), "fds=2 pid=1\nthree at 3\nfour at 4\n");
    Ok(())
}

fn listen_fds_of_another_process(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not compare LISTEN_PID")?;
    let call = t.run_call(&reader(t), &t.id()).env("LISTEN_FDS", "2").env("LISTEN_PID", "1");
    let output = call.fd(file(t, "three"), 3).fd(file(t, "four"), 4).output().ok();
    assert_eq!(output.stdout(), "fds= pid=\n");
    Ok(())
}

fn listen_fds_and_preserve_fds(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not set LISTEN_FDS")?;
    let call = t.run_call(&reader(t), &t.id()).wrapper(&AS_LISTENER).options(&["--preserve-fds", "1"]);
    let call = call.fd(file(t, "three"), 3).fd(file(t, "four"), 4).fd(file(t, "five"), 5).fd(file(t, "six"), 6);
    assert_eq!(call.output().ok().stdout(), "fds=2 pid=1\nthree at 3\nfour at 4\nfive at 5\n");
    Ok(())
}

fn standard_streams_are_the_callers(t: &Test<'_>) -> Done {
    let input = t.make_file("input", "typed\n");
    let bundle = t.sh_bundle("cat; echo out; echo err >&2");
    let output = t.run_call(&bundle, &t.id()).stdin(File::open(&input).expect("cannot open")).output().ok();
    assert_eq!((output.stdout().as_str(), output.stderr().as_str()), ("typed\nout\n", "err\n"));
    let id = t.id();
    let output = t.create_call(&bundle, &id).stdin(File::open(&input).expect("cannot open")).output().ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(c.wait(), 0);
    assert_eq!((c.stdout().as_str(), c.output.stderr().as_str()), ("typed\nout\n", "err\n"));
    Ok(())
}

fn closed_standard_streams(t: &Test<'_>) -> Done {
    let id = t.id();
    let bundle = t.sh_bundle("echo out; echo err >&2; exec sleep 1000");
    let wrapper = ["/bin/sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh"];
    let output = t.create_call(&bundle, &id).wrapper(&wrapper).output().ok();
    let c = t.container(id, output);
    c.start();
    look::eventually("the program to run", || look::cmdline(c.pid).first().is_some_and(|arg| arg == "sleep"));
    // Nothing the runtime opened has taken the place of a closed stream.
    for (number, target) in look::fds(c.pid) {
        assert!(number <= 2 && target.ends_with("/null"), "{number} -> {target}");
    }
    Ok(())
}

fn many_open_files_of_the_runtime(t: &Test<'_>) -> Done {
    // A low limit on open files is no reason to fail, nor descriptors beyond it.
    let mut bundle = t.sh_bundle("echo fine");
    bundle.process("rlimits", json!([]));
    let call = t.run_call(&bundle, &t.id()).open_files(64).fd(file(t, "x"), 60);
    assert_eq!(call.output().ok().stdout(), "fine\n");
    Ok(())
}
