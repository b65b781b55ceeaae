//! Moving bytes between descriptors that do not block: by splice(2) from pipe to pipe, without a copy in user space.
//!
//! A relay of an output goes on until the process, and all that have its stream from it, have closed it. What cannot be
//! written is dropped and counted: the container is never blocked by a log that is broken, only by one that is slow. An
//! AsyncFd that stays ready never yields: each step counts against the task's budget, so that others have their turn.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use tokio::sync::watch;
use tokio::task::coop::consume_budget;

use super::target::Sink;

/// How much one splice moves at most; a pipe holds less.
const PORTION: usize = 1 << 20;
/// How much one read takes.
const BUFFER: usize = 16 << 10;

/// An output of a process without a terminal.
pub(crate) async fn output(from: &AsyncFd<OwnedFd>, sink: Sink) {
    let written = match sink {
        Sink::Pipe(to) => splice_all(from, &to).await,
        Sink::File(file) => copy_to_file(from, file).await,
    };
    if let Err(error) = written {
        log::warn!("an output cannot be written and is dropped from now on: {error}");
        drop_all(from).await;
    }
}

/// The input of a process without a terminal, until all writers have gone, or until it is closed and what they have
/// written has gone through. Where it fails, the process reads its end.
pub(crate) async fn splice_input(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>, closed: watch::Receiver<bool>) {
    if let Err(error) = splice_until(from, to, closed).await
        && error.raw_os_error() != Some(libc::EPIPE)
    {
        log::warn!("an input cannot be relayed any more: {error}");
    }
}

/// The input of a terminal. Its end is none of the terminal's.
pub(crate) async fn copy_input(from: &AsyncFd<OwnedFd>, terminal: &AsyncFd<OwnedFd>) {
    copy(from, terminal).await.ok();
}

/// What a terminal shows. It ends with EIO when nobody has it open any more.
pub(crate) async fn terminal_output(terminal: &AsyncFd<OwnedFd>, sink: Option<Sink>) {
    let written = match sink {
        Some(Sink::Pipe(to)) => copy(terminal, &to).await,
        Some(Sink::File(file)) => copy_to_file(terminal, file).await,
        None => Ok(()),
    };
    if let Err(error) = written {
        log::warn!("a terminal's output cannot be written and is dropped from now on: {error}");
    }
    drop_all(terminal).await;
}

async fn splice_until(
    from: &AsyncFd<OwnedFd>,
    to: &AsyncFd<OwnedFd>,
    mut closed: watch::Receiver<bool>,
) -> io::Result<()> {
    tokio::select! {
        ended = splice_all(from, to) => return ended,
        // A sender that is gone closes too.
        _ = closed.wait_for(|closed| *closed) => {}
    }
    // A splice is never cut off: it is one system call.
    while now(from, PollFlags::IN).contains(PollFlags::IN) {
        splice_some(from, to).await?;
    }
    Ok(())
}

async fn splice_all(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> io::Result<()> {
    while splice_some(from, to).await? {}
    Ok(())
}

/// Moves what there is, or waits for it. False at the end.
async fn splice_some(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> io::Result<bool> {
    consume_budget().await;
    let mut source = from.readable().await?;
    let mut target = to.writable().await?;
    match splice(from, None, to, None, PORTION, SpliceFlags::NONBLOCK | SpliceFlags::MOVE) {
        Ok(0) if has_ended(from) => return Ok(false),
        // A FIFO that nobody has opened to write so far.
        Ok(0) => source.clear_ready(),
        Ok(_) | Err(Errno::INTR) => {}
        Err(Errno::AGAIN) => settle(&mut source, &mut target),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// Forgets the readiness of the one that is not ready. Both may be so again already.
fn settle(source: &mut AsyncFdReadyGuard<'_, OwnedFd>, target: &mut AsyncFdReadyGuard<'_, OwnedFd>) {
    if now(source.get_ref(), PollFlags::IN).is_empty() {
        source.clear_ready();
    }
    if now(target.get_ref(), PollFlags::OUT).is_empty() {
        target.clear_ready();
    }
}

/// What poll(2) says this moment; an error or a hang-up is something too.
fn now(fd: &AsyncFd<OwnedFd>, wanted: PollFlags) -> PollFlags {
    let mut asked = [PollFd::new(fd, wanted)];
    match poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => asked[0].revents(),
        Err(_) => PollFlags::ERR,
    }
}

/// Whether all writers have gone; there were some.
fn has_ended(from: &AsyncFd<OwnedFd>) -> bool {
    now(from, PollFlags::IN).intersects(PollFlags::HUP | PollFlags::ERR)
}

async fn copy(from: &AsyncFd<OwnedFd>, to: &AsyncFd<OwnedFd>) -> io::Result<()> {
    while let Some(bytes) = read(from).await? {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let mut ready = to.writable().await?;
            match ready.try_io(|to| Ok(rustix::io::write(to, rest)?)) {
                Ok(Ok(length)) => rest = &rest[length..],
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// A disk that is full for a while costs the log what comes meanwhile, and no more.
async fn copy_to_file(from: &AsyncFd<OwnedFd>, mut file: File) -> io::Result<()> {
    let mut dropped = 0;
    while let Some(bytes) = read(from).await? {
        match file.write_all(&bytes) {
            Ok(()) if dropped > 0 => {
                log::warn!("a log file can be written again; {dropped} bytes were dropped");
                dropped = 0;
            }
            Ok(()) => {}
            Err(error) => {
                if dropped == 0 {
                    log::warn!("a log file cannot be written, and what it should have is dropped: {error}");
                }
                dropped += bytes.len();
            }
        }
    }
    Ok(())
}

async fn drop_all(from: &AsyncFd<OwnedFd>) {
    while let Ok(Some(_)) = read(from).await {}
}

/// Some bytes; None at the end.
async fn read(from: &AsyncFd<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
    loop {
        consume_budget().await;
        let mut ready = from.readable().await?;
        let mut bytes = Vec::with_capacity(BUFFER);
        match ready.try_io(|from| Ok(rustix::io::read(from, rustix::buffer::spare_capacity(&mut bytes))?)) {
            Ok(Ok(0)) if has_ended(from) => return Ok(None),
            Ok(Ok(0)) => ready.clear_ready(),
            Ok(Ok(_)) => return Ok(Some(bytes)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            // A terminal that nobody has open.
            Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Ok(None),
            Ok(Err(error)) => return Err(error),
            Err(_) => {}
        }
    }
}
