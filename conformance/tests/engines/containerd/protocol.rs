//! The shim as a program: its flags, what `start` and `delete` print in both dialects, and what it is as a process.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::types::introspection::RuntimeInfo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{self, Dialect, Shim, ask, bundle, command};
use super::daemon::world;
use super::fixture::Test;
use super::oracle;

crate::cases![
    version_is_printed,
    info_tells_of_the_runtime,
    start_prints_its_answer_and_nothing_else,
    start_in_the_dialect_of_containerd_2_3,
    a_socket_is_for_root_alone,
    delete_by_command_cleans_up_after_a_killed_shim,
    delete_by_command_of_what_is_not_there,
    sigterm_ends_an_idle_shim,
    the_shim_stands_on_its_own,
    both_types_of_options_name_the_runtime,
];

fn version_is_printed() -> Done {
    let t = Test::begin();
    // Older ones of containerd's own know the first only.
    let flags: &[&str] = if world().is_control() { &["-v"] } else { &["-v", "-version", "--version"] };
    for flag in flags {
        let (status, text) = ask(
            {
                let mut c = Command::new(world().shim_binary());
                c.arg(flag);
                c
            },
            &[],
        );
        let text = String::from_utf8_lossy(&text).into_owned();
        assert_eq!(status, 0, "{text}");
        assert!(text.contains("containerd-shim-"), "{text}");
    }
    t.end()
}

fn info_tells_of_the_runtime() -> Done {
    let t = Test::begin();
    let mut command = Command::new(world().shim_binary());
    command.arg("-info").env("PATH", format!("{}/bin:/usr/sbin:/usr/bin:/bin", world().base().display()));
    let (status, answer) = ask(command, &bare::options("").write_to_bytes().expect("a message"));
    assert_eq!(status, 0, "{}", String::from_utf8_lossy(&answer));
    let info = RuntimeInfo::parse_from_bytes(&answer).expect("a RuntimeInfo");
    assert!(info.name.starts_with("io.containerd."), "{info}");
    assert!(!info.version.version.is_empty(), "{info}");
    let features = info.features.as_ref().expect("features");
    assert!(features.type_url.ends_with("opencontainers/runtime-spec/1/features/Features"), "{}", features.type_url);
    let features: serde_json::Value = serde_json::from_slice(&features.value).expect("JSON");
    assert!(features["ociVersionMax"].is_string(), "{features}");
    t.end()
}

fn start_prints_its_answer_and_nothing_else() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    bundle.write();
    let _log = bare::open_log(&bundle);
    let input = bare::options("").write_to_bytes().expect("a message");
    let (status, answer) = ask(command(&bundle, &id, "start"), &input);
    let text = String::from_utf8(answer).expect("text");
    assert_eq!(status, 0, "{text}");
    // Standard error is in it: containerd reads both as one.
    assert!(!text.trim().contains('\n'), "more than one line: {text:?}");
    if text.starts_with('{') {
        let json: serde_json::Value = serde_json::from_str(&text).expect("one JSON document");
        assert!((2..=3).contains(&json["version"].as_i64().unwrap_or(0)), "{text}");
    }
    // A second start for the same id is told the same address; there is one shim.
    let (_, again) = ask(command(&bundle, &id, "start"), &input);
    assert_eq!(String::from_utf8_lossy(&again), text);
    assert_eq!(oracle::shims_of(&id).len(), 1);
    Shim::start(&bundle, &id).shutdown(&id);
    t.end()
}

