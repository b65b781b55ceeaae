//! CRIU as a service of one request: `criu swrk FD` reads it from a socket, asks back by notifications, answers, and ends.

use super::rpc::{Kind, Request, Response};
use crate::error::{Context, Error, Result};
use crate::sys::{self, CloneArgs, Cloned, StringArray};
use prost::Message;
use rootfs::plan::CText;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType, recvmsg, send,
    socketpair,
};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;

/// The largest message that is taken; CRIU's are some hundred bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// What CRIU asks back while it works.
pub(super) struct Notification {
    /// `pre-resume`, `setup-namespaces` and so on.
    pub script: String,
    /// The process that it is about, as CRIU numbers it: in its own pid namespace, which is ours.
    pub pid: i32,
    /// What comes with it: the master of a terminal.
    pub fd: Option<OwnedFd>,
}

/// A CRIU that waits for its request.
pub(super) struct Service {
    socket: OwnedFd,
    pid: Pid,
    pidfd: OwnedFd,
    ended: bool,
}

impl Service {
    /// Starts `program`, which then has no descriptors but its standard ones, the socket, and `keep`.
    pub(super) fn start(program: &str, keep: &[BorrowedFd<'_>]) -> Result<Service> {
        let what = || format!("run {program}");
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
        let text = |text: String| CText::new(text).ok_or(Errno::INVAL);
        let words = [program.to_owned(), "swrk".to_owned(), theirs.as_raw_fd().to_string()];
        let args = StringArray::new(words.map(text).into_iter().collect::<rustix::io::Result<_>>().context(what)?);
        let program = text(program.to_owned()).context(what)?;
        let environment = StringArray::new(std::env::vars_os().map(|(name, value)| CText::new([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()).ok_or(Errno::INVAL)).collect::<rustix::io::Result<_>>().context(what)?);
        let clone = CloneArgs { exit_signal: libc::SIGCHLD, ..CloneArgs::default() };
        match sys::clone(&clone).context(what)? {
            Cloned::Child { .. } => {
                let prepare = || {
                    sys::set_signal_mask(0)?;
                    sys::close_range_cloexec(3)?;
                    fcntl_setfd(&theirs, FdFlags::empty())?;
                    keep.iter().try_for_each(|fd| fcntl_setfd(fd, FdFlags::empty()))
                };
                if prepare().is_ok() {
                    sys::execve(&program, &args, &environment);
                }
                sys::exit_now(127)
            }
            Cloned::Parent { pid, pidfd, .. } => {
                let pid = Pid::from_raw(pid).ok_or(Errno::SRCH).context(what)?;
                Ok(Service { socket: ours, pid, pidfd, ended: false })
            }
        }
    }

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
            let notification =
                Notification { script: notify.script.unwrap_or_default(), pid: notify.pid.unwrap_or_default(), fd };
            let done = notified(notification);
            let answer = Request {
                kind: Kind::Notify as i32,
                notify_success: Some(done.is_ok()),
                ..Request::default()
            };
            self.send(&answer)?;
            done?;
        }
    }

    fn send(&self, request: &Request) -> Result<()> {
        send(&self.socket, &request.encode_to_vec(), SendFlags::NOSIGNAL).map(drop).context(|| "talk to CRIU".to_owned())
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

/// It ends with its one request; one that does not is ended.
impl Drop for Service {
    fn drop(&mut self) {
        if !self.ended {
            sys::send_signal(self.pidfd.as_fd(), libc::SIGKILL).ok();
        }
        rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
    }
}
