//! The plugins of a network in their order (CNI, Section 3): to add each gets the result of the one before, to delete
//! each gets the last, from the end. What is done is written down as it is done.

use super::cache::{Entry, Record};
use super::conf::{has_capability, kind};
use super::plugin::Call;
use crate::error::{Result, bad};
use serde_json::{Map, Value, json};

/// Runs all with ADD. `record` was written before.
pub(super) fn add(entry: &Entry, record: &mut Record) -> Result<()> {
    let namespace = entry.namespace()?;
    for index in 0..record.network.plugins.len() {
        let plugin = &record.network.plugins[index];
        let result = call(entry, record, plugin, "ADD", &namespace).run(&config(record, plugin))?;
        if !result.as_ref().is_some_and(Value::is_object) {
            let problem = format!("plugin {:?}, ADD: succeeded without a result", kind(plugin));
            return Err(bad(format_args!("network {:?}", record.network.name), problem));
        }
        // A few levels of arrays and objects are all that there is in one; it is to be written down and read again.
        if result.as_ref().is_some_and(|result| is_deeper(result, 32)) {
            let problem = format!("plugin {:?}, ADD: its result is nested too deep", kind(plugin));
            return Err(bad(format_args!("network {:?}", record.network.name), problem));
        }
        record.result = result;
        entry.write(record)?;
    }
    Ok(())
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match (value, levels.checked_sub(1)) {
        (Value::Array(_) | Value::Object(_), None) => true,
        (Value::Array(list), Some(left)) => list.iter().any(|value| is_deeper(value, left)),
        (Value::Object(map), Some(left)) => map.values().any(|value| is_deeper(value, left)),
        _ => false,
    }
}

/// Runs those that are left with DEL; to be tried again from where it failed.
pub(super) fn del(entry: &Entry, record: &mut Record) -> Result<()> {
    let namespace = entry.namespace()?;
    while let Some(plugin) = record.left.checked_sub(1).and_then(|last| record.network.plugins.get(last)) {
        let call = call(entry, record, plugin, "DEL", &namespace);
        // Whose ADD was ended in the middle may stumble over what is half there, and find less the second time.
        call.run(&config(record, plugin)).or_else(|_| call.run(&config(record, plugin)))?;
        record.left -= 1;
        entry.write(record)?;
    }
    Ok(())
}

fn call<'a>(
    entry: &'a Entry,
    record: &'a Record,
    plugin: &'a Map<String, Value>,
    command: &'static str,
    namespace: &'a str,
) -> Call<'a> {
    Call {
        network: &record.network.name,
        kind: kind(plugin),
        command,
        id: &record.id,
        namespace,
        interface: &record.interface,
        path: &record.plugin_path,
        lock: entry.lock(),
    }
}

/// A plugin's part of the configuration as it is told to the plugin.
fn config(record: &Record, plugin: &Map<String, Value>) -> Value {
    let mut config = plugin.clone();
    config.remove("capabilities");
    config.insert("name".to_owned(), json!(record.network.name));
    config.insert("cniVersion".to_owned(), json!(record.network.cni_version));
    if !record.ports.is_empty() && has_capability(plugin, "portMappings") {
        let runtime = config.entry("runtimeConfig").or_insert_with(|| json!({}));
        match runtime.as_object_mut() {
            Some(runtime) => drop(runtime.insert("portMappings".to_owned(), json!(record.ports))),
            None => *runtime = json!({"portMappings": record.ports}),
        }
    }
    if let Some(result) = &record.result {
        config.insert("prevResult".to_owned(), result.clone());
    }
    Value::Object(config)
}
