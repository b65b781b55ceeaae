//! Runs the programs that were asked for, against each runtime, one after another.
//!
//! Not here: the command line, see `bin/suite.rs`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Error;
use super::knowledge::{Expected, Knowledge, Program, Setting};
use super::place::Place;
use super::record::{ProgramRecord, Record, RuntimeRecord};
use super::run::run;
use super::verdict::{Verdict, judge};

/// How often a program is run whose outcome depends on who is faster, until it passes.
const TRIES: usize = 3;

/// What is to be done.
#[derive(Debug)]
pub struct Driver<'a> {
    /// The folder that `conformance/suite/build` made.
    pub suite: &'a Path,
    /// What is known about the programs.
    pub knowledge: &'a Knowledge,
    /// Where this runs.
    pub setting: Setting,
    /// How long a program may take.
    pub limit: Duration,
}

/// The names of the suite's programs that hold one of the `filters`; all
/// without any. A filter that is a whole name stands for that program alone.
///
/// # Errors
/// If the folder is none of the suite, or nothing is left.
pub fn programs(suite: &Path, filters: &[String]) -> Result<Vec<String>, Error> {
    let dir = suite.join("programs");
    let entries = std::fs::read_dir(&dir).map_err(Error::file("list", &dir))?;
    let mut all: Vec<String> = entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()
        .map_err(Error::file("list", &dir))?;
    all.sort();
    let matches = |name: &String| {
        filters.iter().any(|filter| if all.contains(filter) { name == filter } else { name.contains(filter.as_str()) })
    };
    let chosen: Vec<String> = all.iter().filter(|name| filters.is_empty() || matches(name)).cloned().collect();
    if chosen.is_empty() {
        return Err(Error::Usage(format!("no program of the suite is called like {}", filters.join(" or "))));
    }
    Ok(chosen)
}

impl Driver<'_> {
    /// Runs `programs` against each of the `runtimes`; `progress` hears of each.
    ///
    /// # Errors
    /// If the machine does not allow for it, or the suite and what is known about
    /// it do not belong together.
    pub fn run(
        &self,
        runtimes: &[PathBuf],
        programs: &[String],
        mut progress: impl FnMut(&str, &ProgramRecord),
    ) -> Result<Record, Error> {
        self.check_knowledge()?;
        let place = Place::new(self.suite)?;
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut records = Vec::new();
        for path in runtimes {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let version = version(path)?;
            let mut record = RuntimeRecord { name, path: path.display().to_string(), version, programs: Vec::new() };
            for program in programs {
                let found = self.one(&place, path, program)?;
                progress(&record.name, &found);
                record.programs.push(found);
            }
            records.push(record);
        }
        let suite = self.suite.join("version");
        Ok(Record {
            setting: self.setting.name().to_owned(),
            suite: std::fs::read_to_string(&suite).map_err(Error::file("read", &suite))?.trim().to_owned(),
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            started,
            runtimes: records,
        })
    }

    fn one(&self, place: &Place, runtime: &Path, name: &str) -> Result<ProgramRecord, Error> {
        let unknown = Program::default();
        let program = self.knowledge.programs.get(name).unwrap_or(&unknown);
        let tries = match program.expected(self.setting) {
            Some(Expected::Luck(_)) => TRIES,
            _ if program.race.is_some() => TRIES,
            _ => 1,
        };
        let mut leaks = Vec::new();
        let mut made = 1;
        loop {
            let run = run(place, &self.suite.join("programs").join(name), runtime, self.limit)?;
            let judgement = judge(&run, program);
            let mut record = ProgramRecord::new(name, run, judgement);
            leaks.append(&mut record.leaks);
            if record.verdict == Verdict::Passed || made == tries {
                record.tries = made;
                record.leaks = leaks;
                record.explain(program, self.setting);
                return Ok(record);
            }
            made += 1;
        }
    }

    /// A program of which nothing is known, or of which something is known but
    /// which is gone, says that the pin was changed alone.
    fn check_knowledge(&self) -> Result<(), Error> {
        let there = programs(self.suite, &[])?;
        let known: Vec<&String> = self.knowledge.programs.keys().collect();
        let strangers = there.iter().filter(|name| !known.contains(name)).map(|name| format!("{name} is not in it"));
        let gone = known.iter().filter(|name| !there.contains(name)).map(|name| format!("{name} is gone"));
        match strangers.chain(gone).next() {
            Some(what) => Err(Error::Usage(format!("the list of programs is not that of this suite: {what}"))),
            None => Ok(()),
        }
    }
}

/// The first line of `--version`.
fn version(runtime: &Path) -> Result<String, Error> {
    let output = Command::new(runtime).arg("--version").output().map_err(Error::file("run", runtime))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
