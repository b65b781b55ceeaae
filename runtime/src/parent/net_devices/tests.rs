//! Devices that really move, between network namespaces made for it.

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
        let done = move_all(&devices, self.0.id() as i32).map(drop).map_err(|error| error.to_string());
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
    let error = move_all(&own, rustix::thread::gettid().as_raw_nonzero().get()).map(drop).unwrap_err();
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
    sides.take_back(&Taken { device: device.clone(), was, addresses: Vec::new(), inside: None }).unwrap();
    assert_eq!(container.names(), ["lo", "net1"]);
}
