//! Containers on a network reach each other and are reached.

use std::fs;
use std::path::Path;

use conformance::look;
use conformance::test::Done;
use serde_json::Value;

use super::fixture::{Guest, NETWORK, PROA, get, hooks, names, networks, server};
use crate::command::Call;

crate::cases! {
    two_containers_on_one_bridge,
    a_port_of_one_address,
    a_port_of_udp,
    by_runc_and_crun,
    in_a_user_namespace,
    a_network_of_a_single_plugin,
    in_the_foreground,
    none_and_host,
    the_list_of_networks,
}

fn serve(guest: Guest, text: &str) -> Guest {
    let words = server(text);
    guest.started(&[&words[0], &words[1], &words[2]])
}

#[track_caller]
fn answers(address: &str, text: &str) {
    look::eventually("the page", || get(address).as_deref() == Some(text));
}

fn two_containers_on_one_bridge() -> Done {
    let one = serve(Guest::new(NETWORK, &["8081:80"]), "one");
    let other = Guest::new(NETWORK, &[]).started(&["sleep", "1000"]);
    let (first, second) = (one.address(), other.address());
    assert_ne!(first, second);
    assert!(one.sh(&format!("ping -c 1 -W 2 {second}")).contains("1 packets received"));
    assert!(other.sh(&format!("ping -c 1 -W 2 {first}")).contains("1 packets received"));
    assert!(one.sh("ping -c 1 -W 2 127.0.0.1").contains("1 packets received"), "the loopback device is up");
    answers("127.0.0.1:8081", "one");
    answers("10.90.0.1:8081", "one");
    assert_eq!(other.sh(&format!("wget -q -O - http://{first}/")), "one");
    assert_eq!(other.sh("wget -q -O - http://10.90.0.1:8081/"), "one", "another's published port");
    assert_eq!(one.sh("wget -q -O - http://10.90.0.1:8081/"), "one", "its own published port");
    one.delete();
    assert_eq!(get("127.0.0.1:8081"), None, "the port is closed with the container");
    assert!(other.sh("ping -c 1 -W 2 10.90.0.1").contains("1 packets received"), "the other goes on");
    Ok(())
}

fn a_port_of_one_address() -> Done {
    let guest = serve(Guest::new(NETWORK, &["127.0.0.1:8082:80", "8083:80"]), "here");
    answers("127.0.0.1:8082", "here");
    answers("10.90.0.1:8083", "here");
    assert_eq!(get("10.90.0.1:8082"), None);
    guest.delete();
    Ok(())
}

fn a_port_of_udp() -> Done {
    let mut guest = Guest::new(NETWORK, &["5300:53/udp"]);
    // busybox has nothing that takes datagrams.
    guest.bundle.bind(Path::new("/usr"), "/usr", &["bind", "ro"]);
    for name in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), guest.bundle.inside(name)).expect("cannot link");
    }
    let guest = guest.started(&["/usr/bin/socat", "-u", "UDP-RECV:53", "CREATE:/tmp/said"]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    look::eventually("the word to arrive", || {
        socket.send_to(b"word", "127.0.0.1:5300").ok();
        fs::read_to_string(guest.bundle.inside("/tmp/said")).is_ok_and(|text| text.contains("word"))
    });
    guest.delete();
    Ok(())
}

fn by_runc_and_crun() -> Done {
    for runtime in ["/usr/sbin/runc", "/usr/bin/crun"] {
        let before = networks();
        let mut guest = Guest::new(NETWORK, &["8084:80"]);
        guest.runtime = runtime;
        let guest = serve(guest, "by another");
        answers("127.0.0.1:8084", "by another");
        guest.delete();
        let now = networks();
        let left: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(left.is_empty(), "left with {runtime}: {left:?}");
    }
    Ok(())
}

fn in_a_user_namespace() -> Done {
    let mut guest = Guest::new(NETWORK, &["8085:80"]);
    guest.bundle.user_namespace(100_000);
    let guest = serve(guest, "mapped");
    answers("127.0.0.1:8085", "mapped");
    guest.delete();
    Ok(())
}

fn a_network_of_a_single_plugin() -> Done {
    let file = "/etc/cni/net.d/90-direct.conf";
    let ipam = r#"{"type": "host-local", "subnet": "10.91.0.0/24"}"#;
    let text = format!(r#"{{"cniVersion": "0.4.0", "name": "direct", "type": "ptp", "ipMasq": true, "ipam": {ipam}}}"#);
    fs::write(file, text).expect("cannot write");
    let said = hooks(&["--publish", "80:80", "direct"]).fails();
    said.says(r#"network "direct": publishes no ports: no plugin of it has the capability portMappings"#);
    let guest = Guest::new("direct", &[]).started(&["sleep", "1000"]);
    let address = guest.address();
    assert!(address.starts_with("10.91.0."), "{address}");
    Call::new("busybox", &["ping", "-c", "1", "-W", "2", &address]).run().ok();
    guest.delete();
    fs::remove_file(file).expect("cannot remove");
    // The network's own.
    fs::remove_dir_all("/var/lib/cni/networks/direct").expect("cannot remove");
    Ok(())
}

fn in_the_foreground() -> Done {
    let mut guest = Guest::new(NETWORK, &[]);
    guest.bundle.sh("ip -4 -o addr show eth0 | grep -c 10.90.0.").write();
    let bundle = guest.bundle.path.to_str().expect("paths of tests are UTF-8");
    assert_eq!(guest.call(&["run", "--bundle", bundle, &guest.id]).run().text(), "1");
    Ok(())
}

fn none_and_host() -> Done {
    let guest = Guest::new("none", &[]).started(&["sleep", "1000"]);
    assert_eq!(guest.sh("ls /sys/class/net; ip -o link | wc -l").lines().last(), Some("1"));
    assert!(guest.bundle.config["hooks"].is_null());
    guest.delete();
    let guest = Guest::new("host", &[]).started(&["sleep", "1000"]);
    assert_eq!(look::namespace(guest.pid(), "net"), look::namespace(std::process::id() as i32, "net"));
    guest.delete();
    Ok(())
}

fn the_list_of_networks() -> Done {
    let list = || -> Value {
        let text = Call::new(PROA, &["network", "ls", "--format", "json"]).run().text();
        serde_json::from_str(&text).expect("JSON")
    };
    let row = |list: &Value| list.as_array().expect("a list").iter().find(|row| row["name"] == NETWORK).cloned();
    let guest = Guest::new(NETWORK, &[]).started(&["sleep", "1000"]);
    let web = row(&list()).expect("the network");
    assert_eq!(web["plugins"], serde_json::json!(["bridge", "portmap", "firewall"]));
    assert_eq!(web["file"], "/etc/cni/net.d/50-web.conflist");
    assert_eq!(web["containers"], serde_json::json!([guest.id]));
    let table = Call::new(PROA, &["network", "ls"]).run().text();
    assert!(table.starts_with("NETWORK") && table.contains(&guest.id), "{table}");
    // A file that is no network is a warning.
    fs::write("/etc/cni/net.d/00-broken.conflist", "{").expect("cannot write");
    let said = Call::new(PROA, &["network", "ls"]).run().ok();
    fs::remove_file("/etc/cni/net.d/00-broken.conflist").expect("cannot remove");
    said.says("/etc/cni/net.d/00-broken.conflist: EOF while parsing");
    guest.delete();
    assert_eq!(row(&list()).expect("the network")["containers"], serde_json::json!([]));
    assert_eq!(names(super::fixture::CACHE), Vec::<String>::new());
    Ok(())
}
