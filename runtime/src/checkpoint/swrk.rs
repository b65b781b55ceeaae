//! CRIU as a service of one request: `criu swrk FD` reads it from a socket, asks back by notifications, answers, and ends.

use super::rpc::{Kind, Request, Response};
use crate::error::{Context, Error, Result};
use crate::sys::{self, CloneArgs, Cloned, StringArray};
use prost::Message;
use rootfs::plan::CText;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg,
    send, socketpair,
};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::path::PathBuf;

/// The largest message that is taken; CRIU's are some hundred bytes.
const MAX_MESSAGE: usize = 64 << 10;
/// The oldest version that is let through, major and minor; what it is tested with is 4.2.
const OLDEST: (i32, i32) = (3, 17);
/// Where programs are looked for without PATH, as engines call a runtime.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program, found and new enough.
pub(super) struct Criu {
    path: CText,
    environment: StringArray,
}

/// What CRIU asks back while it works.
pub(super) struct Notification {
    /// `pre-resume`, `setup-namespaces` and so on.
    pub script: String,
    /// The process that it is about, as CRIU numbers it: in its own pid namespace, which is ours.
    pub pid: i32,
    /// What comes with it: the master of a terminal.
    pub fd: Option<OwnedFd>,
}

/// A CRIU that waits for its request, or works on it.
pub(super) struct Service {
    socket: OwnedFd,
    pub pid: i32,
    pidfd: OwnedFd,
}

impl Criu {
    /// # Errors
    /// It is not there, or too old.
    pub(super) fn find() -> Result<Criu> {
        let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
        let candidates = path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| PathBuf::from(dir).join("criu"));
        let found = |path: &PathBuf| path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
        let Some(program) = candidates.into_iter().find(found) else {
            let problem = "checkpoint and restore need CRIU, and there is no program criu in PATH";
            return Err(Error::Usage(format!("{problem} ({path})")));
        };
        let mut variables: Vec<Vec<u8>> = std::env::vars_os()
            .filter(|(name, _)| name != "PATH")
            .map(|(name, value)| [name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat())
            .collect();
        // CRIU has helpers of its own: tar, ip, nft.
        variables.push(format!("PATH={path}").into_bytes());
        let criu = Criu {
            path: text(program.into_os_string().into_encoded_bytes())?,
            environment: StringArray::new(variables.into_iter().map(text).collect::<Result<_>>()?),
        };
        criu.check_version()?;
        Ok(criu)
    }

    fn check_version(&self) -> Result<()> {
        let request = Request { kind: Kind::Version as i32, ..Request::default() };
        let version = self.serve()?.call(&request, |_| Ok(()))?.version.unwrap_or_default();
        let found = (version.major_number, version.minor_number);
        if found < OLDEST {
            let ((major, minor), (oldest_major, oldest_minor)) = (found, OLDEST);
            let problem = format!("CRIU {major}.{minor} is too old: it takes {oldest_major}.{oldest_minor} or newer");
            return Err(Error::Usage(format!("{}: {problem}", self.path)));
        }
        log::debug!("{}: version {}.{}", self.path, found.0, found.1);
        Ok(())
    }

    /// Starts it.
    pub(super) fn serve(&self) -> Result<Service> {
        self.start(&[], &[], || ())
    }

    /// Starts it in a child that first runs `child`, which ends it if something fails. Of descriptors the child has the
    /// standard streams, those that are `needed` until then, and those that CRIU is to `keep`.
    pub(super) fn start(&self, keep: &[BorrowedFd<'_>], needed: &[i32], child: impl FnOnce()) -> Result<Service> {
        let what = || format!("run {}", self.path);
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
        let words = [self.path.to_bytes().to_vec(), b"swrk".to_vec(), theirs.as_raw_fd().to_string().into_bytes()];
        let args = StringArray::new(words.into_iter().map(text).collect::<Result<_>>()?);
        let of_criu: Vec<i32> = keep.iter().map(AsRawFd::as_raw_fd).chain([theirs.as_raw_fd()]).collect();
        let open = [&of_criu, needed].concat();
        let clone = CloneArgs { exit_signal: libc::SIGCHLD, ..CloneArgs::default() };
        match sys::clone(&clone).context(what)? {
            Cloned::Child { .. } => {
                if sys::close_all_but(&open).is_ok() {
                    child();
                    let pass = |fd: BorrowedFd<'_>| fcntl_setfd(fd, FdFlags::empty()).is_ok();
                    if sys::set_signal_mask(0).is_ok() && pass(theirs.as_fd()) && keep.iter().all(|fd| pass(*fd)) {
                        sys::execve(&self.path, &args, &self.environment);
                    }
                }
                sys::exit_now(127)
            }
            Cloned::Parent { pid, pidfd, .. } => Ok(Service { socket: ours, pid, pidfd }),
        }
    }
}

fn text(bytes: Vec<u8>) -> Result<CText> {
    CText::new(bytes).ok_or_else(|| Error::Usage("a NUL byte in the way to CRIU".to_owned()))
}

impl Service {
    /// Makes a request and serves what CRIU asks back, until it answers.
    pub(super) fn call(
        &self,
        request: &Request,
        mut notified: impl FnMut(Notification) -> Result<()>,
    ) -> Result<Response> {
        self.send(request)?;
        loop {
            let (response, fd) = self.receive()?;
            if response.kind != Kind::Notify as i32 {
                return Ok(response);
            }
            let notify = response.notify.unwrap_or_default();
            log::debug!("CRIU tells: {:?}, process {:?}", notify.script, notify.pid);
            let notification =
                Notification { script: notify.script.unwrap_or_default(), pid: notify.pid.unwrap_or_default(), fd };
            let done = notified(notification);
            let answer =
                Request { kind: Kind::Notify as i32, notify_success: Some(done.is_ok()), ..Request::default() };
            let sent = self.send(&answer);
            done?;
            sent?;
        }
    }

