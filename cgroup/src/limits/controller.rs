//! The files of one controller in a container's cgroup: written and read by name, with errors that name the limit.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Display;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{Errno, write};

use crate::error::{Context, Error};
use crate::files::{TEXT, read_text};
use crate::path::parent;
use crate::place::Directory;
use crate::systemd::Written;
use crate::{Cgroup, controllers};

/// Which files a controller has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// The files of a cgroup's directory. Tests have their own.
pub(crate) trait Files {
    /// Opens a file and writes each of `values` to it by one write(2).
    fn write(&self, name: &str, values: &[&str]) -> Result<(), Errno>;
    /// What a short file holds, without white space at its ends.
    fn read(&self, name: &str) -> Result<String, Errno>;
    /// The path of a file, for errors.
    fn path(&self, name: &str) -> String;
    /// Why a file does not exist.
    fn why_missing(&self, name: &str) -> Error;
    /// The directories above that were made for this one, the topmost first.
    fn made_above(&self) -> Vec<Box<dyn Files + '_>> {
        Vec::new()
    }
}

/// One controller's files.
pub(crate) struct Controller<'c> {
    pub(crate) version: Version,
    files: Box<dyn Files + 'c>,
    /// Where to note what was written, for a scope.
    written: Option<&'c RefCell<Vec<Written>>>,
}

impl<'c> Controller<'c> {
    /// Where the host has the controller with that v1 name: in v1, else in v2. `limit` is what asks for it.
    pub(crate) fn of(cgroup: &'c Cgroup, name: &str, limit: &str) -> Result<Controller<'c>, Error> {
        if let Some(directory) = cgroup.place.v1.iter().find(|directory| directory.has(name)) {
            return Ok(Controller::new(Version::V1, V1(Cow::Borrowed(directory))).noting(cgroup));
        }
        match name {
            "net_cls" | "net_prio" => Err(Error::no_v1(name).limit(limit)),
            _ => Controller::unified(cgroup, limit),
        }
    }

    /// All files of cgroup v2.
    pub(crate) fn unified(cgroup: &'c Cgroup, limit: &str) -> Result<Controller<'c>, Error> {
        let (Some(directory), Some(fd)) = (&cgroup.place.unified, cgroup.unified_fd()) else {
            return Err(Error::NoUnified.limit(limit));
        };
        let hybrid = !cgroup.place.v1.is_empty();
        Ok(Controller::new(Version::V2, V2 { directory, fd, hybrid }).noting(cgroup))
    }

    pub(crate) fn new(version: Version, files: impl Files + 'c) -> Controller<'c> {
        Controller { version, files: Box::new(files), written: None }
    }

    fn noting(self, cgroup: &'c Cgroup) -> Controller<'c> {
        Controller { written: cgroup.place.is_scope().then_some(&cgroup.written), ..self }
    }

    /// Writes a value.
    pub(crate) fn set(&self, limit: &str, file: &str, value: impl Display) -> Result<(), Error> {
        let value = value.to_string();
        self.write(file, &[&value]).map_err(|errno| self.failure(limit, file, &value, errno))
    }

    /// The same, for who makes something of the errno.
    pub(crate) fn try_set(&self, file: &str, value: impl Display) -> Result<(), Errno> {
        self.write(file, &[&value.to_string()])
    }

    /// Writes values one after the other to a file that is opened once.
    pub(crate) fn set_all(&self, limit: &str, file: &str, values: &[&str]) -> Result<(), Error> {
        self.write(file, values).map_err(|errno| self.failure(limit, file, &values.join("\n"), errno))
    }

    fn write(&self, file: &str, values: &[&str]) -> Result<(), Errno> {
        self.files.write(file, values)?;
        if let Some(written) = self.written {
            let version = self.version;
            let note = |value: &&str| Written { version, file: file.to_owned(), value: (*value).to_owned() };
            written.borrow_mut().extend(values.iter().map(note));
        }
        Ok(())
    }

    /// The sentence for a write that failed.
    pub(crate) fn failure(&self, limit: &str, file: &str, value: &str, errno: Errno) -> Error {
        match errno {
            Errno::NOENT => self.files.why_missing(file),
            errno => Error::sys(format!("write {value:?} to"), self.files.path(file), errno),
        }
        .limit(limit)
    }

    /// What a file holds.
    pub(crate) fn get(&self, limit: &str, file: &str) -> Result<String, Error> {
        self.files.read(file).context("read", &self.files.path(file)).map_err(|error| error.limit(limit))
    }

    /// A file that holds one number.
    pub(crate) fn number(&self, limit: &str, file: &str) -> Result<u64, Error> {
        let text = self.get(limit, file)?;
        // Limits that are none, of cgroup v2.
        let number = if text == "max" { Some(u64::MAX) } else { text.parse().ok() };
        number.ok_or_else(|| Error::Malformed { file: self.files.path(file), line: text }.limit(limit))
    }

    /// The directories above that were made for this one, the topmost first.
    pub(crate) fn made_above(&self) -> Vec<Controller<'_>> {
        self.files
            .made_above()
            .into_iter()
            .map(|files| Controller { version: self.version, files, written: None })
            .collect()
    }
}

/// A directory of cgroup v1.
struct V1<'c>(Cow<'c, Directory>);

impl Files for V1<'_> {
    fn write(&self, name: &str, values: &[&str]) -> Result<(), Errno> {
        write_in(CWD, &self.path(name), values)
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        read_text(&self.path(name), &mut [0; TEXT]).map(str::to_owned)
    }

    fn path(&self, name: &str) -> String {
        self.0.file(name)
    }

    fn why_missing(&self, name: &str) -> Error {
        Error::NoFile { path: self.path(name) }
    }

    fn made_above(&self) -> Vec<Box<dyn Files + '_>> {
        let mut above = Vec::new();
        let mut level = parent(&self.0.path);
        for _ in 0..self.0.made {
            let directory = Directory { path: level.to_owned(), made: 0, ..(*self.0).clone() };
            above.push(Box::new(V1(Cow::Owned(directory))) as Box<dyn Files + '_>);
            level = parent(level);
        }
        above.reverse();
        above
    }
}

/// The directory of cgroup v2.
struct V2<'c> {
    directory: &'c Directory,
    fd: BorrowedFd<'c>,
    /// The host's other controllers are in v1, so that nobody has handed down those of v2 yet.
    hybrid: bool,
}

impl Files for V2<'_> {
    fn write(&self, name: &str, values: &[&str]) -> Result<(), Errno> {
        match write_in(self.fd, name, values) {
            Err(Errno::NOENT) if self.hybrid && controllers::enable_below_root(self.directory) => {
                write_in(self.fd, name, values)
            }
            result => result,
        }
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        read_text(&self.path(name), &mut [0; TEXT]).map(str::to_owned)
    }

    fn path(&self, name: &str) -> String {
        self.directory.file(name)
    }

    fn why_missing(&self, name: &str) -> Error {
        let controller = name.split('.').next().unwrap_or_default();
        controllers::why_missing(self.directory, controller, self.hybrid)
            .unwrap_or_else(|| Error::NoFile { path: self.path(name) })
    }
}

fn write_in(directory: impl AsFd, name: &str, values: &[&str]) -> Result<(), Errno> {
    let file = openat(directory, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    values.iter().try_for_each(|value| write(&file, value.as_bytes()).map(drop))
}
