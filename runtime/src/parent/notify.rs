//! sd_notify(3) for a container: a socket of its own whose READY=1 is passed on to the service manager.
//!
//! create makes the directory and mounts it into the container; start, or run, binds the socket and waits.

use crate::error::{Context, Result};
use crate::state::{StateDir, wait_readable};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, chmodat, mkdirat, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, connect, recv, send,
    socket_with,
};

pub(crate) const DIRECTORY: &str = "notify";
const SOCKET: &str = "notify.sock";
/// How long the service manager may take to confirm.
const BARRIER_MILLISECONDS: i64 = 30_000;

/// The service manager's socket, if this command was started by one.
pub(crate) fn requested() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty())
}

/// Makes the directory that the container will see.
pub(crate) fn make_directory(dir: &StateDir) -> Result<()> {
    mkdirat(dir.fd(), DIRECTORY, Mode::from_raw_mode(0o755)).context(|| "make the notify directory".to_owned())
}

/// The container's end.
pub(crate) struct Notify {
    socket: OwnedFd,
    manager: String,
}

impl Notify {
    /// None: the container was made without, or nobody is to be told.
    pub(crate) fn bind(dir: &StateDir) -> Result<Option<Notify>> {
        let Some(manager) = requested().filter(|_| dir.exists(DIRECTORY)) else { return Ok(None) };
        let what = || "make the notify socket".to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = openat(dir.fd(), DIRECTORY, flags, Mode::empty()).context(what)?;
        let path = format!("/proc/self/fd/{}/{SOCKET}", inside.as_raw_fd());
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context(what)?;
        let address = SocketAddrUnix::new(path).context(what)?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                rustix::fs::unlinkat(&inside, SOCKET, rustix::fs::AtFlags::empty()).context(what)?;
                bind(&socket, &address).context(what)?;
            }
            done => done.context(what)?,
        }
        // Any user of the container may say that it is ready.
        chmodat(&inside, SOCKET, Mode::from_raw_mode(0o777), rustix::fs::AtFlags::empty()).context(what)?;
        Ok(Some(Notify { socket, manager }))
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.socket
    }

    /// Waits until the container is ready, or its init has ended.
    pub(crate) fn wait(&self, pid: i32, pidfd: &OwnedFd) -> Result<()> {
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                done => done.context(|| "poll the notify socket".to_owned())?,
            };
            if !fds[0].revents().is_empty() && self.relay(pid)? {
                return Ok(());
            }
            if !fds[1].revents().is_empty() {
                return Ok(());
            }
        }
    }

    /// Reads one message; true once the container has said that it is ready and the manager knows.
    pub(crate) fn relay(&self, pid: i32) -> Result<bool> {
        let mut text = [0u8; 4096];
        let received = rustix::io::retry_on_intr(|| recv(&self.socket, &mut text[..], RecvFlags::DONTWAIT));
        let (length, _) = received.context(|| "read the notify socket".to_owned())?;
        let ready = text[..length].split(|byte| *byte == b'\n').any(|line| line.starts_with(b"READY="));
        if ready {
            self.tell(pid)?;
        }
        Ok(ready)
    }

    fn tell(&self, pid: i32) -> Result<()> {
        let what = || format!("tell NOTIFY_SOCKET {:?}", self.manager);
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None).context(what)?;
        let address = match self.manager.strip_prefix('@') {
            Some(name) => SocketAddrUnix::new_abstract_name(name.as_bytes()),
            None => SocketAddrUnix::new(self.manager.as_str()),
        };
        connect(&socket, &address.context(what)?).context(what)?;
        let text = format!("READY=1\nMAINPID={pid}");
        send(&socket, text.as_bytes(), SendFlags::NOSIGNAL).context(what)?;
        // The manager closes its copy of the pipe when it has read all before: then this process may end.
        let (end, hold) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(what)?;
        crate::sync::send_descriptor(socket.as_fd(), b"BARRIER=1", hold.as_fd()).context(what)?;
        drop(hold);
        wait_readable(&end, Some(BARRIER_MILLISECONDS)).map(drop)
    }
}
