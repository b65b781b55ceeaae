//! What the process that makes a container and the container's own process say to each other, and in which order.
//!
//! ```text
//!   parent (proa create)                     child (the container's init)
//!     record pid, join cgroups    clone3 ─▶
//!                      Joined ─▶                only where clone3 could not put it into the cgroup before the
//!                                               cgroup namespace is made
//!     write id maps               ◀─ MapIds     only with a new user namespace
//!                      Mapped ─▶
//!                                               mounts, devices, console
//!                                 ◀─ Console    with the terminal, only if the parent wants it
//!     prestart, createRuntime     ◀─ Mounted    only if there are such hooks or network devices
//!                    HooksDone ─▶
//!                                               createContainer, pivot, identity
//!     resource limits             ◀─ Limits     only in a user namespace, where the child has no right to raise them
//!                   LimitsSet ─▶
//!     tell who listens            ◀─ Listener   only with a seccomp filter that notifies
//!               ListenerTaken ─▶
//!                                ◀─ Ready
//!     state is complete    Go ─▶
//!                                               waits for `proa start`, unless this is `proa run`
//!                                 ◀─ Executing  over the start socket's connection, or this socket for run
//!                                               execve: the socket closes
//! ```
//! At any point the child may send a [`Failure`] and exit; the end of the socket means that it is gone. Until `Go` the
//! child exits when the socket ends, so that nothing outlives a parent that was killed.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recv, recvmsg, send, sendmsg, socketpair,
};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;

/// Messages without content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Signal {
    MapIds = b'm',
    Mapped = b'M',
    Joined = b'j',
    Mounted = b'h',
    HooksDone = b'H',
    Ready = b'r',
    Go = b'g',
    Executing = b'x',
    Limits = b'l',
    LimitsSet = b'L',
    ListenerTaken = b'N',
}

const SIGNALS: [Signal; 11] = [
    Signal::MapIds,
    Signal::Mapped,
    Signal::Joined,
    Signal::Mounted,
    Signal::HooksDone,
    Signal::Ready,
    Signal::Go,
    Signal::Executing,
    Signal::Limits,
    Signal::LimitsSet,
    Signal::ListenerTaken,
];

/// What was received.
#[derive(Debug)]
pub(crate) enum Message {
    Signal(Signal),
    /// A terminal's master.
    Console(OwnedFd),
    /// From the child that becomes CRIU: a directory, in its mount namespace.
    Directory(OwnedFd),
    /// From the intermediate process: the process that it cloned for the container.
    Init {
        pid: i32,
        pidfd: OwnedFd,
    },
    /// The number of a seccomp listener in the process that says it.
    Listener(i32),
    Failure(Failure),
    /// The other side is gone.
    End,
}

/// The entry of the plan that a step was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Rootfs(rootfs::Item),
    /// `linux.namespaces[i]`.
    Namespace(u16),
    /// The i-th of `linux.sysctl`.
    Sysctl(u16),
    CreateContainer(u16),
    StartContainer(u16),
    /// The i-th rule of the annotation for Landlock.
    Landlock(u16),
    /// RLIMIT_* of `process.rlimits`.
    Rlimit(u16),
    /// The program to execute.
    Program,
    /// The property stands in `what`.
    Property,
}

/// A step of the child that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub item: Item,
    pub what: String,
    /// errno, or of a hook its exit status or signal.
    pub number: i32,
    /// The last output of a hook.
    pub detail: Vec<u8>,
}

impl From<rootfs::Failure> for Failure {
    fn from(failure: rootfs::Failure) -> Failure {
        Failure {
            item: Item::Rootfs(failure.item),
            what: failure.what.to_owned(),
            number: failure.errno.raw_os_error(),
            detail: Vec::new(),
        }
    }
}

impl Item {
    /// Attaches the entry to what a system call answered.
    pub(crate) fn at<T>(self, what: &'static str, result: Result<T>) -> std::result::Result<T, Failure> {
        result.map_err(|errno| self.failure(what, errno))
    }

    pub(crate) fn failure(self, what: &'static str, errno: Errno) -> Failure {
        Failure { item: self, what: what.to_owned(), number: errno.raw_os_error(), detail: Vec::new() }
    }

