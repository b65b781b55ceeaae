//! The options of the runtime, in each form in which containerd hands them over: containerd.runc.v1.Options to a shim
//! that is named as its own, runtimeoptions.v1.Options to any other, with the same keys as TOML in a text or a file.
//! They are kept as JSON in the bundle, where `delete` finds them when the shim has died.

use std::fs;
use std::path::Path;

use containerd_shim_protos::shim::oci;
use protobuf::well_known_types::any::Any;
use protobuf::{CodedInputStream, Message};
use serde::{Deserialize, Serialize};

/// The name in the bundle.
const FILE: &str = "options.json";

/// Where runtimes keep the state of their containers when containerd does not say: a directory per namespace below it.
pub(crate) const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// What a user can choose, by containerd's names (core/runtime/v2/runc/options/oci.proto).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// The root file system is in a RAM disk.
    pub(crate) no_pivot_root: bool,
    /// The container keeps the session keyring of the runtime.
    pub(crate) no_new_keyring: bool,
    /// The cgroup of the shim itself.
    pub(crate) shim_cgroup: String,
    /// Owner of the pipes of the container's standard streams.
    pub(crate) io_uid: u32,
    /// Group of the pipes of the container's standard streams.
    pub(crate) io_gid: u32,
    /// The runtime: a name or a path.
    pub(crate) binary_name: String,
    /// The runtime's directory of states.
    pub(crate) root: String,
    /// cgroups by systemd.
    pub(crate) systemd_cgroup: bool,
    /// Where images of checkpoints are.
    pub(crate) criu_image_path: String,
    /// Where CRIU works.
    pub(crate) criu_work_path: String,
}

impl Options {
    /// Reads what containerd gave.
    ///
    /// # Errors
    /// One line: what is not understood.
    pub(crate) fn from_any(any: Option<&Any>) -> Result<Options, String> {
        let Some(any) = any.filter(|any| !any.type_url.is_empty()) else { return Ok(Options::default()) };
        match any.type_url.rsplit('/').next().unwrap_or_default() {
            "containerd.runc.v1.Options" => oci::Options::parse_from_bytes(&any.value)
                .map(Options::from_message)
                .map_err(|error| format!("options of type {}: {error}", any.type_url)),
            "runtimeoptions.v1.Options" | "containerd.runtimeoptions.v1.Options" => {
                let (path, body) =
                    generic(&any.value).map_err(|error| format!("runtimeoptions.v1.Options: {error}"))?;
                if !body.is_empty() {
                    let text = String::from_utf8(body).map_err(|_| "config_body is no text")?;
                    return Options::from_toml(&text).map_err(|error| format!("config_body: {error}"));
                }
                match path.as_str() {
                    "" => Ok(Options::default()),
                    path => {
                        let text =
                            fs::read_to_string(path).map_err(|error| format!("config_path {path:?}: {error}"))?;
                        Options::from_toml(&text).map_err(|error| format!("config_path {path:?}: {error}"))
                    }
                }
            }
            _ => Err(format!("options of type {:?} are not known", any.type_url)),
        }
    }

    fn from_message(message: oci::Options) -> Options {
        Options {
            no_pivot_root: message.no_pivot_root,
            no_new_keyring: message.no_new_keyring,
            shim_cgroup: message.shim_cgroup,
            io_uid: message.io_uid,
            io_gid: message.io_gid,
            binary_name: message.binary_name,
            root: message.root,
            systemd_cgroup: message.systemd_cgroup,
            criu_image_path: message.criu_image_path,
            criu_work_path: message.criu_work_path,
        }
    }

    /// Keys are as containerd's configuration spells them, in any case, with or without underscores.
    fn from_toml(text: &str) -> Result<Options, String> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
        let mut known = toml::Table::new();
        for (key, value) in table {
            let key = match key.to_ascii_lowercase().replace('_', "").as_str() {
                "nopivotroot" => "no_pivot_root",
                "nonewkeyring" => "no_new_keyring",
                "shimcgroup" => "shim_cgroup",
                "iouid" => "io_uid",
                "iogid" => "io_gid",
                "binaryname" => "binary_name",
                "root" => "root",
                "systemdcgroup" => "systemd_cgroup",
                "criuimagepath" => "criu_image_path",
                "criuworkpath" => "criu_work_path",
                // Of containerd's own, and of no meaning here; what is not known at all is another's to read.
                _ => continue,
            };
            known.insert(key.to_owned(), value);
        }
        Options::deserialize(known).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    /// Keeps them in the bundle.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn save(&self, bundle: &Path) -> std::io::Result<()> {
        fs::write(bundle.join(FILE), serde_json::to_vec(self)?)
    }

    /// Those that were kept in the bundle; the defaults where there are none.
    pub(crate) fn load(bundle: &Path) -> Options {
        fs::read(bundle.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }
}

/// config_path and config_body of a runtimeoptions.v1.Options: fields 2 and 3.
fn generic(bytes: &[u8]) -> protobuf::Result<(String, Vec<u8>)> {
    let (mut path, mut body) = (String::new(), Vec::new());
    let mut input = CodedInputStream::from_bytes(bytes);
    while let Some(tag) = input.read_raw_tag_or_eof()? {
        match tag {
            0x12 => path = input.read_string()?,
            0x1a => body = input.read_bytes()?,
            tag => protobuf::rt::skip_field_for_tag(tag, &mut input)?,
        }
    }
    Ok((path, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic_any(path: &str, body: &str) -> Any {
        let mut value = Vec::new();
        for (tag, text) in [(0x0a, "some.type"), (0x12, path), (0x1a, body)] {
            value.extend([tag, text.len() as u8]);
            value.extend(text.as_bytes());
        }
        Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Default::default() }
    }

    #[test]
    fn every_form_says_the_same() {
        let wanted = Options { binary_name: "/bin/crun".into(), systemd_cgroup: true, io_uid: 7, ..Options::default() };
        let message =
            oci::Options { binary_name: "/bin/crun".into(), systemd_cgroup: true, io_uid: 7, ..Default::default() };
        let any = Any {
            type_url: "types.containerd.io/containerd.runc.v1.Options".into(),
            value: message.write_to_bytes().unwrap(),
            ..Default::default()
        };
        assert_eq!(Options::from_any(Some(&any)).unwrap(), wanted);

        let toml = "BinaryName = \"/bin/crun\"\nSystemdCgroup = true\nio_uid = 7\nUnknown = 3\n";
        assert_eq!(Options::from_any(Some(&generic_any("", toml))).unwrap(), wanted);

        let path = std::env::temp_dir().join(format!("shim-options-{}.toml", std::process::id()));
        fs::write(&path, toml).unwrap();
        assert_eq!(Options::from_any(Some(&generic_any(path.to_str().unwrap(), ""))).unwrap(), wanted);
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn mistakes_are_named() {
        let error = |path, body| Options::from_any(Some(&generic_any(path, body))).unwrap_err();
        assert!(error("", "SystemdCgroup = 3").contains("config_body"));
        assert!(error("/nowhere", "").contains("/nowhere"));
        let other = Any { type_url: "x/y".into(), ..Default::default() };
        assert!(Options::from_any(Some(&other)).unwrap_err().contains("x/y"));
        assert_eq!(Options::from_any(None).unwrap(), Options::default());
    }
}
