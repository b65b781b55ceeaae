//! From what was asked for to an entry of config.json's `mounts`.

use super::{Context, Error, Locked, Request, Result, Source, open_record};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::collections::BTreeMap;

/// An entry of `mounts`, as any runtime reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mount {
    /// Where in the container.
    pub destination: String,
    /// Always `bind`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A path of the host.
    pub source: String,
    /// Words that mount(8) knows, and `idmap`.
    pub options: Vec<String>,
}

/// A request that config.json can have. While it lives its volume is not removed: keep it until the bundle is registered
/// and whole.
#[derive(Debug)]
pub struct Prepared {
    /// What goes into config.json.
    pub mount: Mount,
    /// The volume, to be registered with the bundle; none for a path of the host.
    pub volume: Option<String>,
    /// The volume is for [`super::Volumes::fill`]. Else [`super::Volumes::complete`] is to be called.
    pub fill: bool,
    /// volume.json, locked shared.
    _kept: Option<OwnedFd>,
}

impl Locked<'_> {
    /// Makes the volume that is asked for, if there is none, and says how it is mounted. This lock is not needed any more
    /// then, and is better given back before volumes are filled.
    ///
    /// `labels` are given to a volume that is made. `own_user_namespace`: whether the container has one.
    ///
    /// # Errors
    /// A path of the host that is not there, `idmap` where there is nothing to map, and what [`Locked::create`] says.
    pub fn prepare(
        &self,
        request: &Request,
        labels: &BTreeMap<String, String>,
        created: &str,
        own_user_namespace: bool,
    ) -> Result<Prepared> {
        if request.idmap && !own_user_namespace {
            let sentence =
                format!("--volume at {}: idmap is for a container with a user namespace", request.destination);
            return Err(Error::Refused(sentence));
        }
        let (source, volume) = match &request.source {
            Source::Host(path) => (host_path(path)?, None),
            Source::Anonymous => {
                let volume = self.create(None, labels, created)?;
                (volume.mountpoint, Some(volume.name))
            }
            Source::Named(name) => {
                let volume = match self.create(Some(name), labels, created) {
                    // It has to be one, and readable.
                    Err(Error::Exists(_)) => self.volumes.inspect(name, &BTreeMap::new())?,
                    made => made?,
                };
                (volume.mountpoint, Some(volume.name))
            }
        };
        let fill = volume.is_some() && !request.nocopy;
        let kept = volume.as_ref().map(|name| self.keep(name)).transpose()?;
        Ok(Prepared { mount: request.mount(source), volume, fill, _kept: kept })
    }

    /// Keeps a volume from being removed. Nobody removes one now, so that this waits for nobody.
    fn keep(&self, name: &str) -> Result<OwnedFd> {
        let volume = self.volumes.open_volume(self.dir.as_fd(), name)?;
        let what = || format!("lock {}/volume.json", self.volumes.path_of(name));
        let record = open_record(volume.as_fd()).context(what)?;
        flock(&record, FlockOperation::NonBlockingLockShared).context(what)?;
        Ok(record)
    }
}

impl Request {
    fn mount(&self, source: String) -> Mount {
        let mut options = vec![
            if self.recursive { "rbind" } else { "bind" },
            self.propagation,
            if self.read_only { "ro" } else { "rw" },
        ];
        options.extend(&self.flags);
        options.extend(self.idmap.then_some("idmap"));
        let options = options.into_iter().map(str::to_owned).collect();
        Mount { destination: self.destination.clone(), kind: "bind", source, options }
    }
}

/// A path of the host that is there; relative to the working directory. Links in it are the caller's own.
fn host_path(path: &str) -> Result<String> {
    rustix::fs::stat(path).context(|| format!("--volume: {path}"))?;
    let absolute = std::path::absolute(path).map_err(|error| Error::Refused(format!("--volume: {path}: {error}")))?;
    absolute
        .into_os_string()
        .into_string()
        .map_err(|path| Error::Refused(format!("--volume: the path {} is not UTF-8", path.display())))
}
