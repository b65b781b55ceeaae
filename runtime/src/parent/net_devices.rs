//! `linux.netDevices`: devices of the host move into the container's network namespace, with their addresses.
//!
//! Nothing more: no device is made here, none is looked after once it is in, and none comes back when the container
//! ends, which the spec forbids (config-linux.md, "Namespace Lifecycle and Container Termination").
//!
//! The kernel closes a device that moves, and carries over what belongs to the device: hardware address, MTU, queue
//! length, flags, group, alias, alternative names. It drops the addresses, which are therefore added again, and what
//! ties it to the namespace it left: routes, a bridge it was a port of, queueing disciplines, the sysctls under
//! net.*.conf. Those are not rebuilt: in the new namespace they are the container's own (`linux.sysctl`).

use super::netlink::{Link, Request, Socket, attributes, number};
use crate::error::{Context, Result, bad};
use crate::plan::NetDevice;
use crate::sys;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::{self, Errno};
use std::ffi::{CStr, CString};
use std::net::IpAddr;

/// Moves the devices into the network namespace of the process `pid`, a child not yet waited for; each is up there
/// under its new name in the end. If one cannot be moved, those before it are back where they were.
pub(crate) fn move_all(devices: &[NetDevice], pid: i32) -> Result<Moved> {
    let mut moved = Moved { sides: Sides::open(pid)?, taken: Vec::new() };
    for device in devices {
        if let Err(error) = moved.sides.bring_in(device, &mut moved.taken) {
            moved.put_back();
            return Err(error);
        }
    }
    Ok(moved)
}

/// Devices that were moved for a container which is not there yet.
pub(crate) struct Moved {
    sides: Sides,
    taken: Vec<Taken>,
}

impl Moved {
    /// A new namespace ends with the container's init and takes virtual devices with it, while physical ones fall back
    /// to the first namespace of the machine under the name they had inside; a namespace that was joined keeps them
    /// all. None of this is what whoever asked for a container that never came to be wants, so they go back, as far as
    /// that works: the error that led here is the one to tell.
    pub(crate) fn put_back(&mut self) {
        for device in self.taken.drain(..).rev() {
            if let Err(error) = self.sides.take_back(&device) {
                log::warn!("{error}: it stays in the container's network namespace");
            }
        }
    }
}

/// The two network namespaces, and a socket that speaks for each.
struct Sides {
    host_ns: OwnedFd,
    inside_ns: OwnedFd,
    host: Socket,
    inside: Socket,
    /// What a device is called between its move and being numbered.
    temporary: CString,
}

/// A device that was about to move, or has moved.
struct Taken {
    device: NetDevice,
    was: Link,
    addresses: Vec<Address>,
    /// Its number in the container, once that is known.
    inside: Option<u32>,
}

impl Sides {
    fn open(pid: i32) -> Result<Sides> {
        // The thread's, since that is what setns(2) changes.
        let host_ns = open_namespace("/proc/thread-self/ns/net")?;
        let inside_ns = open_namespace(&format!("/proc/{pid}/ns/net"))?;
        let what = || "linux.netDevices: open a netlink socket".to_owned();
        if same(&host_ns, &inside_ns).context(what)? {
            return Err(bad("linux.netDevices", "the container is in the host's network namespace"));
        }
        let inside = socket_in(inside_ns.as_fd(), host_ns.as_fd()).context(what)?;
        let temporary = CString::new(format!("proa{pid}")).unwrap_or_default();
        Ok(Sides { host: Socket::open().context(what)?, host_ns, inside_ns, inside, temporary })
    }

    fn bring_in(&mut self, device: &NetDevice, taken: &mut Vec<Taken>) -> Result<()> {
        let property = format!("linux.netDevices {:?}", device.host);
        let what = |step: &str| format!("{property}: {step}");
        let was = self.check(device, &property)?;
        let addresses = Address::list(&mut self.host, was.index).context(|| what("list its addresses"))?;
        // Given a template, the kernel would keep the old name at first if that is free inside, and then count it as
        // taken when it numbers: eth0 would become eth1 all alone. Under a name of our own it gets the lowest number.
        let template = is_template(&device.name);
        let name: &CStr = if template { &self.temporary } else { &device.name };
        if self.inside.link_named(name).context(|| what("look for its new name"))?.is_some() {
            return Err(bad(&property, format_args!("the container already has a network device named {name:?}")));
        }
        let index = was.index;
        taken.push(Taken { device: device.clone(), was, addresses, inside: None });
        let to = format!("move it to the container as {:?}", device.name);
        send_to(&mut self.host, index, self.inside_ns.as_fd(), name).context(|| what(&to))?;
        // The number is another one if that was in use inside.
        let mut link = present(self.inside.link_named(name)).context(|| what("find it in the container"))?;
        let Some(taken) = taken.last_mut() else { return Ok(()) };
        taken.inside = Some(link.index);
        if template {
            rename(&mut self.inside, link.index, &device.name).context(|| what(&to))?;
            link = present(self.inside.link(link.index)).context(|| what("find it in the container"))?;
        }
        restore(&mut self.inside, &link, &taken.addresses, &device.host, &property)?;
        set_up(&mut self.inside, link.index).context(|| what("set it up in the container"))
    }

