//! config.json from an image's configuration, as conversion.md of the image-spec has it, and from what the caller says.

use super::{MOUNTPOINTS, Owners, WRITABLE};
use crate::cli::spec as cli_spec;
use crate::error::{Error, Result, bad};
use crate::network::Attachment;
use crate::plan::{LAYERS_ANNOTATION, MAPPED_ROOT_ANNOTATION, OVERLAY_ANNOTATION, WRITABLE_ANNOTATION};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// What the caller says beside the image.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Instead of the image's command, if there are any.
    pub args: Vec<String>,
    /// Instead of the image's; an empty one is none.
    pub entrypoint: Option<String>,
    pub env: Vec<String>,
    pub workdir: Option<String>,
    pub hostname: Option<String>,
    pub tty: bool,
    pub read_only: bool,
    pub volatile: bool,
}

/// What was found out before.
#[derive(Debug)]
pub(crate) struct Found {
    /// Of the layers, the topmost first.
    pub layers: Vec<PathBuf>,
    pub user: super::users::User,
    /// Entries of `mounts`, beyond those of every container.
    pub mounts: Vec<Value>,
    pub network: Attachment,
}

/// What a program in an image may count on: the list that engines give by default.
pub(crate) fn capabilities() -> [&'static str; 14] {
    [
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ]
}

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The document, to be written.
///
/// # Errors
/// There is no program to run, or a word that makes no sense.
pub(crate) fn document(image: &Value, wishes: &Wishes, found: &Found, owners: &Owners) -> Result<Value> {
    let template = if owners.is_rootless() { cli_spec::ROOTLESS } else { cli_spec::ROOT };
    let template = template.replace("@UID@", "0").replace("@GID@", "0");
    let mut document: Value =
        serde_json::from_str(&template).map_err(|error| Error::Usage(format!("the default config.json: {error}")))?;
    let said = &image["config"];
    process(&mut document["process"], said, wishes, found)?;
    document["root"] = json!({ "path": "rootfs", "readonly": wishes.read_only });
    document["annotations"] = Value::Object(annotations(image, wishes, found, owners)?);
    match &wishes.hostname {
        Some(name) => document["hostname"] = json!(name),
        None => drop(document.as_object_mut().and_then(|document| document.remove("hostname"))),
    }
    if let Value::Array(mounts) = &mut document["mounts"] {
        mounts.extend(found.mounts.iter().cloned());
    }
    found.network.apply(&mut document)?;
    user_namespace(&mut document, owners);
    if owners.has_namespace() && !found.network.new_namespace {
        bind_sys(&mut document);
    }
    for part in ["process", "hostname"] {
        no_nul(part, &document[part])?;
    }
    Ok(document)
}

/// A text that the kernel would take for a shorter one; a file of JSON may have it.
fn no_nul(what: &str, value: &Value) -> Result<()> {
    match value {
        Value::String(text) if text.contains('\0') => {
            Err(Error::Usage(format!("the image: {what}: {text:?} has a NUL byte")))
        }
        Value::Array(list) => list.iter().try_for_each(|value| no_nul(what, value)),
        Value::Object(map) => map.iter().try_for_each(|(key, value)| no_nul(&format!("{what}.{key}"), value)),
        _ => Ok(()),
    }
}

fn process(process: &mut Value, said: &Value, wishes: &Wishes, found: &Found) -> Result<()> {
    process["terminal"] = json!(wishes.tty);
    process["user"] = json!(found.user);
    process["cwd"] = json!(cwd(said, wishes)?);
    process["args"] = json!(args(said, wishes)?);
    process["env"] = json!(environment(said, wishes)?);
    process["capabilities"] =
        json!({ "bounding": capabilities(), "effective": capabilities(), "permitted": capabilities() });
    // Those of whoever starts it.
    process.as_object_mut().and_then(|process| process.remove("rlimits"));
    if found.user.uid != 0 {
        // As execve(2) would take them from a user that is not root.
        process["capabilities"]["effective"] = json!([]);
        process["capabilities"]["permitted"] = json!([]);
    }
    Ok(())
}

fn cwd(said: &Value, wishes: &Wishes) -> Result<String> {
    let cwd = wishes.workdir.as_deref().or(said["WorkingDir"].as_str()).filter(|cwd| !cwd.is_empty()).unwrap_or("/");
    match cwd.starts_with('/') {
        true => Ok(cwd.to_owned()),
        false if wishes.workdir.is_some() => Err(bad("--workdir", format_args!("{cwd:?} is not absolute"))),
        // Engines take it from the root.
        false => Ok(format!("/{cwd}")),
    }
}

