//! The standard streams of a container's process: FIFOs of containerd's, files, logging programs, a terminal, or nothing.
//!
//! ```text
//!              pipes                        FIFO, held open by the shim too
//! process ── stdout ──▶ relay (splice) ──────────▶ containerd's reader, which may go away and come back
//!         ◀── stdin ─── relay (splice) ◀────────── containerd's writer
//! process ═ terminal ═▶ relay (read, write) ═════▶
//! process ── stdout ─────────────────────────────▶ logging program, directly
//! ```

mod logger;
mod relay;
mod target;
mod terminal;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, openat};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::reaper::Reaper;
use crate::sys;
use logger::Logger;
use target::Target;
pub(crate) use terminal::Console;

/// Where containerd wants the streams to go; empty for nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// A FIFO.
    pub(crate) stdin: String,
    /// A FIFO, or a URI: fifo, file, binary.
    pub(crate) stdout: String,
    /// The same; of no meaning with a terminal.
    pub(crate) stderr: String,
    /// All are one terminal.
    pub(crate) terminal: bool,
}

/// Who the streams are of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner<'a> {
    /// For loggers.
    pub(crate) namespace: &'a str,
    /// For loggers.
    pub(crate) container: &'a str,
    /// Of the pipes.
    pub(crate) uid: u32,
    /// Of the pipes.
    pub(crate) gid: u32,
}

/// The shim's side of the streams of one process. Dropping it closes them, whatever is still in them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    outputs: Vec<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
    /// Held, so that the input does not end while a client is away.
    writer: Option<OwnedFd>,
    /// Clients have nothing more to say.
    input_closed: watch::Sender<bool>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    logger: Option<Logger>,
}

/// The process's side: standard input, output and error.
pub(crate) type Ends = [OwnedFd; 3];

impl Streams {
    /// Opens the streams of a process without a terminal, and begins to relay.
    ///
    /// # Errors
    /// One of them cannot be opened: the stream and its path.
    pub(crate) async fn open(
        paths: &Paths,
        owner: Owner<'_>,
        reaper: &Arc<Reaper>,
    ) -> Result<(Streams, Ends), (String, io::Error)> {
        let mut streams = Streams::default();
        let stdin = match paths.stdin.as_str() {
            "" => null(),
            path => streams.open_input(path, owner),
        };
        let stdin = stdin.map_err(|error| (format!("stdin {:?}", paths.stdin), error))?;
        let target = Target::parse(&paths.stdout).map_err(|error| (format!("stdout {:?}", paths.stdout), error))?;
        if let Target::Logger(uri) = &target {
            let (logger, stdout, stderr) = Logger::start(uri, owner, reaper)
                .await
                .map_err(|error| (format!("logger {:?}", paths.stdout), error))?;
            streams.logger = Some(logger);
            return Ok((streams, [stdin, stdout, stderr]));
        }
        let stdout = streams.open_output(&target, owner);
        let stdout = stdout.map_err(|error| (format!("stdout {:?}", paths.stdout), error))?;
        let stderr = Target::parse(&paths.stderr).and_then(|target| streams.open_output(&target, owner));
        let stderr = stderr.map_err(|error| (format!("stderr {:?}", paths.stderr), error))?;
        Ok((streams, [stdin, stdout, stderr]))
    }

    fn open_input(&mut self, path: &str, owner: Owner<'_>) -> io::Result<OwnedFd> {
        let (reader, writer) = fifo_to_read(path)?;
        let (theirs, ours) = pipe(owner)?;
        self.writer = Some(writer);
        let ours = sys::watch(ours, Interest::WRITABLE)?;
        let closed = self.input_closed.subscribe();
        self.input = Some(tokio::spawn(async move { relay::splice_input(&reader, &ours, closed).await }));
        Ok(theirs)
    }

    fn open_output(&mut self, target: &Target, owner: Owner<'_>) -> io::Result<OwnedFd> {
        let Some(sink) = target.open()? else { return null_to_write() };
        let (ours, theirs) = pipe(owner)?;
        let ours = sys::watch(ours, Interest::READABLE)?;
        self.outputs.push(tokio::spawn(async move { relay::output(&ours, sink).await }));
        Ok(theirs)
    }

