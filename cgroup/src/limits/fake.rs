//! A cgroup's directory for tests: files in memory, a log of what was written, and answers like the kernel's.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rustix::io::Errno;

use super::controller::{Controller, Files, Version};
use crate::error::Error;

type Rule = Box<dyn Fn(&BTreeMap<String, String>, &str, &str) -> Option<Errno>>;

/// Files by name.
#[derive(Default)]
pub(crate) struct Fake {
    files: RefCell<BTreeMap<String, String>>,
    log: RefCell<Vec<String>>,
    /// Why the kernel would refuse a write, if it would.
    rule: Option<Rule>,
}

impl Fake {
    /// A directory with these files.
    pub(crate) fn new(files: &[(&str, &str)]) -> Fake {
        let files = files.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Fake { files: RefCell::new(files), ..Fake::default() }
    }

    pub(crate) fn with_rule(
        self,
        rule: impl Fn(&BTreeMap<String, String>, &str, &str) -> Option<Errno> + 'static,
    ) -> Fake {
        Fake { rule: Some(Box::new(rule)), ..self }
    }

    pub(crate) fn v1(&self) -> Controller<'_> {
        Controller::new(Version::V1, self)
    }

    pub(crate) fn v2(&self) -> Controller<'_> {
        Controller::new(Version::V2, self)
    }

    /// What was written and taken so far: `file=value`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

impl Files for &Fake {
    fn write(&self, name: &str, values: &[&str]) -> Result<(), Errno> {
        let mut files = self.files.borrow_mut();
        if !files.contains_key(name) {
            return Err(Errno::NOENT);
        }
        for value in values {
            if let Some(errno) = self.rule.as_ref().and_then(|rule| rule(&files, name, value)) {
                return Err(errno);
            }
            files.insert(name.to_owned(), (*value).to_owned());
            self.log.borrow_mut().push(format!("{name}={value}"));
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        self.files.borrow().get(name).cloned().ok_or(Errno::NOENT)
    }

    fn path(&self, name: &str) -> String {
        format!("/fake/{name}")
    }

    fn why_missing(&self, name: &str) -> Error {
        Error::NoFile { path: self.path(name) }
    }
}
