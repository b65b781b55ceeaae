//! Compares what proa did with what is expected: the list of what passes only
//! grows.
//!
//! Not here: other runtimes, of which nothing is expected.

use super::knowledge::Expected;
use super::record::{ProgramRecord, Record};
use super::verdict::Verdict;

/// The runtime that the expectations are about.
pub const SUBJECT: &str = "proa";

/// What is not as expected, each as one line.
pub fn check(record: &Record) -> Vec<String> {
    let ours = record.runtimes.iter().filter(|runtime| runtime.name == SUBJECT);
    let programs = ours.flat_map(|runtime| &runtime.programs);
    programs.flat_map(|program| differences(&record.setting, program)).collect()
}

fn differences(setting: &str, program: &ProgramRecord) -> Vec<String> {
    let name = &program.name;
    let why = program.reasons.join("; ");
    let passes = program.verdict == Verdict::Passed;
    let mut found = Vec::new();
    match (&program.known, passes) {
        (Some(Expected::Pass), true)
        | (Some(Expected::Never(_)), false)
        | (Some(Expected::Luck(_) | Expected::Lacks(_)), _) => {}
        (Some(Expected::Pass), false) => {
            found.push(format!("{name} in {setting}: is expected to pass, but: {} ({why})", program.verdict.word()));
        }
        (Some(Expected::Never(reason)), true) => found.push(format!(
            "{name} in {setting}: passes, although it is listed as one that cannot: move {setting} to its line `pass` \
             ({reason})"
        )),
        (None, true) => {
            found.push(format!("{name} in {setting}: passes, but is not listed: add {setting} to its line `pass`"));
        }
        (None, false) => found.push(format!("{name} in {setting}: does not pass, and no reason is listed ({why})")),
    }
    found.extend(program.leaks.iter().map(|leak| format!("{name} in {setting}: left behind: {leak}")));
    found
}

#[cfg(test)]
mod tests {
    use super::super::verdict::Points;
    use super::*;
    use crate::suite::record::RuntimeRecord;

    fn record(runtime: &str, verdict: Verdict, known: Option<Expected>, leaks: &[&str]) -> Record {
        let program = ProgramRecord {
            name: "kill".into(),
            verdict,
            reasons: vec!["exit status 1".into()],
            tries: 1,
            seconds: 1.0,
            points: Points::default(),
            skips: Vec::new(),
            failures: Vec::new(),
            left: Vec::new(),
            leaks: leaks.iter().map(|leak| (*leak).to_owned()).collect(),
            stderr: String::new(),
            known,
            spec: None,
        };
        let runtime = RuntimeRecord {
            name: runtime.into(),
            path: format!("/{runtime}"),
            version: String::new(),
            programs: vec![program],
        };
        Record {
            setting: "host".into(),
            suite: String::new(),
            kernel: String::new(),
            processors: 1,
            started: 0,
            runtimes: vec![runtime],
        }
    }

    fn never() -> Option<Expected> {
        Some(Expected::Never("a defect".into()))
    }

    #[test]
    fn as_expected() {
        assert!(check(&record("proa", Verdict::Passed, Some(Expected::Pass), &[])).is_empty());
        assert!(check(&record("proa", Verdict::Failed, never(), &[])).is_empty());
        assert!(check(&record("proa", Verdict::NoVerdict, never(), &[])).is_empty());
        for verdict in [Verdict::Passed, Verdict::Failed] {
            assert!(check(&record("proa", verdict, Some(Expected::Luck("fast".into())), &[])).is_empty());
            assert!(check(&record("proa", verdict, Some(Expected::Lacks("hugetlb".into())), &[])).is_empty());
        }
    }

    #[test]
    fn what_passed_and_no_longer_does() {
        for verdict in [Verdict::Failed, Verdict::Skipped, Verdict::NoVerdict] {
            let found = check(&record("proa", verdict, Some(Expected::Pass), &[]));
            assert!(found[0].contains("is expected to pass") && found[0].contains("exit status 1"), "{found:?}");
        }
    }

    #[test]
    fn what_passes_and_is_listed_as_impossible_or_not_at_all() {
        let found = check(&record("proa", Verdict::Passed, never(), &[]));
        assert!(found[0].contains("move host to its line `pass`"), "{found:?}");
        assert!(check(&record("proa", Verdict::Passed, None, &[]))[0].contains("is not listed"));
    }

    #[test]
    fn what_does_not_pass_without_a_reason() {
        assert!(check(&record("proa", Verdict::Failed, None, &[]))[0].contains("no reason is listed"));
    }

    #[test]
    fn a_leak_is_never_expected() {
        let found = check(&record("proa", Verdict::Passed, Some(Expected::Pass), &["process 7 (sleep)"]));
        assert_eq!(found, ["kill in host: left behind: process 7 (sleep)"]);
    }

    #[test]
    fn nothing_is_expected_of_another_runtime() {
        assert!(check(&record("runc", Verdict::Failed, Some(Expected::Pass), &["process 7"])).is_empty());
    }
}
