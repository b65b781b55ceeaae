//! What is expected of each test of critest, and what came of it.

use std::collections::BTreeMap;

use serde_json::Value;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed,
    Skipped,
}

/// A test that has run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// Why it failed or skipped itself.
    pub(crate) message: String,
    pub(crate) seconds: f64,
}

/// The table: how many tests there are, and those of them that do not pass, with how they end.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    tests: usize,
    other: BTreeMap<String, Outcome>,
}

impl Expected {
    /// Reads what the table says of the emulated machine, or of the host; see the head of conformance/cri/expected.
    pub(crate) fn parse(text: &str, in_machine: bool) -> Self {
        let mut expected = Self::default();
        let mut name = None;
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some(count) = line.strip_prefix("tests: ") {
                expected.tests = count.parse().expect("a number of tests");
            } else if let Some(rest) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
                let name: String = name.take().unwrap_or_else(|| panic!("a reason without a test: {line}"));
                let (rest, applies) = match (rest.strip_prefix("on the host "), rest.strip_prefix("in the machine ")) {
                    (Some(rest), _) => (rest, !in_machine),
                    (_, Some(rest)) => (rest, in_machine),
                    _ => (rest, true),
                };
                let (word, reason) = rest.split_once(" - ").unwrap_or_else(|| panic!("no reason: {line}"));
                let outcome = match word {
                    "fails" => Outcome::Failed,
                    "skips itself" => Outcome::Skipped,
                    _ => panic!("neither fails nor skips itself: {line}"),
                };
                assert!(reason.len() > 10, "no reason: {line}");
                if applies {
                    assert!(expected.other.insert(name, outcome).is_none(), "twice: {line}");
                }
            } else if !line.starts_with(' ') {
                assert!(name.is_none(), "no reason: {name:?}");
                name = Some(line.to_owned());
            }
        }
        assert!(name.is_none(), "no reason: {name:?}");
        expected
    }

    /// Where `ran` is otherwise; all tests have to be there unless only a part was asked for.
    pub(crate) fn differences(&self, ran: &[Ran], all: bool) -> Vec<String> {
        let mut differences = Vec::new();
        for test in ran {
            let expected = self.other.get(&test.name).copied().unwrap_or(Outcome::Passed);
            if test.outcome != expected {
                let Ran { name, outcome, message, .. } = test;
                differences.push(format!("{name}: {outcome:?}, not {expected:?}\n    {message}"));
            }
        }
        if all {
            if ran.len() != self.tests {
                differences.push(format!("{} tests have run, not {}", ran.len(), self.tests));
            }
            let gone = self.other.keys().filter(|name| !ran.iter().any(|test| test.name == **name));
            differences.extend(gone.map(|name| format!("{name}: there is no such test")));
        }
        differences
    }
}

/// The tests that have run, from ginkgo's report in JSON. Benchmarks and what a filter leaves out have not.
pub(crate) fn read(report: &[u8]) -> Vec<Ran> {
    let report: Value = serde_json::from_slice(report).expect("a report");
    let specs = report[0]["SpecReports"].as_array().expect("a report");
    let mut ran: Vec<Ran> = specs.iter().filter_map(ran_test).collect();
    ran.sort_by(|a, b| a.name.cmp(&b.name));
    ran
}

fn ran_test(spec: &Value) -> Option<Ran> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if spec["LeafNodeType"] != "It" {
        // A set-up of the whole that fails would otherwise be no failure of any test.
        assert!(spec["State"] == "passed" || spec["State"].is_null(), "{}: {}", spec["LeafNodeType"], spec["Failure"]);
        return None;
    }
    // The rest of a long one is a structure of Go's.
    let message: String = text(&spec["Failure"]["Message"]).replace('\n', " ").chars().take(500).collect();
    let outcome = match spec["State"].as_str()? {
        "passed" => Outcome::Passed,
        // Left out by a filter, without a word of its own.
        "skipped" if message.is_empty() => return None,
        "skipped" => Outcome::Skipped,
        _ => Outcome::Failed,
    };
    let containers = spec["ContainerHierarchyTexts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut words: Vec<String> = containers.iter().map(text).collect();
    words.push(text(&spec["LeafNodeText"]));
    let seconds = spec["RunTime"].as_f64().unwrap_or_default() / 1e9;
    Some(Ran { name: words.join(" "), outcome, message, seconds })
}
