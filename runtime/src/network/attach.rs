//! What of config.json makes a container be on a network, after all has been checked that can be beforehand.

use super::{Places, conf, dns, plugin, ports, text};
use crate::error::{Error, Result, bad};
use serde_json::{Value, json};
use std::path::Path;

/// How long one plugin may take, in seconds.
pub(super) const PLUGIN_SECONDS: u64 = 30;
/// How long a hook waits for another of the same container.
pub(super) const LOCK_SECONDS: u64 = 60;

/// What of config.json has to be different.
#[derive(Debug)]
pub(crate) struct Attachment {
    /// It has a network namespace of its own; else it is in the host's.
    pub new_namespace: bool,
    /// For `hooks.createRuntime`: adds the container to the network.
    pub create_runtime: Option<Value>,
    /// For `hooks.poststop`: takes it away again.
    pub poststop: Option<Value>,
    /// What /etc/resolv.conf should say in the container; None where there is nothing to say.
    pub resolv_conf: Option<String>,
}

/// `--network NAME`, `none` or `host`, with the words of each `--publish`, in the usual places.
///
/// `proa` is the program that the hooks call: an absolute path that stays.
pub(crate) fn attach(name: &str, publish: &[&str], proa: &Path) -> Result<Attachment> {
    attach_in(&Places::new(None, None, None)?, name, publish, proa)
}

/// The same in these places.
pub(crate) fn attach_in(places: &Places, name: &str, publish: &[&str], proa: &Path) -> Result<Attachment> {
    let ports = ports::parse_all(publish)?;
    if matches!(name, "none" | "host") {
        if let Some(word) = publish.first() {
            return Err(bad(format_args!("--publish {word:?}"), format_args!("is not for the network {name}")));
        }
        let own = name == "none";
        let resolv_conf = if own { None } else { dns::of_host() };
        return Ok(Attachment { new_namespace: own, create_runtime: None, poststop: None, resolv_conf });
    }
    if !proa.is_absolute() {
        return Err(Error::Usage(format!("the path of proa is not absolute: {}", proa.display())));
    }
    let list = conf::find(places, name)?;
    for kind in list.kinds() {
        plugin::find(&list.name, kind, &places.plugins)?;
    }
    if !ports.is_empty() && !list.plugins.iter().any(|plugin| conf::has_capability(plugin, "portMappings")) {
        let problem = "publishes no ports: no plugin of it has the capability portMappings";
        return Err(bad(format_args!("network {name:?}"), problem));
    }
    let cache = text(&places.cache)?;
    let config = text(&places.config)?;
    let mut add = vec!["proa", "cni", "--cache-dir", &cache, "--cni-config-dir", &config];
    add.extend(["--cni-path", &places.plugins, "--network", name]);
    publish.iter().for_each(|word| add.extend(["--publish", word]));
    add.push("add");
    let del = ["proa", "cni", "--cache-dir", &cache, "del"];
    // A plugin may use its time to add and twice to delete; the configuration may get some more of them.
    let plugins = list.plugins.len() as u64 + 2;
    let program = text(proa)?;
    let hook = |args: &[&str], seconds: u64| json!({"path": program, "args": args, "timeout": seconds + LOCK_SECONDS});
    Ok(Attachment {
        new_namespace: true,
        create_runtime: Some(hook(&add, 3 * plugins * PLUGIN_SECONDS)),
        poststop: Some(hook(&del, 2 * plugins * PLUGIN_SECONDS)),
        resolv_conf: dns::text(&list),
    })
}

impl Attachment {
    /// Makes the changes to a config.json; what is there of hooks stays, in front.
    pub(crate) fn apply(&self, config: &mut Value) -> Result<()> {
        let wrong = |property: &str| bad(property, "is not of the right shape");
        if !config.is_object() {
            return Err(wrong("config.json"));
        }
        let linux = config["linux"].take();
        let mut linux = if linux.is_null() { json!({}) } else { linux };
        let namespaces = linux.get_mut("namespaces").map(Value::take).unwrap_or_else(|| json!([]));
        let Value::Array(mut namespaces) = namespaces else { return Err(wrong("linux.namespaces")) };
        namespaces.retain(|namespace| namespace.get("type").and_then(Value::as_str) != Some("network"));
        if self.new_namespace {
            namespaces.push(json!({"type": "network"}));
        }
        linux.as_object_mut().ok_or_else(|| wrong("linux"))?.insert("namespaces".to_owned(), Value::Array(namespaces));
        config["linux"] = linux;
        for (stage, hook) in [("createRuntime", &self.create_runtime), ("poststop", &self.poststop)] {
            let Some(hook) = hook else { continue };
            let hooks = &mut config["hooks"];
            if hooks.is_null() {
                *hooks = json!({});
            }
            let list = hooks.as_object_mut().ok_or_else(|| wrong("hooks"))?.entry(stage).or_insert_with(|| json!([]));
            list.as_array_mut().ok_or_else(|| wrong(&format!("hooks.{stage}")))?.push(hook.clone());
        }
        Ok(())
    }
}
