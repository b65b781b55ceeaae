//! Reads the Test Anything Protocol, versions 12 to 14: what a test program
//! says about its points, and where what it prints does not add up.
//!
//! Not here: what a document means for the program that printed it, which is
//! decided in [`crate::suite::verdict`].

mod line;
mod parse;
#[cfg(test)]
mod tests;

pub use parse::parse;

/// One document: what stands below one `TAP version` line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// The number of the version line, which version 12 does not have.
    pub version: Option<u32>,
    /// How many points were announced.
    pub plan: Option<Plan>,
    /// The test points, in the order they were printed.
    pub points: Vec<Point>,
    /// YAML blocks that follow no point, or a point that has one already.
    pub detached: Vec<Diagnostic>,
    /// Comments before the first point, without their `#`.
    pub comments: Vec<String>,
    /// Lines that are no TAP.
    pub other: Vec<String>,
    /// The reason of `Bail out!`.
    pub bail_out: Option<String>,
    /// What does not add up, each as one sentence.
    pub problems: Vec<String>,
}

/// The line `1..N`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// How many points there are to be.
    pub count: usize,
    /// Why the whole document was skipped: `1..0 # SKIP reason`.
    pub skip: Option<String>,
}

/// A test point: `ok 1 - description`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Point {
    /// Whether the line begins with `ok`.
    pub ok: bool,
    /// Its number; that of the point before it and one, where none is given.
    pub number: usize,
    /// The text behind the number, without the directive and unescaped.
    pub description: String,
    /// What the line says about itself.
    pub directive: Option<Directive>,
    /// The YAML block that follows it.
    pub diagnostic: Option<Diagnostic>,
    /// Comments that follow it, without their `#`.
    pub comments: Vec<String>,
    /// The document that stands before it, indented by four.
    pub subtest: Option<Box<Document>>,
}

/// What a point says about itself behind a `#`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// It was not tested, for this reason.
    Skip(String),
    /// It is known not to work, for this reason.
    Todo(String),
}

/// A block between `---` and `...`, its indentation removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// The lines of the block.
    pub text: String,
}

impl Point {
    /// Whether the point counts as a failure: `not ok`, and not a TODO.
    pub fn is_failure(&self) -> bool {
        !self.ok && !matches!(self.directive, Some(Directive::Todo(_)))
    }

    /// Why the point was skipped, if it was.
    pub fn skip_reason(&self) -> Option<&str> {
        match &self.directive {
            Some(Directive::Skip(reason)) => Some(reason),
            _ => None,
        }
    }
}

impl Diagnostic {
    /// A value at the block's top level: the block is JSON, or lines `key: value`.
    pub fn field(&self, key: &str) -> Option<String> {
        if let Ok(serde_json::Value::Object(map)) = serde_json::from_str(&self.text) {
            return map.get(key).map(|value| match value {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            });
        }
        self.text.lines().find_map(|line| {
            let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
            let quoted = |quote| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
            Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(value).to_owned())
        })
    }
}
