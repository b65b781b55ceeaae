//! `linux.netDevices`: devices of the runtime's network namespace that move into
//! the container's. Each test has a network of its own for the runtime to run
//! in, so that nothing happens to the machine's.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use conformance::bundle::Bundle;
use conformance::container::Container;
use conformance::holder::Holder;
use conformance::look;
use conformance::runtime::{Call, Kind};
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-20" => device_moves_into_the_container,
    "L-20" => device_with_another_name,
    "L-21" => name_with_a_number_of_the_kernels,
    "L-22" => attributes_and_addresses_are_kept,
    "L-23" => device_is_up,
    "L-21" => name_that_is_taken,
    "L-21" => two_devices_of_one_name,
    "C-70" => device_that_is_not_there,
    "C-70" => name_that_cannot_be,
    "" => without_a_network_namespace,
    "" => failure_puts_the_device_back,
    "" => device_is_back_or_gone_after_delete,
    "L-24" => device_stays_in_a_network_that_lives_on,
    "L-24" => device_is_left_alone_inside,
}

/// The network that the runtime runs in, with a pair of devices `left` and `right`.
struct Network {
    holder: Holder,
}

impl Network {
    fn new() -> Self {
        let network = Self { holder: Holder::new(&["--net"]) };
        network.ip("link add left type veth peer name right");
        network
    }

    fn path(&self) -> PathBuf {
        self.holder.path("net")
    }

    /// Runs ip(8) in it.
    fn ip(&self, words: &str) -> String {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("ip").args(words.split_whitespace());
        let output = command.stdin(Stdio::null()).output().expect("cannot run nsenter(1)");
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn has(&self, device: &str) -> bool {
        self.ip("-o link").contains(&format!(" {device}@")) || self.ip("-o link").contains(&format!(" {device}:"))
    }

    fn create_call<'t>(&self, t: &'t Test<'_>, bundle: &Bundle, id: &str) -> Call<'t> {
        t.create_call(bundle, id).join(&self.path())
    }

    #[track_caller]
    fn start<'t>(&self, t: &'t Test<'_>, devices: Value) -> Container<'t> {
        let mut bundle = t.sleeping_bundle();
        bundle.linux("netDevices", devices);
        let id = t.id();
        let output = self.create_call(t, &bundle, &id).output().ok();
        let c = t.container(id, output);
        c.start();
        c
    }

    /// A creation with these devices fails, and the devices are as they were.
    #[track_caller]
    fn refuses(&self, t: &Test<'_>, devices: Value) -> conformance::runtime::Output {
        let mut bundle = t.sleeping_bundle();
        bundle.linux("netDevices", devices);
        let id = t.id();
        let output = self.create_call(t, &bundle, &id).output().fails();
        assert!(!t.runtime.root.join(&id).exists() || !t.is_proa(), "a state directory is left");
        assert!(self.has("left") && self.has("right"), "a device has moved");
        output
    }
}

fn able(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know netDevices")?;
    let there = ["nsenter", "ip"]
        .iter()
        .all(|name| Command::new(name).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok());
    t.needs(there, "ip(8) and nsenter(1)")
}

fn device_moves_into_the_container(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    let c = network.start(t, json!({"left": {}}));
    assert!(c.sh("ip -o link").contains(" left@"), "{}", c.sh("ip -o link"));
    assert!(!network.has("left") && network.has("right"));
    Ok(())
}

fn device_with_another_name(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    let c = network.start(t, json!({"left": {"name": "eth0"}}));
    let links = c.sh("ip -o link");
    assert!(links.contains(" eth0@") && !links.contains(" left@"), "{links}");
    Ok(())
}

fn name_with_a_number_of_the_kernels(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "takes the name as it is")?;
    let network = Network::new();
    let c = network.start(t, json!({"left": {"name": "con%d"}, "right": {"name": "con%d"}}));
    let links = c.sh("ip -o link");
    assert!(links.contains(" con0@") && links.contains(" con1@"), "{links}");
    Ok(())
}

fn attributes_and_addresses_are_kept(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    network.ip("link set left mtu 1400 address 02:11:22:33:44:55");
    network.ip("address add 192.0.2.7/24 dev left");
    network.ip("address add 192.0.2.8/32 dev left");
    network.ip("address add 2001:db8::7/64 dev left nodad");
    network.ip("link set left up");
    let c = network.start(t, json!({"left": {"name": "eth0"}}));
    let link = c.sh("ip -o link show eth0");
    assert!(link.contains("mtu 1400") && link.contains("02:11:22:33:44:55"), "{link}");
    let addresses = c.sh("ip -o addr show eth0");
    for address in ["192.0.2.7/24", "192.0.2.8/32", "2001:db8::7/64"] {
        assert!(addresses.contains(address), "{address}: {addresses}");
    }
    Ok(())
}

