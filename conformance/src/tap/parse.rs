//! Whole documents out of lines: YAML blocks, subtests, plans that add up.

use super::line::{Line, read};
use super::{Diagnostic, Document, Plan, Point};

/// Indentation of a YAML block and of a subtest.
const BLOCK: &str = "  ";
const SUBTEST: &str = "    ";

/// Reads everything that a program printed. A program that prints a version
/// line anew begins a new document; there is always at least one.
pub fn parse(text: &str) -> Vec<Document> {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    let mut documents = Vec::new();
    let mut parser = Parser::default();
    let mut rest = lines.as_slice();
    while let Some((line, after)) = rest.split_first() {
        rest = after;
        if let (Line::Version(_), true) = (read(line), parser.has_begun) {
            documents.push(std::mem::take(&mut parser).finish());
        }
        if *line == format!("{BLOCK}---") {
            rest = parser.block(rest);
        } else if line.starts_with(SUBTEST) {
            rest = parser.subtest(line, rest);
        } else {
            parser.line(line);
        }
    }
    documents.push(parser.finish());
    documents
}

#[derive(Default)]
struct Parser {
    document: Document,
    has_begun: bool,
    strict: bool,
    /// How many points stood before the plan.
    points_before_plan: usize,
    /// What the next point has of its own.
    subtest: Option<Document>,
    last_number: usize,
}

impl Parser {
    fn line(&mut self, line: &str) {
        self.has_begun |= !line.is_empty();
        match read(line) {
            Line::Version(version) => self.document.version = Some(version),
            Line::Plan(plan) => self.plan(plan),
            Line::Point { ok, number, description, directive } => {
                let number = number.unwrap_or(self.last_number + 1);
                self.last_number = number;
                let subtest = self.subtest.take().map(Box::new);
                self.document.points.push(Point { ok, number, description, directive, subtest, ..Point::default() });
            }
            Line::BailOut(reason) => self.document.bail_out = Some(reason),
            Line::Pragma(strict) => self.strict = strict.unwrap_or(self.strict),
            Line::Comment(text) => match self.document.points.last_mut() {
                Some(point) => point.comments.push(text),
                None => self.document.comments.push(text),
            },
            Line::Other if line.is_empty() => {}
            Line::Other => self.other(line),
        }
    }

    fn plan(&mut self, plan: Plan) {
        if self.document.plan.is_some() {
            self.document.problems.push("more than one plan".to_owned());
            return;
        }
        self.points_before_plan = self.document.points.len();
        self.document.plan = Some(plan);
    }

    fn other(&mut self, line: &str) {
        if self.strict {
            self.document.problems.push(format!("a line that is no TAP: {line}"));
        }
        self.document.other.push(line.to_owned());
    }

    /// Reads a YAML block from behind its `---`; what remains is returned. What
    /// looks like a point in there is text.
    fn block<'a>(&mut self, lines: &'a [&'a str]) -> &'a [&'a str] {
        self.has_begun = true;
        let inside = |line: &&str| line.is_empty() || line.starts_with(BLOCK);
        let end = lines.iter().position(|line| *line == format!("{BLOCK}...") || !inside(line)).unwrap_or(lines.len());
        let text: Vec<&str> = lines[..end].iter().map(|line| line.strip_prefix(BLOCK).unwrap_or(line)).collect();
        self.attach(Diagnostic { text: text.join("\n") });
        match lines.get(end) {
            Some(line) if inside(line) => &lines[end + 1..],
            _ => {
                self.document.problems.push("a YAML block without an end".to_owned());
                &lines[end..]
            }
        }
    }

    fn attach(&mut self, diagnostic: Diagnostic) {
        match self.document.points.last_mut() {
            // A comment in between says that the block is about something else.
            Some(point) if point.diagnostic.is_none() && point.comments.is_empty() => {
                point.diagnostic = Some(diagnostic);
            }
            _ => self.document.detached.push(diagnostic),
        }
    }

    /// Reads the indented lines that begin with `first`.
    fn subtest<'a>(&mut self, first: &str, lines: &'a [&'a str]) -> &'a [&'a str] {
        self.has_begun = true;
        let end = lines.iter().position(|line| !line.starts_with(SUBTEST)).unwrap_or(lines.len());
        let all = std::iter::once(first).chain(lines[..end].iter().copied());
        let text: Vec<&str> = all.map(|line| line.strip_prefix(SUBTEST).unwrap_or(line)).collect();
        let mut documents = parse(&text.join("\n"));
        let is_tap = documents.iter().any(|document| document.plan.is_some() || !document.points.is_empty());
        if is_tap && self.subtest.is_none() && documents.len() == 1 {
            self.subtest = documents.pop();
        } else if is_tap {
            self.document.problems.push("several subtests before one point".to_owned());
        } else {
            text.into_iter().for_each(|line| self.other(line));
        }
        &lines[end..]
    }

    fn finish(mut self) -> Document {
        if let Some(subtest) = self.subtest.take() {
            self.document.problems.push(format!("a subtest of {} points without a point", subtest.points.len()));
        }
        let numbers = self.document.points.iter().map(|point| point.number).collect::<Vec<_>>();
        let document = &mut self.document;
        for point in &document.points {
            let below = point.subtest.iter().flat_map(|subtest| &subtest.problems);
            document
                .problems
                .extend(below.map(|problem| format!("in the subtest of point {}: {problem}", point.number)));
            // A point may not be better than what it is the sum of.
            if point.ok && point.subtest.as_ref().is_some_and(|subtest| subtest.points.iter().any(Point::is_failure)) {
                document.problems.push(format!("point {} is ok, but not its subtest", point.number));
            }
        }
        check_numbers(&numbers, document);
        if document.bail_out.is_none() {
            check_plan(&numbers, self.points_before_plan, document);
        }
        self.document
    }
}

fn check_numbers(numbers: &[usize], document: &mut Document) {
    let mut seen = std::collections::BTreeSet::new();
    for number in numbers {
        if !seen.insert(number) {
            document.problems.push(format!("point {number} more than once"));
        }
    }
}

fn check_plan(numbers: &[usize], points_before: usize, document: &mut Document) {
    let Some(plan) = &document.plan else {
        document.problems.push("no plan".to_owned());
        return;
    };
    let count = plan.count;
    if points_before != 0 && points_before != numbers.len() {
        document.problems.push("points on both sides of the plan".to_owned());
    }
    let missing: Vec<String> =
        (1..=count).filter(|number| !numbers.contains(number)).map(|number| number.to_string()).collect();
    if !missing.is_empty() {
        document.problems.push(format!("planned {count} points, missing {}", missing.join(" ")));
    }
    let beyond = numbers.iter().filter(|number| **number == 0 || **number > count).count();
    if beyond > 0 {
        document.problems.push(format!("planned {count} points, {beyond} beyond"));
    }
}
