//! Where an output goes, by its path or URI.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys;

/// An output's destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nowhere.
    Null,
    /// A FIFO that containerd has made.
    Fifo(PathBuf),
    /// A file, added to.
    File(PathBuf),
    /// A program that reads.
    Logger(Uri),
}

/// A logging program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uri {
    /// Its path.
    pub(crate) program: PathBuf,
    /// Names and values of the query, in turn.
    pub(crate) args: Vec<OsString>,
    /// It must say that it is ready; the end of its life alone will not do.
    pub(crate) must_be_ready: bool,
}

/// A destination that is open.
#[derive(Debug)]
pub(crate) enum Sink {
    /// A FIFO or a pipe, without blocking.
    Pipe(AsyncFd<OwnedFd>),
    /// A regular file.
    File(File),
}

impl Target {
    /// Reads a path, or a URI of containerd's (pkg/cio, LogURI).
    ///
    /// # Errors
    /// EINVAL: a scheme that is not known, or a path that is not absolute.
    pub(crate) fn parse(text: &str) -> io::Result<Target> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not a path, nor a URI of fifo, file or binary");
        if text.is_empty() {
            return Ok(Target::Null);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(match fs::metadata(text) {
                Ok(found) if !found.file_type().is_fifo() => Target::File(text.into()),
                _ => Target::Fifo(text.into()),
            });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = PathBuf::from(decoded(path));
        if !path.is_absolute() {
            return Err(wrong());
        }
        match scheme {
            "fifo" => Ok(Target::Fifo(path)),
            "file" => Ok(Target::File(path)),
            "binary" | "binary-v2" => {
                let words =
                    query.split('&').filter(|pair| !pair.is_empty()).flat_map(|pair| match pair.split_once('=') {
                        Some((name, value)) => vec![decoded(name), decoded(value)],
                        None => vec![decoded(pair), OsString::new()],
                    });
                let args = words.collect();
                Ok(Target::Logger(Uri { program: path, args, must_be_ready: scheme == "binary-v2" }))
            }
            _ => Err(wrong()),
        }
    }

    /// Opens it; None for nowhere. Programs are another's to start.
    ///
    /// # Errors
    /// It cannot be opened or made.
    pub(crate) fn open(&self) -> io::Result<Option<Sink>> {
        match self {
            Target::Null | Target::Logger(_) => Ok(None),
            // Reading too: writes find a reader while containerd is away, and block nobody but this container.
            Target::Fifo(path) => {
                let fd = openat(CWD, path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
                Ok(Some(Sink::Pipe(sys::watch(fd, Interest::WRITABLE)?)))
            }
            Target::File(path) => {
                if let Some(directory) = path.parent() {
                    fs::create_dir_all(directory)?;
                }
                Ok(Some(Sink::File(append(path)?)))
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o644).open(path)
}

/// Without the escapes of a URI, `%20`.
fn decoded(text: &str) -> OsString {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_uris() {
        assert_eq!(Target::parse("").unwrap(), Target::Null);
        assert_eq!(Target::parse("/run/x").unwrap(), Target::Fifo("/run/x".into()));
        assert_eq!(Target::parse("/etc/passwd").unwrap(), Target::File("/etc/passwd".into()));
        assert_eq!(Target::parse("file:///a%20b").unwrap(), Target::File("/a b".into()));
        let Target::Logger(uri) = Target::parse("binary:///bin/log?id=7&deep=%2fx").unwrap() else { panic!() };
        assert_eq!(uri.args, ["id", "7", "deep", "/x"]);
        assert!(!uri.must_be_ready);
        assert!(Target::parse("http://x/y").is_err());
        assert!(Target::parse("file://relative").is_err());
        assert_eq!(decoded("100%"), "100%");
    }
}