fn args(said: &Value, wishes: &Wishes) -> Result<Vec<String>> {
    let words = |name: &str| -> Vec<String> {
        said[name].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut args = match &wishes.entrypoint {
        Some(program) => Vec::from_iter((!program.is_empty()).then(|| program.clone())),
        None => words("Entrypoint"),
    };
    // Another program has nothing to do with the image's words.
    match (wishes.args.is_empty(), &wishes.entrypoint) {
        (true, None) => args.extend(words("Cmd")),
        (true, Some(_)) => {}
        (false, _) => args.extend(wishes.args.iter().cloned()),
    }
    if args.first().is_none_or(|program| program.is_empty()) {
        return Err(Error::Usage("the image has neither an entrypoint nor a command: say one after DIR".to_owned()));
    }
    Ok(args)
}

/// The image's, with those of the caller instead or behind.
fn environment(said: &Value, wishes: &Wishes) -> Result<Vec<String>> {
    let image = said["Env"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut env: Vec<String> =
        image.filter(|entry| entry.find('=').is_some_and(|at| at > 0)).map(str::to_owned).collect();
    fn set(env: &mut Vec<String>, entry: String) {
        let name = entry.split('=').next().unwrap_or_default().to_owned() + "=";
        match env.iter_mut().find(|known| known.starts_with(&name)) {
            Some(known) => *known = entry,
            None => env.push(entry),
        }
    }
    if !env.iter().any(|entry| entry.starts_with("PATH=")) {
        env.insert(0, PATH.to_owned());
    }
    if wishes.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    for entry in &wishes.env {
        match entry.split_once('=') {
            Some(("", _)) => return Err(bad("--env", format_args!("{entry:?} has no name"))),
            Some(_) => set(&mut env, entry.clone()),
            // As engines: the caller's own, or nothing.
            None => {
                if let Ok(value) = std::env::var(entry) {
                    set(&mut env, format!("{entry}={value}"));
                }
            }
        }
    }
    Ok(env)
}

fn annotations(image: &Value, wishes: &Wishes, found: &Found, owners: &Owners) -> Result<Map<String, Value>> {
    let mut annotations = Map::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            annotations.insert(key.to_owned(), value.into());
        }
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let said = &image["config"];
    let list = |value: &Value| {
        let words = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
        Some(words.join(","))
    };
    let ports = said["ExposedPorts"].as_object().into_iter().flat_map(Map::keys).map(String::as_str);
    let image_key = |name: &str| format!("org.opencontainers.image.{name}");
    set(&image_key("os"), text(&image["os"]));
    set(&image_key("architecture"), text(&image["architecture"]));
    set(&image_key("variant"), text(&image["variant"]));
    set(&image_key("os.version"), text(&image["os.version"]));
    set(&image_key("os.features"), list(&image["os.features"]));
    set(&image_key("author"), text(&image["author"]));
    set(&image_key("created"), text(&image["created"]));
    set(&image_key("stopSignal"), text(&said["StopSignal"]));
    set(&image_key("exposedPorts"), Some(ports.collect::<Vec<_>>().join(",")));
    for (key, value) in said["Labels"].as_object().into_iter().flatten() {
        // What makes a root, opens a cgroup or names a device is for the caller to say, not for an image.
        // A key that is empty, or one with a NUL, cannot be said to a runtime at all.
        let sayable =
            !key.is_empty() && !key.contains('\0') && value.as_str().is_none_or(|value| !value.contains('\0'));
        if sayable
            && !key.starts_with("io.github.proa.")
            && !key.starts_with("org.systemd.")
            && !key.starts_with("run.oci.")
        {
            set(key, text(value));
        }
    }
    let layers: Vec<&str> = found.layers.iter().filter_map(|layer| layer.to_str()).collect();
    if let Some(path) = found.layers.iter().find(|path| path.to_str().is_none_or(|path| path.contains(':'))) {
        let whose = if path.ends_with(MOUNTPOINTS) { "the bundle" } else { "--store" };
        return Err(bad(whose, format_args!("{}: the path has a colon, or is no UTF-8", path.display())));
    }
    set(LAYERS_ANNOTATION, Some(layers.join(":")));
    if !wishes.read_only {
        set(WRITABLE_ANNOTATION, Some(WRITABLE.to_owned()));
    }
    if wishes.volatile {
        set(OVERLAY_ANNOTATION, Some("volatile".to_owned()));
    }
    if owners.maps_layers() {
        set(MAPPED_ROOT_ANNOTATION, Some("idmap".to_owned()));
    }
    Ok(annotations)
}

fn user_namespace(document: &mut Value, owners: &Owners) {
    let linux = &mut document["linux"];
    if let Value::Array(list) = &mut linux["namespaces"] {
        list.retain(|entry| entry["type"] != "user");
        if owners.has_namespace() {
            list.push(json!({ "type": "user" }));
        }
    }
    if owners.has_namespace() {
        linux["uidMappings"] = owners.mappings(|map| &map.uid);
        linux["gidMappings"] = owners.mappings(|map| &map.gid);
    }
}

/// sysfs shows the devices of a network namespace, which a user namespace has to own.
fn bind_sys(document: &mut Value) {
    let mounts = document["mounts"].as_array_mut().into_iter().flatten();
    for mount in mounts.filter(|mount| mount["destination"] == "/sys") {
        let options = ["rbind", "nosuid", "noexec", "nodev", "ro"];
        *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys", "options": options });
    }
}
