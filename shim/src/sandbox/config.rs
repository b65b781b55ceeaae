//! What the shim reads of a PodSandboxConfig: kubernetes' cri-api, pkg/apis/runtime/v1/api.proto. Of some sixty fields it
//! needs nine, which are taken from the wire by their numbers.

use std::collections::BTreeMap;

use protobuf::CodedInputStream;
use protobuf::rt::{WireType, skip_field_for_tag};
use protobuf::well_known_types::any::Any;

use crate::error::{Error, Result};

/// A namespace mode of the host.
const NODE: u64 = 2;
/// A namespace mode of the pod.
const POD: u64 = 0;

/// Of a pod.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Empty for the host's.
    pub(crate) hostname: String,
    /// resolv.conf, in lines; none is the host's.
    pub(crate) resolv_conf: Vec<String>,
    /// Where the cgroups of its containers are.
    pub(crate) cgroup_parent: String,
    /// To be set in its namespaces.
    pub(crate) sysctls: BTreeMap<String, String>,
    /// It is in the host's network namespace, and has the host's name.
    pub(crate) host_network: bool,
    /// It is in the host's ipc namespace.
    pub(crate) host_ipc: bool,
    /// Its containers see each other's processes.
    pub(crate) shares_pids: bool,
    /// It is in the host's pid namespace.
    pub(crate) host_pids: bool,
}

