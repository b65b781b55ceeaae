//! `process`: where, with what arguments and environment, and as whom the
//! program runs.
//!
//! Not here: capabilities and limits (privileges.rs), scheduling (misc.rs),
//! terminals (terminal.rs), descriptors (fds.rs).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use conformance::bundle::write_script;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "C-27" => cwd_is_where_the_program_starts,
    "" => cwd_is_made_if_missing,
    "C-27" => cwd_must_be_absolute,
    "" => cwd_that_is_a_file,
    "" => cwd_by_links_stays_inside,
    "" => cwd_through_a_descriptor_is_refused,
    "" => cwd_that_only_the_user_may_enter,
    "C-28" => env_is_as_listed,
    "" => env_last_duplicate_wins,
    "" => env_of_the_runtime_stays_outside,
    "" => home_from_passwd,
    "" => home_given_is_kept,
    "" => home_with_a_hostile_passwd,
    "C-29" => args_are_argv,
    "C-29" => args_are_looked_up_in_path,
    "" => path_of_the_config_and_not_the_runtimes,
    "" => program_relative_to_cwd,
    "C-29" => args_must_not_be_empty,
    "R-33" => process_must_be_there,
    "" => script_with_a_missing_interpreter,
    "" => file_that_is_no_program,
    "C-48" => uid_and_gid,
    "C-50" => additional_gids_exactly,
    "" => groups_of_the_caller_are_dropped,
    "C-49" => umask_given,
    "" => umask_is_022_otherwise,
    "" => init_leads_a_session,
    "" => signals_are_reset,
    "" => username_is_ignored,
}

fn cwd_is_where_the_program_starts(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("pwd; readlink /proc/self/cwd");
    bundle.process("cwd", json!("/etc"));
    assert_eq!(t.prints(&bundle), "/etc\n/etc\n");
    Ok(())
}

fn cwd_is_made_if_missing(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("pwd; stat -c '%a %u:%g' . ..");
    bundle.process("cwd", json!("/made/for it"));
    assert_eq!(t.prints(&bundle), "/made/for it\n755 0:0\n755 0:0\n");
    Ok(())
}

fn cwd_must_be_absolute(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("cwd", json!("etc"));
    t.peer_differs(Kind::Crun, "takes it relative to /")?;
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.cwd");
    bundle.process("cwd", json!(""));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.cwd");
    Ok(())
}

fn cwd_that_is_a_file(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("cwd", json!("/etc/passwd"));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.cwd");
    Ok(())
}

fn cwd_by_links_stays_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("readlink /proc/self/cwd");
    fs::create_dir_all(bundle.inside("/real/tmp")).expect("cannot make a directory");
    symlink("/tmp", bundle.inside("/absolute")).expect("cannot link");
    symlink("../../../../../tmp", bundle.inside("/real/upwards")).expect("cannot link");
    for cwd in ["/absolute", "/real/upwards"] {
        bundle.process("cwd", json!(cwd));
        assert_eq!(t.prints(&bundle), "/tmp\n");
    }
    Ok(())
}

fn cwd_through_a_descriptor_is_refused(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("cat etc/hostname ../../etc/hostname; pwd -P");
    for number in [3, 5, 7, 9] {
        bundle.process("cwd", json!(format!("/proc/self/fd/{number}")));
        let mut call = t.run_call(&bundle, &t.id());
        for number in 3..10 {
            call = call.fd(fs::File::open("/").expect("cannot open /"), number);
        }
        let output = call.output();
        assert!(!output.status.success(), "ran in a directory of the host: {}", output.stdout());
    }
    t.assert_nothing_left();
    Ok(())
}

