//! What the driver found, in the form that is written to a file for machines,
//! read back, and made into reports.
//!
//! Not here: how any of it was found.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;
use super::knowledge::{Expected, Knowledge, Program, Setting};
use super::run::Run;
use super::verdict::{Failure, Judgement, Points, Verdict};

/// How much of a program's standard error is kept, in bytes, from its end.
const STDERR_KEPT: usize = 4000;

/// One call of the driver: one setting, one or more runtimes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// The setting's name.
    pub setting: String,
    /// The suite's version.
    pub suite: String,
    /// The kernel's release.
    pub kernel: String,
    /// The processors that the driver may use.
    pub processors: usize,
    /// When it began, in seconds since 1970.
    pub started: u64,
    /// What was run, in the order of the command line.
    pub runtimes: Vec<RuntimeRecord>,
}

/// One runtime.
#[derive(Debug, Serialize, Deserialize)]
pub struct RuntimeRecord {
    /// The name of its file.
    pub name: String,
    /// Where it is.
    pub path: String,
    /// The first line of `--version`.
    pub version: String,
    /// The programs, by name.
    pub programs: Vec<ProgramRecord>,
}

/// One program.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgramRecord {
    /// Its name.
    pub name: String,
    /// What it says.
    pub verdict: Verdict,
    /// Why it did not pass.
    pub reasons: Vec<String>,
    /// How often it was run; all but the last did not pass.
    pub tries: usize,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Its points, counted.
    pub points: Points,
    /// The reasons of skipped points, and how many had each.
    pub skips: Vec<(String, usize)>,
    /// What failed.
    pub failures: Vec<Failure>,
    /// Containers that it did not delete.
    pub left: Vec<String>,
    /// What the runtime did not take away.
    pub leaks: Vec<String>,
    /// The end of its standard error.
    pub stderr: String,
    /// What is known: why no runtime passes it here, or who is faster.
    pub known: Option<Expected>,
    /// What the specification says where the program says something else.
    pub spec: Option<String>,
}

impl Record {
    /// Reads what [`Record::write`] wrote.
    ///
    /// # Errors
    /// If it cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        serde_json::from_str(&text).map_err(|source| Error::Json { path: path.display().to_string(), source })
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let json = |source| Error::Json { path: path.display().to_string(), source };
        let text = serde_json::to_string_pretty(self).map_err(json)?;
        std::fs::write(path, text + "\n").map_err(Error::file("write", path))
    }

    /// Adds to each program what is known about it in this setting.
    pub fn explain(&mut self, knowledge: &Knowledge) {
        let Some(setting) = Setting::ALL.into_iter().find(|setting| setting.name() == self.setting) else { return };
        for program in self.runtimes.iter_mut().flat_map(|runtime| &mut runtime.programs) {
            if let Some(known) = knowledge.programs.get(&program.name) {
                program.explain(known, setting);
            }
        }
    }

    /// The day it began, as `2026-01-31`.
    pub fn day(&self) -> String {
        let (year, month, day) = civil(self.started / 86_400);
        format!("{year}-{month:02}-{day:02}")
    }
}

impl ProgramRecord {
    /// Puts together what a run of the program `name` gave.
    pub fn new(name: &str, run: Run, judgement: Judgement) -> Self {
        Self {
            name: name.to_owned(),
            verdict: judgement.verdict,
            reasons: judgement.reasons,
            tries: 1,
            seconds: (run.time.as_secs_f64() * 1000.0).round() / 1000.0,
            points: judgement.points,
            skips: judgement.skips,
            failures: judgement.failures,
            left: run.left.containers,
            leaks: run.left.leaks,
            stderr: tail(&run.stderr),
            known: None,
            spec: None,
        }
    }

    /// Adds what is known about the program in `setting`, and takes away what it
    /// leaves behind on any runtime.
    pub fn explain(&mut self, program: &Program, setting: Setting) {
        self.known = program.expected(setting).cloned();
        self.spec.clone_from(&program.spec);
        self.leaks.retain(|leak| !program.leaves.iter().any(|(word, _)| leak.contains(word.as_str())));
    }
}

fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(STDERR_KEPT);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].trim_end().to_owned()
}

/// Year, month and day of a number of days since 1970 (the Gregorian calendar,
/// counted from a first of March, so that the leap day is a year's last).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
        assert_eq!(civil(19_783), (2024, 3, 1));
        assert_eq!(civil(20_819), (2027, 1, 1));
    }
}
