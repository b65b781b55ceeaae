//! One program, started, limited in time and waited for.
//!
//! Not here: what its output means.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Error;
use super::left::{Left, Snapshot, end_processes};
use super::place::Place;
use crate::sys::ChildSetup;
use crate::{look, reaper, sys};

/// How a program ended and what it printed.
#[derive(Debug)]
pub struct Run {
    /// How it ended; nothing if it had to be killed.
    pub status: Option<ExitStatus>,
    /// How long it took.
    pub time: Duration,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// What it left behind.
    pub left: Left,
}

impl Run {
    /// The exit status in words, nothing for success.
    pub fn failure(&self) -> Option<String> {
        let status = self.status?;
        match (status.code(), status.signal()) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("exit status {code}")),
            (None, signal) => Some(format!("killed by signal {}", signal.unwrap_or_default())),
        }
    }
}

/// Runs `program` against `runtime`, `limit` at most, and cleans up after it.
///
/// # Errors
/// If it cannot be started.
pub fn run(place: &Place, program: &Path, runtime: &Path, limit: Duration) -> Result<Run, Error> {
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = place.temporary(&name)?;
    let before = Snapshot::take();
    // Files, not pipes: a container may live on and hold them.
    let paths = ["stdout", "stderr"].map(|stream| place.base().join(stream));
    let create = |path: &Path| File::create(path).map_err(Error::file("make", path));
    let mut command = Command::new(program);
    command
        .current_dir(place.input())
        .env("RUNTIME", runtime)
        .env("TMPDIR", &temporary)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .stdout(create(&paths[0])?)
        .stderr(create(&paths[1])?);
    sys::prepare_child(&mut command, ChildSetup { session: true, ..ChildSetup::default() });
    let start = Instant::now();
    let mut child = command.spawn().map_err(Error::file("start", program))?;
    reaper::keep(child.id() as i32);
    let ended = wait(&child, limit)?;
    let time = start.elapsed();
    reaper::release(child.id() as i32);
    // One that has to be killed has no status of its own.
    let status = if ended { Some(child.wait().map_err(Error::file("wait for", program))?) } else { None };
    if !ended {
        end_processes();
    }
    let left = before.clean_up(place, runtime, &temporary);
    let read = |path: &Path| fs::read(path).map_err(Error::file("read", path));
    let text = |path: &Path| Ok::<_, Error>(String::from_utf8_lossy(&read(path)?).into_owned());
    Ok(Run { status, time, stdout: text(&paths[0])?, stderr: text(&paths[1])?, left })
}

/// Waits for a program, and reaps its orphans meanwhile; false if it did not end in time.
fn wait(child: &Child, limit: Duration) -> Result<bool, Error> {
    let pid = child.id() as i32;
    let pidfd = sys::pidfd_open(pid).map_err(Error::file("watch", Path::new("a program")))?;
    let end = Instant::now() + limit;
    while Instant::now() < end {
        if look::exits_within(&pidfd, Duration::from_millis(50)) {
            return Ok(true);
        }
        reaper::collect();
    }
    Ok(false)
}