fn cwd_that_only_the_user_may_enter(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("pwd");
    fs::create_dir(bundle.inside("/own")).expect("cannot make a directory");
    fs::set_permissions(bundle.inside("/own"), fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    std::os::unix::fs::chown(bundle.inside("/own"), Some(1000), Some(1000)).expect("cannot chown");
    bundle.process("cwd", json!("/own")).process("user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(t.prints(&bundle), "/own\n");
    Ok(())
}

/// The environment of a program that is not a shell, in order.
#[track_caller]
fn environment(t: &Test<'_>, env: &[&str]) -> Vec<String> {
    let mut bundle = t.bundle();
    bundle.args(&["/bin/cat", "/proc/self/environ"]).process("env", json!(env));
    t.prints(&bundle).split_terminator('\0').map(str::to_owned).collect()
}

fn env_is_as_listed(t: &Test<'_>) -> Done {
    let env = ["B=2", "A=1", "EMPTY=", "WITH=an = sign", "HOME=/h", "ümlaut=ä"];
    assert_eq!(environment(t, &env), env);
    Ok(())
}

fn env_last_duplicate_wins(t: &Test<'_>) -> Done {
    let seen = environment(t, &["A=1", "HOME=/h", "B=2", "A=3"]);
    let a: Vec<_> = seen.iter().filter(|entry| entry.starts_with("A=")).collect();
    assert_eq!(a, ["A=3"], "{seen:?}");
    assert_eq!(seen.len(), 3, "{seen:?}");
    Ok(())
}

fn env_of_the_runtime_stays_outside(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&["/bin/cat", "/proc/self/environ"]).process("env", json!(["HOME=/h"]));
    let output = t.run_call(&bundle, &t.id()).env("SECRET", "x").env("GODEBUG", "y").output().ok();
    assert_eq!(output.stdout(), "HOME=/h\0");
    // Nor is anything of it left in init before start.
    let c = t.create(&bundle);
    assert!(!look::proc_text(c.pid, "environ").contains("SECRET"));
    Ok(())
}

fn home_from_passwd(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo $HOME");
    for (uid, home) in [(0, "/root"), (1000, "/home/guest"), (4242, "/")] {
        bundle.process("user", json!({"uid": uid, "gid": 0}));
        assert_eq!(t.prints(&bundle), format!("{home}\n"), "HOME of {uid}");
    }
    fs::remove_file(bundle.inside("/etc/passwd")).expect("cannot remove");
    assert_eq!(t.prints(&bundle), "/\n", "HOME without a passwd file");
    Ok(())
}

fn home_given_is_kept(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo $HOME");
    bundle.process("env", json!(["PATH=/bin", "HOME=/elsewhere"]));
    assert_eq!(t.prints(&bundle), "/elsewhere\n");
    if !t.is(Kind::Crun) {
        bundle.process("env", json!(["PATH=/bin", "HOME="]));
        assert_eq!(t.prints(&bundle), "/root\n", "an empty HOME counts as none");
    }
    Ok(())
}

fn home_with_a_hostile_passwd(t: &Test<'_>) -> Done {
    t.proa_only("peers wait for a writer of a fifo, or read it all")?;
    let mut bundle = t.sh_bundle("echo $HOME");
    let passwd = bundle.inside("/etc/passwd");
    let host = t.make_file("host-passwd", "root:x:0:0::/of/the/host:/bin/sh\n");
    fs::remove_file(&passwd).expect("cannot remove");
    nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRUSR).expect("cannot make a fifo");
    assert_eq!(t.prints(&bundle), "/\n", "passwd is a fifo");
    fs::remove_file(&passwd).expect("cannot remove");
    symlink(&host, &passwd).expect("cannot link");
    assert_eq!(t.prints(&bundle), "/\n", "passwd is a link to a file of the host");
    fs::remove_file(&passwd).expect("cannot remove");
    symlink("/dev/zero", &passwd).expect("cannot link");
    assert_eq!(t.prints(&bundle), "/\n", "passwd is a link to /dev/zero");
    fs::remove_file(&passwd).expect("cannot remove");
    let file = fs::File::create(&passwd).expect("cannot make a file");
    file.set_len(10 << 30).expect("cannot make a sparse file");
    bundle.process("user", json!({"uid": 7, "gid": 0}));
    assert_eq!(t.prints(&bundle), "/\n", "passwd has 10 GiB");
    Ok(())
}

fn args_are_argv(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&["/bin/sh", "-c", "tr '\\0' '|' </proc/$$/cmdline; :", "name", "", "a b", "--x", "ü\n"]);
    assert_eq!(t.prints(&bundle), "/bin/sh|-c|tr '\\0' '|' </proc/$$/cmdline; :|name||a b|--x|ü\n|");
    bundle.args(&["echo", "-n", "by argv[0] as written"]);
    assert_eq!(t.prints(&bundle), "by argv[0] as written");
    Ok(())
}

fn args_are_looked_up_in_path(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::create_dir_all(bundle.inside("/first")).expect("cannot make a directory");
    fs::create_dir_all(bundle.inside("/second")).expect("cannot make a directory");
    // What cannot be run is passed over in the search.
    fs::write(bundle.inside("/first/tool"), "no program").expect("cannot write");
    fs::set_permissions(bundle.inside("/first/tool"), fs::Permissions::from_mode(0o644)).expect("cannot chmod");
    bundle.script("/second/tool", "echo second");
    bundle.args(&["tool"]).process("env", json!(["PATH=/nowhere:/first:/second:/bin"]));
    assert_eq!(t.prints(&bundle), "second\n");
    bundle.script("/first/tool", "echo first");
    assert_eq!(t.prints(&bundle), "first\n");
    Ok(())
}

fn path_of_the_config_and_not_the_runtimes(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::create_dir_all(bundle.inside("/other")).expect("cannot make a directory");
    bundle.script("/other/tool", "echo other");
    bundle.args(&["tool"]);
    let call = t.create_call(&bundle, &t.id()).env("PATH", "/other:/bin");
    let output = call.output().fails();
    t.assert_clean_failure(&output);
    bundle.process("env", json!(["PATH=/other"]));
    assert_eq!(t.prints(&bundle), "other\n");
    Ok(())
}

