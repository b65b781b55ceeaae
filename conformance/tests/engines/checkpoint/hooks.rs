//! Hooks run at a restore and at the deletion after it.

use std::fs;

use conformance::test::{Done, Test};
use serde_json::json;

use super::subject::Subject;
use super::table::{Outcome, ok, rows};

crate::cases! {
    hooks_of_a_restore,
}

const HOST_HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

fn hooks_of_a_restore() -> Done {
    rows(&[("hooks at restore and at delete", &which_run), ("a hook that fails refuses the restore", &one_that_fails)])
}

fn which_run(t: &Test<'_>) -> Outcome {
    let file = t.file("ran");
    let mut subject = Subject::counter(t);
    for name in HOST_HOOKS {
        // startContainer is a program of the container, and writes to its root.
        let to = if name == "startContainer" { "/ran".to_owned() } else { file.display().to_string() };
        let script = format!("grep -q '\"id\"' && echo {name} >>{to}");
        subject.bundle.config["hooks"][name] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
    }
    let ran = |subject: &Subject<'_>| {
        let host = fs::read_to_string(&file).unwrap_or_default();
        fs::remove_file(&file).ok();
        let inside = subject.read("/ran");
        fs::remove_file(subject.bundle.inside("/ran")).ok();
        format!("{host} {inside}").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let subject = subject.run();
    subject.counts_on(2);
    let at_run = ran(&subject);
    subject.checkpoint(&[]).ok();
    let at_checkpoint = ran(&subject);
    subject.restored(&[]);
    subject.counts_on(2);
    let at_restore = ran(&subject);
    subject.is_killed_and_deleted();
    let at_delete = ran(&subject);
    let told = format!("run: {at_run}; checkpoint: {at_checkpoint}; restore: {at_restore}; delete: {at_delete}");
    if t.is_proa() {
        assert!(at_run.contains("prestart") && at_run.contains("startContainer"), "{told}");
        // As runc does.
        assert_eq!(at_checkpoint, "poststop", "{told}");
        assert!(at_restore.starts_with("prestart createRuntime"), "{told}");
        assert_eq!(at_delete, "poststop", "{told}");
    }
    Ok(format!("ok: {told}"))
}

fn one_that_fails(t: &Test<'_>) -> Outcome {
    let mut subject = Subject::counting(t);
    subject.checkpoint(&[]).ok();
    subject.bundle.config["hooks"]["createRuntime"] = json!([{"path": "/bin/false"}]);
    let output = subject.restore(&[]);
    if output.status.success() && !t.is_proa() {
        return Ok("restored all the same".to_owned());
    }
    output.fails();
    subject.is_gone();
    // The images can be used again.
    subject.bundle.remove("/hooks/createRuntime");
    subject.restored(&[]);
    subject.counts_on(2);
    ok()
}
