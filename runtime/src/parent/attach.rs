//! The foreground: relays signals, the terminal and the exit status of a container's process, by poll and without a
//! signal handler. The user's terminal is restored whatever happens.

use super::notify::Notify;
use crate::error::{Context, Result};
use crate::sys;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, read, write};
use rustix::process::{WaitOptions, WaitStatus};
use rustix::termios::{
    OptionalActions, SpecialCodeIndex, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// Signals that were blocked before the container was made, so that none is lost.
pub(crate) struct Signals(OwnedFd);

impl Signals {
    pub(crate) fn block() -> Result<Signals> {
        sys::signal_descriptor().map(Signals).context(|| "make a signal descriptor".to_owned())
    }
}

/// Where nobody has a terminal nobody could end what a program would read from one.
///
/// # Errors
/// None of the standard descriptors is one, and this process belongs to none.
pub(crate) fn find_terminal() -> Result<()> {
    let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    if stdio.into_iter().any(isatty) {
        return Ok(());
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let what = || "process.terminal: true, but the caller has no terminal: open /dev/tty".to_owned();
    open("/dev/tty", flags, Mode::empty()).map(drop).context(what)
}

/// What is relayed.
pub(crate) struct Foreground<'a> {
    pub signals: Signals,
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// Set up before the program runs, so that it finds the right size.
    pub terminal: Option<Terminal>,
    pub notify: Option<Notify>,
}

impl Foreground<'_> {
    /// Relays until the process has ended; the status for the shell: its own, or 128 and the signal.
    pub(crate) fn relay(mut self) -> Result<i32> {
        let mut terminal = self.terminal.take();
        loop {
            let notify = self.notify.as_ref().map(|notify| notify.fd().as_fd());
            let ready = wait(self.signals.0.as_fd(), notify, terminal.as_ref())?;
            if let Some(terminal) = &mut terminal {
                terminal.pump(&ready);
            }
            if ready.notify
                && let Some(notify) = &self.notify
            {
                match notify.relay(self.pid) {
                    Ok(false) => {}
                    Ok(true) => self.notify = None,
                    // A manager that has gone is no reason to end the container.
                    Err(error) => {
                        log::warn!("{error}");
                        self.notify = None;
                    }
                }
            }
            if !ready.signal {
                continue;
            }
            if let Some(status) = self.take_signals(terminal.as_ref())? {
                if let Some(terminal) = &mut terminal {
                    terminal.drain();
                }
                return Ok(status);
            }
        }
    }

    fn take_signals(&self, terminal: Option<&Terminal>) -> Result<Option<i32>> {
        while let Some(signal) = sys::read_signal(&self.signals.0).context(|| "read a signal".to_owned())? {
            match signal {
                libc::SIGCHLD => {
                    if let Some(status) = self.reap()? {
                        return Ok(Some(status));
                    }
                }
                libc::SIGWINCH if terminal.is_some() => {
                    if let Some(terminal) = terminal {
                        terminal.resize();
                    }
                }
                libc::SIGURG => {}
                signal => match sys::send_signal(self.pidfd, signal) {
                    Ok(()) | Err(Errno::SRCH) => {}
                    Err(errno) => log::warn!("relay signal {signal}: {}", crate::error::text(errno)),
                },
            }
        }
        Ok(None)
    }

    /// Takes the children that have ended, orphans of the container too, up to the one whose status counts.
    fn reap(&self) -> Result<Option<i32>> {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid.as_raw_nonzero().get() == self.pid => {
                    return Ok(Some(exit_code(status)));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(None),
                Err(errno) => return Err(errno).context(|| "wait for the container".to_owned()),
            }
        }
    }
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(status), _) => status,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    }
}

/// What poll said.
#[derive(Default)]
struct Ready {
    signal: bool,
    notify: bool,
    input: bool,
    master: bool,
    master_takes: bool,
    output: bool,
}

