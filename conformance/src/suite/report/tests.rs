//! That each report says what happened, and that nothing in it is taken for markup.

use super::*;
use crate::suite::verdict::Points;

fn program(name: &str, verdict: Verdict, known: Option<Expected>) -> ProgramRecord {
    let failure = Failure {
        number: Some(3),
        description: "a <limit> & more".into(),
        reference: Some("https://example.org/#x".into()),
        error: Some("expected \"1\"".into()),
    };
    ProgramRecord {
        name: name.into(),
        verdict,
        reasons: if verdict == Verdict::Passed { Vec::new() } else { vec!["1 of 2 points failed".into()] },
        tries: 1,
        seconds: 1.25,
        points: Points { ok: 1, not_ok: usize::from(verdict != Verdict::Passed), skipped: 4, todo: 0 },
        skips: vec![("not set".into(), 4)],
        failures: if verdict == Verdict::Passed { Vec::new() } else { vec![failure] },
        left: Vec::new(),
        leaks: Vec::new(),
        stderr: String::new(),
        known,
        spec: None,
    }
}

fn records() -> Vec<Record> {
    let runtime = |name: &str| RuntimeRecord {
        name: name.into(),
        path: format!("/{name}"),
        version: format!("{name} 1"),
        programs: vec![
            program("good", Verdict::Passed, Some(Expected::Pass)),
            program("bad", Verdict::Failed, Some(Expected::Pass)),
            program("hopeless", Verdict::Failed, Some(Expected::Never("a defect: x.go:1".into()))),
        ],
    };
    vec![Record {
        setting: "host".into(),
        suite: "v1".into(),
        kernel: "6.1".into(),
        processors: 2,
        started: 0,
        runtimes: vec![runtime("proa"), runtime("runc")],
    }]
}

#[test]
fn the_terminal_shows_counts_failures_and_reasons() {
    let text = text(&records());
    for part in [
        "3 programs: 1 passed, 2 failed, 0 skipped, 0 no verdict; points: 3 ok, 2 not ok, 12 skipped; 3.8 s",
        "  12 points skipped: not set",
        "not ok 3 - a <limit> & more",
        "expected \"1\"",
        "why: a defect: x.go:1",
        "passed 1/0/4",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn one_runtime_gets_its_reasons_in_the_table() {
    let mut records = records();
    records[0].runtimes.truncate(1);
    let text = text(&records);
    let line = text.lines().find(|line| line.starts_with("hopeless  ")).expect("its line");
    assert!(line.ends_with("a defect: x.go:1"), "{line}");
}

#[test]
fn html_escapes() {
    let html = html::html(&records());
    assert!(html.contains("a &lt;limit&gt; &amp; more"));
    assert!(html.contains("expected &quot;1&quot;"));
    assert!(!html.contains("<limit>"));
}

#[test]
fn markdown_escapes() {
    let markdown = markdown::markdown(&records());
    assert!(markdown.contains(r"a \<limit> & more"), "{markdown}");
    assert!(markdown.contains("| good | passed, 1 ok, 0 not ok, 4 skipped, 1.2 s |"), "{markdown}");
}

#[test]
fn junit_counts_the_hopeless_as_skipped() {
    let xml = junit(&records());
    assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{xml}");
    assert!(xml.contains("<skipped message=\"a defect: x.go:1\"/>"), "{xml}");
}

#[test]
fn a_report_of_another_kind_is_refused() {
    let error = write(&records(), Path::new("/tmp/report.pdf")).expect_err("no such kind");
    assert_eq!(error.to_string(), "/tmp/report.pdf: a report ends in .html or .md");
}
