//! `exec`: a further process in a running container, and who it is there.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use conformance::container::wait_for;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "" => exec_runs_in_all_namespaces_of_the_container,
    "" => exec_gives_the_exit_code,
    "" => exec_refused_in_a_stopped_container,
    "" => exec_of_a_missing_program,
    "" => exec_of_what_cannot_be_run,
    "" => exec_detached_writes_a_pid_file,
    "" => exec_in_a_created_container,
    "" => exec_inherits_the_config,
    "" => exec_cwd,
    "" => exec_env,
    "" => exec_user,
    "" => exec_user_malformed,
    "" => exec_additional_gids,
    "" => exec_process_file,
    "" => exec_process_file_broken,
    "" => exec_home_is_the_users,
    "" => exec_is_in_the_cgroup,
    "" => exec_into_a_cgroup_below,
    "" => exec_outlives_its_caller_when_detached,
    "" => exec_relays_signals,
    "" => exec_ends_with_the_container,
    "" => exec_reads_standard_input,
    "" => exec_of_many_at_once,
    "" => exec_does_not_follow_the_containers_links,
}

fn exec_runs_in_all_namespaces_of_the_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let names = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let script = "for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done";
    let inside = c.sh(script);
    let expected: String = names
        .iter()
        .map(|name| {
            fs::read_link(format!("/proc/{}/ns/{name}", c.pid))
                .map(|link| format!("{}\n", link.display()))
                .expect("no link")
        })
        .collect();
    assert_eq!(inside, expected);
    Ok(())
}

fn exec_gives_the_exit_code(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for code in [0, 1, 42, 255] {
        c.exec(&["/bin/sh", "-c", &format!("exit {code}")]).output().exits(code);
    }
    c.exec(&["/bin/sh", "-c", "kill -KILL $$"]).output().exits(128 + 9);
    Ok(())
}

fn exec_refused_in_a_stopped_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.murder();
    let output = c.exec(&["true"]).output().fails();
    t.phrase(&output, &["cannot exec in a stopped container"]);
    Ok(())
}

fn exec_of_a_missing_program(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let pid_file = t.file("exec.pid");
    let path = pid_file.to_str().expect("UTF-8");
    let output = c.exec_with(&["--pid-file", path], &["nothing-so-named"]).output().fails().says("executable file");
    assert_eq!(output.code(), if t.is(Kind::Crun) { 1 } else { 255 });
    t.proa_says(&output, "executable file not found in $PATH");
    assert!(!t.is_proa() || !pid_file.exists(), "the pid file is written only when the program runs");
    c.assert_status("running");
    Ok(())
}

fn exec_detached_writes_a_pid_file(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let pid_file = t.file("exec.pid");
    let path = pid_file.to_str().expect("UTF-8");
    c.exec_with(&["--detach", "--pid-file", path], &["/bin/sh", "-c", "exec sleep 77"]).output().ok();
    let pid: i32 = fs::read_to_string(&pid_file).expect("no pid file").parse().expect("no pid in it");
    look::eventually("the program to run", || look::cmdline(pid) == ["sleep", "77"]);
    assert_eq!(look::namespace(pid, "pid"), look::namespace(c.pid, "pid"));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("cannot kill");
    assert_eq!(wait_for(pid), 128 + 9);
    Ok(())
}

fn exec_of_what_cannot_be_run(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    fs::write(bundle.inside("/data"), "data").expect("cannot write");
    fs::set_permissions(bundle.inside("/data"), fs::Permissions::from_mode(0o644)).expect("cannot chmod");
    let c = t.start(&bundle);
    for (program, phrase) in
        [("/data", "permission denied"), ("/etc", "is a directory"), ("/no/such", "no such file or directory")]
    {
        let output = c.exec(&[program]).output().fails();
        t.phrase(&output, &[phrase]);
        assert!(t.is(Kind::Crun) || output.code() == 255, "exit code {}", output.code());
    }
    c.exec(&[]).output().fails();
    c.assert_status("running");
    Ok(())
}

fn exec_in_a_created_container(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    assert_eq!(c.exec(&["echo", "early"]).output().ok().stdout(), "early\n");
    c.assert_status("created");
    c.start();
    c.assert_status("running");
    Ok(())
}

fn exec_inherits_the_config(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "begins in / whatever the config's cwd is")?;
    let mut bundle = t.sleeping_bundle();
    bundle.process("env", json!(["PATH=/bin", "FROM=config"])).process("cwd", json!("/etc"));
    let c = t.start(&bundle);
    assert_eq!(c.sh("echo $FROM; pwd"), "config\n/etc\n");
    Ok(())
}