fn start_in_the_dialect_of_containerd_2_3() -> Done {
    if world().is_control() {
        return Err(Skip("containerd 2.1's own shim is older than this dialect".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start_with(&bundle, &id, Dialect::Bootstrap, bare::options(""));
    assert!((2..=3).contains(&shim.version), "{}", shim.version);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn a_socket_is_for_root_alone() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let path = shim.address.trim_start_matches("unix://").to_owned();
    let meta = fs::metadata(&path).expect("the socket");
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.mode() & 0o077, 0, "{:o}", meta.mode());
    assert!(path.len() <= 106, "{path}");
    assert!(path.starts_with("/run/containerd/s/"), "{path}");
    shim.shutdown(&id);
    t.end()
}

fn delete_by_command_cleans_up_after_a_killed_shim() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let init = task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    let pid = shim.pid(&id);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("cannot kill the shim");
    look::eventually("the end of the shim", || !look::is_alive(pid));
    assert!(look::is_alive(init), "the container ends with its shim");
    // Twice: the first one may have been cut off in the middle.
    for _ in 0..2 {
        let (status, answer) = ask(command(&bundle, &id, "delete"), &[]);
        assert_eq!(status, 0, "{}", String::from_utf8_lossy(&answer));
        assert!(!look::is_alive(init));
    }
    // Only of the standard output, which containerd reads alone here.
    let output = command(&bundle, &id, "delete").output().expect("cannot start the shim");
    let deleted = api::DeleteResponse::parse_from_bytes(&output.stdout).expect("a DeleteResponse");
    assert_eq!(deleted.exit_status, 137);
    assert!(deleted.exited_at.seconds > 0);
    control_leaves_its_socket(&shim);
    t.end()
}

/// A known fault of containerd's own shim, which is not to hide others.
fn control_leaves_its_socket(shim: &Shim) {
    if world().is_control() {
        fs::remove_file(shim.address.trim_start_matches("unix://")).expect("the socket that it leaves");
    }
}

fn delete_by_command_of_what_is_not_there() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    bundle.write();
    let (status, answer) = ask(command(&bundle, &id, "delete"), &[]);
    assert_eq!(status, 0, "{}", String::from_utf8_lossy(&answer));
    t.end()
}

fn sigterm_ends_an_idle_shim() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let pid = oracle::shims_of(&id)[0];
    let begun = Instant::now();
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("cannot signal the shim");
    look::eventually("the end of the shim", || !look::is_alive(pid));
    assert!(begun.elapsed() < Duration::from_secs(5));
    control_leaves_its_socket(&shim);
    let socket = std::path::PathBuf::from(shim.address.trim_start_matches("unix://"));
    look::eventually("the end of the socket", || bare::absent(&socket));
    t.end()
}

fn the_shim_stands_on_its_own() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let pid = oracle::shims_of(&id)[0];
    let stat = look::stat(pid).expect("the shim");
    // In a process group of its own, so that no signal to containerd's group reaches it.
    assert_ne!(stat.pgrp, look::stat(std::process::id() as i32).expect("this process").pgrp);
    // Of the descriptors of its starter it has none, and of files its log and its sockets at most.
    for (fd, target) in look::fds(pid) {
        assert!(!target.contains("deleted"), "{fd} is on {target}");
    }
    // Orphans come to it.
    let task = shim.task(&id);
    let init = task.create(&bundle.path).expect("Create");
    assert_eq!(look::stat(init).expect("the init").ppid, pid);
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

fn both_types_of_options_name_the_runtime() -> Done {
    let t = Test::begin();
    let fake = super::fake::Fake::new(&t);
    let program = fake.program.display().to_string();
    let runc = containerd_shim_protos::shim::oci::Options { binary_name: program.clone(), ..Default::default() };
    let runc = bare::any("containerd.runc.v1.Options", runc.write_to_bytes().expect("a message"));
    let mut kinds = vec![runc];
    if !world().is_control() {
        kinds.push(bare::generic_options(&format!("BinaryName = '{program}'\n")));
    }
    for options in kinds {
        let id = t.id();
        let bundle = bundle(&t, &id);
        let kind = options.type_url.clone();
        let shim = Shim::start_with(&bundle, &id, Dialect::Legacy, options);
        let calls = fake.calls().len();
        shim.task(&id).create(&bundle.path).expect("Create");
        assert!(fake.calls().len() > calls, "{kind} is not heeded");
        shim.task(&id).delete("").expect("Delete");
        shim.shutdown(&id);
    }
    t.end()
}
