//! The report as Markdown.

use super::{Column, circumstances, columns, names, reason, shown, skips};
use crate::suite::record::{ProgramRecord, Record};
use crate::suite::verdict::Verdict;

/// A table of every program in every column, then what did not pass and why.
pub(super) fn markdown(records: &[Record]) -> String {
    let columns = columns(records);
    let mut lines = vec!["# OCI validation suite".to_owned(), String::new()];
    lines.extend(records.iter().map(|record| format!("- {}", escape(&circumstances(record)))));
    lines.extend(columns.iter().map(|column| {
        format!("- {} ({}): {}", escape(&column.title()), escape(&column.runtime.version), column.summary())
    }));
    lines.push(String::new());
    lines.extend(table(&columns));
    lines.push(String::new());
    for column in &columns {
        lines.extend(section(column));
    }
    lines.join("\n") + "\n"
}

fn table(columns: &[Column<'_>]) -> Vec<String> {
    let row = |first: &str, cells: Vec<String>| format!("| {first} | {} |", cells.join(" | "));
    let mut lines = vec![
        row("program", columns.iter().map(|column| escape(&column.title())).collect()),
        row("---", columns.iter().map(|_| "---".to_owned()).collect()),
    ];
    lines.extend(names(columns).into_iter().map(|name| {
        row(name, columns.iter().map(|column| column.program(name).map_or(String::new(), cell)).collect())
    }));
    lines
}

fn cell(program: &ProgramRecord) -> String {
    let points = program.points;
    let word = match program.verdict {
        Verdict::Passed => "passed".to_owned(),
        other => format!("**{}**", other.word()),
    };
    format!("{word}, {} ok, {} not ok, {} skipped, {:.1} s", points.ok, points.not_ok, points.skipped, program.seconds)
}

fn section(column: &Column<'_>) -> Vec<String> {
    let mut lines = vec![format!("## {}", escape(&column.title())), String::new()];
    for program in &column.runtime.programs {
        if program.verdict != Verdict::Passed || !program.leaks.is_empty() {
            lines.extend(entry(program));
        }
    }
    let skips = skips(column);
    if !skips.is_empty() {
        lines.push("Skipped points:".to_owned());
        lines.push(String::new());
        lines.extend(skips.iter().map(|(reason, count)| format!("- {count}: {}", escape(reason))));
    }
    lines.push(String::new());
    lines
}

fn entry(program: &ProgramRecord) -> Vec<String> {
    let mut lines = vec![format!("### {}: {}", program.name, program.verdict.word()), String::new()];
    let run = program.reasons.join("; ");
    if program.verdict != Verdict::Passed {
        lines.push(format!("{}.", escape(&reason(program))));
        if reason(program) != run {
            lines.push(format!("Here: {}.", escape(&run)));
        }
        lines.extend(program.spec.as_ref().map(|spec| format!("The specification: {}", escape(spec))));
        lines.push(String::new());
    }
    let (failures, hidden) = shown(program);
    for (failure, count) in failures {
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        lines.push(format!("- {}{times}", escape(&failure.description)));
        lines.extend(failure.error.iter().map(|error| format!("  - {}", escape(&error.replace('\n', "; ")))));
        lines.extend(failure.reference.iter().map(|reference| format!("  - <{reference}>")));
    }
    if hidden > 0 {
        lines.push(format!("- and {hidden} others"));
    }
    lines.extend(program.leaks.iter().map(|leak| format!("- left behind: {}", escape(leak))));
    if program.failures.is_empty() && program.verdict == Verdict::Failed && !program.stderr.is_empty() {
        lines.extend(program.stderr.lines().map(|line| format!("    {line}")));
    }
    lines.push(String::new());
    lines
}

/// What Markdown would take for markup.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => escaped.push(' '),
            '|' | '*' | '_' | '<' | '`' | '\\' | '[' | '#' => escaped.extend(['\\', c]),
            _ => escaped.push(c),
        }
    }
    escaped
}
