//! The volumes of a bundle: those that the caller asks for, and those that the image wants, which have no name.

use super::{Owners, create::usage};
use crate::error::{Context, Result, bad};
use rootfs::store::{Limits, Store};
use rootfs::volumes::{Budget, Prepared, Request, Source, Volumes, check_destinations, parse, relabel};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use serde_json::Value;
use std::collections::BTreeMap;

/// What files get that all containers may use, by the policy that distributions have for containers.
const LABEL: &str = "system_u:object_r:container_file_t:s0";

/// Volumes that an image may want.
const MOST_OF_IMAGE: usize = 128;

/// The volumes, which nobody removes while this lives.
pub(super) struct BundleVolumes {
    volumes: Volumes,
    prepared: Vec<(Request, Prepared)>,
}

impl BundleVolumes {
    /// Makes those that are not there.
    pub(super) fn prepare(store: &Store, words: &[&str], image: &Value, owners: &Owners) -> Result<BundleVolumes> {
        let volumes = Volumes::open(store.dir()).map_err(usage)?;
        let mut requests = words.iter().map(|word| parse(word).map_err(usage)).collect::<Result<Vec<_>>>()?;
        let of_image = image["config"]["Volumes"].as_object();
        if let Some(count) = of_image.map(|volumes| volumes.len()).filter(|count| *count > MOST_OF_IMAGE) {
            return Err(bad("the image's Volumes", format_args!("{count}, at most {MOST_OF_IMAGE} are made")));
        }
        for destination in of_image.into_iter().flat_map(|volumes| volumes.keys()) {
            let wanted = match destination.contains(':') {
                false => parse(destination).map_err(|error| bad("the image's Volumes", error))?,
                true => return Err(bad("the image's Volumes", format_args!("{destination:?} has a colon"))),
            };
            if !requests.iter().any(|request| request.destination == wanted.destination) {
                requests.push(wanted);
            }
        }
        check_destinations(&requests).map_err(usage)?;
        let mut prepared = Vec::new();
        if !requests.is_empty() {
            let (locked, created) = (volumes.lock().map_err(usage)?, crate::time::now());
            for mut request in requests {
                // On the disk a volume has ids that do not depend on the container.
                request.idmap |= owners.maps_layers() && !matches!(request.source, Source::Host(_));
                let one = locked.prepare(&request, &BTreeMap::new(), &created, owners.has_namespace());
                match one {
                    Ok(one) => prepared.push((request, one)),
                    Err(error) => {
                        drop(locked);
                        let made = BundleVolumes { volumes, prepared };
                        made.forget(store);
                        return Err(usage(error));
                    }
                }
            }
        }
        Ok(BundleVolumes { volumes, prepared })
    }

    /// Those that have a name of their own in the store.
    pub(super) fn names(&self) -> Vec<String> {
        self.prepared.iter().filter_map(|(_, prepared)| prepared.volume.clone()).collect()
    }

    /// Copies into new volumes what the image has in their place, gives labels, and says how all are mounted.
    pub(super) fn mounts(&self, root: BorrowedFd<'_>, limits: &Limits) -> Result<Vec<Value>> {
        let mut budget = Budget::new(limits);
        for (request, prepared) in &self.prepared {
            if let Some(name) = &prepared.volume {
                match directory(root, &request.destination)? {
                    Some(image) if prepared.fill => {
                        self.volumes.fill(name, image.as_fd(), &mut budget).map(|_| ()).map_err(usage)?;
                    }
                    _ => self.volumes.complete(name).map_err(usage)?,
                }
            }
            if request.relabel.is_some() {
                let what = || format!("open {}", prepared.mount.source);
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let source = open(&*prepared.mount.source, flags, Mode::empty()).context(what)?;
                relabel(source.as_fd(), LABEL).map_err(usage)?;
            }
        }
        let mounts = self.prepared.iter().map(|(_, prepared)| serde_json::to_value(&prepared.mount).map_err(usage));
        mounts.collect()
    }

    /// Removes those that only this bundle would have had.
    pub(super) fn forget(self, store: &Store) {
        let names = self.names();
        drop(self.prepared);
        if let Err(error) = forget(store, &names) {
            log::warn!("{error}");
        }
    }
}

/// Removes volumes without a name that no bundle has.
pub(super) fn forget(store: &Store, names: &[String]) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let volumes = Volumes::open(store.dir()).map_err(usage)?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let uses = || uses(store).map_err(|error| rootfs::volumes::Error::Refused(error.to_string()));
    volumes.remove_anonymous(&names, uses).map(drop).map_err(usage)
}

/// The bundles of a store by the names of their volumes.
pub(crate) fn uses(store: &Store) -> Result<rootfs::volumes::Uses> {
    let mut uses = rootfs::volumes::Uses::new();
    for bundle in store.bundles().map_err(usage)? {
        for volume in bundle.volumes {
            uses.entry(volume).or_default().push(bundle.path.display().to_string());
        }
    }
    Ok(uses)
}

/// A directory of the image, never one of the host.
fn directory(root: BorrowedFd<'_>, path: &str) -> Result<Option<rustix::fd::OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rootfs::open_in_root(root, path.trim_start_matches('/'), flags) {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno).context(|| format!("open {path} of the image")),
    }
}
