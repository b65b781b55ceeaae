//! Terminals: those a user sits at (a pty made by the test) and those a runtime
//! hands over a socket; and the receiving end of that protocol.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::look;
use crate::runtime::TIME_LIMIT;
use crate::sys;

/// The master end of a terminal.
#[derive(Debug)]
pub struct Master {
    fd: OwnedFd,
    seen: Vec<u8>,
}

impl Master {
    /// Takes a terminal's master; it is read without blocking.
    pub fn new(fd: OwnedFd) -> Self {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).expect("cannot make a terminal non-blocking");
        Self { fd, seen: Vec::new() }
    }

    /// Opens a pair: the master, and the slave for a child.
    pub fn open() -> (Self, OwnedFd) {
        let pair = nix::pty::openpty(None, None).expect("cannot open a terminal");
        (Self::new(pair.master), pair.slave)
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// Types `text`.
    pub fn write(&self, text: &str) {
        nix::unistd::write(&self.fd, text.as_bytes()).expect("cannot write to a terminal");
    }

    /// All that has been printed so far. The end of the other side is no error.
    pub fn text(&mut self) -> String {
        let mut buffer = [0; 4096];
        while let Ok(count) = nix::unistd::read(&self.fd, &mut buffer) {
            if count == 0 {
                break;
            }
            self.seen.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until `text` has been printed.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let mut all = String::new();
        let found = look::eventually_within(Duration::from_secs(10), || {
            all = self.text();
            all.contains(text)
        });
        assert!(found, "the terminal did not show {text:?} but {all:?}");
    }
}

/// A listening socket that a runtime sends descriptors to (`--console-socket`,
/// `--pidfd-socket`, a seccomp listener).
#[derive(Debug)]
pub struct Receiver {
    listener: UnixListener,
    /// Its path.
    pub path: PathBuf,
}

impl Receiver {
    /// Listens at `path`, which must be short (sun_path has 108 bytes).
    pub fn listen(path: &Path) -> Self {
        let listener =
            UnixListener::bind(path).unwrap_or_else(|error| panic!("cannot listen at {}: {error}", path.display()));
        listener.set_nonblocking(true).expect("cannot make a socket non-blocking");
        Self { listener, path: path.to_owned() }
    }

    /// Takes one connection and its first message: the payload, and the
    /// descriptors that came with it. The connection is closed.
    #[track_caller]
    pub fn receive(&self) -> (String, Vec<OwnedFd>) {
        let stream = self.accept();
        stream.set_read_timeout(Some(TIME_LIMIT)).expect("cannot set a time limit");
        let mut buffer = [0; 65536];
        let mut space = nix::cmsg_space!([RawFd; 8]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .expect("no message on the socket");
        let mut fds = Vec::new();
        for part in message.cmsgs().expect("control data was cut off") {
            if let ControlMessageOwned::ScmRights(numbers) = part {
                fds.extend(numbers.into_iter().map(sys::own));
            }
        }
        let length = message.bytes;
        (String::from_utf8_lossy(&buffer[..length]).into_owned(), fds)
    }

    /// Takes one connection.
    #[track_caller]
    pub fn accept(&self) -> UnixStream {
        let mut accepted = None;
        look::eventually("a connection to the socket", || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.expect("just accepted");
        stream.set_nonblocking(false).expect("cannot make a socket blocking");
        stream
    }

    /// Whether somebody has connected.
    pub fn has_connection(&self) -> bool {
        self.listener.accept().is_ok()
    }

    /// Receives a terminal: exactly one descriptor.
    #[track_caller]
    pub fn terminal(&self) -> Master {
        let (_, mut fds) = self.receive();
        assert_eq!(fds.len(), 1, "descriptors with the console message");
        Master::new(fds.remove(0))
    }
}
