//! Reports for people: on the terminal, as Markdown, as HTML; and JUnit's XML.
//!
//! Not here: the report for machines, which is [`super::record`] as JSON.

mod html;
mod junit;
mod markdown;
mod text;

use std::path::Path;

use super::Error;
use super::knowledge::Expected;
use super::record::{ProgramRecord, Record, RuntimeRecord};
use super::verdict::{Failure, Verdict};

pub use junit::junit;
pub use text::text;

/// How many failures of a program a report shows.
const SHOWN: usize = 8;

/// Writes a report of the kind that the file's ending names.
///
/// # Errors
/// If the ending is another or the file cannot be written.
pub fn write(records: &[Record], path: &Path) -> Result<(), Error> {
    let report = match path.extension().and_then(|ending| ending.to_str()) {
        Some("html") => html::html(records),
        Some("md") => markdown::markdown(records),
        _ => return Err(Error::Usage(format!("{}: a report ends in .html or .md", path.display()))),
    };
    std::fs::write(path, report).map_err(Error::file("write", path))
}

/// One column of a table: a runtime in a setting.
struct Column<'a> {
    record: &'a Record,
    runtime: &'a RuntimeRecord,
}

fn columns(records: &[Record]) -> Vec<Column<'_>> {
    let all = records.iter().flat_map(|record| record.runtimes.iter().map(move |runtime| (record, runtime)));
    all.map(|(record, runtime)| Column { record, runtime }).collect()
}

/// The names of all programs, sorted.
fn names<'a>(columns: &[Column<'a>]) -> Vec<&'a str> {
    let all = columns.iter().flat_map(|column| &column.runtime.programs);
    let names: std::collections::BTreeSet<&str> = all.map(|program| program.name.as_str()).collect();
    names.into_iter().collect()
}

impl<'a> Column<'a> {
    fn program(&self, name: &str) -> Option<&'a ProgramRecord> {
        self.runtime.programs.iter().find(|program| program.name == name)
    }

    /// `proa on host`.
    fn title(&self) -> String {
        format!("{} on {}", self.runtime.name, self.record.setting)
    }

    /// The column's counts in one line.
    fn summary(&self) -> String {
        let programs = &self.runtime.programs;
        let with = |verdict| programs.iter().filter(|program| program.verdict == verdict).count();
        let sum = |of: fn(&ProgramRecord) -> usize| programs.iter().map(of).sum::<usize>();
        let seconds: f64 = programs.iter().map(|program| program.seconds).sum();
        format!(
            "{} programs: {} passed, {} failed, {} skipped, {} no verdict; points: {} ok, {} not ok, {} skipped; {:.1} s",
            programs.len(),
            with(Verdict::Passed),
            with(Verdict::Failed),
            with(Verdict::Skipped),
            with(Verdict::NoVerdict),
            sum(|program| program.points.ok),
            sum(|program| program.points.not_ok),
            sum(|program| program.points.skipped),
            seconds,
        )
    }
}

/// Where and when a record was made.
fn circumstances(record: &Record) -> String {
    format!(
        "{}: Linux {}, {} processors, {}, suite {}",
        record.setting,
        record.kernel,
        record.processors,
        record.day(),
        record.suite
    )
}

/// The reason to show for a program that did not pass: what is known about it,
/// else what the run said.
fn reason(program: &ProgramRecord) -> String {
    match &program.known {
        Some(Expected::Never(reason) | Expected::Luck(reason) | Expected::Lacks(reason)) => reason.clone(),
        _ => program.reasons.join("; "),
    }
}

/// The failures to show: each description once, with how often it failed.
fn shown(program: &ProgramRecord) -> (Vec<(&Failure, usize)>, usize) {
    let mut distinct: Vec<(&Failure, usize)> = Vec::new();
    for failure in &program.failures {
        match distinct.iter_mut().find(|(known, _)| known.description == failure.description) {
            Some((_, count)) => *count += 1,
            None => distinct.push((failure, 1)),
        }
    }
    let hidden = distinct.len().saturating_sub(SHOWN);
    distinct.truncate(SHOWN);
    (distinct, hidden)
}

/// The reasons of skipped points over all programs of a column, the most frequent first.
fn skips(column: &Column<'_>) -> Vec<(String, usize)> {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for (reason, count) in column.runtime.programs.iter().flat_map(|program| &program.skips) {
        *counts.entry(reason).or_default() += count;
    }
    let mut sorted: Vec<(String, usize)> =
        counts.into_iter().map(|(reason, count)| (reason.to_owned(), count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}

#[cfg(test)]
mod tests;