fn exec_cwd(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    assert_eq!(c.exec_with(&["--cwd", "/tmp"], &["pwd"]).output().ok().stdout(), "/tmp\n");
    c.exec_with(&["--cwd", "/etc/passwd"], &["pwd"]).output().fails();
    for number in [3, 6, 9] {
        let mut call = c.exec_with(&["--cwd", &format!("/proc/self/fd/{number}")], &["ls"]);
        for number in 3..10 {
            call = call.fd(fs::File::open("/").expect("cannot open /"), number);
        }
        let output = call.output();
        assert!(!output.status.success(), "ran in a directory of the host: {}", output.stdout());
    }
    Ok(())
}

fn exec_env(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("env", json!(["PATH=/bin", "A=config", "B=config"]));
    let c = t.start(&bundle);
    let output = c
        .exec_with(&["--env", "A=exec", "--env", "C=x=y"], &["/bin/sh", "-c", "echo $A $B $C"])
        .env("D", "x")
        .output()
        .ok();
    assert_eq!(output.stdout(), "exec config x=y\n");
    Ok(())
}

/// `id`s of exec with these options.
#[track_caller]
fn ids(c: &conformance::container::Container<'_>, options: &[&str]) -> String {
    let text = c.exec_with(options, &["cat", "/proc/self/status"]).output().ok().stdout();
    let field = |name: &str| {
        look::field(&text, name).map(|ids| ids.split_whitespace().next().unwrap_or("-").to_owned()).unwrap_or_default()
    };
    let groups = look::field(&text, "Groups").unwrap_or_default();
    format!("{}:{} {}", field("Uid"), field("Gid"), groups).trim().to_owned()
}

fn exec_user(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 5, "gid": 6, "additionalGids": [7]}));
    let c = t.start(&bundle);
    assert_eq!(ids(&c, &[]), "5:6 7", "as the container");
    assert_eq!(ids(&c, &["--user", "1000:2000"]).split(' ').next(), Some("1000:2000"));
    assert!(ids(&c, &["-u", "2147483647:1"]).starts_with("2147483647:1"));
    assert!(ids(&c, &["--user", "0:0"]).starts_with("0:0"));
    let gid = ids(&c, &["--user", "1000"]);
    assert!(gid.starts_with("1000:"), "{gid}");
    Ok(())
}

fn exec_user_malformed(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for user in ["root", "1000:guest", "x", "1.5", "0x10", " 1"] {
        let output = c.exec_with(&["--user", user], &["id", "-u"]).output();
        assert!(!output.status.success() || t.is(Kind::Crun), "--user {user:?} ran as {}", output.stdout());
    }
    t.proa_only("strict about every number")?;
    for user in ["", ":", "1:", ":1", "-1", "+1", "4294967296", "4294967295", "1:1:1", "1:4294967296", "1 ", "01x"] {
        let output = c.exec_with(&["--user", user], &["id", "-u"]).output().fails();
        assert!(output.stderr().contains("user"), "{}", output.stderr());
    }
    Ok(())
}

fn exec_additional_gids(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no --additional-gids")?;
    let c = t.sleeper();
    assert_eq!(ids(&c, &["--additional-gids", "7", "--additional-gids", "8"]), "0:0 7 8");
    c.exec_with(&["--additional-gids", "guest"], &["true"]).output().fails();
    Ok(())
}

fn exec_process_file(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "does not apply the umask of a process file")?;
    let c = t.sleeper();
    let process = json!({
        "args": ["/bin/sh", "-c", "pwd; id -u; id -G; echo $WORD; umask; ulimit -n; grep -E 'CapEff|NoNew' /proc/self/status"],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "WORD=file"],
        "user": {"uid": 0, "gid": 0, "additionalGids": [9], "umask": 0o77},
        "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}],
        "noNewPrivileges": true,
    });
    let file = t.make_file("process.json", &process.to_string());
    let path = file.to_str().expect("UTF-8");
    let output = c.exec_with(&["--process", path], &[]).output().ok();
    assert_eq!(output.stdout(), "/tmp\n0\n0 9\nfile\n0077\n99\nCapEff:\t0000000000000020\nNoNewPrivs:\t1\n");
    // Without capabilities and with another user: nothing is filled in from the config.
    let process = json!({"args": ["cat", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 1000, "gid": 1}});
    fs::write(&file, process.to_string()).expect("cannot write");
    let text = c.exec_with(&["--process", path], &[]).output().ok().stdout();
    assert_eq!(look::field(&text, "Uid").as_deref(), Some("1000\t1000\t1000\t1000"));
    assert_eq!(look::field(&text, "CapEff").as_deref(), Some("0000000000000000"));
    Ok(())
}

