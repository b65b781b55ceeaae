//! `--publish`: a port of the host for one of the container, as the capability portMappings of plugins has it.

use crate::error::{Result, bad};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One entry of portMappings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: String,
    /// None: all addresses of the host.
    #[serde(rename = "hostIP", default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// `[ADDRESS:]HOST:CONTAINER[/PROTOCOL]`, each; no two may want one port of the host.
pub(super) fn parse_all(words: &[&str]) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = Vec::with_capacity(words.len());
    for word in words {
        let port = parse(word).map_err(|problem| bad(format_args!("--publish {word:?}"), problem))?;
        if let Some(index) = ports.iter().position(|other| collide(other, &port)) {
            let problem = format!("wants the same port of the host as {:?}", words[index]);
            return Err(bad(format_args!("--publish {word:?}"), problem));
        }
        ports.push(port);
    }
    Ok(ports)
}

fn collide(one: &Port, other: &Port) -> bool {
    let everywhere = |port: &Port| port.host_ip.is_none_or(|address| address.is_unspecified());
    one.host_port == other.host_port
        && one.protocol == other.protocol
        && (everywhere(one) || everywhere(other) || one.host_ip == other.host_ip)
}

fn parse(word: &str) -> std::result::Result<Port, String> {
    let (rest, protocol) = word.rsplit_once('/').unwrap_or((word, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Err(format!("{protocol:?} is none of tcp, udp, sctp"));
    }
    let form = || "is not of the form [ADDRESS:]HOST:CONTAINER[/PROTOCOL], an IPv6 address in brackets".to_owned();
    let (rest, container) = rest.rsplit_once(':').ok_or_else(form)?;
    let (address, host) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, host) = rest.split_once("]:").ok_or_else(form)?;
            (Some(parse_address(address).filter(IpAddr::is_ipv6).ok_or_else(|| not_address(address))?), host)
        }
        None => match rest.split_once(':') {
            Some((_, host)) if host.contains(':') => return Err(form()),
            Some((address, host)) => (Some(parse_address(address).ok_or_else(|| not_address(address))?), host),
            None => (None, rest),
        },
    };
    Ok(Port {
        host_port: number(host)?,
        container_port: number(container)?,
        protocol: protocol.to_owned(),
        host_ip: address,
    })
}

fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn not_address(text: &str) -> String {
    format!("{text:?} is not an IP address")
}

fn number(text: &str) -> std::result::Result<u16, String> {
    if text.contains('-') {
        return Err(format!("{text:?} is a range of ports, which is not supported: publish each"));
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(number @ 1..) if digits => Ok(number),
        _ => Err(format!("{text:?} is not a port, 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: Option<&str>, host_port: u16, container_port: u16, protocol: &str) -> Port {
        let host_ip = host_ip.map(|address| address.parse().unwrap());
        Port { host_port, container_port, protocol: protocol.to_owned(), host_ip }
    }

    #[test]
    fn words() {
        assert_eq!(parse("8080:80"), Ok(port(None, 8080, 80, "tcp")));
        assert_eq!(parse("53:5353/udp"), Ok(port(None, 53, 5353, "udp")));
        assert_eq!(parse("127.0.0.1:8080:80"), Ok(port(Some("127.0.0.1"), 8080, 80, "tcp")));
        assert_eq!(parse("[::1]:8080:80/sctp"), Ok(port(Some("::1"), 8080, 80, "sctp")));
        for (word, problem) in [
            ("", "form"),
            ("80", "form"),
            ("80:", "not a port"),
            (":80", "not a port"),
            ("0:80", "not a port"),
            ("80:65536", "not a port"),
            ("+80:80", "not a port"),
            ("-1:80", "range"),
            ("8000-8001:80-81", "range"),
            ("80:80/icmp", "none of tcp"),
            ("80:80/", "none of tcp"),
            ("::1:8080:80", "form"),
            ("[::1:8080:80", "form"),
            ("[127.0.0.1]:8080:80", "not an IP address"),
            ("localhost:8080:80", "not an IP address"),
            ("1.2.3:8080:80", "not an IP address"),
            ("[]:80:80", "not an IP address"),
        ] {
            let said = parse(word).expect_err(word);
            assert!(said.contains(problem), "{word}: {said}");
        }
    }

    #[test]
    fn one_port_of_the_host_is_for_one_of_the_container() {
        assert!(parse_all(&["80:1", "80:2/udp", "81:1"]).is_ok());
        assert!(parse_all(&["127.0.0.1:80:1", "127.0.0.2:80:2"]).is_ok());
        for pair in [["80:1", "80:2"], ["80:1", "127.0.0.1:80:2"], ["0.0.0.0:80:1", "127.0.0.1:80:2"]] {
            let said = parse_all(&pair).expect_err(pair[0]).to_string();
            assert!(said.starts_with(&format!("--publish {:?}: wants the same port", pair[1])), "{said}");
        }
    }
}
