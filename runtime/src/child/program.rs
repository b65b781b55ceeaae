//! Finding the program in the container and becoming it.

use super::identity::Home;
use super::{Result, filter};
use crate::plan::Process;
use crate::sync::{Channel, Failure, Item, Signal};
use crate::sys;
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, stat};
use rustix::io::Errno;

/// Which of the candidates it is.
#[derive(Clone, Copy)]
pub(crate) struct Found(usize);

/// As execvp(3) would find it, so that a missing program is an error of create already.
pub(crate) fn find(process: &Process) -> Result<Found> {
    let mut last = Errno::NOENT;
    for (index, path) in process.candidates.iter().enumerate() {
        match check(path) {
            Ok(()) => return Ok(Found(index)),
            // A candidate that is there and cannot be executed is worth more words than one that is not.
            Err(errno @ (Errno::ACCESS | Errno::ISDIR)) => last = errno,
            Err(errno) if last == Errno::NOENT && !matches!(errno, Errno::NOENT | Errno::NOTDIR) => last = errno,
            Err(_) => {}
        }
    }
    Err(Item::Program.failure("find", last))
}

fn check(path: &std::ffi::CStr) -> rustix::io::Result<()> {
    if FileType::from_raw_mode(stat(path)?.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2(2) is Linux 5.8; execve will tell.
        Err(Errno::NOSYS | Errno::PERM) => Ok(()),
        answer => answer,
    }
}

/// Closes what must not pass, and executes. Returns what went wrong.
pub(crate) fn execute(
    process: &mut Process,
    found: &Found,
    home: Option<&Home>,
    preserve_fds: u32,
    channel: &Channel,
) -> Failure {
    let closed = match filter::is_early(process) {
        // Done before the filter, and what was opened since is marked so.
        true => Ok(()),
        false => sys::close_range_cloexec(3 + preserve_fds),
    };
    let prepared = closed
        .and_then(|()| announce(process, channel))
        .and_then(|broken_pipe| sys::reset_ignored_signals(process.ignored_signals | broken_pipe))
        .and_then(|()| sys::set_signal_mask(0));
    if let Err(errno) = prepared {
        return Item::Property.failure("prepare to execute", errno);
    }
    if let Err(failure) = filter::load_late(process, channel) {
        return failure;
    }
    let path = &process.candidates[found.0];
    let errno = process.args.exec(path, &mut process.env, home.map(Home::as_c_str));
    Item::Program.failure("exec", errno)
}

/// Says that from here on only a failure is worth a message. Whoever gave the order may be gone by now: it stands.
/// Returns the mask of a signal that is ignored for that.
fn announce(process: &Process, channel: &Channel) -> rustix::io::Result<u64> {
    if !filter::is_early(process) {
        channel.signal(Signal::Executing).ok();
        return Ok(0);
    }
    sys::ignore_signal(libc::SIGPIPE)?;
    if channel.signal(Signal::Executing).is_err() {
        // Takes away one that waits behind the signal mask.
        sys::ignore_signal(libc::SIGPIPE)?;
    }
    Ok(1 << (libc::SIGPIPE - 1))
}
