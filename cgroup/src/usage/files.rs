//! How the files of a cgroup that tell figures are read.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::{Pressure, Stall};
use crate::error::Error;
use crate::files::read_all;
use crate::place::Directory;

/// The files of one directory. What does not exist is nothing; what cannot be understood is an error.
pub(super) struct Files<'d> {
    pub(super) directory: &'d Directory,
}

impl Files<'_> {
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        let path = self.directory.file(name);
        let file = match openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Err(Errno::NOENT | Errno::NODEV) => return Ok(None),
            file => file,
        };
        let mut bytes = Vec::new();
        let read = file.and_then(|file| read_all(&file, &mut bytes));
        match read {
            Ok(()) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            // The cgroup goes; or nothing is counted: of threaded cgroups, of swap, of pressure when that is off.
            Err(Errno::NODEV | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::sys("read".to_owned(), path, errno)),
        }
    }

    pub(super) fn malformed(&self, name: &str, line: &str) -> Error {
        Error::Malformed { file: self.directory.file(name), line: line.to_owned() }
    }

    /// A file with one number, or `max`.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        number(text.trim()).map(Some).ok_or_else(|| self.malformed(name, text.trim()))
    }

    /// Lines of a name and a number.
    pub(super) fn table(&self, name: &str) -> Result<Option<Vec<(String, u64)>>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let line = |line: &str| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), number(value.trim())?))
        };
        text.lines()
            .map(|text| line(text).ok_or_else(|| self.malformed(name, text)))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    pub(super) fn pressure(&self, name: &str) -> Result<Option<Pressure>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let mut pressure = Pressure::default();
        for line in text.lines() {
            let (stall, rest) = match line.split_once(' ') {
                Some(("some", rest)) => (&mut pressure.some, rest),
                Some(("full", rest)) => (&mut pressure.full, rest),
                _ => return Err(self.malformed(name, line)),
            };
            *stall = parse_stall(rest).ok_or_else(|| self.malformed(name, line))?;
        }
        Ok(Some(pressure))
    }
}

fn parse_stall(text: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for word in text.split_ascii_whitespace() {
        match word.split_once('=')? {
            ("avg10", value) => stall.avg10 = value.parse().ok()?,
            ("avg60", value) => stall.avg60 = value.parse().ok()?,
            ("avg300", value) => stall.avg300 = value.parse().ok()?,
            ("total", value) => stall.total = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

pub(super) fn number(text: &str) -> Option<u64> {
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

pub(super) fn get(table: &[(String, u64)], name: &str) -> u64 {
    table.iter().find(|(key, _)| key == name).map_or(0, |(_, value)| *value)
}

pub(super) fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
