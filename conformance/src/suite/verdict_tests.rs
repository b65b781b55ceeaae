//! What the suite's programs print, and what it says about a runtime.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use super::super::left::Left;
use super::*;

fn run(code: i32, stdout: &str, stderr: &str) -> Run {
    Run {
        status: Some(ExitStatus::from_raw(code << 8)),
        time: Duration::from_secs(1),
        stdout: stdout.into(),
        stderr: stderr.into(),
        left: Left::default(),
    }
}

fn silent(silence: Silence, stderr: Option<&str>) -> Program {
    Program { silence: Some((silence, "see x.go:1".into())), stderr: stderr.map(str::to_owned), ..Program::default() }
}

fn verdict(run: &Run, program: &Program) -> (Verdict, Vec<String>) {
    let judgement = judge(run, program);
    (judgement.verdict, judgement.reasons)
}

#[test]
fn points_and_plan() {
    let unknown = Program::default();
    let all = run(0, "TAP version 13\nok 1 - a\nok 2 # SKIP not set\n1..2\n", "");
    assert_eq!(verdict(&all, &unknown), (Verdict::Passed, vec![]));
    assert_eq!(judge(&all, &unknown).points, Points { ok: 1, not_ok: 0, skipped: 1, todo: 0 });
    assert_eq!(judge(&all, &unknown).skips, [("not set".to_owned(), 1)]);
    let one = run(0, "TAP version 13\nok 1 - a\nnot ok 2 - b\n1..2\n", "");
    assert_eq!(verdict(&one, &unknown), (Verdict::Failed, vec!["1 of 2 points failed".into()]));
    let few = run(0, "TAP version 13\nok 1 - a\n1..2\n", "");
    assert_eq!(verdict(&few, &unknown), (Verdict::Failed, vec!["planned 2 points, missing 2".into()]));
    let skipped = run(0, "TAP version 13\n1..1\nok 1 # SKIP not Linux\n", "");
    assert_eq!(verdict(&skipped, &unknown), (Verdict::Skipped, vec!["not Linux".into()]));
}

#[test]
fn a_status_that_is_not_zero_is_a_failure_whatever_was_printed() {
    let all = run(1, "TAP version 13\nok 1 - a\n1..1\n", "");
    assert_eq!(verdict(&all, &silent(Silence::Success, None)), (Verdict::Failed, vec!["exit status 1".into()]));
    let nothing = run(1, "", "failed to create the container\n");
    assert_eq!(verdict(&nothing, &silent(Silence::Success, None)), (Verdict::Failed, vec!["exit status 1".into()]));
}

#[test]
fn a_program_that_was_ended() {
    let mut late = run(0, "TAP version 13\nok 1 - a\n", "");
    late.status = None;
    assert_eq!(verdict(&late, &Program::default()), (Verdict::Failed, vec!["timed out after 1 s".into()]));
    let mut killed = run(0, "", "");
    killed.status = Some(ExitStatus::from_raw(9));
    assert_eq!(verdict(&killed, &Program::default()), (Verdict::Failed, vec!["killed by signal 9".into()]));
}

#[test]
fn an_error_without_a_point() {
    let hook = run(0, "TAP version 13\n  ---\n  {\n    \"error\": \"too early\\nRefer to: x\"\n  }\n  ...\n1..0\n", "");
    for program in [Program::default(), silent(Silence::Success, None), silent(Silence::Nothing, None)] {
        assert_eq!(verdict(&hook, &program), (Verdict::Failed, vec!["says, without a point: too early".into()]));
    }
    let also = run(
        0,
        "TAP version 13\nok 1 - a\n  ---\n  {\"reference\": \"r\"}\n  ...\n  ---\n  {\"error\": \"e\"}\n  ...\n1..1\n",
        "",
    );
    assert_eq!(verdict(&also, &Program::default()), (Verdict::Failed, vec!["says, without a point: e".into()]));
}

#[test]
fn a_block_about_the_container_s_output_is_no_error() {
    let text = "TAP version 13\n  ---\n  {\n    \"stderr\": \"\",\n    \"stdout\": \"not ok 1\\n\"\n  }\n  ...\n\
                ok 1 - x\n1..1\n";
    assert_eq!(verdict(&run(0, text, ""), &Program::default()), (Verdict::Passed, vec![]));
}

#[test]
fn an_empty_error_is_no_error() {
    let text = "TAP version 13\nok 1 - x\n  ---\n  {\n    \"error\": \"\"\n  }\n  ...\n1..1\n";
    assert_eq!(verdict(&run(0, text, ""), &Program::default()), (Verdict::Passed, vec![]));
}

#[test]
fn silence_means_what_is_known_of_it() {
    for stdout in ["", "TAP version 13\n1..0\n"] {
        let quiet = run(0, stdout, "wrong rlimit value: RLIMIT_TEST\n");
        assert_eq!(verdict(&quiet, &silent(Silence::Success, None)), (Verdict::Passed, vec![]));
        assert_eq!(verdict(&quiet, &silent(Silence::Success, Some("RLIMIT_TEST"))), (Verdict::Passed, vec![]));
        let other = silent(Silence::Success, Some("RLIMIT_CPU"));
        assert_eq!(
            verdict(&quiet, &other),
            (Verdict::Failed, vec!["failed for another reason than RLIMIT_CPU".into()])
        );
        let nothing = silent(Silence::Nothing, None);
        assert_eq!(verdict(&quiet, &nothing), (Verdict::NoVerdict, vec!["see x.go:1".into()]));
        assert_eq!(verdict(&quiet, &Program::default()).0, Verdict::NoVerdict);
    }
}

#[test]
fn two_documents_of_one_program() {
    let both = run(0, "TAP version 13\nok 1\n1..1\nTAP version 13\nok 1\nnot ok 2 - y\n1..2\n", "");
    assert_eq!(verdict(&both, &Program::default()), (Verdict::Failed, vec!["1 of 3 points failed".into()]));
}

#[test]
fn what_is_shown_of_a_failure() {
    let text = "TAP version 13\nnot ok 1 - limit\n  ---\n  {\n    \"actual\": 3,\n    \"expected\": 4,\n    \"reference\": \
                \"https://x\",\n    \"stderr\": \"runtime: no\\n\"\n  }\n  ...\n# see above\n1..1\n";
    let failures = judge(&run(0, text, ""), &Program::default()).failures;
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].reference.as_deref(), Some("https://x"));
    assert_eq!(failures[0].error.as_deref(), Some("runtime: no\n\nexpected 4, actual 3\nsee above"));
}