fn device_is_up(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    network.ip("link set right up");
    let c = network.start(t, json!({"left": {}}));
    let link = c.sh("ip -o link show left");
    assert!(link.contains(",UP"), "{link}");
    Ok(())
}

fn name_that_is_taken(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "loses it with the container's network")?;
    let network = Network::new();
    let output = network.refuses(t, json!({"left": {"name": "lo"}}));
    t.proa_says(&output, "linux.netDevices");
    Ok(())
}

fn two_devices_of_one_name(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "does not bring the first one back")?;
    let network = Network::new();
    let output = network.refuses(t, json!({"left": {"name": "eth0"}, "right": {"name": "eth0"}}));
    t.proa_says(&output, "linux.netDevices");
    Ok(())
}

fn device_that_is_not_there(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    let output = network.refuses(t, json!({"nosuch": {}}));
    t.proa_says(&output, "linux.netDevices");
    t.proa_says(&output, "nosuch");
    Ok(())
}

fn name_that_cannot_be(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "loses it with the container's network")?;
    let network = Network::new();
    for name in ["a/b", "a b", "..", "much-too-long-name"] {
        let output = network.refuses(t, json!({"left": {"name": name}}));
        t.proa_says(&output, "linux.netDevices");
    }
    Ok(())
}

fn without_a_network_namespace(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "passes over them")?;
    let network = Network::new();
    let mut bundle = t.bundle();
    bundle.without_namespace("network").linux("netDevices", json!({"left": {}}));
    let output = network.create_call(t, &bundle, &t.id()).output().fails();
    t.proa_says(&output, "linux.netDevices");
    assert!(network.has("left"));
    Ok(())
}

fn failure_puts_the_device_back(t: &Test<'_>) -> Done {
    able(t)?;
    t.peer_differs(Kind::Crun, "loses it with the container's network")?;
    let network = Network::new();
    network.ip("address add 192.0.2.7/24 dev left");
    let mut bundle = t.bundle();
    bundle.args(&["/no/such/program"]).linux("netDevices", json!({"left": {"name": "eth0"}}));
    network.create_call(t, &bundle, &t.id()).output().fails();
    assert!(network.has("left") && network.has("right"), "{}", network.ip("-o link"));
    bundle.args(&["/bin/true"]).set("hooks", json!({"createRuntime": [{"path": "/bin/false"}]}));
    network.create_call(t, &bundle, &t.id()).output().fails();
    assert!(network.has("left") && network.has("right"), "{}", network.ip("-o link"));
    Ok(())
}

fn device_is_back_or_gone_after_delete(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    let c = network.start(t, json!({"left": {}}));
    c.murder();
    c.delete();
    // The kernel ends virtual devices with their network, later than the process.
    look::eventually("the pair to be gone", || !network.has("right") || network.has("left"));
    Ok(())
}

fn device_stays_in_a_network_that_lives_on(t: &Test<'_>) -> Done {
    able(t)?;
    let (network, pod) = (Network::new(), Network { holder: Holder::new(&["--net"]) });
    let mut bundle = t.sleeping_bundle();
    bundle.namespace("network", Some(&pod.path())).linux("netDevices", json!({"left": {"name": "eth0"}}));
    let id = t.id();
    let output = network.create_call(t, &bundle, &id).output().ok();
    let c = t.container(id, output);
    c.start();
    assert!(pod.has("eth0") && !network.has("left"), "{}", pod.ip("-o link"));
    c.murder();
    c.delete();
    assert!(pod.has("eth0") && !network.has("left"), "moved back: {}", network.ip("-o link"));
    Ok(())
}

fn device_is_left_alone_inside(t: &Test<'_>) -> Done {
    able(t)?;
    let network = Network::new();
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_NET_ADMIN"]).linux("netDevices", json!({"left": {"name": "eth0"}}));
    let id = t.id();
    let output = network.create_call(t, &bundle, &id).output().ok();
    let c = t.container(id, output);
    c.start();
    c.sh("ip link set eth0 down; ip link set eth0 name mine; ip addr add 192.0.2.77/24 dev mine");
    let show = "ip -o link show mine; ip -o addr show mine";
    let before = c.sh(show);
    assert!(before.contains("192.0.2.77/24"), "{before}");
    c.call("pause").output().ok();
    c.call("resume").output().ok();
    c.call("state").output().ok();
    c.exec(&["true"]).output().ok();
    assert_eq!(c.sh(show), before);
    Ok(())
}