    fn code(self) -> (u8, u16) {
        use rootfs::Item as R;
        match self {
            Item::Rootfs(R::Root) => (0, 0),
            Item::Rootfs(R::Mount(i)) => (1, i),
            Item::Rootfs(R::MountSource(i)) => (2, i),
            Item::Rootfs(R::Device(i)) => (3, i),
            Item::Rootfs(R::Links) => (4, 0),
            Item::Rootfs(R::Masked(i)) => (5, i),
            Item::Rootfs(R::Readonly(i)) => (6, i),
            Item::Rootfs(R::Console) => (7, 0),
            Item::Namespace(i) => (8, i),
            Item::Sysctl(i) => (9, i),
            Item::CreateContainer(i) => (10, i),
            Item::StartContainer(i) => (11, i),
            Item::Program => (12, 0),
            Item::Property => (13, 0),
            Item::Rlimit(i) => (14, i),
            Item::Landlock(i) => (15, i),
            Item::Rootfs(R::Layers) => (16, 0),
        }
    }

    fn from_code(code: u8, i: u16) -> Item {
        use rootfs::Item as R;
        match code {
            0 => Item::Rootfs(R::Root),
            1 => Item::Rootfs(R::Mount(i)),
            2 => Item::Rootfs(R::MountSource(i)),
            3 => Item::Rootfs(R::Device(i)),
            4 => Item::Rootfs(R::Links),
            5 => Item::Rootfs(R::Masked(i)),
            6 => Item::Rootfs(R::Readonly(i)),
            7 => Item::Rootfs(R::Console),
            8 => Item::Namespace(i),
            9 => Item::Sysctl(i),
            10 => Item::CreateContainer(i),
            11 => Item::StartContainer(i),
            12 => Item::Program,
            14 => Item::Rlimit(i),
            15 => Item::Landlock(i),
            16 => Item::Rootfs(R::Layers),
            _ => Item::Property,
        }
    }
}

const FAILURE: u8 = b'F';
const CONSOLE: u8 = b'c';
const DIRECTORY: u8 = b'D';
const INIT: u8 = b'i';
const LISTENER: u8 = b'n';
/// Longest message; what does not fit of a hook's output is left out.
const MAX: usize = 1024;

/// One end of the pair. Messages keep their bounds.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
    /// Received before their turn.
    early: RefCell<VecDeque<Message>>,
    /// Under a seccomp filter, which may forbid the calls of sockets.
    filtered: Cell<bool>,
}

impl Channel {
    pub(crate) fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Channel::from_fd(a), Channel::from_fd(b)))
    }

    pub(crate) fn from_fd(socket: OwnedFd) -> Channel {
        Channel { socket, early: RefCell::default(), filtered: Cell::new(false) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Puts a message back that came before its turn: the container's process may speak before the intermediate one
    /// has told of it.
    pub(crate) fn keep(&self, message: Message) {
        self.early.borrow_mut().push_back(message);
    }

    /// EPIPE if the other side is gone.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.send(&[signal as u8])
    }

    /// From now on this side only makes calls that every program makes. Without a parent it is ended by SIGPIPE.
    pub(crate) fn use_read_and_write(&self) {
        self.filtered.set(true);
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        if self.filtered.get() {
            // A filter may answer for the kernel without doing anything.
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&self.socket, bytes))?;
            return if written == bytes.len() { Ok(()) } else { Err(Errno::IO) };
        }
        rustix::io::retry_on_intr(|| send(&self.socket, bytes, SendFlags::NOSIGNAL)).map(drop)
    }

    pub(crate) fn fail(&self, failure: &Failure) {
        let (code, index) = failure.item.code();
        let mut bytes = vec![FAILURE, code];
        bytes.extend_from_slice(&index.to_le_bytes());
        bytes.extend_from_slice(&failure.number.to_le_bytes());
        let what = &failure.what.as_bytes()[..failure.what.len().min(255)];
        bytes.push(what.len() as u8);
        bytes.extend_from_slice(what);
        let room = MAX - bytes.len();
        let start = failure.detail.len().saturating_sub(room);
        bytes.extend_from_slice(&failure.detail[start..]);
        // A parent that is gone needs no reason.
        self.send(&bytes).ok();
    }

    pub(crate) fn send_init(&self, pid: i32, pidfd: BorrowedFd<'_>) -> Result<()> {
        let mut bytes = [INIT; 5];
        bytes[1..].copy_from_slice(&pid.to_le_bytes());
        send_descriptor(self.fd(), &bytes, pidfd)
    }

    pub(crate) fn send_listener(&self, number: i32) -> Result<()> {
        let mut bytes = [LISTENER; 5];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        self.send(&bytes)
    }

    pub(crate) fn send_console(&self, master: BorrowedFd<'_>) -> Result<()> {
        send_descriptor(self.fd(), &[CONSOLE], master)
    }

    pub(crate) fn send_directory(&self, fd: BorrowedFd<'_>) -> Result<()> {
        send_descriptor(self.fd(), &[DIRECTORY], fd)
    }

    /// Waits for the next message.
    pub(crate) fn receive(&self) -> Result<Message> {
        if let Some(message) = self.early.borrow_mut().pop_front() {
            return Ok(message);
        }
        self.receive_new()
    }

    /// Waits for a message that is not kept yet.
    pub(crate) fn receive_new(&self) -> Result<Message> {
        let mut bytes = [0u8; MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let length = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(Message::End),
                answer => break answer?.bytes,
            }
        };
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok(parse(&bytes[..length], descriptor))
    }

    /// Waits for one signal; false if the other side is gone or says something else.
    pub(crate) fn expect(&self, signal: Signal) -> bool {
        let mut byte = [0u8; 1];
        if self.filtered.get() {
            let received = rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut byte[..]));
            return received.is_ok_and(|length| length == 1) && byte[0] == signal as u8;
        }
        let received = rustix::io::retry_on_intr(|| recv(&self.socket, &mut byte[..], RecvFlags::empty()));
        received.is_ok_and(|(length, _)| length == 1) && byte[0] == signal as u8
    }
}