    /// Begins to relay between a terminal and where its streams go.
    ///
    /// # Errors
    /// One of them cannot be opened: the stream and its path.
    pub(crate) async fn of_terminal(
        master: OwnedFd,
        paths: &Paths,
        owner: Owner<'_>,
        reaper: &Arc<Reaper>,
    ) -> Result<Streams, (String, io::Error)> {
        let name = |stream: &str, path: &str| format!("{stream} {path:?} of a terminal");
        let mut streams = Streams::default();
        let terminal = Arc::new(
            sys::watch(master, Interest::READABLE | Interest::WRITABLE)
                .map_err(|error| ("terminal".to_owned(), error))?,
        );
        streams.terminal = Some(terminal.clone());
        if !paths.stdin.is_empty() {
            let opened = fifo_to_read(&paths.stdin).map_err(|error| (name("stdin", &paths.stdin), error))?;
            let terminal = terminal.clone();
            streams.writer = Some(opened.1);
            streams.input = Some(tokio::spawn(async move { relay::copy_input(&opened.0, &terminal).await }));
        }
        let failed = |error| (name("stdout", &paths.stdout), error);
        let sink = match Target::parse(&paths.stdout).map_err(failed)? {
            Target::Logger(uri) => {
                let (logger, stdout, _) = Logger::start(&uri, owner, reaper).await.map_err(failed)?;
                streams.logger = Some(logger);
                Some(target::Sink::Pipe(sys::watch(stdout, Interest::WRITABLE).map_err(failed)?))
            }
            target => target.open().map_err(failed)?,
        };
        streams.outputs.push(tokio::spawn(async move { relay::terminal_output(&terminal, sink).await }));
        Ok(streams)
    }

    /// The size of the terminal, in characters; of no meaning where there is none.
    ///
    /// # Errors
    /// It takes no size.
    pub(crate) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        Ok(rustix::termios::tcsetwinsize(terminal.get_ref(), size)?)
    }

    /// The input ends once all that clients have written has gone through. A terminal's does not.
    pub(crate) fn close_input(&mut self) {
        self.writer = None;
        self.input_closed.send_replace(true);
    }

    /// Waits until all that the process has written has gone through, at most so long: a child of its may go on to hold
    /// the streams, a client may not read.
    pub(crate) async fn finish(mut self, most: Duration) {
        self.writer = None;
        let outputs = std::mem::take(&mut self.outputs);
        let aborts: Vec<_> = outputs.iter().map(JoinHandle::abort_handle).collect();
        let all = async {
            for output in outputs {
                output.await.ok();
            }
        };
        if tokio::time::timeout(most, all).await.is_err() {
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
        if let Some(logger) = self.logger.take() {
            logger.finish().await;
        }
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.outputs.iter().chain(&self.input).for_each(JoinHandle::abort);
    }
}

/// A pipe whose ends belong to whom the container's user is outside: a process of it may open /dev/stdout again.
fn pipe(owner: Owner<'_>) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    if owner.uid != 0 || owner.gid != 0 {
        fchown(&writer, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    }
    Ok((reader, writer))
}

/// A FIFO's reading end, and a writing end that keeps it from ending.
fn fifo_to_read(path: &str) -> io::Result<(AsyncFd<OwnedFd>, OwnedFd)> {
    let path = Path::new(path.strip_prefix("fifo://").unwrap_or(path));
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let reader = openat(CWD, path, flags | OFlags::RDONLY, Mode::empty())?;
    let writer = openat(CWD, path, flags | OFlags::WRONLY, Mode::empty())?;
    Ok((sys::watch(reader, Interest::READABLE)?, writer))
}

fn null() -> io::Result<OwnedFd> {
    Ok(openat(CWD, "/dev/null", OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

fn null_to_write() -> io::Result<OwnedFd> {
    Ok(openat(CWD, "/dev/null", OFlags::CLOEXEC | OFlags::WRONLY, Mode::empty())?)
}

/// Three times nothing, for a process whose terminal comes through a console socket.
///
/// # Errors
/// /dev/null cannot be opened.
pub(crate) fn nothing() -> io::Result<Ends> {
    Ok([null()?, null_to_write()?, null_to_write()?])
}