    /// The device, if it is one that can move.
    fn check(&mut self, device: &NetDevice, property: &str) -> Result<Link> {
        let found = self.host.link_named(&device.host).context(|| format!("{property}: look it up"))?;
        let Some(link) = found else { return Err(bad(property, "no such device")) };
        if *link.name != *device.host.0 {
            // It moves along as such, and no device can have it twice.
            return Err(bad(property, format_args!("is only an alternative name of {:?}", link.name)));
        }
        match link.flags & libc::IFF_LOOPBACK as u32 {
            0 => Ok(link),
            _ => Err(bad(property, "is a loopback device, which cannot leave its network namespace")),
        }
    }

    fn take_back(&mut self, taken: &Taken) -> Result<()> {
        let host = &*taken.device.host;
        let property = format!("linux.netDevices {:?}", taken.device.host);
        let what = || format!("{property}: move it back");
        if self.host.link(taken.was.index).context(what)?.is_some_and(|link| *link.name == *host) {
            return Ok(());
        }
        let index = self.locate(taken).context(what)?;
        send_to(&mut self.inside, index, self.host_ns.as_fd(), host).context(what)?;
        let link = present(self.host.link_named(host)).context(what)?;
        restore(&mut self.host, &link, &taken.addresses, host, &property)?;
        match taken.was.flags & libc::IFF_UP as u32 {
            0 => Ok(()),
            _ => set_up(&mut self.host, link.index).context(what),
        }
    }

    /// Its number in the container. A move can fail after the device has changed sides, on its new name: it is there
    /// under one of three then, where in a joined namespace somebody else's may be.
    fn locate(&mut self, taken: &Taken) -> io::Result<u32> {
        if let Some(index) = taken.inside {
            return Ok(index);
        }
        for name in [&*taken.device.host, &*taken.device.name, &*self.temporary] {
            let link = self.inside.link_named(name)?;
            if let Some(link) = link.filter(|link| link.hardware == taken.was.hardware) {
                return Ok(link.index);
            }
        }
        Err(Errno::NODEV)
    }
}

fn is_template(name: &CStr) -> bool {
    name.to_bytes().contains(&b'%')
}

fn open_namespace(path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).context(|| format!("linux.netDevices: open {path}"))
}

fn same(one: &OwnedFd, other: &OwnedFd) -> io::Result<bool> {
    let (one, other) = (fstat(one)?, fstat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// A socket of another network namespace.
fn socket_in(namespace: BorrowedFd<'_>, home: BorrowedFd<'_>) -> io::Result<Socket> {
    sys::setns(namespace, libc::CLONE_NEWNET)?;
    let _back = Back(home);
    Socket::open()
}

/// Brings this thread back into the network namespace that it left.
struct Back<'a>(BorrowedFd<'a>);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        // Going on in the container's would take everything done from here on for the host's there.
        if let Err(errno) = sys::setns(self.0, libc::CLONE_NEWNET) {
            log::error!("linux.netDevices: return to the host's network namespace: {}", crate::error::text(errno));
            std::process::abort();
        }
    }
}

fn present(link: io::Result<Option<Link>>) -> io::Result<Link> {
    link?.ok_or(Errno::NODEV)
}

/// Moves and renames; the kernel sets the device down first, as a rename needs it.
fn send_to(socket: &mut Socket, index: u32, namespace: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let namespace = namespace.as_raw_fd().to_ne_bytes();
    socket.set_link(index, 0, &[(libc::IFLA_NET_NS_FD, &namespace), (libc::IFLA_IFNAME, name.to_bytes_with_nul())])
}

fn rename(socket: &mut Socket, index: u32, name: &CStr) -> io::Result<()> {
    socket.set_link(index, 0, &[(libc::IFLA_IFNAME, name.to_bytes_with_nul())])
}

fn set_up(socket: &mut Socket, index: u32) -> io::Result<()> {
    socket.set_link(index, libc::IFF_UP as u32, &[])
}

/// Gives the device the addresses that it had under its old name.
fn restore(socket: &mut Socket, link: &Link, addresses: &[Address], old: &CStr, property: &str) -> Result<()> {
    for address in addresses {
        let added = address.request(link.index, old, &link.name).and_then(|request| socket.ask(request));
        added.context(|| format!("{property}: add the address {} to {:?}", address.text(), link.name))?;
    }
    Ok(())
}

