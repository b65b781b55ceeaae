//! A small rtnetlink(7) client: one request at a time goes out, its answers come back.
//!
//! It knows how messages and attributes are laid out (netlink(7)) and what there is to ask about links; what to do
//! with them is not decided here. What comes in is taken apart within its bounds: data of a wrong shape is EBADMSG,
//! never a panic.

use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::io::{Errno, Result, retry_on_intr};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recvfrom, send, socket_with};
use std::ffi::{CStr, CString};

/// sizeof(struct nlmsghdr).
const HEADER: usize = 16;
/// sizeof(struct nlattr).
const ATTRIBUTE: usize = 4;
/// No part of a dump is larger than half of this, nor a single answer in practice.
const BUFFER: usize = 64 * 1024;
/// How often a dump is asked for again because something changed under it.
const ATTEMPTS: u32 = 16;

/// A message to the kernel.
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// `kind` is RTM_*, `flags` are NLM_F_* beside REQUEST and ACK, `fixed` is the struct that the kind begins with.
    pub(crate) fn new(kind: u16, flags: i32, fixed: &[u8]) -> Request {
        let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&flags.to_ne_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(fixed);
        pad(&mut bytes);
        Request(bytes)
    }

    /// Adds an attribute. Fails with EMSGSIZE if `value` is longer than one can be.
    pub(crate) fn attribute(&mut self, kind: u16, value: &[u8]) -> Result<()> {
        let length = u16::try_from(ATTRIBUTE + value.len()).map_err(|_| Errno::MSGSIZE)?;
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        pad(&mut self.0);
        Ok(())
    }

    /// All but the header.
    #[cfg(test)]
    pub(crate) fn body(&self) -> &[u8] {
        &self.0[HEADER..]
    }

    /// Fills in what only the sender knows.
    fn seal(&mut self, sequence: u32) -> Result<&[u8]> {
        let length = u32::try_from(self.0.len()).map_err(|_| Errno::MSGSIZE)?;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0[8..12].copy_from_slice(&sequence.to_ne_bytes());
        Ok(&self.0)
    }
}

/// Everything in netlink starts at a multiple of four.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A NETLINK_ROUTE socket: it speaks for the network namespace it was made in, wherever its process is later.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    /// The datagram received last.
    datagram: Vec<u8>,
}

impl Socket {
    pub(crate) fn open() -> Result<Socket> {
        // No protocol is protocol 0, NETLINK_ROUTE.
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Socket { fd, sequence: 0, datagram: Vec::with_capacity(BUFFER) })
    }

    /// Sends the request and waits for all of its answer: the bodies of the messages before the acknowledgement or
    /// the end of the dump. The kernel's refusal is the error.
    pub(crate) fn ask(&mut self, mut request: Request) -> Result<Vec<Vec<u8>>> {
        for _ in 0..ATTEMPTS {
            let answer = self.exchange(&mut request)?;
            if !answer.torn {
                return Ok(answer.bodies);
            }
        }
        Err(Errno::AGAIN)
    }

    /// The device with that name, or that alternative name.
    pub(crate) fn link_named(&mut self, name: &CStr) -> Result<Option<Link>> {
        let mut request = link_request(libc::RTM_GETLINK, 0, 0);
        request.attribute(libc::IFLA_IFNAME, name.to_bytes_with_nul())?;
        self.ask_link(request)
    }

    /// The device with that number.
    pub(crate) fn link(&mut self, index: u32) -> Result<Option<Link>> {
        self.ask_link(link_request(libc::RTM_GETLINK, index, 0))
    }

    fn ask_link(&mut self, request: Request) -> Result<Option<Link>> {
        match self.ask(request) {
            Err(Errno::NODEV) => Ok(None),
            Err(errno) => Err(errno),
            Ok(bodies) => Link::parse(bodies.first().ok_or(Errno::BADMSG)?).map(Some),
        }
    }

    /// Changes a device: turns on the IFF_* in `flags` and gives it these attributes (IFLA_*).
    pub(crate) fn set_link(&mut self, index: u32, flags: u32, attributes: &[(u16, &[u8])]) -> Result<()> {
        let mut request = link_request(libc::RTM_NEWLINK, index, flags);
        for (kind, value) in attributes {
            request.attribute(*kind, value)?;
        }
        self.ask(request).map(drop)
    }

    fn exchange(&mut self, request: &mut Request) -> Result<Answer> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.seal(self.sequence)?;
        // Nothing was connected or bound: the kernel, port 0, is whom an unaddressed message goes to.
        if retry_on_intr(|| send(&self.fd, bytes, SendFlags::empty()))? != bytes.len() {
            return Err(Errno::MSGSIZE);
        }
        let mut answer = Answer::default();
        loop {
            self.receive()?;
            if answer.take(&self.datagram, self.sequence)? {
                return Ok(answer);
            }
        }
    }

    /// One datagram of the kernel's.
    fn receive(&mut self) -> Result<()> {
        loop {
            self.datagram.clear();
            let spare = || recvfrom(&self.fd, spare_capacity(&mut self.datagram), RecvFlags::TRUNC);
            let (_, length, sender) = retry_on_intr(spare)?;
            // Whoever has CAP_NET_ADMIN in this network namespace can send here too, a container's root for one.
            let sender = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok());
            if sender.is_none_or(|sender| sender.pid() != 0) {
                continue;
            }
            return if length > self.datagram.len() { Err(Errno::MSGSIZE) } else { Ok(()) };
        }
    }
}

