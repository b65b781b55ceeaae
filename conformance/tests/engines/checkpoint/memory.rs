//! A program with much memory: what changes least is dumped while it runs, the rest is little.

use std::fs;
use std::time::{Duration, Instant};

use conformance::test::{Done, Skip, Test};

use super::subject::{Subject, eventually, size};
use super::table::{Outcome, refused, rows};

/// Mebibytes of memory.
const MEMORY: u32 = 100;
const MUCH_MEMORY: u32 = 500;

pub(crate) const CASES: &[crate::Case] = &[crate::Case { name: "a_pre_dump", test: a_pre_dump }];
pub(crate) const BENCH: &[crate::Case] =
    &[crate::Case { name: "of_much_memory", test: of_much_memory }, crate::Case { name: "of_little", test: of_little }];

fn a_pre_dump() -> Done {
    rows(&[
        ("100 MiB: --pre-dump, --parent-path", &|t| pre_dumped(t, MEMORY)),
        ("100 MiB: without", &|t| whole(t, MEMORY)),
        ("--pre-dump where memory is not tracked", &without_tracking),
    ])
}

fn of_much_memory() -> Done {
    rows(&[
        ("500 MiB: --pre-dump, --parent-path", &|t| pre_dumped(t, MUCH_MEMORY)),
        ("500 MiB: without", &|t| whole(t, MUCH_MEMORY)),
    ])
}

/// The best of ten, so that what else the machine does is not measured.
fn of_little() -> Done {
    rows(&[("a small program, the best of 10", &|t| {
        let mut best = [u128::MAX; 2];
        for round in 0..10 {
            let mut subject = Subject::counting(t);
            subject.images = t.file(&format!("images{round}"));
            let (dump, _) = timed(|| subject.checkpoint(&[]).ok());
            let (restore, _) = timed(|| subject.restored(&[]));
            best = [best[0].min(dump), best[1].min(restore)];
            subject.is_killed_and_deleted();
        }
        Ok(format!("checkpoint {} ms, restore {} ms", best[0], best[1]))
    })])
}

fn started<'t>(t: &'t Test<'t>, mebibytes: u32) -> Subject<'t> {
    let subject = Subject::kept(t, &["memory", &mebibytes.to_string()]).run();
    subject.counts_on(1);
    subject
}

fn timed<T>(done: impl FnOnce() -> T) -> (u128, T) {
    let begun = Instant::now();
    let value = done();
    (begun.elapsed().as_millis(), value)
}

/// Has it look at all of its memory.
#[track_caller]
fn holds_the_same(subject: &Subject<'_>) {
    fs::write(subject.bundle.inside("/check"), "").expect("cannot write");
    eventually("it to look at its memory", || !subject.read("/checked").is_empty());
    assert_eq!(subject.read("/checked"), "same");
    fs::remove_file(subject.bundle.inside("/checked")).expect("cannot remove");
}

/// Whether the kernel says which pages were written to (CONFIG_MEM_SOFT_DIRTY).
fn tracks_memory() -> bool {
    let check = std::process::Command::new("criu").args(["check", "--feature", "mem_dirty_track"]).output();
    check.expect("cannot run criu").status.success()
}

/// Where pages are not tracked, one clear error, and it runs on.
fn without_tracking(t: &Test<'_>) -> Outcome {
    if tracks_memory() {
        return Err(Skip("this kernel tracks memory".to_owned()));
    }
    let subject = started(t, 1);
    let output = subject.checkpoint(&["--pre-dump"]).fails();
    assert_eq!(subject.status(), "running");
    subject.counts_on(2);
    // The parent is found, beside a directory of images that is still to be made.
    let mut subject = subject;
    fs::create_dir_all(t.file("pre")).expect("cannot make a directory");
    subject.images = t.file("last");
    let second = subject.checkpoint(&["--parent-path", "../pre"]);
    let said = second.stderr();
    assert!(!said.contains("no directory") || !t.is_proa(), "{said}");
    if second.status.success() {
        subject.is_gone();
    } else {
        subject.counts_on(1);
        subject.images = t.file("whole");
        subject.goes_and_comes(&[]);
    }
    refused(t, &output, &["track", "dirty"])
}

fn pre_dumped(t: &Test<'_>, mebibytes: u32) -> Outcome {
    if !tracks_memory() {
        return Err(Skip("this kernel does not track memory (CONFIG_MEM_SOFT_DIRTY)".to_owned()));
    }
    let mut subject = started(t, mebibytes);
    let pid = subject.pid();
    subject.images = t.file("pre");
    let (pre, output) = timed(|| subject.checkpoint(&["--pre-dump"]).ok());
    assert!(output.stderr().is_empty() || !t.is_proa(), "it says {:?}", output.stderr());
    assert_eq!((subject.status(), subject.pid()), ("running".to_owned(), pid), "a pre-dump leaves it running");
    let first = size(&subject.images) >> 20;
    fs::write(subject.bundle.inside("/change"), "").expect("cannot write");
    eventually("it to change its memory", || !subject.read("/changed").is_empty());
    subject.images = t.file("last");
    let (dump, _) = timed(|| subject.checkpoint(&["--parent-path", "../pre"]).ok());
    let second = size(&subject.images) >> 20;
    subject.is_gone();
    let (restore, _) = timed(|| subject.restored(&[]));
    holds_the_same(&subject);
    assert!(first >= u64::from(mebibytes) && second < first / 10, "images of {first} and then {second} MiB");
    std::thread::sleep(Duration::from_millis(50));
    subject.is_killed_and_deleted();
    Ok(format!("ok: pre-dump {pre} ms {first} MiB; checkpoint {dump} ms {second} MiB; restore {restore} ms"))
}

fn whole(t: &Test<'_>, mebibytes: u32) -> Outcome {
    let subject = started(t, mebibytes);
    let (dump, _) = timed(|| subject.checkpoint(&[]).ok());
    let all = size(&subject.images) >> 20;
    let (restore, _) = timed(|| subject.restored(&[]));
    holds_the_same(&subject);
    subject.is_killed_and_deleted();
    Ok(format!("ok: checkpoint {dump} ms {all} MiB; restore {restore} ms"))
}
