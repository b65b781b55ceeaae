//! `proa volume create`, `ls`, `inspect`, `rm` and `prune`.

use super::bundle::store;
use super::image::size;
use super::list::columns;
use super::{App, print};
use crate::bundle::{uses, with_owners};
use crate::error::{Error, Result, bad};
use rootfs::store::Store;
use rootfs::volumes::{self, Volume, Volumes};
use std::collections::BTreeMap;

pub(super) fn create(app: &App<'_>) -> Result<i32> {
    let mut labels = BTreeMap::new();
    for word in app.parsed.values.all("label") {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        if key.is_empty() {
            return Err(bad("--label", format_args!("{word:?} is not KEY=VALUE")));
        }
        labels.insert(key.to_owned(), value.to_owned());
    }
    with_owners(|_| {
        let name = app.parsed.args.first().copied();
        let made = open(&store(app)?)?.create(name, &labels, &crate::time::now()).map_err(said)?;
        print(&format!("{}\n", made.name))?;
        Ok(0)
    })
}

pub(super) fn ls(app: &App<'_>) -> Result<i32> {
    let json = match app.value("format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(bad("--format", format_args!("{other:?} is neither table nor json"))),
    };
    with_owners(|_| {
        let store = store(app)?;
        let volumes = open(&store)?;
        let mut listed = volumes.list(&uses(&store)?).map_err(said)?;
        listed.broken.iter().for_each(|error| log::warn!("{error}"));
        if app.flag("quiet") {
            print(&listed.volumes.iter().map(|volume| format!("{}\n", volume.name)).collect::<String>())?;
            return Ok(0);
        }
        if app.flag("size") {
            for volume in &mut listed.volumes {
                match volumes.size(&volume.name) {
                    Ok(bytes) => volume.size = Some(bytes),
                    // The others are listed all the same.
                    Err(error) => log::warn!("{error}"),
                }
            }
        }
        match json {
            true => print(&super::json_line(&listed.volumes)?)?,
            false => print(&table(&listed.volumes, app.flag("size")))?,
        }
        Ok(0)
    })
}

pub(super) fn inspect(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let store = store(app)?;
        let (volumes, uses) = (open(&store)?, uses(&store)?);
        let mut found = Vec::new();
        for name in &app.parsed.args {
            let mut volume = volumes.inspect(name, &uses).map_err(said)?;
            if app.flag("size") {
                volume.size = Some(volumes.size(name).map_err(said)?);
            }
            found.push(volume);
        }
        print(&(super::pretty(&found, "  ")? + "\n"))?;
        Ok(0)
    })
}

pub(super) fn rm(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let store = store(app)?;
        let volumes = open(&store)?;
        let mut failed = Failed::default();
        for name in &app.parsed.args {
            match volumes.remove(name, || asked(&store)) {
                Ok(()) => print(&format!("{name}\n"))?,
                Err(error) => failed.add(said(error)),
            }
        }
        failed.end()
    })
}

pub(super) fn prune(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let store = store(app)?;
        let pruned = open(&store)?.prune(app.flag("all"), || asked(&store)).map_err(said)?;
        if !app.flag("quiet") {
            let mut text: String = pruned.removed.iter().map(|name| format!("{name}\n")).collect();
            let count = pruned.removed.len();
            let volumes = if count == 1 { "volume" } else { "volumes" };
            text.push_str(&format!("removed {count} {volumes}, {}\n", size(pruned.bytes)));
            print(&text)?;
        }
        let mut failed = Failed::default();
        pruned.failed.into_iter().for_each(|error| failed.add(said(error)));
        failed.end()
    })
}

/// Errors of things that are done for each of several volumes: the last is the command's.
#[derive(Default)]
struct Failed(Option<Error>);

impl Failed {
    fn add(&mut self, error: Error) {
        if let Some(earlier) = self.0.replace(error) {
            log::error!("{earlier}");
        }
    }

    fn end(self) -> Result<i32> {
        self.0.map_or(Ok(0), Err)
    }
}

fn open(store: &Store) -> Result<Volumes> {
    Volumes::open(store.dir()).map_err(said)
}

/// Who mounts what, for the volumes to ask when nobody can make a bundle.
fn asked(store: &Store) -> volumes::Result<volumes::Uses> {
    uses(store).map_err(|error| volumes::Error::Refused(error.to_string()))
}

/// The volumes' own sentences.
fn said(error: volumes::Error) -> Error {
    match error {
        volumes::Error::Sys { what, errno } => Error::Sys { what, errno },
        error => Error::Usage(error.to_string()),
    }
}

fn table(volumes: &[Volume], sizes: bool) -> String {
    // No cell may end or cover a line: labels and paths of bundles are in JSON only.
    let cells = |volume: &Volume| {
        let size = volume.size.map(size).unwrap_or_else(|| "-".to_owned());
        (volume.name.clone(), volume.created.escape_default().to_string(), volume.used_by.len().to_string(), size)
    };
    let head = ["NAME", "CREATED", "BUNDLES", "SIZE"].map(str::to_owned);
    let rows = std::iter::once(head).chain(volumes.iter().map(|volume| cells(volume).into()));
    match sizes {
        true => columns(rows.collect()),
        false => columns(rows.map(|[name, created, bundles, _]| [name, created, bundles]).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        let volume = |name: &str, size| Volume {
            name: name.to_owned(),
            mountpoint: String::new(),
            created: "2026-01-31T23:59:59Z".to_owned(),
            labels: BTreeMap::new(),
            size,
            used_by: vec!["/b".to_owned()],
        };
        let volumes = [volume("data", Some(1 << 20)), volume("cache-of-something", None)];
        let text = table(&volumes, true);
        let expected = "NAME                 CREATED                BUNDLES     SIZE\n\
                        data                 2026-01-31T23:59:59Z   1           1.0 MiB\n\
                        cache-of-something   2026-01-31T23:59:59Z   1           -\n";
        assert_eq!(text, expected);
        assert_eq!(table(&[], false), "NAME        CREATED     BUNDLES\n");
    }
}
