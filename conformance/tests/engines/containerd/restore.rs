//! Checkpoints: a task that is saved, an image that is made of it, and a container that begins from one.

use std::path::Path;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Skip};

use super::ctr::ctr;
use super::events;
use super::fixture::{Container, Test};

crate::cases![
    a_task_is_saved_and_ends,
    a_task_is_saved_and_runs_on,
    a_container_begins_from_an_image,
    its_output_goes_on,
    a_checkpoint_that_fails_leaves_it_running,
];

/// Counts into a file, and says so.
const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n >/n; echo line $n; sleep 0.05; done";

fn needs_criu() -> Result<(), Skip> {
    match Path::new("/usr/sbin/criu").exists() {
        true => Ok(()),
        false => Err(Skip("criu is not installed here".into())),
    }
}

fn count(c: &Container) -> u32 {
    c.sh("cat /n").text().trim().parse().unwrap_or(0)
}

#[track_caller]
fn counts_on(c: &Container) {
    let before = count(c);
    look::eventually("it to count on", || count(c) > before);
}

fn a_task_is_saved_and_ends() -> Done {
    needs_criu()?;
    let t = Test::begin();
    let c = t.sleeper();
    let begun = Instant::now();
    ctr(&["task", "checkpoint", "--exit", "--image-path", &t.path("image"), &c.id]).ok();
    assert!(t.dir.join("image/inventory.img").exists());
    c.stopped();
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(events::wait(&c.id, "exit init").status(), 137);
    t.end()
}

fn a_task_is_saved_and_runs_on() -> Done {
    needs_criu()?;
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", COUNT]);
    ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).ok();
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    counts_on(&c);
    assert!(events::wait(&c.id, "checkpointed").body.to_string().contains("image"));
    t.end()
}

fn a_container_begins_from_an_image() -> Done {
    needs_criu()?;
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", COUNT]);
    look::eventually("it to count", || count(&c) > 5);
    ctr(&["c", "checkpoint", "--rw", "--task", &c.id, "local/checkpoint:1"]).ok();
    let saved = count(&c);
    c.stop();
    c.delete();
    ctr(&["c", "rm", &c.id]).ok();
    let mut restore = ctr(&["c", "restore", "--rw", "--live", &c.id, "local/checkpoint:1"]).spawn();
    look::eventually("it to run", || c.status().as_deref() == Some("RUNNING"));
    let first = count(&c);
    assert!(first > 5, "it counts on from {saved}, not from {first}");
    counts_on(&c);
    assert_eq!(c.story().iter().filter(|event| *event == "start").count(), 2, "{:?}", c.story());
    c.kill("SIGKILL").ok();
    restore.text();
    c.stopped();
    ctr(&["image", "rm", "local/checkpoint:1"]).ok();
    drop(restore);
    t.end()
}

fn its_output_goes_on() -> Done {
    needs_criu()?;
    let t = Test::begin();
    let log = t.path("log");
    let c = t.container().options(&["--log-uri", &format!("file://{log}")]).start(&["sh", "-c", COUNT]);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    look::eventually("it to say something", || lines() > 5);
    ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).ok();
    let before = lines();
    look::eventually("it to say more", || lines() > before);
    t.end()
}

fn a_checkpoint_that_fails_leaves_it_running() -> Done {
    needs_criu()?;
    let t = Test::begin();
    // Whose path CRIU cannot tell from what stands behind it.
    let c = t.container().option("--null-io").bind(&t.dir, "/a]b", "rbind:rw").start(&["sh", "-c", COUNT]);
    look::eventually("it to count", || count(&c) > 5);
    let said = ctr(&["task", "checkpoint", "--image-path", &t.path("image"), &c.id]).run().fails("/a]b");
    assert!(said.stderr.contains("CRIU cannot save"), "{}", said.stderr);
    counts_on(&c);
    t.end()
}
