//! The report in the XML that continuous integration reads (JUnit's).

use super::{Column, columns, reason};
use crate::suite::knowledge::Expected;
use crate::suite::record::{ProgramRecord, Record};
use crate::suite::verdict::Verdict;

/// One test suite for each column. A program that no runtime can pass counts as
/// skipped, with the reason.
pub fn junit(records: &[Record]) -> String {
    let suites: String = columns(records).iter().map(suite).collect();
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n{suites}</testsuites>\n")
}

fn suite(column: &Column<'_>) -> String {
    let programs = &column.runtime.programs;
    let count = |wanted: fn(&ProgramRecord) -> bool| programs.iter().filter(|program| wanted(program)).count();
    let seconds: f64 = programs.iter().map(|program| program.seconds).sum();
    let cases: String = programs.iter().map(|program| case(&column.title(), program)).collect();
    format!(
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">\n{cases}</testsuite>\n",
        escape(&column.title()),
        programs.len(),
        count(is_failure),
        count(is_skip),
    )
}

fn is_foreseen(program: &ProgramRecord) -> bool {
    matches!(program.known, Some(Expected::Never(_) | Expected::Luck(_) | Expected::Lacks(_)))
}

fn is_failure(program: &ProgramRecord) -> bool {
    program.verdict == Verdict::Failed && !is_foreseen(program)
}

fn is_skip(program: &ProgramRecord) -> bool {
    program.verdict != Verdict::Passed && !is_failure(program)
}

fn case(suite: &str, program: &ProgramRecord) -> String {
    let body = if is_failure(program) {
        let errors = program
            .failures
            .iter()
            .map(|failure| format!("{}: {}\n", failure.description, failure.error.as_deref().unwrap_or_default()));
        let text = errors.collect::<String>() + &program.stderr;
        format!("<failure message=\"{}\">{}</failure>", escape(&program.reasons.join("; ")), escape(&text))
    } else if is_skip(program) {
        format!("<skipped message=\"{}\"/>", escape(&reason(program)))
    } else {
        String::new()
    };
    format!(
        "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">{body}</testcase>\n",
        escape(suite),
        escape(&program.name),
        program.seconds
    )
}

/// XML has no way to write most control characters at all.
fn escape(text: &str) -> String {
    let plain = text.replace(|c: char| c.is_control() && c != '\n' && c != '\t', "?");
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
