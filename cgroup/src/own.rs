//! /proc/PID/cgroup: which cgroups a process is in, and which hierarchies there are.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::read;

use crate::error::{Context, Error};
use crate::files::{TEXT, read_all};

/// One line of /proc/PID/cgroup: a hierarchy and the process's cgroup in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    /// `cpu,cpuacct` or `name=systemd`; empty for cgroup v2.
    pub(crate) controllers: String,
    /// From the root of the cgroup namespace: `/a/b`; `/../x` when it is outside.
    pub(crate) path: String,
}

/// The cgroups of a process, `self` or a pid.
pub(crate) fn memberships(process: &str) -> Result<Vec<Membership>, Error> {
    let path = format!("/proc/{process}/cgroup");
    let file = openat(CWD, &*path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", &path)?;
    // The kernel makes the text at once: a read that does not fill the buffer was the last.
    let mut buffer = [0; TEXT];
    let length = read(&file, &mut buffer).context("read", &path)?;
    if length < buffer.len() {
        return parse(&buffer[..length], &path);
    }
    let mut bytes = buffer.to_vec();
    read_all(&file, &mut bytes).context("read", &path)?;
    parse(&bytes, &path)
}

/// The cgroup v2 line of `process`.
pub(crate) fn unified(process: &str) -> Result<Membership, Error> {
    let all = memberships(process)?;
    all.into_iter().find(|line| line.controllers.is_empty()).ok_or_else(|| Error::Malformed {
        file: format!("/proc/{process}/cgroup"),
        line: "no line of cgroup v2".to_owned(),
    })
}

/// The cgroup of `process` where systemd keeps its units: in cgroup v2 where that is alone, else in v1's hierarchy of its
/// own, or in the v2 beside the others.
pub(crate) fn systemds(process: &str) -> Result<String, Error> {
    let all = memberships(process)?;
    let of = |controllers: &str| all.iter().find(|line| line.controllers == controllers);
    of("name=systemd").or_else(|| of("")).map(|line| line.path.clone()).ok_or_else(|| Error::Malformed {
        file: format!("/proc/{process}/cgroup"),
        line: "no cgroup of systemd's".to_owned(),
    })
}

fn parse(bytes: &[u8], file: &str) -> Result<Vec<Membership>, Error> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            parse_line(line).ok_or_else(|| Error::Malformed {
                file: file.to_owned(),
                line: String::from_utf8_lossy(line).into_owned(),
            })
        })
        .collect()
}

/// `4:memory:/user/1000`; only the first two colons separate.
fn parse_line(line: &[u8]) -> Option<Membership> {
    let mut parts = std::str::from_utf8(line).ok()?.splitn(3, ':');
    let (_id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    path.starts_with('/').then(|| Membership { controllers: controllers.to_owned(), path: path.to_owned() })
}

/// Whether a cgroup, as given in /proc/PID/cgroup, is outside this cgroup namespace, so that no path leads to it.
pub(crate) fn is_outside(cgroup: &str) -> bool {
    cgroup == "/.." || cgroup.starts_with("/../")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(controllers: &str, path: &str) -> Membership {
        Membership { controllers: controllers.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn lines_of_all_kinds_are_read() {
        let text = b"9:name=systemd:/a:b\n4:cpu,cpuacct:/\n0::/../x\n";
        let all = parse(text, "f").unwrap();
        assert_eq!(all, [line("name=systemd", "/a:b"), line("cpu,cpuacct", "/"), line("", "/../x")]);
        assert_eq!(["/a:b", "/", "/../x", "/..", "/..x"].map(is_outside), [false, false, true, true, false]);
    }

    #[test]
    fn a_line_that_is_none_is_an_error_that_quotes_it() {
        for bad in ["x", "1:cpu", "1:cpu:relative"] {
            let error = parse(format!("0::/\n{bad}\n").as_bytes(), "/proc/7/cgroup").unwrap_err().to_string();
            assert_eq!(error, format!("/proc/7/cgroup: cannot make sense of {bad:?}"));
        }
    }
}
