//! The report on the terminal.

use std::fmt::Write;

use super::{Column, circumstances, columns, names, reason, shown, skips};
use crate::suite::record::{ProgramRecord, Record};
use crate::suite::verdict::Verdict;

/// The widest a reason gets in the table; it stands whole below it.
const REASON: usize = 90;

/// How many reasons of skipped points are shown.
const SKIPS: usize = 8;

/// A table of every program, what failed and why, and the counts.
pub fn text(records: &[Record]) -> String {
    let columns = columns(records);
    let mut out = String::new();
    details(&mut out, &columns);
    table(&mut out, &columns);
    for record in records {
        line(&mut out, format_args!("{}", circumstances(record)));
    }
    for column in &columns {
        line(&mut out, format_args!("{} ({}): {}", column.title(), column.runtime.version, column.summary()));
        let skips = skips(column);
        for (reason, count) in skips.iter().take(SKIPS) {
            line(&mut out, format_args!("    {count:4} points skipped: {reason}"));
        }
        let rest: usize = skips.iter().skip(SKIPS).map(|(_, count)| count).sum();
        if rest > 0 {
            let reasons = skips.len() - SKIPS;
            line(&mut out, format_args!("    {rest:4} points skipped for {reasons} other reasons, see --report"));
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    writeln!(out, "{text}").ok();
}

fn table(out: &mut String, columns: &[Column<'_>]) {
    let names = names(columns);
    let head = "ok/not ok/skipped points";
    let width =
        names.iter().map(|name| name.len()).max().unwrap_or(0).max(if columns.len() > 1 { head.len() } else { 0 });
    if let [column] = columns {
        let head =
            format!("{:width$}  {:10}  {:>4} {:>6} {:>4} {:>7}", "", column.title(), "ok", "not ok", "skip", "s");
        line(out, format_args!("{head}"));
        for program in &column.runtime.programs {
            let cell = long_cell(program);
            line(out, format_args!("{}", format!("{:width$}  {cell}", program.name).trim_end()));
        }
    } else {
        let titles: Vec<String> = columns.iter().map(Column::title).collect();
        let widths: Vec<usize> = titles.iter().map(|title| title.len().max(22)).collect();
        let row = |first: &str, cells: Vec<String>| {
            let cells: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{first:width$}  {}", cells.join("  ")).trim_end().to_owned()
        };
        line(out, format_args!("{}", row(head, titles.clone())));
        for name in names {
            let cells = columns.iter().map(|column| column.program(name).map_or(String::new(), short_cell)).collect();
            line(out, format_args!("{}", row(name, cells)));
        }
    }
    line(out, format_args!(""));
}

fn long_cell(program: &ProgramRecord) -> String {
    let points = program.points;
    let mut text = reason(program);
    if program.verdict == Verdict::Passed {
        text = if program.tries > 1 { format!("in {} tries", program.tries) } else { String::new() };
    }
    if text.chars().count() > REASON {
        text = text.chars().take(REASON).chain("...".chars()).collect();
    }
    format!(
        "{:10}  {:4} {:6} {:4} {:7.1}  {text}{}",
        program.verdict.word(),
        points.ok,
        points.not_ok,
        points.skipped,
        program.seconds,
        if program.leaks.is_empty() { "" } else { " [left things behind]" },
    )
}

fn short_cell(program: &ProgramRecord) -> String {
    let points = program.points;
    let leaks = if program.leaks.is_empty() { "" } else { " leaks" };
    format!("{} {}/{}/{}{leaks}", program.verdict.word(), points.ok, points.not_ok, points.skipped)
}

fn details(out: &mut String, columns: &[Column<'_>]) {
    for column in columns {
        for program in &column.runtime.programs {
            let is_quiet = program.verdict == Verdict::Passed && program.leaks.is_empty() && program.left.is_empty();
            if !is_quiet {
                detail(out, &column.title(), program);
            }
        }
    }
}

fn detail(out: &mut String, title: &str, program: &ProgramRecord) {
    let reasons = program.reasons.join("; ");
    line(out, format_args!("{}, {title}: {} {reasons}", program.name, program.verdict.word()));
    let (failures, hidden) = shown(program);
    for (failure, count) in failures {
        let number = failure.number.map(|number| format!("not ok {number} - ")).unwrap_or_default();
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        line(out, format_args!("    {number}{}{times}", failure.description));
        for text in failure.error.iter().flat_map(|error| error.lines()).filter(|text| !text.trim().is_empty()) {
            line(out, format_args!("        {text}"));
        }
        if let Some(reference) = &failure.reference {
            line(out, format_args!("        {reference}"));
        }
    }
    if hidden > 0 {
        line(out, format_args!("    and {hidden} others"));
    }
    if program.failures.is_empty() && program.verdict == Verdict::Failed {
        program.stderr.lines().for_each(|text| line(out, format_args!("    {text}")));
    }
    for id in &program.left {
        line(out, format_args!("    the program did not delete container {id}"));
    }
    for leak in &program.leaks {
        line(out, format_args!("    left behind: {leak}"));
    }
    if program.verdict != Verdict::Passed {
        if reason(program) != reasons {
            line(out, format_args!("    why: {}", reason(program)));
        }
        if let Some(spec) = &program.spec {
            line(out, format_args!("    the specification: {spec}"));
        }
    }
    line(out, format_args!(""));
}
