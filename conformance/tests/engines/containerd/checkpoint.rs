//! Checkpoints of tasks, by the shim and the runtime below it, and what `ctr` restores from them.

use std::process::Command;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Skip};

use super::ctr::ctr;
use super::daemon::world;
use super::fixture::{Container, Test};

crate::cases! {
    a_task_is_checkpointed,
    a_task_is_left_running_by_a_checkpoint,
    a_checkpoint_of_a_container_is_restored,
    a_checkpoint_of_what_is_not_there,
    its_output_goes_on,
    a_checkpoint_that_fails_leaves_it_running,
}

const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.2; done";

/// Skips the test where the runtime makes no checkpoints.
fn needed() -> Done {
    if !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|dir| dir.join("criu").exists()) {
        return Err(Skip("criu is not installed here".into()));
    }
    let features = Command::new(&world().runtime).arg("features").output().expect("cannot start the runtime");
    if String::from_utf8_lossy(&features.stdout).contains("\"org.opencontainers.runc.checkpoint.enabled\": \"false\"") {
        return Err(Skip("the runtime says that it makes no checkpoints".into()));
    }
    // What it finds of the kernel it leaves in /run/criu.kdat.
    Command::new("criu").arg("check").output().expect("cannot run criu");
    Ok(())
}

#[track_caller]
fn count(container: &Container) -> u32 {
    let mut count = None;
    look::eventually("a number", || {
        count = container.sh("cat /n").text().trim().parse().ok();
        count.is_some()
    });
    count.unwrap_or_default()
}

#[track_caller]
fn counts_on(container: &Container) -> u32 {
    let goal = count(container) + 2;
    look::eventually("it to count on", || count(container) >= goal);
    goal
}

fn a_task_is_checkpointed() -> Done {
    needed()?;
    let t = Test::begin();
    let c = t.sleeper();
    let begun = Instant::now();
    ctr(&["task", "checkpoint", "--exit", "--image-path", &t.path("image"), &c.id]).ok();
    assert!(std::fs::read_dir(t.dir.join("image")).is_ok_and(|mut files| files.next().is_some()));
    c.stopped();
    assert!(begun.elapsed() < Duration::from_secs(20), "{}", world().log());
    t.end()
}

fn a_task_is_left_running_by_a_checkpoint() -> Done {
    needed()?;
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", COUNT]);
    counts_on(&c);
    let pid = c.pid();
    let (images, work) = (t.path("image"), t.path("work"));
    std::fs::create_dir(&work).expect("cannot make a directory");
    ctr(&["task", "checkpoint", "--image-path", &images, "--work-path", &work, &c.id]).ok();
    assert!(t.dir.join("work/dump.log").is_file(), "no log");
    assert_eq!((c.status().as_deref(), c.pid()), (Some("RUNNING"), pid));
    counts_on(&c);
    c.stop();
    t.end()
}

/// The task's memory and the changes of its root, as an image of containerd's, and another container from that.
fn a_checkpoint_of_a_container_is_restored() -> Done {
    needed()?;
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", COUNT]);
    counts_on(&c);
    let (id, image) = (c.id.as_str(), format!("checkpoint/of:{}", c.id));
    ctr(&["c", "checkpoint", "--image", "--rw", "--task", id, &image]).ok();
    let last = counts_on(&c);
    c.stop();
    c.delete();
    ctr(&["c", "rm", id]).ok();
    let restored = Container { id: t.id() };
    let running = ctr(&["c", "restore", "--rw", "--live", &restored.id, &image]).spawn();
    look::eventually("it to run", || restored.status().as_deref() == Some("RUNNING"));
    // It has gone on since, and was not begun anew.
    assert!(count(&restored) + 5 >= last, "it begins anew");
    counts_on(&restored);
    restored.stop();
    running.end(Duration::from_secs(20));
    ctr(&["image", "rm", &image]).ok();
    t.end()
}

fn a_checkpoint_of_what_is_not_there() -> Done {
    needed()?;
    let t = Test::begin();
    let c = t.sleeper();
    ctr(&["task", "checkpoint", "--image-path", "/dev/null/images", &c.id]).run().fails("");
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    c.stop();
    ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).run().fails("");
    t.end()
}

fn its_output_goes_on() -> Done {
    needed()?;
    let t = Test::begin();
    let log = t.path("log");
    let c = t.container().options(&["--log-uri", &format!("file://{log}")]).start(&[
        "sh",
        "-c",
        "while :; do echo line; sleep 0.05; done",
    ]);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    look::eventually("it to say something", || lines() > 5);
    ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).ok();
    let before = lines();
    look::eventually("it to say more", || lines() > before);
    t.end()
}

fn a_checkpoint_that_fails_leaves_it_running() -> Done {
    needed()?;
    let t = Test::begin();
    // Whose path CRIU cannot tell from what stands behind it.
    let c = t.container().option("--null-io").bind(&t.dir, "/a]b", "rbind:rw").start(&["sh", "-c", COUNT]);
    look::eventually("it to count", || count(&c) > 1);
    let said = ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).run().fails("/a]b");
    assert!(said.stderr.contains("CRIU cannot save"), "{}", said.stderr);
    let before = count(&c);
    look::eventually("it to count on", || count(&c) > before);
    t.end()
}