fn wait(signals: BorrowedFd<'_>, notify: Option<BorrowedFd<'_>>, terminal: Option<&Terminal>) -> Result<Ready> {
    let mut fds = vec![PollFd::from_borrowed_fd(signals, PollFlags::IN)];
    let notify_at = notify.map(|fd| push(&mut fds, fd, PollFlags::IN));
    let mut at = [None; 3];
    if let Some(terminal) = terminal {
        if terminal.reads_input && terminal.to_master.is_empty() {
            at[0] = Some(push(&mut fds, rustix::stdio::stdin(), PollFlags::IN));
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, terminal.to_output.is_empty() && terminal.master_open);
        events.set(PollFlags::OUT, !terminal.to_master.is_empty());
        if !events.is_empty() {
            at[1] = Some(push(&mut fds, terminal.master.as_fd(), events));
        }
        if !terminal.to_output.is_empty() {
            at[2] = Some(push(&mut fds, rustix::stdio::stdout(), PollFlags::OUT));
        }
    }
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok(Ready::default()),
        Err(errno) => return Err(errno).context(|| "poll".to_owned()),
    }
    let events = |at: Option<usize>| at.map_or(PollFlags::empty(), |at| fds[at].revents());
    let end = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
    Ok(Ready {
        signal: fds[0].revents().contains(PollFlags::IN),
        notify: events(notify_at).contains(PollFlags::IN),
        input: events(at[0]).intersects(end),
        master: events(at[1]).intersects(end),
        master_takes: events(at[1]).contains(PollFlags::OUT),
        output: events(at[2]).intersects(PollFlags::OUT | PollFlags::ERR | PollFlags::HUP),
    })
}

fn push<'f>(fds: &mut Vec<PollFd<'f>>, fd: BorrowedFd<'f>, events: PollFlags) -> usize {
    fds.push(PollFd::from_borrowed_fd(fd, events));
    fds.len() - 1
}

/// Bytes on their way: as many as a pipe takes at once when poll says that it takes any. Not on the stack, which those
/// without a terminal would pay for.
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Buffer {
        Buffer { bytes: vec![0; 4096].into_boxed_slice(), start: 0, end: 0 }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// False at the end of the file.
    fn fill(&mut self, from: BorrowedFd<'_>) -> bool {
        match read(from, &mut self.bytes[..]) {
            Ok(0) => false,
            Ok(length) => {
                (self.start, self.end) = (0, length);
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(_) => false,
        }
    }

    /// False if nobody reads any more.
    fn flush(&mut self, to: BorrowedFd<'_>) -> bool {
        match write(to, &self.bytes[self.start..self.end]) {
            Ok(length) => {
                self.start += length;
                true
            }
            Err(Errno::INTR | Errno::AGAIN) => true,
            Err(_) => {
                self.start = self.end;
                false
            }
        }
    }
}

/// How many times the buffer is filled once the process has ended: 128 KiB.
const DRAINED: u32 = 32;

/// The container's terminal behind the user's.
pub(crate) struct Terminal {
    master: OwnedFd,
    master_open: bool,
    reads_input: bool,
    to_master: Buffer,
    to_output: Buffer,
    /// The user's terminal as it was.
    saved: Option<Termios>,
}

impl Terminal {
    pub(crate) fn new(master: OwnedFd) -> Result<Terminal> {
        let what = || "set up the terminal".to_owned();
        let flags = rustix::fs::fcntl_getfl(&master).context(what)?;
        rustix::fs::fcntl_setfl(&master, flags | rustix::fs::OFlags::NONBLOCK).context(what)?;
        let stdin = rustix::stdio::stdin();
        let mut terminal = Terminal {
            master,
            master_open: true,
            reads_input: true,
            to_master: Buffer::new(),
            to_output: Buffer::new(),
            saved: None,
        };
        if isatty(stdin) {
            let saved = tcgetattr(stdin).context(what)?;
            let mut raw = saved.clone();
            raw.make_raw();
            raw.special_codes[SpecialCodeIndex::VMIN] = 1;
            tcsetattr(stdin, OptionalActions::Now, &raw).context(what)?;
            terminal.saved = Some(saved);
            terminal.resize();
        }
        Ok(terminal)
    }

    fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin())
            && size.ws_row > 0
        {
            tcsetwinsize(&self.master, size).ok();
        }
    }

    fn pump(&mut self, ready: &Ready) {
        if ready.input {
            self.reads_input = self.to_master.fill(rustix::stdio::stdin());
        }
        if ready.master_takes {
            self.to_master.flush(self.master.as_fd());
        }
        if ready.master && self.to_output.is_empty() {
            self.master_open = self.to_output.fill(self.master.as_fd());
        }
        if ready.output {
            self.to_output.flush(rustix::stdio::stdout());
        }
    }

    /// The process has ended; what it wrote last is still in the terminal.
    fn drain(&mut self) {
        // A terminal holds less; who goes on to write to it is not waited for.
        for _ in 0..DRAINED {
            while !self.to_output.is_empty() {
                if !self.to_output.flush(rustix::stdio::stdout()) {
                    return;
                }
            }
            if !self.to_output.fill(self.master.as_fd()) || self.to_output.is_empty() {
                return;
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved {
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, saved).ok();
        }
    }
}
