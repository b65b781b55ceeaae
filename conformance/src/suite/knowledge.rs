//! What is known about the suite's programs: `conformance/suite/programs`.
//!
//! Not here: what a run says about a runtime.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Error;

/// The file as it was when this driver was built.
pub const BUILT_IN: &str = include_str!("../../suite/programs");

/// Where a program is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Setting {
    /// The cgroups that the machine has.
    Host,
    /// A pure cgroup v2 without the controllers that cgroup v1 holds.
    NativeV2,
    /// An emulated machine with systemd and cgroup v1.
    VmV1,
    /// An emulated machine with systemd and cgroup v2.
    VmV2,
}

impl Setting {
    /// All of them, in the order of the reports.
    pub const ALL: [Self; 4] = [Self::Host, Self::NativeV2, Self::VmV1, Self::VmV2];

    /// Its name on the command line and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::NativeV2 => "native-v2",
            Self::VmV1 => "vm-v1",
            Self::VmV2 => "vm-v2",
        }
    }
}

/// What a program's silence says: that it printed no test point and exited with 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// That nothing was wrong.
    Success,
    /// Nothing.
    Nothing,
}

/// What is expected of a correct runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "expected", content = "reason", rename_all = "kebab-case")]
pub enum Expected {
    /// It passes.
    Pass,
    /// It does not, for this reason, whatever the runtime does.
    Never(String),
    /// It may or may not, for this reason: the outcome depends on who is faster.
    Luck(String),
    /// It passes unless the machine lacks this, as the one does that the list was made on.
    Lacks(String),
}

/// What is known about one program.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// What its silence says, and the sentence that shows it.
    pub silence: Option<(Silence, String)>,
    /// What standard error must hold for silence to be a success.
    pub stderr: Option<String>,
    /// What the specification says where the program says something else.
    pub spec: Option<String>,
    /// Why a correct runtime may fail it now and then: it is run again.
    pub race: Option<String>,
    /// What it leaves behind on any runtime: a word of the thing, and why.
    pub leaves: Vec<(String, String)>,
    pub(super) expected: BTreeMap<Setting, Expected>,
}

impl Program {
    /// What is expected in `setting`, if it is written down.
    pub fn expected(&self, setting: Setting) -> Option<&Expected> {
        self.expected.get(&setting)
    }
}

/// The whole file.
#[derive(Debug, Clone, Default)]
pub struct Knowledge {
    /// By the program's name.
    pub programs: BTreeMap<String, Program>,
}

impl Knowledge {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// If it cannot be read or has a line that means nothing.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Reads `text`, which errors call `path`.
    ///
    /// # Errors
    /// If a line means nothing.
    pub fn parse(text: &str, path: &str) -> Result<Self, Error> {
        let mut programs = BTreeMap::new();
        let mut name = None;
        for (line, text) in joined(text) {
            let error = |what: String| Error::Knowledge { path: path.to_owned(), line, what };
            if !text.starts_with(' ') {
                if programs.insert(text.clone(), Program::default()).is_some() {
                    return Err(error(format!("{text} stands here for the second time")));
                }
                name = Some(text);
                continue;
            }
            let program = name.as_ref().and_then(|name| programs.get_mut(name));
            let program = program.ok_or_else(|| error("no program above this line".to_owned()))?;
            program.learn(text.trim()).map_err(error)?;
        }
        Ok(Self { programs })
    }
}

/// The lines of the file with those that continue them, numbered, without comments.
fn joined(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match lines.last_mut() {
            Some((_, before)) if line.starts_with("    ") => {
                before.push(' ');
                before.push_str(line.trim_start());
            }
            _ => lines.push((number + 1, line.to_owned())),
        }
    }
    lines
}

impl Program {
    fn learn(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = line.split_once(": ").ok_or_else(|| format!("no key in: {line}"))?;
        let (words, sentence) = match value.split_once(" - ") {
            Some((words, sentence)) => (words, Some(sentence.to_owned())),
            None => (value, None),
        };
        let with_reason = || sentence.clone().ok_or_else(|| format!("{key} without a reason"));
        match key {
            "pass" => self.expect(words, &Expected::Pass)?,
            "never" => self.expect(words, &Expected::Never(with_reason()?))?,
            "differs" => {
                let reason = format!("proa does otherwise on purpose: {}", with_reason()?);
                self.expect(words, &Expected::Never(reason))?;
            }
            "lacks" => self.expect(words, &Expected::Lacks(with_reason()?))?,
            "luck" => self.expect(words, &Expected::Luck(with_reason()?))?,
            "leaves" => self.leaves.push((words.to_owned(), with_reason()?)),
            "race" => self.race = Some(value.to_owned()),
            "spec" => self.spec = Some(value.to_owned()),
            "stderr" => self.stderr = Some(value.to_owned()),
            "silence" => {
                let silence = match words {
                    "success" => Silence::Success,
                    "nothing" => Silence::Nothing,
                    other => return Err(format!("silence is success or nothing, not {other}")),
                };
                self.silence = Some((silence, with_reason()?));
            }
            _ => return Err(format!("no such key: {key}")),
        }
        Ok(())
    }

    fn expect(&mut self, settings: &str, expected: &Expected) -> Result<(), String> {
        for name in settings.split_whitespace() {
            let setting = Setting::ALL.into_iter().find(|setting| setting.name() == name);
            let setting = setting.ok_or_else(|| format!("no such setting: {name}"))?;
            if self.expected.insert(setting, expected.clone()).is_some() {
                return Err(format!("{name} stands here for the second time"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_file_says_something_about_each_program_in_each_setting() {
        let knowledge = Knowledge::parse(BUILT_IN, "programs").expect("the file");
        assert_eq!(knowledge.programs.len(), 58);
        for (name, program) in &knowledge.programs {
            for setting in Setting::ALL {
                assert!(program.expected(setting).is_some(), "{name} in {}", setting.name());
            }
        }
    }

    #[test]
    fn a_line_goes_on_below_itself() {
        let text = "# head\na\n  pass: host vm-v1\n  never: vm-v2 - because\n    of this\n  silence: success - so\n";
        let knowledge = Knowledge::parse(text, "x").expect("text");
        let program = &knowledge.programs["a"];
        assert_eq!(program.expected(Setting::Host), Some(&Expected::Pass));
        assert_eq!(program.expected(Setting::VmV2), Some(&Expected::Never("because of this".into())));
        assert_eq!(program.expected(Setting::NativeV2), None);
        assert_eq!(program.silence, Some((Silence::Success, "so".into())));
    }

    #[test]
    fn what_means_nothing_is_refused_with_its_line() {
        for (text, message) in [
            ("a\n  pass: moon\n", "x:2: no such setting: moon"),
            ("a\n  never: host\n", "x:2: never without a reason"),
            ("a\n  pass: host\n  luck: host - y\n", "x:3: host stands here for the second time"),
            ("a\na\n", "x:2: a stands here for the second time"),
            ("  pass: host\n", "x:1: no program above this line"),
            ("a\n  silence: gold - y\n", "x:2: silence is success or nothing, not gold"),
            ("a\n  hope: host\n", "x:2: no such key: hope"),
        ] {
            let error = Knowledge::parse(text, "x").expect_err(text);
            assert_eq!(error.to_string(), message);
        }
    }
}