fn exec_process_file_broken(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let missing = t.file("nowhere.json");
    let broken = t.make_file("broken.json", "{\n  \"args\": [,]\n}");
    for file in [&missing, &broken] {
        let path = file.to_str().expect("UTF-8");
        let output = c.exec_with(&["--process", path], &[]).output().fails();
        t.proa_says(&output, file.file_name().and_then(|name| name.to_str()).unwrap_or_default());
    }
    let relative = t.make_file(
        "relative.json",
        &json!({"args": ["true"], "cwd": "relative", "user": {"uid": 0, "gid": 0}}).to_string(),
    );
    if t.is_proa() {
        c.exec_with(&["--process", relative.to_str().expect("UTF-8")], &[]).output().fails().says("cwd");
    }
    c.assert_status("running");
    Ok(())
}

fn exec_home_is_the_users(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    assert_eq!(c.sh("echo $HOME"), "/root\n");
    let output = c.exec_with(&["--user", "1000:1000"], &["/bin/sh", "-c", "echo $HOME"]).output().ok();
    assert_eq!(output.stdout(), "/home/guest\n");
    Ok(())
}

fn exec_is_in_the_cgroup(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let inside = c.exec(&["cat", "/proc/self/cgroup"]).output().ok().stdout();
    assert_eq!(inside, look::proc_text(c.pid, "cgroup"));
    Ok(())
}

fn exec_into_a_cgroup_below(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == look::Cgroups::Unified, "a pure cgroup v2")?;
    let c = t.sleeper();
    let path = look::cgroup_paths(c.pid).get("").cloned().unwrap_or_default();
    let dir = format!("/sys/fs/cgroup{path}/below");
    fs::create_dir(&dir).expect("cannot make a cgroup");
    let inside = c.exec_with(&["--cgroup", "below"], &["cat", "/proc/self/cgroup"]).output().ok().stdout();
    assert_eq!(look::field(&inside, "0:"), Some(format!("{path}/below")));
    c.exec_with(&["--cgroup", "missing"], &["true"]).output().fails();
    if !t.is(Kind::Crun) {
        c.exec_with(&["--cgroup", ".."], &["true"]).output().fails();
    }
    Ok(())
}

fn exec_outlives_its_caller_when_detached(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.exec_with(&["--detach"], &["/bin/sh", "-c", "sleep 0.1; echo done >/done"]).output().ok();
    let done = look::root_of(c.pid, "/done");
    look::eventually("the detached program to end", || fs::read_to_string(&done).is_ok_and(|text| text == "done\n"));
    Ok(())
}

fn exec_relays_signals(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let running = c.exec(&["/bin/sh", "-c", script]).spawn();
    look::eventually("the program to be ready", || running.stdout().contains("ready"));
    running.kill(nix::sys::signal::Signal::SIGTERM);
    running.wait(&t.runtime).exits(7);
    Ok(())
}

fn exec_ends_with_the_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let running = c.exec(&["/bin/sh", "-c", "echo ready; sleep 1000"]).spawn();
    look::eventually("the program to be ready", || running.stdout().contains("ready"));
    c.kill("KILL");
    running.wait(&t.runtime).exits(128 + 9);
    Ok(())
}

fn exec_reads_standard_input(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let input = t.make_file("input", "line one\nline two\n");
    let file = fs::File::open(input).expect("cannot open");
    assert_eq!(c.exec(&["cat"]).stdin(file).output().ok().stdout(), "line one\nline two\n");
    assert_eq!(c.exec(&["cat"]).output().ok().stdout(), "", "otherwise it is empty");
    Ok(())
}

fn exec_of_many_at_once(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let calls: Vec<_> =
        (0..16).map(|code| c.exec(&["/bin/sh", "-c", &format!("echo {code}; exit {code}")]).spawn()).collect();
    for (code, running) in (0..).zip(calls) {
        let output = running.wait(&t.runtime).exits(code);
        assert_eq!(output.stdout(), format!("{code}\n"));
    }
    Ok(())
}

fn exec_does_not_follow_the_containers_links(t: &Test<'_>) -> Done {
    // What the container has made of its own root since it was started does not
    // matter to where the program is looked for.
    let c = t.sleeper();
    let host = t.make_dir("host");
    conformance::bundle::write_script(&host.join("tool"), "echo host");
    c.sh(&format!("ln -s ../../../../../../../..{} /up; ln -s {}/tool /bin/tool", host.display(), host.display()));
    c.exec(&["tool"]).output().fails();
    c.exec(&["/up/tool"]).output().fails();
    Ok(())
}