/// A permanent address of global scope (RFC 3549, 2.3.3.2), with all that it was given when it was added.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    /// IFA_F_*.
    flags: u32,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// The metric of its route, since Linux 4.18, and who added it, since 5.18 (linux/if_addr.h).
const IFA_RT_PRIORITY: u16 = 9;
const IFA_PROTO: u16 = 11;

/// The flags that are somebody's wish; the others tell what state the address is in.
const WISHES: u32 = libc::IFA_F_NODAD
    | libc::IFA_F_HOMEADDRESS
    | libc::IFA_F_MANAGETEMPADDR
    | libc::IFA_F_NOPREFIXROUTE
    | libc::IFA_F_MCAUTOJOIN;

impl Address {
    /// Those of one device, in the order to add them.
    fn list(socket: &mut Socket, index: u32) -> io::Result<Vec<Address>> {
        let mut addresses = Vec::new();
        // All families and all devices: older kernels do not look at more than that.
        for body in socket.ask(Request::new(libc::RTM_GETADDR, libc::NLM_F_DUMP, &[0; 8]))? {
            match Address::parse(&body, index)? {
                // The kernel puts a new one of IPv6 first, and one of IPv4 last.
                Some(address) if i32::from(address.family) == libc::AF_INET6 => addresses.insert(0, address),
                address => addresses.extend(address),
            }
        }
        Ok(addresses)
    }

    /// None if it belongs to another device, or is not one to keep.
    fn parse(body: &[u8], index: u32) -> io::Result<Option<Address>> {
        let (&[family, prefix, flags, scope], rest) = body.split_first_chunk().ok_or(Errno::BADMSG)?;
        if number(rest, 0).ok_or(Errno::BADMSG)? != index || scope != libc::RT_SCOPE_UNIVERSE {
            return Ok(None);
        }
        let mut address = Address { family, prefix, flags: flags.into(), attributes: Vec::new() };
        for attribute in attributes(&rest[4..]) {
            match attribute? {
                (libc::IFA_FLAGS, flags) => address.flags = number(flags, 0).ok_or(Errno::BADMSG)?,
                (
                    kind @ (libc::IFA_ADDRESS
                    | libc::IFA_LOCAL
                    | libc::IFA_LABEL
                    | libc::IFA_BROADCAST
                    | libc::IFA_CACHEINFO
                    | IFA_RT_PRIORITY
                    | IFA_PROTO),
                    value,
                ) => address.attributes.push((kind, value.to_vec())),
                _ => {}
            }
        }
        Ok((address.flags & libc::IFA_F_PERMANENT != 0).then_some(address))
    }

    /// The message that gives it to a device again.
    fn request(&self, index: u32, old: &CStr, new: &CStr) -> io::Result<Request> {
        let mut fixed = [self.family, self.prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let mut request = Request::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &fixed);
        request.attribute(libc::IFA_FLAGS, &(self.flags & WISHES).to_ne_bytes())?;
        for (kind, value) in &self.attributes {
            match (*kind, value.split_first_chunk::<4>()) {
                (libc::IFA_LABEL, _) => request.attribute(*kind, &relabel(value, old, new))?,
                // Its first number is how long the address is preferred, which for IPv4 is told as for ever.
                (libc::IFA_CACHEINFO, Some((_, rest))) if self.flags & libc::IFA_F_DEPRECATED != 0 => {
                    request.attribute(*kind, &[&[0; 4], rest].concat())?;
                }
                _ => request.attribute(*kind, value)?,
            }
        }
        Ok(request)
    }

    /// For an error.
    fn text(&self) -> String {
        let value = |wanted| self.attributes.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
        let value = value(libc::IFA_LOCAL).or_else(|| value(libc::IFA_ADDRESS)).map_or(&[][..], Vec::as_slice);
        let four = <[u8; 4]>::try_from(value).map(IpAddr::from);
        match four.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)) {
            Ok(address) => format!("{address}/{}", self.prefix),
            Err(_) => format!("of family {}", self.family),
        }
    }
}

/// The label of an IPv4 address is its device's name, often with a colon and more behind it, and follows the name as
/// in a rename: if both do not fit, the name is cut. One that has nothing to do with the name stays.
fn relabel(label: &[u8], old: &CStr, new: &CStr) -> Vec<u8> {
    let text = label.strip_suffix(b"\0").unwrap_or(label);
    let new = new.to_bytes();
    let mut label = match text.strip_prefix(old.to_bytes()) {
        Some(more @ ([] | [b':', ..])) => {
            let room = (libc::IFNAMSIZ - 1).saturating_sub(more.len());
            [&new[..new.len().min(room)], more].concat()
        }
        _ => text.to_vec(),
    };
    label.push(0);
    label
}

#[cfg(test)]
mod tests;
