//! `proa bundle create`, `ls` and `rm`.

use super::image::Shown;
use super::{App, print};
use crate::bundle::{self, Owners, with_owners};
use crate::error::{Context, Error, Result, bad};
use crate::plan::IdMaps;
use rootfs::store::{Limits, Store};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

pub(super) fn create(app: &App<'_>) -> Result<i32> {
    with_owners(|maps| create_in(app, maps).map(|()| 0))
}

fn create_in(app: &App<'_>, maps: Option<IdMaps>) -> Result<()> {
    let image = app.value("image").ok_or_else(|| bad("--image", "missing"))?;
    let dir = absolute(app.arg(0))?;
    let owned = |name: &str| app.value(name).map(str::to_owned);
    let wishes = bundle::Wishes {
        args: app.parsed.args[1..].iter().map(|word| (*word).to_owned()).collect(),
        entrypoint: app.parsed.values.get("entrypoint").map(str::to_owned),
        env: app.parsed.values.all("env").map(str::to_owned).collect(),
        workdir: owned("workdir"),
        hostname: owned("hostname"),
        tty: app.flag("tty"),
        read_only: app.flag("read-only"),
        volatile: app.flag("volatile"),
    };
    let request = bundle::Request {
        dir: &dir,
        image,
        platform: app.value("platform"),
        user: app.value("user"),
        network: app.value("network").unwrap_or("none"),
        publish: app.parsed.values.all("publish").collect(),
        volumes: app.parsed.values.all("volume").collect(),
        size: app.value("size").map(|word| bytes("--size", word)).transpose()?,
        limits: limits(app)?,
        wishes,
        owners: Owners::new(app.value("userns"), maps)?,
    };
    let store = store(app)?;
    bundle::create(&store, &request, &Shown::new(app.flag("quiet")))
}

pub(super) fn rm(app: &App<'_>) -> Result<i32> {
    let used = bundles_of_containers(app)?;
    with_owners(|_| {
        let store = store(app)?;
        for word in &app.parsed.args {
            let dir = absolute(word)?;
            // As it was written: links on the way may lead there.
            let is_it = |bundle: &Path| bundle == dir || bundle.canonicalize().is_ok_and(|bundle| bundle == dir);
            if let Some((id, _)) = used.iter().find(|(_, bundle)| is_it(bundle)) {
                return Err(Error::Usage(format!("{}: container {id} is made from it", dir.display())));
            }
            bundle::remove(&store, &dir)?;
        }
        Ok(0)
    })
}

pub(super) fn ls(app: &App<'_>) -> Result<i32> {
    with_owners(|_| {
        let bundles = store(app)?.bundles().map_err(|error| Error::Usage(error.to_string()))?;
        match app.value("format") {
            Some("json") => print(&super::json_line(&bundles)?)?,
            None | Some("table") => {
                let mut rows = vec![["BUNDLE", "IMAGE", "VOLUMES"].map(str::to_owned)];
                rows.extend(bundles.iter().map(|entry| {
                    let image = entry.image.hex().chars().take(12).collect();
                    [entry.path.display().to_string(), image, entry.volumes.join(" ")]
                }));
                print(&super::list::columns(rows))?;
            }
            Some(other) => return Err(bad("--format", format_args!("{other:?} is neither table nor json"))),
        }
        Ok(0)
    })
}

/// The containers that there are, with their bundles.
fn bundles_of_containers(app: &App<'_>) -> Result<Vec<(String, PathBuf)>> {
    let root = match crate::state::StateRoot::open(&app.root) {
        // Somebody else's: this user has no containers there.
        Err(Error::Sys { errno: Errno::ACCESS, .. }) | Ok(None) => return Ok(Vec::new()),
        Ok(Some(root)) => root,
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for id in root.names()? {
        if let Some(dir) = root.find(&id)?
            && let Some(text) = dir.read()?
            && let Ok(record) = dir.parse(&text)
        {
            found.push((dir.id.clone(), PathBuf::from(&*record.bundle)));
        }
    }
    Ok(found)
}

/// The store that the command line, the environment or the user's home names.
pub(super) fn store(app: &App<'_>) -> Result<Store> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = match app.value("store").map(PathBuf::from).or_else(|| variable("PROA_STORE")) {
        Some(dir) => dir,
        None if !crate::plan::is_in_user_namespace() && rustix::process::geteuid().is_root() => "/var/lib/proa".into(),
        None => match variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share"))) {
            Some(data) => data.join("proa"),
            None => return Err(bad("--store", "missing, and neither XDG_DATA_HOME nor HOME is set")),
        },
    };
    let dir = std::path::absolute(&dir).context(|| format!("--store {}", dir.display()))?;
    Store::open(&dir).map_err(|error| bad("--store", error))
}

/// The path with its links followed, as it will be found again; the last part need not be there.
fn absolute(word: &str) -> Result<PathBuf> {
    let what = || format!("bundle {word}");
    if word.is_empty() {
        return Err(Error::Usage("bundle \"\": is empty".to_owned()));
    }
    match Path::new(word).canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        found => {
            let found = found.context(what)?;
            return match found.parent() {
                Some(_) => Ok(found),
                None => Err(Error::Usage(format!("bundle {word:?}: is the host's root"))),
            };
        }
    }
    let path = std::path::absolute(Path::new(word)).context(what)?;
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().context(what)?.join(name)),
        _ => Err(Error::Usage(format!("bundle {word:?}: is the host's root"))),
    }
}

/// `10G`, in powers of 1024; whole numbers.
fn bytes(property: &str, word: &str) -> Result<u64> {
    let value = super::update::bytes(word).and_then(|value| u64::try_from(value).ok());
    let value = value.filter(|value| *value > 0 && !word.contains('.'));
    value.ok_or_else(|| bad(property, format_args!("{word:?} is no size, such as 10G")))
}

/// How far an image may go.
pub(super) fn limits(app: &App<'_>) -> Result<Limits> {
    let default = Limits::default();
    let bytes = app.value("max-size").map(|word| bytes("--max-size", word)).transpose()?;
    Ok(Limits { bytes: bytes.unwrap_or(default.bytes), ..default })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes() {
        for (word, value) in [("1", 1), ("10G", 10 << 30), ("2k", 2048), ("3MiB", 3 << 20), ("1tb", 1 << 40)] {
            assert_eq!(bytes("--size", word).ok(), Some(value), "{word}");
        }
        for wrong in ["", "G", "0", "-1", "1.5G", "1GG", "99999999999999999999", "99999999T"] {
            assert!(bytes("--size", wrong).is_err(), "{wrong}");
        }
    }
}
