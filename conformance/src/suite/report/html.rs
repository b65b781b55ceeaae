//! The report as one HTML file that needs no other.

use super::{Column, circumstances, columns, names, reason, shown, skips};
use crate::suite::record::{ProgramRecord, Record};
use crate::suite::verdict::Verdict;

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#222}\
table{border-collapse:collapse}th,td{text-align:left;padding:.15em .8em;border-bottom:1px solid #ddd;vertical-align:top}\
thead th{position:sticky;top:0;background:#fff}.passed{color:#17692f}.failed{color:#a61b1b;font-weight:600}\
.skipped,.no-verdict{color:#7a5b00}.points{color:#777;font-size:85%}pre{background:#f5f5f5;padding:.5em;white-space:pre-wrap}\
details{margin:.4em 0}summary{cursor:pointer}";

/// A table of every program in every column, then what did not pass and why.
pub(super) fn html(records: &[Record]) -> String {
    let columns = columns(records);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>OCI validation suite</title>\n\
         <style>{STYLE}</style>\n<h1>OCI validation suite</h1>\n<ul>\n"
    );
    for record in records {
        out += &format!("<li>{}</li>\n", escape(&circumstances(record)));
    }
    for column in &columns {
        let version = escape(&column.runtime.version);
        out += &format!("<li><b>{}</b> ({version}): {}</li>\n", escape(&column.title()), column.summary());
    }
    out += "</ul>\n";
    out += &table(&columns);
    for column in &columns {
        out += &section(column);
    }
    out + "</html>\n"
}

fn table(columns: &[Column<'_>]) -> String {
    let heads: String = columns.iter().map(|column| format!("<th>{}</th>", escape(&column.title()))).collect();
    let rows: String = names(columns)
        .into_iter()
        .map(|name| {
            let cells: String = columns.iter().map(|column| cell(column.program(name))).collect();
            format!("<tr><td>{}</td>{cells}</tr>\n", escape(name))
        })
        .collect();
    format!("<table><thead><tr><th>program</th>{heads}</tr></thead><tbody>\n{rows}</tbody></table>\n")
}

fn cell(program: Option<&ProgramRecord>) -> String {
    let Some(program) = program else { return "<td></td>".to_owned() };
    let points = program.points;
    let word = program.verdict.word();
    let why = if program.verdict == Verdict::Passed { String::new() } else { escape(&reason(program)) };
    format!(
        "<td title=\"{why}\"><span class=\"{}\">{word}</span> <span class=\"points\">{} ok, {} not ok, {} skipped, \
         {:.1} s</span></td>",
        word.replace(' ', "-"),
        points.ok,
        points.not_ok,
        points.skipped,
        program.seconds
    )
}

fn section(column: &Column<'_>) -> String {
    let mut out = format!("<h2>{}</h2>\n", escape(&column.title()));
    for program in &column.runtime.programs {
        if program.verdict != Verdict::Passed || !program.leaks.is_empty() {
            out += &entry(program);
        }
    }
    let skips = skips(column);
    if !skips.is_empty() {
        let items: String =
            skips.iter().map(|(reason, count)| format!("<li>{count}: {}</li>", escape(reason))).collect();
        out += &format!("<details><summary>Skipped points</summary><ul>{items}</ul></details>\n");
    }
    out
}

fn entry(program: &ProgramRecord) -> String {
    let word = program.verdict.word();
    let run = program.reasons.join("; ");
    let mut body = String::new();
    if reason(program) != run {
        body += &format!("<p>Here: {}</p>", escape(&run));
    }
    body.extend(program.spec.as_ref().map(|spec| format!("<p>The specification: {}</p>", escape(spec))));
    let (failures, hidden) = shown(program);
    for (failure, count) in failures {
        let times = if count > 1 { format!(" ({count} times)") } else { String::new() };
        let reference = failure.reference.iter().map(|url| format!(" <a href=\"{0}\">requirement</a>", escape(url)));
        body += &format!("<p>{}{times}{}</p>", escape(&failure.description), reference.collect::<String>());
        body.extend(failure.error.iter().map(|error| format!("<pre>{}</pre>", escape(error))));
    }
    if hidden > 0 {
        body += &format!("<p>and {hidden} others</p>");
    }
    body.extend(program.leaks.iter().map(|leak| format!("<p>left behind: {}</p>", escape(leak))));
    if program.failures.is_empty() && !program.stderr.is_empty() {
        body += &format!("<pre>{}</pre>", escape(&program.stderr));
    }
    let why = if program.verdict == Verdict::Passed { String::new() } else { escape(&reason(program)) };
    format!(
        "<details><summary><b>{}</b>: <span class=\"{}\">{word}</span>. {why}</summary>{body}</details>\n",
        escape(&program.name),
        word.replace(' ', "-")
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
