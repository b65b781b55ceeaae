//! One line of TAP: which kind it is, and its parts.
//!
//! Not here: indentation, YAML blocks and anything that takes more than one line.

use super::{Directive, Plan};

/// What a line without indentation is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Version(u32),
    Plan(Plan),
    /// Its number may be missing.
    Point {
        ok: bool,
        number: Option<usize>,
        description: String,
        directive: Option<Directive>,
    },
    BailOut(String),
    /// `pragma +strict` and `pragma -strict` say true and false; others say nothing.
    Pragma(Option<bool>),
    Comment(String),
    Other,
}

pub(super) fn read(line: &str) -> Line {
    version(line)
        .or_else(|| plan(line))
        .or_else(|| point(line))
        .or_else(|| bail_out(line))
        .or_else(|| pragma(line))
        .or_else(|| line.strip_prefix('#').map(|text| Line::Comment(text.trim().to_owned())))
        .unwrap_or(Line::Other)
}

fn version(line: &str) -> Option<Line> {
    line.strip_prefix("TAP version ")?.trim().parse().ok().map(Line::Version)
}

fn plan(line: &str) -> Option<Line> {
    let rest = line.strip_prefix("1..")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let count = rest[..digits].parse().ok()?;
    let rest = rest[digits..].trim();
    let skip = match rest.strip_prefix('#') {
        None if rest.is_empty() => None,
        None => return None,
        Some(comment) => word(comment.trim_start(), "skip", true).map(str::to_owned),
    };
    Some(Line::Plan(Plan { count, skip }))
}

fn bail_out(line: &str) -> Option<Line> {
    let start = line.get(..9)?;
    start.eq_ignore_ascii_case("Bail out!").then(|| Line::BailOut(line[9..].trim().to_owned()))
}

fn pragma(line: &str) -> Option<Line> {
    let word = line.strip_prefix("pragma ")?.trim();
    Some(Line::Pragma(match word {
        "+strict" => Some(true),
        "-strict" => Some(false),
        _ => None,
    }))
}

fn point(line: &str) -> Option<Line> {
    let (ok, rest) = match line.strip_prefix("not ok") {
        Some(rest) => (false, rest),
        None => (true, line.strip_prefix("ok")?),
    };
    // "okay" and "ok: x" are no points.
    if !rest.is_empty() && !rest.starts_with([' ', '\t']) {
        return None;
    }
    let (number, rest) = leading_number(rest.trim());
    let rest = match rest.strip_prefix('-') {
        Some(after) if after.is_empty() || after.starts_with(' ') => after.trim_start(),
        _ => rest,
    };
    let (description, directive) = split_directive(rest);
    Some(Line::Point { ok, number, description: unescape(description.trim()), directive })
}

/// A number that ends at a blank, at the end or at a directive.
fn leading_number(text: &str) -> (Option<usize>, &str) {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    if !rest.is_empty() && !rest.starts_with([' ', '\t', '#']) {
        return (None, text);
    }
    match number.parse() {
        Ok(number) => (Some(number), rest.trim_start()),
        Err(_) => (None, text),
    }
}

/// Finds the directive behind the first `#` that is not escaped and is followed
/// by its word; any other `#` belongs to the description.
fn split_directive(text: &str) -> (&str, Option<Directive>) {
    let mut escaped = false;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        if c == '#' && !escaped && before.is_whitespace() {
            let rest = text[at + 1..].trim_start();
            if let Some(reason) = word(rest, "skip", true) {
                return (&text[..at], Some(Directive::Skip(unescape(reason))));
            }
            if let Some(reason) = word(rest, "todo", false) {
                return (&text[..at], Some(Directive::Todo(unescape(reason))));
            }
        }
        escaped = c == '\\' && !escaped;
        before = c;
    }
    (text, None)
}

/// What follows `word`, in any case, at the start of `text`. `SKIPPED:` counts as
/// `SKIP` where the word may go on.
fn word<'a>(text: &'a str, word: &str, may_go_on: bool) -> Option<&'a str> {
    if !text.get(..word.len())?.eq_ignore_ascii_case(word) {
        return None;
    }
    let rest = &text[word.len()..];
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let goes_on = rest[..end].chars().any(char::is_alphanumeric);
    (may_go_on || !goes_on).then(|| rest[end..].trim())
}

/// `\#` and `\\` stand for `#` and `\`.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some(next @ ('#' | '\\'))) => {
                plain.push(*next);
                chars.next();
            }
            _ => plain.push(c),
        }
    }
    plain
}