/// What is to be known of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub index: u32,
    pub name: CString,
    /// IFF_*.
    pub flags: u32,
    /// Its hardware address; empty for some.
    pub hardware: Vec<u8>,
}

impl Link {
    /// From a struct ifinfomsg and what follows it.
    fn parse(body: &[u8]) -> Result<Link> {
        let index = number(body, 4).ok_or(Errno::BADMSG)?;
        let flags = number(body, 8).ok_or(Errno::BADMSG)?;
        let mut link = Link { index, name: CString::default(), flags, hardware: Vec::new() };
        for attribute in attributes(body.get(16..).ok_or(Errno::BADMSG)?) {
            match attribute? {
                (libc::IFLA_IFNAME, name) => {
                    link.name = CStr::from_bytes_until_nul(name).map_err(|_| Errno::BADMSG)?.to_owned();
                }
                (libc::IFLA_ADDRESS, address) => link.hardware = address.to_vec(),
                _ => {}
            }
        }
        Ok(link)
    }
}

/// A request about one device; `flags` are those that it is to have, the others stay.
fn link_request(kind: u16, index: u32, flags: u32) -> Request {
    let mut fixed = [0; 16];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&flags.to_ne_bytes());
    Request::new(kind, 0, &fixed)
}

/// What came back so far.
#[derive(Default)]
struct Answer {
    bodies: Vec<Vec<u8>>,
    /// The kernel says that the list changed while it was being read (NLM_F_DUMP_INTR).
    torn: bool,
}

impl Answer {
    /// Takes in one datagram; true if it was the last.
    fn take(&mut self, datagram: &[u8], sequence: u32) -> Result<bool> {
        for message in messages(datagram) {
            let message = message?;
            // Left over from a request that failed half-way.
            if message.sequence != sequence {
                continue;
            }
            self.torn |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
            match i32::from(message.kind) {
                libc::NLMSG_NOOP => {}
                libc::NLMSG_OVERRUN => return Err(Errno::NOBUFS),
                libc::NLMSG_ERROR => return status(message.body).map(|()| true),
                // Kernels before 4.16 end a dump without a status.
                libc::NLMSG_DONE if message.body.is_empty() => return Ok(true),
                libc::NLMSG_DONE => return status(message.body).map(|()| true),
                _ => self.bodies.push(message.body.to_vec()),
            }
        }
        Ok(false)
    }
}

/// The number that NLMSG_ERROR and NLMSG_DONE begin with: 0 or a negated errno.
fn status(body: &[u8]) -> Result<()> {
    match number(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(errno @ -4095..=-1) => Err(Errno::from_raw_os_error(-errno)),
        _ => Err(Errno::BADMSG),
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram.
fn messages(mut rest: &[u8]) -> impl Iterator<Item = Result<Message<'_>>> {
    std::iter::from_fn(move || {
        let length = match rest {
            [] => return None,
            _ => number(rest, 0).unwrap_or(0) as usize,
        };
        Some(cut(&mut rest, length, HEADER).and_then(|message| {
            Ok(Message {
                kind: short(message, 4).ok_or(Errno::BADMSG)?,
                flags: short(message, 6).ok_or(Errno::BADMSG)?,
                sequence: number(message, 8).ok_or(Errno::BADMSG)?,
                body: &message[HEADER..],
            })
        }))
    })
}

/// The attributes in `rest`, each with its kind (without the bits that tell nested ones) and its value.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        let length = match rest {
            [] => return None,
            _ => short(rest, 0).unwrap_or(0).into(),
        };
        Some(cut(&mut rest, length, ATTRIBUTE).and_then(|attribute| {
            let kind = short(attribute, 2).ok_or(Errno::BADMSG)? & libc::NLA_TYPE_MASK as u16;
            Ok((kind, &attribute[ATTRIBUTE..]))
        }))
    })
}

/// Takes `length` bytes off the front of `rest`, and what pads them; at least `header` of them. Where that is not
/// possible nothing after it can be found either: `rest` ends there.
fn cut<'a>(rest: &mut &'a [u8], length: usize, header: usize) -> Result<&'a [u8]> {
    let whole = std::mem::take(rest);
    match whole.get(..length) {
        Some(front) if length >= header => {
            // The last one is not always padded.
            *rest = whole.get(length.next_multiple_of(4)..).unwrap_or(&[]);
            Ok(front)
        }
        _ => Err(Errno::BADMSG),
    }
}

/// The u32 at that offset, if there is one.
pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests;
