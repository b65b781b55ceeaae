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
pub(crate) fn move_all(devices: &[NetDevice], pid: i32) -> Result<()> {
    if devices.is_empty() {
        return Ok(());
    }
    let mut sides = Sides::open(pid)?;
    let mut taken = Vec::new();
    for device in devices {
        if let Err(error) = sides.bring_in(device, &mut taken) {
            // A new namespace ends with the container's init and takes virtual devices with it, while physical ones
            // fall back to the first namespace of the machine under the name they had inside; a namespace that was
            // joined keeps them all. None of this is what whoever asked for a container that never came to be wants,
            // so they go back, as far as that works: the first error is the one to tell.
            for device in taken.iter().rev() {
                if let Err(error) = sides.take_back(device) {
                    log::warn!("{error}: it stays in the container's network namespace");
                }
            }
            return Err(error);
        }
    }
    Ok(())
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
struct Taken<'a> {
    device: &'a NetDevice,
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

    fn bring_in<'a>(&mut self, device: &'a NetDevice, taken: &mut Vec<Taken<'a>>) -> Result<()> {
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
        taken.push(Taken { device, was, addresses, inside: None });
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

    fn take_back(&mut self, taken: &Taken<'_>) -> Result<()> {
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
    fn locate(&mut self, taken: &Taken<'_>) -> io::Result<u32> {
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
mod tests {
    use super::*;
    use rootfs::plan::CText;
    use serde_json::Value;
    use std::io::Write;
    use std::process::{Child, Command, Stdio};

    fn dumped(scope: u8, flags: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![libc::AF_INET as u8, 24, flags, scope, 7, 0, 0, 0];
        body[4..].copy_from_slice(&7u32.to_ne_bytes());
        for (kind, value) in attributes {
            body.extend_from_slice(&(4 + value.len() as u16).to_ne_bytes());
            body.extend_from_slice(&kind.to_ne_bytes());
            body.extend_from_slice(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        body
    }

    #[test]
    fn only_permanent_global_addresses_of_the_device() {
        let local: &[(u16, &[u8])] = &[(libc::IFA_LOCAL, &[10, 0, 0, 1]), (libc::IFA_MULTICAST, &[1])];
        let found = Address::parse(&dumped(0, 0x80, local), 7).unwrap().unwrap();
        assert_eq!(found.attributes, [(libc::IFA_LOCAL, vec![10, 0, 0, 1])]);
        assert_eq!((found.flags, found.text()), (0x80, "10.0.0.1/24".to_owned()));
        assert_eq!(Address::parse(&dumped(0, 0x80, local), 8), Ok(None), "another device");
        assert_eq!(Address::parse(&dumped(253, 0x80, local), 7), Ok(None), "of the link");
        assert_eq!(Address::parse(&dumped(0, 0, local), 7), Ok(None), "it runs out");
        let flags: &[(u16, &[u8])] = &[(libc::IFA_FLAGS, &0x282u32.to_ne_bytes())];
        assert_eq!(Address::parse(&dumped(0, 0, flags), 7).unwrap().unwrap().flags, 0x282);
        let whole = dumped(0, 0x80, local);
        for end in 1..whole.len() {
            Address::parse(&whole[..end], 7).unwrap_or_default();
        }
    }

    #[test]
    fn an_address_is_added_with_its_wishes() {
        let times = [1u32, u32::MAX, 2, 3].map(u32::to_ne_bytes).concat();
        let attributes: &[(u16, &[u8])] = &[
            (libc::IFA_FLAGS, &(0x80 | 0x20 | 0x40 | 0x200u32).to_ne_bytes()),
            (libc::IFA_LABEL, b"eth9:x\0"),
            (libc::IFA_CACHEINFO, &times),
        ];
        let address = Address::parse(&dumped(0, 0, attributes), 7).unwrap().unwrap();
        let expected: &[(u16, &[u8])] = &[
            (libc::IFA_FLAGS, &0x200u32.to_ne_bytes()),
            (libc::IFA_LABEL, b"net0:x\0"),
            (libc::IFA_CACHEINFO, &[&[0; 4], &times[4..]].concat()),
        ];
        assert_eq!(address.request(7, c"eth9", c"net0").unwrap().body(), dumped(0, 0, expected));
    }

    #[test]
    fn a_label_follows_the_name() {
        let relabel = |label: &str, new| String::from_utf8(relabel(label.as_bytes(), c"eth9", new)).unwrap();
        assert_eq!(relabel("eth9\0", c"net0"), "net0\0");
        assert_eq!(relabel("eth9:web", c"net0"), "net0:web\0");
        assert_eq!(relabel("eth91\0", c"net0"), "eth91\0");
        assert_eq!(relabel("other\0", c"net0"), "other\0");
        assert_eq!(relabel("eth9:web\0", c"fifteen-letters"), "fifteen-let:web\0");
    }

    /// A process in a network namespace of its own, with this thread in another new one as the host.
    struct Container(Child);

    impl Container {
        /// None without the privilege to make namespaces.
        fn new() -> Option<Container> {
            Container::unshared("-n")
        }

        fn unshared(namespaces: &str) -> Option<Container> {
            if let Err(errno) = sys::unshare(libc::CLONE_NEWNET) {
                assert_eq!(errno, Errno::PERM);
                println!("SKIPPED: needs root, or unshare -Urn");
                return None;
            }
            let child = Command::new("unshare").args([namespaces, "sleep", "600"]).spawn().unwrap();
            let container = Container(child);
            let net = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
            while net("thread-self") == net(&container.0.id().to_string()) {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            Some(container)
        }

        fn receive(&self, devices: &[(&str, &str)]) -> std::result::Result<(), String> {
            let text = |name: &str| CText::new(name).unwrap();
            let device = |(host, name): &(&str, &str)| NetDevice { host: text(host), name: text(name) };
            let devices: Vec<_> = devices.iter().map(device).collect();
            let here = || std::fs::read_link("/proc/thread-self/ns/net").unwrap();
            let before = here();
            let done = move_all(&devices, self.0.id() as i32).map_err(|error| error.to_string());
            assert_eq!(here(), before, "this thread is back");
            done
        }

        /// ip(8) inside.
        fn ip(&self, words: &str) -> Vec<Value> {
            let pid = self.0.id().to_string();
            run(Command::new("nsenter").args(["-t", &pid, "-n", "ip", "-j", "-d"]).args(words.split(' ')))
        }

        fn names(&self) -> Vec<String> {
            names(self.ip("link"))
        }
    }

    impl Drop for Container {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    /// ip(8) on the host.
    fn ip(words: &str) -> Vec<Value> {
        run(Command::new("ip").args(["-j", "-d"]).args(words.split(' ')))
    }

    fn run(command: &mut Command) -> Vec<Value> {
        let output = command.stderr(Stdio::inherit()).output().expect("iproute2 and util-linux are there");
        assert!(output.status.success(), "{command:?}");
        serde_json::from_slice(if output.stdout.is_empty() { b"[]" } else { &output.stdout }).unwrap()
    }

    fn names(links: Vec<Value>) -> Vec<String> {
        let mut names: Vec<_> = links.iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect();
        names.sort_unstable();
        names
    }

    fn veth(name: &str) {
        ip(&format!("link add {name} type veth peer name {name}p"));
    }

    /// The addresses of scope global, each as one line.
    fn addresses(link: &Value) -> Vec<String> {
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let infos = link["addr_info"].as_array().unwrap().iter();
        infos
            .filter(|info| info["scope"] != "link")
            .map(|info| {
                let words = ["local", "address", "broadcast", "label"].map(|key| word(&info[key]));
                let flags = ["nodad", "noprefixroute", "secondary", "deprecated"].map(|key| info[key] == true);
                format!("{}/{} {flags:?} {}", words.join(" "), info["prefixlen"], info["metric"])
            })
            .collect()
    }

    fn with_addresses(name: &str) -> Value {
        veth(name);
        ip(&format!("link set {name} mtu 1333 address 02:11:22:33:44:55 txqueuelen 77 up"));
        for address in [
            format!("10.9.0.1/24 broadcast 10.9.0.255 label {name}:web"),
            "10.9.0.2/24 metric 50".to_owned(),
            "10.9.0.3/24 preferred_lft 0".to_owned(),
            "172.16.0.1 peer 172.16.0.2/32 noprefixroute".to_owned(),
            "fd00:9::1/64 nodad noprefixroute".to_owned(),
            "fd00:9::2/64 nodad preferred_lft 0".to_owned(),
            "fd00:9::3/64 nodad".to_owned(),
            "10.9.9.9/24 scope link".to_owned(),
        ] {
            ip(&format!("addr add {address} dev {name}"));
        }
        let link = ip(&format!("addr show {name}")).remove(0);
        ip(&format!("addr add 10.8.0.1/24 valid_lft 1000 preferred_lft 1000 dev {name}"));
        link
    }

    #[test]
    fn a_device_moves_with_all_that_is_its_own() {
        let Some(container) = Container::new() else { return };
        let before = with_addresses("eth9");
        container.receive(&[("eth9", "net0")]).unwrap();
        assert_eq!(names(ip("link")), ["eth9p", "lo"]);
        assert_eq!(container.names(), ["lo", "net0"]);
        let after = container.ip("addr show net0").remove(0);
        for key in ["mtu", "address", "txqlen", "group"] {
            assert_eq!(after[key], before[key], "{key}");
        }
        assert_eq!(after["mtu"], 1333);
        assert!(after["flags"].as_array().unwrap().contains(&"UP".into()));
        let renamed: Vec<_> = addresses(&before).iter().map(|line| line.replace("eth9", "net0")).collect();
        assert_eq!(renamed.len(), 7);
        assert_eq!(addresses(&after), renamed);
    }

    #[test]
    fn into_a_user_namespace() {
        let Some(container) = Container::unshared("-Un") else { return };
        with_addresses("eth9");
        container.receive(&[("eth9", "eth%d")]).unwrap();
        assert_eq!(addresses(&container.ip("addr show eth0")[0]).len(), 7);
    }

    #[test]
    fn more_addresses_than_fit_into_one_message() {
        let Some(container) = Container::new() else { return };
        veth("eth9");
        let lines = (0..900).map(|i| format!("addr add 10.7.{}.{}/32 dev eth9\n", i / 250, i % 250));
        let mut batch = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        batch.stdin.take().unwrap().write_all(lines.collect::<String>().as_bytes()).unwrap();
        assert!(batch.wait().unwrap().success());
        container.receive(&[("eth9", "net0")]).unwrap();
        let link = container.ip("-4 addr show net0").remove(0);
        assert_eq!(addresses(&link).len(), 900);
    }

    #[test]
    fn the_kernel_numbers_a_template() {
        let Some(container) = Container::new() else { return };
        ["eth0", "eth5", "host"].iter().for_each(|name| veth(name));
        container.receive(&[("eth0", "eth%d"), ("eth5", "eth%d"), ("host", "%d")]).unwrap();
        assert_eq!(container.names(), ["0", "eth0", "eth1", "lo"]);
    }

    #[test]
    fn names_may_be_swapped() {
        let Some(container) = Container::new() else { return };
        ["eth0", "eth1"].iter().for_each(|name| veth(name));
        let hardware = |link: Vec<Value>| link[0]["address"].clone();
        let before = hardware(ip("link show eth0"));
        container.receive(&[("eth0", "eth1"), ("eth1", "eth0")]).unwrap();
        assert_eq!(hardware(container.ip("link show eth1")), before);
    }

    #[test]
    fn a_device_that_cannot_move() {
        let Some(container) = Container::new() else { return };
        veth("eth0");
        ip("link property add dev eth0 altname other");
        let refused = |host, name| container.receive(&[(host, name)]).unwrap_err();
        assert_eq!(refused("eth9", "eth9"), "linux.netDevices \"eth9\": no such device");
        let text = "linux.netDevices \"lo\": is a loopback device, which cannot leave its network namespace";
        assert_eq!(refused("lo", "lo0"), text);
        let text = "linux.netDevices \"other\": is only an alternative name of \"eth0\"";
        assert_eq!(refused("other", "net0"), text);
        let text = "linux.netDevices \"eth0\": the container already has a network device named \"lo\"";
        assert_eq!(refused("eth0", "lo"), text);
        assert_eq!(container.names(), ["lo"]);
        let own = [NetDevice { host: CText::new("eth0").unwrap(), name: CText::new("eth0").unwrap() }];
        let error = move_all(&own, rustix::thread::gettid().as_raw_nonzero().get()).unwrap_err();
        assert_eq!(error.to_string(), "linux.netDevices: the container is in the host's network namespace");
    }

    /// The second one fails before it moves, and then when it is inside under its temporary name.
    #[test]
    fn after_a_failure_everything_is_back() {
        let Some(container) = Container::new() else { return };
        let before = with_addresses("eth9");
        veth("eth1");
        for (name, reason) in [("lo", "already has"), ("b%x", "invalid argument")] {
            let error = container.receive(&[("eth9", "net0"), ("eth1", name)]).unwrap_err();
            assert!(error.starts_with("linux.netDevices \"eth1\": ") && error.contains(reason), "{error}");
            assert_eq!(container.names(), ["lo"]);
            assert_eq!(names(ip("link")), ["eth1", "eth1p", "eth9", "eth9p", "lo"]);
            let after = ip("addr show eth9").remove(0);
            assert_eq!(addresses(&after), addresses(&before));
            for key in ["mtu", "address", "flags"] {
                assert_eq!(after[key], before[key], "{key}");
            }
        }
        let eth1 = ip("link show eth1").remove(0);
        assert!(!eth1["flags"].as_array().unwrap().contains(&"UP".into()), "it was not up");
    }

    #[test]
    fn a_device_that_moved_without_its_name_is_found() {
        let Some(container) = Container::new() else { return };
        ["eth0", "eth1"].iter().for_each(|name| veth(name));
        container.receive(&[("eth1", "net1")]).unwrap();
        let mut sides = Sides::open(container.0.id() as i32).unwrap();
        let was = sides.host.link_named(c"eth0").unwrap().unwrap();
        let inside_ns = sides.inside_ns.try_clone().unwrap();
        let moved = send_to(&mut sides.host, was.index, inside_ns.as_fd(), c"net1");
        assert_eq!(moved, Err(Errno::EXIST));
        assert_eq!(container.names(), ["eth0", "lo", "net1"], "half of it was done");
        let text = |name| CText::new(name).unwrap();
        let device = NetDevice { host: text("eth0"), name: text("net1") };
        sides.take_back(&Taken { device: &device, was, addresses: Vec::new(), inside: None }).unwrap();
        assert_eq!(container.names(), ["lo", "net1"]);
    }
}
