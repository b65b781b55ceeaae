//! Network configurations as an administrator writes them: lists of plugins (`*.conflist`) and, as before CNI 1.0, files
//! of one plugin (`*.conf`, `*.json`). What plugins make of their part is for them to check.

use super::{Places, is_word};
use crate::error::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

/// No configuration is as large.
const MAX_SIZE: u64 = 1 << 20;
/// Those whose results can be handed on from plugin to plugin, oldest first.
const VERSIONS: &[&str] = &["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// A network: plugins in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct List {
    pub name: String,
    pub cni_version: String,
    pub file: PathBuf,
    pub plugins: Vec<Map<String, Value>>,
}

impl List {
    /// The programs of the plugins.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.plugins.iter().map(kind)
    }
}

/// The program of a plugin.
pub(super) fn kind(plugin: &Map<String, Value>) -> &str {
    plugin.get("type").and_then(Value::as_str).unwrap_or_default()
}

/// Whether a plugin takes such arguments from who runs the container.
pub(super) fn has_capability(plugin: &Map<String, Value>, name: &str) -> bool {
    plugin.get("capabilities").and_then(|all| all.get(name)).and_then(Value::as_bool) == Some(true)
}

/// The network of this name: of a list if there is one, else of a single plugin; of several files the first counts.
pub(super) fn find(places: &Places, name: &str) -> Result<List> {
    if !is_word(name) {
        return Err(Error::Usage(format!(
            "invalid name of a network {name:?}: it must match [A-Za-z0-9][A-Za-z0-9_.-]*"
        )));
    }
    let (lists, errors) = all(places)?;
    let known = lists.iter().map(|list| list.name.clone()).collect::<Vec<_>>();
    if let Some(list) = lists.into_iter().find(|list| list.name == name) {
        return Ok(list);
    }
    let dir = places.config.display();
    let mut problem = match known.as_slice() {
        [] => format!("no network {name:?} in {dir}, which has none"),
        known => format!("no network {name:?} in {dir}, which has {}", known.join(", ")),
    };
    // It may be the one that was meant.
    errors.iter().for_each(|error| problem.push_str(&format!("; {error}")));
    Err(Error::Usage(problem))
}

/// All networks of the directory in the order in which they are looked up, one of each name, and what is wrong with the
/// other files.
pub(crate) fn all(places: &Places) -> Result<(Vec<List>, Vec<Error>)> {
    let what = || format!("read {}", places.config.display());
    let mut files = Vec::new();
    match std::fs::read_dir(&places.config) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        entries => {
            for entry in entries.context(what)? {
                files.push(entry.context(what)?.path());
            }
        }
    }
    files.retain(|file| is_list(file) || is_single(file));
    files.sort_by_key(|file| (!is_list(file), file.clone()));
    let (mut lists, mut errors) = (Vec::<List>::new(), Vec::new());
    for file in files {
        match read(&file) {
            Ok(list) if lists.iter().any(|other| other.name == list.name) => {}
            Ok(list) => lists.push(list),
            Err(error) => errors.push(error),
        }
    }
    Ok((lists, errors))
}

fn is_list(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "conflist")
}

fn is_single(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "conf" || extension == "json")
}

fn read(file: &Path) -> Result<List> {
    let wrong = |problem: String| Error::Document { file: file.display().to_string(), problem };
    let mut text = Vec::new();
    let open = std::fs::File::open(file).context(|| format!("open {}", file.display()))?;
    open.take(MAX_SIZE + 1).read_to_end(&mut text).context(|| format!("read {}", file.display()))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(wrong("is larger than a mebibyte".to_owned()));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
    parse(value, file).map_err(wrong)
}

/// Else what is wrong.
pub(super) fn parse(value: Value, file: &Path) -> std::result::Result<List, String> {
    let Value::Object(mut members) = value else { return Err("is not an object".to_owned()) };
    let name = members.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !is_word(&name) {
        return Err(format!("name: {name:?} does not match [A-Za-z0-9][A-Za-z0-9_.-]*"));
    }
    let cni_version = version(&members)?;
    let plugins = match is_list(file) {
        false => vec![members],
        true => match members.remove("plugins") {
            Some(Value::Array(plugins)) => {
                let object = |plugin| if let Value::Object(members) = plugin { Some(members) } else { None };
                plugins.into_iter().map(object).collect::<Option<Vec<_>>>().ok_or("plugins: one is not an object")?
            }
            _ => return Err("plugins: is not an array".to_owned()),
        },
    };
    if plugins.is_empty() {
        return Err("plugins: is empty".to_owned());
    }
    for (index, plugin) in plugins.iter().enumerate() {
        // It is the name of a program, which is looked up in directories of plugins and nowhere else.
        if matches!(kind(plugin), "" | "." | "..") || kind(plugin).contains(['/', '\0']) {
            return Err(format!("plugins[{index}].type: {:?} is not the name of a plugin", kind(plugin)));
        }
    }
    Ok(List { name, cni_version, file: file.to_owned(), plugins })
}

/// The newest of the versions offered that we know.
fn version(members: &Map<String, Value>) -> std::result::Result<String, String> {
    let one = members.get("cniVersion").and_then(Value::as_str);
    let more = members.get("cniVersions").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let offered: Vec<_> = one.into_iter().chain(more).collect();
    match VERSIONS.iter().rev().find(|version| offered.contains(version)) {
        Some(version) => Ok((*version).to_owned()),
        None => Err(format!("cniVersion: {:?} is none of {}", offered.join(", "), VERSIONS.join(", "))),
    }
}