/// One field of a message.
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message that are numbers, texts or messages, in their order.
fn fields(bytes: &[u8]) -> protobuf::Result<Vec<(u32, Field)>> {
    let mut input = CodedInputStream::from_bytes(bytes);
    let mut fields = Vec::new();
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        let field = match WireType::new(tag & 7) {
            Some(WireType::Varint) => Field::Number(input.read_raw_varint64()?),
            Some(WireType::LengthDelimited) => Field::Bytes(input.read_bytes()?),
            _ => {
                skip_field_for_tag(tag, &mut input)?;
                continue;
            }
        };
        fields.push((tag >> 3, field));
    }
    Ok(fields)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Config {
    /// Reads what CRI gave; a sandbox of another client has none.
    ///
    /// # Errors
    /// Bytes that are none, or a pod that cannot be had: with a user namespace.
    pub(crate) fn parse(options: Option<&Any>) -> Result<Config> {
        let Some(any) = options.filter(|any| any.type_url.ends_with("PodSandboxConfig")) else {
            return Ok(Config::default());
        };
        // What is not written is of the pod.
        let mut config = Config { shares_pids: true, ..Config::default() };
        let user = config.read(&any.value).map_err(|error| Error::Invalid(format!("PodSandboxConfig: {error}")))?;
        if let Some(name) = config.sysctls.keys().find(|name| !config.is_its_own(name)) {
            return Err(Error::Invalid(format!("sysctl {name:?} is not one of the pod's own namespaces")));
        }
        match user {
            true => Err(Error::Invalid("pods with a user namespace are not made without a pause container".into())),
            false => Ok(config),
        }
    }

    /// Whether a sysctl belongs to a namespace that the pod has to itself: namespaces(7).
    fn is_its_own(&self, name: &str) -> bool {
        const IPC: [&str; 3] = ["kernel.shm", "kernel.msg", "kernel.sem"];
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let ipc = IPC.iter().any(|start| name.starts_with(start)) || name.starts_with("fs.mqueue.");
        plain && !name.contains("..") && (ipc && !self.host_ipc || name.starts_with("net.") && !self.host_network)
    }

    /// True if it is to have a user namespace.
    fn read(&mut self, bytes: &[u8]) -> protobuf::Result<bool> {
        let mut user = false;
        for field in fields(bytes)? {
            match field {
                (2, Field::Bytes(hostname)) => self.hostname = text(hostname),
                (4, Field::Bytes(dns)) => self.read_dns(&dns)?,
                (8, Field::Bytes(linux)) => user = self.read_linux(&linux)?,
                _ => {}
            }
        }
        Ok(user)
    }

    /// DNSConfig: servers, searches, options.
    fn read_dns(&mut self, bytes: &[u8]) -> protobuf::Result<()> {
        let mut lists: [Vec<String>; 3] = Default::default();
        for field in fields(bytes)? {
            if let (number @ 1..=3, Field::Bytes(value)) = field {
                lists[number as usize - 1].push(text(value));
            }
        }
        let [servers, searches, options] = lists;
        if !searches.is_empty() {
            self.resolv_conf.push(format!("search {}", searches.join(" ")));
        }
        self.resolv_conf.extend(servers.iter().map(|server| format!("nameserver {server}")));
        if !options.is_empty() {
            self.resolv_conf.push(format!("options {}", options.join(" ")));
        }
        Ok(())
    }

    /// LinuxPodSandboxConfig: cgroup_parent, security_context, sysctls.
    fn read_linux(&mut self, bytes: &[u8]) -> protobuf::Result<bool> {
        let mut user = false;
        for field in fields(bytes)? {
            match field {
                (1, Field::Bytes(parent)) => self.cgroup_parent = text(parent),
                (2, Field::Bytes(context)) => {
                    for field in fields(&context)? {
                        if let (1, Field::Bytes(namespaces)) = field {
                            user = self.read_namespaces(&namespaces)?;
                        }
                    }
                }
                (3, Field::Bytes(entry)) => {
                    let (mut name, mut value) = (String::new(), String::new());
                    for field in fields(&entry)? {
                        match field {
                            (1, Field::Bytes(bytes)) => name = text(bytes),
                            (2, Field::Bytes(bytes)) => value = text(bytes),
                            _ => {}
                        }
                    }
                    self.sysctls.insert(name, value);
                }
                _ => {}
            }
        }
        Ok(user)
    }

    /// NamespaceOption: network, pid, ipc, target_id, userns_options. What is not written is of the pod.
    fn read_namespaces(&mut self, bytes: &[u8]) -> protobuf::Result<bool> {
        let (mut pid, mut user) = (POD, false);
        for field in fields(bytes)? {
            match field {
                (1, Field::Number(mode)) => self.host_network = mode == NODE,
                (2, Field::Number(mode)) => pid = mode,
                (3, Field::Number(mode)) => self.host_ipc = mode == NODE,
                (5, Field::Bytes(options)) => {
                    let mode = fields(&options)?.into_iter().find_map(|field| match field {
                        (1, Field::Number(mode)) => Some(mode),
                        _ => None,
                    });
                    user = mode.unwrap_or(POD) == POD;
                }
                _ => {}
            }
        }
        self.shares_pids = pid == POD;
        self.host_pids = pid == NODE;
        Ok(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(fields: &[(u8, &[u8])]) -> Vec<u8> {
        fields.iter().flat_map(|(number, bytes)| [&[number << 3 | 2, bytes.len() as u8], *bytes].concat()).collect()
    }

    fn config(namespaces: &[u8]) -> Result<Config> {
        let context = message(&[(1, namespaces)]);
        let sysctl = message(&[(1, b"kernel.shm_rmid_forced"), (2, b"1")]);
        let linux = message(&[(1, b"/kubepods/x"), (2, &context), (3, &sysctl)]);
        let dns = message(&[(1, b"10.0.0.10"), (2, b"a.b"), (2, b"c"), (3, b"ndots:5")]);
        let value = message(&[(1, b"\x0a\x01x"), (2, b"web"), (4, &dns), (8, &linux)]);
        Config::parse(Some(&Any { type_url: "runtime.v1.PodSandboxConfig".into(), value, ..Default::default() }))
    }

    #[test]
    fn sysctls_of_the_host_are_not_a_pods() {
        let pod = Config::default();
        assert!(pod.is_its_own("kernel.shm_rmid_forced") && pod.is_its_own("net.ipv4.ip_forward"));
        for name in ["kernel.core_pattern", "vm.swappiness", "/etc/passwd", "net./../kernel/x", "net...kernel.x"] {
            assert!(!pod.is_its_own(name), "{name}");
        }
        let host = Config { host_network: true, host_ipc: true, ..Config::default() };
        assert!(!host.is_its_own("net.ipv4.ip_forward") && !host.is_its_own("kernel.sem"));
    }

    #[test]
    fn a_pod_is_read() {
        let pod = config(&[0x10, 1]).unwrap();
        assert_eq!((pod.hostname.as_str(), pod.cgroup_parent.as_str()), ("web", "/kubepods/x"));
        assert_eq!(pod.sysctls["kernel.shm_rmid_forced"], "1");
        assert_eq!(pod.resolv_conf, ["search a.b c", "nameserver 10.0.0.10", "options ndots:5"]);
        assert!(!pod.host_network && !pod.host_ipc && !pod.shares_pids);
        // With the sysctl of an ipc namespace that is the host's.
        assert!(config(&[0x18, 2]).is_err());
        let host = config(&[0x08, 2]).unwrap();
        assert!(host.host_network && !host.host_ipc && host.shares_pids && !host.host_pids);
        assert!(config(&[0x10, 2]).unwrap().host_pids);
        let any = Any { type_url: "runtime.v1.PodSandboxConfig".into(), ..Default::default() };
        assert!(Config::parse(Some(&any)).unwrap().shares_pids && !Config::parse(None).unwrap().shares_pids);
        // userns_options with its default mode is one of the pod's own.
        assert!(config(&[0x2a, 0]).is_err());
        assert!(config(&[0x2a, 2, 0x08, 2]).is_ok());
    }
}
