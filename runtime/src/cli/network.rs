//! `proa network` with its commands, and `proa cni`, which hooks call.

use super::list::columns;
use super::{App, print};
use crate::error::{Error, Result};
use crate::network::{self, Networks, Places};
use crate::sys;
use serde::Serialize;
use std::path::PathBuf;

/// The hidden command of the hooks.
pub(super) fn cni(app: &App<'_>) -> Result<()> {
    let places = places(app)?;
    // A runtime may leave its children to the kernel, and hooks inherit that.
    sys::wait_for_children().map_err(|errno| Error::Sys { what: "sigaction".to_owned(), errno })?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let state = std::io::stdin().lock();
    match (app.arg(0), app.value("network")) {
        ("add", Some(name)) => network::add(&places, name, &publish(app), state),
        ("add", None) => Err(Error::Usage("cni add: --network is missing".to_owned())),
        ("del", _) => network::del(&places.cache, state),
        (other, _) => Err(Error::Usage(format!("cni: {other:?} is neither add nor del"))),
    }
}

pub(super) fn hooks(app: &App<'_>) -> Result<()> {
    let proa = std::env::current_exe().map_err(|error| Error::Usage(format!("the path of proa: {error}")))?;
    let attachment = network::attach_in(&places(app)?, app.arg(0), &publish(app), &proa)?;
    let mut config = serde_json::json!({});
    attachment.apply(&mut config)?;
    print(&(super::pretty(&config, "  ")? + "\n"))
}

pub(super) fn prune(app: &App<'_>) -> Result<()> {
    sys::wait_for_children().map_err(|errno| Error::Sys { what: "sigaction".to_owned(), errno })?;
    let mut failed = None;
    for pruned in network::prune(&places(app)?.cache)? {
        match pruned.done {
            Ok(()) => print(&format!("{}\n", pruned.id))?,
            // The others are pruned all the same.
            Err(error) => {
                let error = Error::Usage(format!("container {}: {error}", pruned.id));
                if let Some(earlier) = failed.replace(error) {
                    log::error!("{earlier}");
                }
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// A row of the list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Network {
    name: String,
    cni_version: String,
    plugins: Vec<String>,
    /// Empty: the configuration is gone, and containers are on it still.
    file: PathBuf,
    containers: Vec<String>,
}

impl Network {
    fn new(list: network::List) -> Network {
        let plugins = list.kinds().map(str::to_owned).collect();
        Network { name: list.name, cni_version: list.cni_version, plugins, file: list.file, containers: Vec::new() }
    }
}

pub(super) fn ls(app: &App<'_>) -> Result<()> {
    let json = match app.value("format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(Error::Usage(format!("--format {other:?} is neither table nor json"))),
    };
    let places = places(app)?;
    let (lists, errors) = network::all(&places)?;
    errors.iter().for_each(|error| log::warn!("{error}"));
    let mut rows: Vec<Network> = lists.into_iter().map(Network::new).collect();
    if let Some(networks) = Networks::open(&places.cache)? {
        for id in networks.ids()? {
            let record = match networks.read(&id) {
                Ok(Some(record)) => record,
                Ok(None) => continue,
                Err(error) => {
                    log::warn!("{error}");
                    continue;
                }
            };
            let index = rows.iter().position(|row| row.name == record.network.name).unwrap_or_else(|| {
                let gone = network::List { file: PathBuf::new(), ..record.network };
                rows.push(Network::new(gone));
                rows.len() - 1
            });
            rows[index].containers.push(id);
        }
    }
    match json {
        true => print(&super::json_line(&rows)?),
        false => print(&table(&rows)),
    }
}

fn table(rows: &[Network]) -> String {
    let header = ["NETWORK", "CNI", "PLUGINS", "CONTAINERS"].map(str::to_owned);
    let rows = rows
        .iter()
        .map(|row| [row.name.clone(), row.cni_version.clone(), row.plugins.join(","), row.containers.join(",")]);
    columns(std::iter::once(header).chain(rows).collect())
}

fn places(app: &App<'_>) -> Result<Places> {
    Places::new(app.value("cni-config-dir"), app.value("cni-path"), app.value("cache-dir"))
}

fn publish<'a>(app: &App<'a>) -> Vec<&'a str> {
    app.parsed.values.all("publish").collect()
}
