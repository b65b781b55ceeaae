//! A connection to a D-Bus daemon, or to systemd itself, that never waits for longer than it was told at the start.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
    sockopt,
};
use serde::Serialize;
use zvariant::Type;

use super::message::{self, Kind, Message, Method, START};

/// Why systemd has not done something.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("cannot connect to {address}: {errno}")]
    Connect { address: String, errno: Errno },
    #[error("{0:?} is no address of a bus that proa knows: it is neither unix:path= nor unix:abstract=")]
    Address(String),
    #[error("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set, where a user's systemd would be")]
    NoAddress,
    #[error("the connection is lost: {0}")]
    Lost(Errno),
    #[error("the bus has closed the connection")]
    Closed,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error("the bus does not take this user: {0:?}")]
    Authentication(String),
    #[error("{0}")]
    Malformed(String),
    /// The name of a D-Bus error, and its text.
    #[error("{text} ({name})")]
    Refused { name: String, text: String },
    #[error("job {0}")]
    Job(String),
}

impl From<zvariant::Error> for Failure {
    fn from(error: zvariant::Error) -> Failure {
        Failure::Malformed(format!("a message makes no sense: {error}"))
    }
}

impl Failure {
    /// Whether it is the D-Bus error of that name.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Failure::Refused { name, .. } if name == wanted)
    }
}

/// The connection. Calls are numbered; what comes in is kept until somebody asks for it.
pub(super) struct Bus {
    socket: OwnedFd,
    patience: Duration,
    end: Instant,
    serial: u32,
    output: Vec<u8>,
    input: Vec<u8>,
    early: VecDeque<Message>,
}

impl Bus {
    /// Connects to `unix:path=/run/dbus/system_bus_socket` or the like, as the user that this process is to the other
    /// side. All that is done by the connection has to be done within `patience`.
    pub(super) fn connect(address: &str, patience: Duration) -> Result<Bus, Failure> {
        let name = socket_name(address).ok_or_else(|| Failure::Address(address.to_owned()))?;
        let failed = |errno| Failure::Connect { address: address.to_owned(), errno };
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed)?;
        // A daemon that accepts nobody lets connect(2) wait.
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience)).map_err(failed)?;
        connect(&socket, &name.map_err(failed)?).map_err(failed)?;
        Bus::on(socket, patience)
    }

    /// The same on a socket that is connected.
    pub(super) fn on(socket: OwnedFd, patience: Duration) -> Result<Bus, Failure> {
        let end = Instant::now() + patience;
        let (output, input, early) = (Vec::new(), Vec::new(), VecDeque::new());
        let mut bus = Bus { socket, patience, end, serial: 0, output, input, early };
        bus.authenticate()?;
        Ok(bus)
    }

    /// By the credentials of the socket; the other side sees what user that is, from its user namespace.
    fn authenticate(&mut self) -> Result<(), Failure> {
        self.output.extend_from_slice(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        self.flush()?;
        for expected in ["DATA", "OK "] {
            let line = self.line()?;
            if !line.starts_with(expected) {
                return Err(Failure::Authentication(line));
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line = self.input.drain(..end + 2).take(end).collect::<Vec<u8>>();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.input.len() > 4096 {
                return Err(Failure::Malformed("the bus does not speak the D-Bus protocol".to_owned()));
            }
            self.receive()?;
        }
    }

    /// Adds a call to what goes out next; its number.
    pub(super) fn call<B: Serialize + Type>(
        &mut self,
        method: &Method,
        expects_reply: bool,
        body: &B,
    ) -> Result<u32, Failure> {
        self.serial += 1;
        self.output.extend(message::call(self.serial, method, expects_reply, body)?);
        Ok(self.serial)
    }

    /// Sends what is to go out, and waits for the answer to a call.
    pub(super) fn answer(&mut self, serial: u32) -> Result<Message, Failure> {
        self.flush()?;
        let message =
            self.wait(|message| matches!(&message.kind, Kind::Return(to) | Kind::Error(to, _) if *to == serial))?;
        match &message.kind {
            Kind::Error(_, name) => Err(Failure::Refused { name: name.clone(), text: message.text() }),
            _ => Ok(message),
        }
    }

    /// Waits for a message that `wanted` says yes to; others are kept.
    pub(super) fn wait(&mut self, wanted: impl Fn(&Message) -> bool) -> Result<Message, Failure> {
        if let Some(at) = self.early.iter().position(&wanted)
            && let Some(message) = self.early.remove(at)
        {
            return Ok(message);
        }
        loop {
            let message = self.next()?;
            if wanted(&message) {
                return Ok(message);
            }
            if matches!(message.kind, Kind::Signal(_) | Kind::Return(_) | Kind::Error(..)) {
                self.early.push_back(message);
            }
        }
    }

    fn next(&mut self) -> Result<Message, Failure> {
        loop {
            if let Some(start) = self.input.first_chunk::<START>() {
                let length = message::length(start)?;
                if self.input.len() >= length {
                    let message = message::parse(&self.input[..length]);
                    self.input.drain(..length);
                    return message;
                }
            }
            self.receive()?;
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let output = std::mem::take(&mut self.output);
        let mut rest = output.as_slice();
        while !rest.is_empty() {
            match send(&self.socket, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => rest = &rest[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.poll(PollFlags::OUT)?,
                Err(errno) => return Err(Failure::Lost(errno)),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut buffer = [0u8; 8192];
        loop {
            match recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Err(Failure::Closed),
                Ok((length, _)) => {
                    self.input.extend_from_slice(&buffer[..length]);
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.poll(PollFlags::IN)?,
                Err(errno) => return Err(Failure::Lost(errno)),
            }
        }
    }

    fn poll(&self, flags: PollFlags) -> Result<(), Failure> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout(self.patience));
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(self.socket.as_fd(), flags)], Some(&timeout)) {
            Ok(0) => Err(Failure::Timeout(self.patience)),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Failure::Lost(errno)),
        }
    }
}

/// The first address of a list that is a socket here (D-Bus Specification, "Server Addresses").
fn socket_name(addresses: &str) -> Option<Result<SocketAddrUnix, Errno>> {
    addresses.split(';').find_map(|address| {
        let pairs = address.strip_prefix("unix:")?;
        pairs.split(',').find_map(|pair| match pair.split_once('=')? {
            ("path", path) => Some(SocketAddrUnix::new(unescape(path)?)),
            ("abstract", name) => Some(SocketAddrUnix::new_abstract_name(&unescape(name)?)),
            _ => None,
        })
    })
}

/// `%2f` is a slash.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests;
