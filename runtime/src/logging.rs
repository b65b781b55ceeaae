//! The logger behind the `log` facade, in runc's two formats.
//!
//! Warnings wait until the command has succeeded: engines read a failed command's log as one JSON document.

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::fmt::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    file: Option<OwnedFd>,
    json: bool,
    waiting: Mutex<Vec<(Level, String)>>,
}

impl Logger {
    fn waiting(&self) -> MutexGuard<'_, Vec<(Level, String)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> BorrowedFd<'_> {
        self.file.as_ref().map_or(rustix::stdio::stderr(), AsFd::as_fd)
    }

    fn line(&self, level: Level, message: &str) -> String {
        let word = match level {
            Level::Error => "error",
            Level::Warn => "warning",
            Level::Info => "info",
            Level::Debug | Level::Trace => "debug",
        };
        let mut line = String::with_capacity(message.len() + 80);
        let time = crate::time::now();
        let done = if self.json {
            let message = serde_json::to_string(message).unwrap_or_default();
            writeln!(line, "{{\"level\":\"{word}\",\"msg\":{message},\"time\":\"{time}\"}}")
        } else if self.file.is_some() {
            writeln!(line, "time=\"{time}\" level={word} msg={message:?}")
        } else {
            let prefix = if level == Level::Error { "" } else { word };
            let colon = if prefix.is_empty() { "" } else { ": " };
            writeln!(line, "proa: {prefix}{colon}{}", one_line(message))
        };
        debug_assert!(done.is_ok());
        line
    }

    fn write(&self, level: Level, message: &str) {
        let line = self.line(level, message);
        // A log that cannot be written must not stop a container.
        rustix::io::write(self.output(), line.as_bytes()).ok();
    }
}

/// One message, one line; what an image or a container has put into it moves no cursor.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        match c {
            '\t' => line.push(c),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        if record.level() == Level::Warn {
            self.waiting().push((record.level(), message));
        } else {
            self.write(record.level(), &message);
        }
    }

    fn flush(&self) {
        for (level, message) in self.waiting().drain(..) {
            self.write(level, &message);
        }
    }
}

/// Where to log and how, from the command line.
pub(crate) struct Settings<'a> {
    pub file: Option<&'a str>,
    pub json: bool,
    pub level: LevelFilter,
}

/// Opens the log. An error is a sentence.
pub(crate) fn start(settings: &Settings<'_>) -> Result<(), String> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match settings.file.filter(|path| !path.is_empty()) {
        Some(path) => Some(
            openat(CWD, path, flags, Mode::from_raw_mode(0o644))
                .map_err(|errno| format!("--log {path:?}: {}", crate::error::text(errno)))?,
        ),
        None => None,
    };
    let logger = Logger { file, json: settings.json, waiting: Mutex::new(Vec::new()) };
    if LOGGER.set(logger).is_ok()
        && let Some(logger) = LOGGER.get()
        && log::set_logger(logger).is_ok()
    {
        log::set_max_level(settings.level);
    }
    Ok(())
}

/// The command failed: one line in the log, and the same on standard error if the log is elsewhere.
pub(crate) fn fail(message: &str) {
    match LOGGER.get() {
        Some(logger) => {
            logger.waiting().clear();
            logger.write(Level::Error, message);
            if logger.file.is_some() {
                eprint_line(message);
            }
        }
        None => eprint_line(message),
    }
}

/// The command succeeded: what it had to warn about.
pub(crate) fn finish() {
    log::logger().flush();
}

fn eprint_line(message: &str) {
    let line = format!("proa: {}\n", one_line(message));
    rustix::io::write(rustix::stdio::stderr(), line.as_bytes()).ok();
}
