//! What a container on a network gets as /etc/resolv.conf, known before the network is set up: the servers that the
//! network's configuration names, else those of the host that a container can reach.

use super::conf::List;
use serde_json::Value;
use std::net::IpAddr;

const HOST: &str = "/etc/resolv.conf";
/// Where systemd-resolved has the servers that it asks itself.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// The text for a container on this network; None where there is nothing to say.
pub(super) fn text(list: &List) -> Option<String> {
    list.plugins.iter().find_map(|plugin| of_result(plugin.get("dns")?)).or_else(|| {
        let read = |path| std::fs::read_to_string(path).ok().and_then(|text| reachable(&text));
        read(HOST).or_else(|| read(RESOLVED))
    })
}

/// The host's own, for a container in its network namespace.
pub(super) fn of_host() -> Option<String> {
    std::fs::read_to_string(HOST).ok()
}

/// CNI's `dns`, if it names servers.
fn of_result(dns: &Value) -> Option<String> {
    // A line of its own for each: what is no word cannot add another.
    let word = |value: &Value| {
        value.as_str().filter(|text| !text.is_empty() && !text.contains(char::is_whitespace)).map(str::to_owned)
    };
    let words = |name: &str| -> Vec<String> {
        dns.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(word).collect()
    };
    let servers = words("nameservers");
    if servers.is_empty() {
        return None;
    }
    let mut text = String::new();
    if let Some(domain) = dns.get("domain").and_then(word) {
        text.push_str(&format!("domain {domain}\n"));
    }
    for (keyword, list) in [("search", words("search")), ("options", words("options"))] {
        if !list.is_empty() {
            text.push_str(&format!("{keyword} {}\n", list.join(" ")));
        }
    }
    servers.iter().for_each(|server| text.push_str(&format!("nameserver {server}\n")));
    Some(text)
}

/// The text without servers on the host's loopback device, which is not the container's; None if no server is left.
fn reachable(text: &str) -> Option<String> {
    let server = |line: &str| line.trim_start().strip_prefix("nameserver").map(|rest| rest.trim().to_owned());
    let loopback = |address: &str| address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let kept: Vec<&str> = text.lines().filter(|line| !server(line).is_some_and(|address| loopback(&address))).collect();
    kept.iter().any(|line| server(line).is_some()).then(|| kept.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_a_result() {
        let dns =
            json!({"nameservers": ["10.0.0.1", "evil\nnameserver 6.6.6.6"], "search": ["a.b", "c"], "domain": "d"});
        assert_eq!(of_result(&dns).unwrap(), "domain d\nsearch a.b c\nnameserver 10.0.0.1\n");
        assert_eq!(of_result(&json!({"search": ["a"]})), None);
        assert_eq!(of_result(&json!("no")), None);
    }

    #[test]
    fn servers_of_the_hosts_loopback_device_are_left_out() {
        assert_eq!(reachable("nameserver 127.0.0.53\nsearch x\n"), None);
        let text = "search x\nnameserver 127.0.0.1\nnameserver ::1\nnameserver 9.9.9.9\n";
        assert_eq!(reachable(text).unwrap(), "search x\nnameserver 9.9.9.9\n");
    }
}
