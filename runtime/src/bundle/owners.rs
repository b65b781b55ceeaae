//! Whose ids the files of a bundle have: the host's own; those of a user namespace that the caller names; or, without
//! privileges, those that /etc/subuid and /etc/subgid give the user, in a namespace that all of the work is done in.

use crate::child::become_root;
use crate::error::{Context, Error, Result, bad};
use crate::parent::id_map;
use crate::plan::{IdMapping, IdMaps, is_in_user_namespace};
use crate::sync::{Channel, Message, Signal};
use crate::sys::{self, CloneArgs, Cloned};
use rustix::fd::AsFd;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

/// The ids of a bundle's files.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Of the container's user namespace.
    maps: Option<IdMaps>,
    rootless: bool,
}

impl Owners {
    /// `--userns`: `UID[:COUNT]`.
    ///
    /// # Errors
    /// Not numbers, too many, or not for a user without privileges.
    pub(crate) fn new(word: Option<&str>, rootless: Option<IdMaps>) -> Result<Owners> {
        match (word, rootless) {
            (None, None) => Ok(Owners::default()),
            (None, Some(maps)) => Ok(Owners { maps: Some(maps), rootless: true }),
            (Some(_), Some(_)) => Err(bad("--userns", "without privileges there is no choice of ids")),
            (Some(word), None) => {
                let (from, count) = word.split_once(':').unwrap_or((word, "65536"));
                let wrong = || bad("--userns", format_args!("{word:?} is not UID[:COUNT]"));
                let (host, size) = (from.parse().map_err(|_| wrong())?, count.parse().map_err(|_| wrong())?);
                if size == 0 || u32::checked_add(host, size).is_none() {
                    return Err(wrong());
                }
                let map = vec![IdMapping { container: 0, host, size }];
                Ok(Owners { maps: Some(IdMaps { uid: map.clone(), gid: map }), rootless: false })
            }
        }
    }

    pub(crate) fn is_rootless(&self) -> bool {
        self.rootless
    }

    pub(crate) fn has_namespace(&self) -> bool {
        self.maps.is_some()
    }

    /// Layers have the host's ids on the disk, and are shown with the container's.
    pub(crate) fn maps_layers(&self) -> bool {
        self.maps.is_some() && !self.rootless
    }

    /// What an id of the container is on the disk, as this process sees it.
    pub(crate) fn on_disk(&self, id: u32) -> u32 {
        match &self.maps {
            Some(maps) if !self.rootless => {
                let map = maps.uid.iter().find(|map| (map.container..map.container + map.size).contains(&id));
                map.map_or(id, |map| map.host + (id - map.container))
            }
            _ => id,
        }
    }

    /// `linux.uidMappings` or `gidMappings`.
    pub(crate) fn mappings(&self, which: impl Fn(&IdMaps) -> &Vec<IdMapping>) -> Value {
        let maps = self.maps.iter().flat_map(which);
        maps.map(|map| json!({ "containerID": map.container, "hostID": map.host, "size": map.size })).collect()
    }
}

/// Calls `work` where files can have all owners that the caller may give them: as it is for root, else in a user
/// namespace, with its mappings. The answer is the status to exit with.
///
/// # Errors
/// The namespace cannot be made.
pub(crate) fn with_owners(work: impl FnOnce(Option<IdMaps>) -> Result<i32>) -> Result<i32> {
    if rustix::process::geteuid().is_root() {
        return work(None);
    }
    if is_in_user_namespace() {
        let problem = "this process is in a user namespace and not its root";
        return Err(Error::Usage(problem.to_owned()));
    }
    let maps = own_maps()?;
    let (ours, theirs) = Channel::pair().context(|| "make a socket pair".to_owned())?;
    let flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS) as u64;
    let args = CloneArgs { flags, exit_signal: libc::SIGCHLD, cgroup: None };
    match sys::clone(&args).context(|| "make a user namespace".to_owned())? {
        Cloned::Child { .. } => {
            drop(ours);
            let mapped = matches!(theirs.receive(), Ok(Message::Signal(Signal::Mapped)));
            let done = match mapped.then(become_root) {
                Some(Ok(())) => work(Some(maps)),
                Some(Err(failure)) => Err(Error::Step(failure)),
                // Who is to say why has been told.
                None => sys::exit_now(1),
            };
            let status = done.unwrap_or_else(|error| {
                crate::logging::fail(&error.to_string());
                1
            });
            crate::logging::finish();
            sys::exit_now(status)
        }
        Cloned::Parent { pid, pidfd, .. } => {
            drop(theirs);
            id_map::write_both(pid, &maps, "linux")?;
            ours.signal(Signal::Mapped).context(|| "answer the process in the user namespace".to_owned())?;
            let wait = || waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
            let ended = rustix::io::retry_on_intr(wait).context(|| format!("wait for process {pid}"))?;
            Ok(ended.and_then(|status| status.exit_status()).unwrap_or(1))
        }
    }
}

/// The user's own id as root, and after it those that the user may use beside.
fn own_maps() -> Result<IdMaps> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let name = user_name(uid);
    let map = |own: u32, file: &str| {
        let mut map = vec![IdMapping { container: 0, host: own, size: 1 }];
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let mut next = 1u32;
        for (host, size) in text.lines().filter_map(|line| range(line, uid, name.as_deref())) {
            let Some(after) = next.checked_add(size) else { break };
            map.push(IdMapping { container: next, host, size });
            next = after;
        }
        map
    };
    let (uids, gids) = (map(uid, "/etc/subuid"), map(gid, "/etc/subgid"));
    // Two maps of different kinds would leave files with an owner and without a group.
    match (uids.len(), gids.len()) {
        (1, _) | (_, 1) => Ok(IdMaps { uid: uids[..1].to_vec(), gid: gids[..1].to_vec() }),
        _ => Ok(IdMaps { uid: uids, gid: gids }),
    }
}

/// subuid(5): `user:first:count`, the user by name or number.
fn range(line: &str, uid: u32, name: Option<&str>) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    let owner = fields.next()?;
    if Some(owner) != name && owner.parse() != Ok(uid) {
        return None;
    }
    let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.trim().parse().ok()?);
    (count > 0).then_some((first, count))
}

/// passwd(5) alone: a user that a directory service knows has its ranges by number.
fn user_name(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_a_user() {
        assert_eq!(range("user:100000:65536", 1000, Some("user")), Some((100_000, 65536)));
        assert_eq!(range("1000:100000:65536\n", 1000, None), Some((100_000, 65536)));
        for other in ["other:100000:65536", "user:x:1", "user:5", "", "user:5:0"] {
            assert_eq!(range(other, 1000, Some("user")), None, "{other}");
        }
    }

    #[test]
    fn a_namespace_that_the_caller_names() {
        let owners = Owners::new(Some("100000"), None).unwrap();
        assert_eq!((owners.on_disk(5), owners.maps_layers()), (100_005, true));
        assert_eq!(owners.mappings(|maps| &maps.uid), json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]));
        for wrong in ["", "x", "1:0", "4294967295:2", "1:2:3", "-1"] {
            assert!(Owners::new(Some(wrong), None).is_err(), "{wrong}");
        }
        assert_eq!(Owners::new(None, None).unwrap().on_disk(7), 7);
    }
}