    /// Ends it where it would wait for another request.
    pub(super) fn kill(&self) {
        sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
    }

    fn send(&self, request: &Request) -> Result<()> {
        send(&self.socket, &request.encode_to_vec(), SendFlags::NOSIGNAL)
            .map(drop)
            .context(|| "talk to CRIU".to_owned())
    }

    fn receive(&self) -> Result<(Response, Option<OwnedFd>)> {
        let what = || "hear from CRIU".to_owned();
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = rustix::io::retry_on_intr(|| {
            recvmsg(&self.socket, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })
        .context(what)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        match message.bytes {
            0 => Err(Error::Usage("CRIU ended without an answer".to_owned())),
            length if length >= MAX_MESSAGE => Err(Error::Usage("CRIU's answer is too long".to_owned())),
            length => Response::decode(&buffer[..length])
                .map(|response| (response, fd))
                .map_err(|error| Error::Usage(format!("CRIU's answer is not understood: {error}"))),
        }
    }
}

/// It ends with the answer to its request, or when nobody listens; a moment later it is made to.
impl Drop for Service {
    fn drop(&mut self) {
        const PATIENCE: i64 = 2000;
        rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both).ok();
        if !crate::state::wait_readable(&self.pidfd, Some(PATIENCE)).unwrap_or(false) {
            sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
        }
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
    }
}

/// Whether CRIU did what it was asked.
pub(super) fn succeeded(response: &Response) -> Result<()> {
    if response.success {
        return Ok(());
    }
    let words = response.cr_errmsg.as_deref().and_then(complaint);
    let errno = response.cr_errno.filter(|number| *number > 0).map(Errno::from_raw_os_error);
    Err(Error::Usage(match words.or_else(|| errno.map(crate::error::text)) {
        Some(words) => format!("CRIU failed: {words}"),
        None => "CRIU failed".to_owned(),
    }))
}

/// Adds to an error what CRIU wrote into its log, which says more.
pub(super) fn explain(verb: &str, error: Error, work: &OwnedFd, log: &str) -> Error {
    let words = match read_log(work, log) {
        Some(line) => format!("{verb}: CRIU failed: {line} (see {log} in the work directory)"),
        None => format!("{verb}: {error}"),
    };
    Error::Usage(words)
}

/// The first complaint that is no consequence of another; CRIU goes on complaining for a while.
fn read_log(work: &OwnedFd, log: &str) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(work, log, flags, Mode::empty()).ok()?;
    let mut text = Vec::new();
    std::fs::File::from(file).take(64 << 20).read_to_end(&mut text).ok()?;
    complaint(&String::from_utf8_lossy(&text))
}

fn complaint(log: &str) -> Option<String> {
    // What it says of itself on every machine that lets it be root of less than the whole.
    let usual = |line: &&str| line.contains("RLIMIT_NOFILE for self");
    let line = log.lines().filter(|line| line.contains("Error (")).find(|line| !usual(line))?;
    let words = line.split_once("): ").map_or(line, |(_, words)| words);
    // Words by which engines tell a program that is not in the container.
    let words = words.replace("No such file or directory", "it is not there");
    Some(words.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn the_first_error_counts() {
        let log = "(00.1) Error (criu/util.c:1): rlimit: Can't setup RLIMIT_NOFILE for self: no\n(00.2) pie: 4: x\n\
                   (00.3) Error (criu/files-reg.c:1816): Can't lookup mount=29 for fd=1 path=/tmp/x\n\
                   (00.4) Error (criu/cr-dump.c:1): Dumping FAILED.\n";
        assert_eq!(complaint(log).as_deref(), Some("Can't lookup mount=29 for fd=1 path=/tmp/x"));
        assert_eq!(complaint("(00.1) fine"), None);
    }
}
