//! Several processes that share pipes, memory and locks.

use conformance::look;
use conformance::test::{Done, Test};

use super::subject::Subject;
use super::table::{Outcome, ok, refused, rows};

crate::cases! {
    pipes_and_shared_memory,
    locks,
}

#[track_caller]
fn started<'t>(t: &'t Test<'t>, what: &str) -> Subject<'t> {
    let subject = Subject::kept(t, &[what]).run();
    subject.counts_on(3);
    subject
}

#[track_caller]
fn is_right(subject: &Subject<'_>, processes: usize) {
    subject.counts_on(5);
    assert_eq!(subject.read("/wrong"), "");
    assert_eq!(look::descendants(subject.pid()).len() + 1, processes);
}

fn pipes_and_shared_memory() -> Done {
    rows(&[("three processes, pipes, shared memory", &|t| {
        let subject = started(t, "tree");
        is_right(&subject, 3);
        subject.checkpoint(&[]).ok();
        let frozen = subject.count();
        subject.restored(&[]);
        is_right(&subject, 3);
        assert!(subject.count() > frozen);
        subject.is_killed_and_deleted();
        ok()
    })])
}

fn locks() -> Done {
    rows(&[("--file-locks", &kept), ("locks without --file-locks", &without_the_flag)])
}

fn kept(t: &Test<'_>) -> Outcome {
    let subject = started(t, "lock");
    is_right(&subject, 2);
    subject.checkpoint(&["--file-locks"]).ok();
    subject.restored(&["--file-locks"]);
    is_right(&subject, 2);
    subject.is_killed_and_deleted();
    ok()
}

fn without_the_flag(t: &Test<'_>) -> Outcome {
    let subject = started(t, "lock");
    let output = subject.checkpoint(&[]).fails();
    assert_eq!(subject.status(), "running");
    is_right(&subject, 2);
    refused(t, &output, &["file-locks"])
}