fn program_relative_to_cwd(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.script("/etc/tool", "echo here");
    bundle.args(&["./tool"]).process("cwd", json!("/etc"));
    assert_eq!(t.prints(&bundle), "here\n");
    bundle.args(&["etc/tool"]).process("cwd", json!("/"));
    assert_eq!(t.prints(&bundle), "here\n");
    Ok(())
}

fn args_must_not_be_empty(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&[]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.args");
    t.peer_differs(Kind::Crun, "creates a container without args")?;
    bundle.remove("/process/args");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.args");
    Ok(())
}

fn process_must_be_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    t.peer_differs(Kind::Crun, "starts a container without a process")?;
    bundle.remove("/process");
    // Either command may be the one that says so.
    let id = t.id();
    if t.create_call(&bundle, &id).output().status.success() {
        t.call(&["start", &id]).output().fails();
    } else {
        t.assert_nothing_left();
    }
    Ok(())
}

fn script_with_a_missing_interpreter(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    write_script(&bundle.inside("/tool"), "");
    fs::write(bundle.inside("/tool"), "#!/no/such/interpreter\n").expect("cannot write");
    bundle.args(&["/tool"]);
    let output = t.refuses_run(&bundle);
    t.phrase(&output, &["no such file or directory"]);
    Ok(())
}

fn file_that_is_no_program(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.script("/tool", "");
    fs::write(bundle.inside("/tool"), "\x01\x02 neither a script nor a binary").expect("cannot write");
    bundle.args(&["/tool"]);
    let output = t.refuses_run(&bundle);
    t.phrase(&output, &["exec format error"]);
    Ok(())
}

fn uid_and_gid(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 1000, "gid": 2000}));
    let status = t.start(&bundle).proc_status();
    assert_eq!([status.ruid, status.euid, status.suid, status.fuid], [1000; 4]);
    assert_eq!([status.rgid, status.egid, status.sgid, status.fgid], [2000; 4]);
    Ok(())
}

fn additional_gids_exactly(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 1000, "gid": 1000, "additionalGids": [3, 77, 4_000_000_000_u32]}));
    assert_eq!(t.start(&bundle).proc_status().groups, [3, 77, 4_000_000_000]);
    bundle.process("user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(t.start(&bundle).proc_status().groups, [0; 0]);
    Ok(())
}

fn groups_of_the_caller_are_dropped(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let id = t.id();
    let wrapper = ["setpriv", "--groups", "5,6,7", "--"];
    let output = t.create_call(&bundle, &id).wrapper(&wrapper).output().ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(c.proc_status().groups, [0; 0]);
    Ok(())
}

fn umask_given(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 0, "gid": 0, "umask": 0o27}));
    let c = t.start(&bundle);
    assert_eq!(c.proc_status().umask, Some(0o27));
    assert_eq!(c.sh("umask; touch /made; stat -c %a /made"), "0027\n640\n", "umask of exec");
    Ok(())
}

fn umask_is_022_otherwise(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    for mask in [0, 0o77] {
        let id = t.id();
        let output = t.create_call(&bundle, &id).umask(mask).output().ok();
        let c = t.container(id, output);
        c.start();
        assert_eq!(c.proc_status().umask, Some(0o22));
        assert_eq!(c.sh("umask"), "0022\n");
    }
    Ok(())
}

fn init_leads_a_session(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let stat = look::stat(c.pid).expect("no init");
    assert_eq!((stat.session, stat.pgrp), (c.pid, c.pid));
    assert_eq!(stat.tty_nr, 0);
    assert_eq!(c.proc_status().nspid.and_then(|pids| pids.last().copied()), Some(1));
    Ok(())
}

fn signals_are_reset(t: &Test<'_>) -> Done {
    // A shell that ignores SIGPIPE hands that on to what it runs.
    let id = t.id();
    let wrapper = ["/bin/sh", "-c", "trap '' PIPE; exec \"$@\"", "sh"];
    let output = t.create_call(&t.sleeping_bundle(), &id).wrapper(&wrapper).output().ok();
    let c = t.container(id, output);
    c.start();
    let status = c.proc_status();
    assert_eq!(status.sigblk, 0, "blocked signals");
    assert_eq!(status.sigcgt, 0, "caught signals");
    if t.is_proa() {
        assert_eq!(status.sigign, 0, "ignored signals");
    }
    assert_eq!(
        c.exec(&["grep", "-E", "Sig(Blk|Cgt)", "/proc/self/status"])
            .output()
            .ok()
            .stdout()
            .matches("0000000000000000")
            .count(),
        2
    );
    Ok(())
}

fn username_is_ignored(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("id -u");
    bundle.process("user", json!({"uid": 1000, "gid": 1000, "username": "root"}));
    assert_eq!(t.prints(&bundle), "1000\n");
    let mut bundle = t.sh_bundle("id -u; id -g");
    bundle.remove("/process/user");
    assert_eq!(t.prints(&bundle), "0\n0\n", "a process without a user is root");
    // Root's directory exists whoever asks for it.
    assert!(fs::metadata(bundle.inside("/root")).is_ok_and(|meta| meta.is_dir() && meta.uid() == 0));
    Ok(())
}