fn parse(bytes: &[u8], descriptor: Option<OwnedFd>) -> Message {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_le_bytes);
    match bytes {
        [CONSOLE] => descriptor.map_or(Message::End, Message::Console),
        [DIRECTORY] => descriptor.map_or(Message::End, Message::Directory),
        [INIT, ..] => descriptor.map_or(Message::End, |pidfd| Message::Init { pid: word(1), pidfd }),
        [LISTENER, _, _, _, _] => Message::Listener(word(1)),
        [FAILURE, code, low, high, _, _, _, _, length, rest @ ..] => {
            let (what, detail) = rest.split_at(usize::from(*length).min(rest.len()));
            Message::Failure(Failure {
                item: Item::from_code(*code, u16::from_le_bytes([*low, *high])),
                what: String::from_utf8_lossy(what).into_owned(),
                number: word(4),
                detail: detail.to_vec(),
            })
        }
        [byte] => SIGNALS.iter().find(|s| **s as u8 == *byte).map_or(Message::End, |signal| Message::Signal(*signal)),
        _ => Message::End,
    }
}

/// Sends one descriptor with SCM_RIGHTS.
pub(crate) fn send_descriptor(socket: BorrowedFd<'_>, payload: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
    let fds = [fd];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(payload)], &mut control, SendFlags::NOSIGNAL)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_cross_whole() {
        let (a, b) = Channel::pair().unwrap();
        for index in 0..15 {
            let item = Item::from_code(index, if matches!(index, 0 | 4 | 7 | 12 | 13) { 0 } else { 500 });
            let failure = Failure { item, what: "open".to_owned(), number: 13, detail: b"last words".to_vec() };
            a.fail(&failure);
            match b.receive().unwrap() {
                Message::Failure(received) => assert_eq!(received, failure),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn long_output_is_cut_at_its_beginning() {
        let (a, b) = Channel::pair().unwrap();
        let mut detail = vec![b'a'; 5000];
        detail.extend_from_slice(b"end");
        a.fail(&Failure { item: Item::Program, what: "x".repeat(300), number: 1, detail });
        let Message::Failure(received) = b.receive().unwrap() else { panic!() };
        assert!(received.detail.ends_with(b"end") && received.what.len() == 255);
    }

    #[test]
    fn signals_descriptors_and_the_end() {
        let (a, b) = Channel::pair().unwrap();
        for signal in SIGNALS {
            a.signal(signal).unwrap();
            assert!(matches!(b.receive().unwrap(), Message::Signal(got) if got == signal));
        }
        a.send_console(a.fd()).unwrap();
        assert!(matches!(b.receive().unwrap(), Message::Console(_)));
        a.send_init(7, a.fd()).unwrap();
        a.use_read_and_write();
        a.send_listener(300).unwrap();
        assert!(matches!(b.receive().unwrap(), Message::Init { pid: 7, .. }));
        assert!(matches!(b.receive().unwrap(), Message::Listener(300)));
        b.signal(Signal::ListenerTaken).unwrap();
        assert!(a.expect(Signal::ListenerTaken));
        drop(a);
        assert!(matches!(b.receive().unwrap(), Message::End));
        assert!(!b.expect(Signal::Go));
    }
}
