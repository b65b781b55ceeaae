//! What a program or a runtime left behind, and putting it away.
//!
//! A program that ends without deleting its container is at fault for what the
//! container still is; what remains after `delete --force` is the runtime's.
//! Not here: the leak oracle of the container tests, which looks at more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::place::Place;
use crate::{look, reaper};

/// The inode of the cgroup namespace that a machine boots with.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// What there is now.
#[derive(Debug)]
pub struct Snapshot {
    mounts: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    links: BTreeSet<String>,
    hostname: String,
}

/// What was found after a program.
#[derive(Debug, Default)]
pub struct Left {
    /// Containers that the program did not delete.
    pub containers: Vec<String>,
    /// What remained when no container was left.
    pub leaks: Vec<String>,
}

impl Snapshot {
    /// Takes stock.
    pub fn take() -> Self {
        let links = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        Self {
            mounts: look::mounts(std::process::id() as i32).into_iter().map(|mount| mount.mount_point).collect(),
            cgroups: look::cgroup_dirs().into_iter().filter(|dir| is_of_interest(dir)).collect(),
            links: links.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect(),
            hostname: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
        }
    }

    /// Says what is there that was not, and takes it away: the program has ended,
    /// its files are below `temporary`.
    pub fn clean_up(&self, place: &Place, runtime: &Path, temporary: &Path) -> Left {
        reaper::collect();
        let mut left = Left::default();
        for state in place.state() {
            let id = state.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if let Err(error) = delete(runtime, &id) {
                left.leaks.push(format!("delete --force {id}: {error}"));
            }
            left.containers.push(id);
        }
        // A killed process takes a moment to end, and its cgroup to become empty.
        look::eventually_within(Duration::from_secs(1), || {
            reaper::collect();
            processes().is_empty() && self.new_cgroups().is_empty() && place.state().is_empty()
        });
        left.leaks.extend(self.differences(place));
        left.leaks.extend(self.sweep(place));
        if let Err(error) = fs::remove_dir_all(temporary) {
            left.leaks.push(format!("cannot remove {}: {error}", temporary.display()));
        }
        left
    }

    fn differences(&self, place: &Place) -> Vec<String> {
        let now = Self::take();
        let mut found: Vec<String> = processes().into_iter().map(describe).collect();
        found.extend(place.state().iter().map(|path| format!("state {}", path.display())));
        found.extend(now.cgroups.difference(&self.cgroups).map(|path| format!("cgroup {}", path.display())));
        found.extend(now.mounts.difference(&self.mounts).map(|path| format!("mount {}", path.display())));
        found.extend(self.mounts.difference(&now.mounts).map(|path| format!("gone: mount {}", path.display())));
        found.extend(self.cgroups.difference(&now.cgroups).map(|path| format!("gone: cgroup {}", path.display())));
        found.extend(now.links.difference(&self.links).map(|name| format!("network link {name}")));
        if now.hostname != self.hostname {
            found.push(format!("hostname {}", now.hostname.trim()));
        }
        found
    }

    fn new_cgroups(&self) -> Vec<PathBuf> {
        let now = look::cgroup_dirs().into_iter().filter(|dir| is_of_interest(dir));
        now.filter(|dir| !self.cgroups.contains(dir)).collect()
    }

    /// Ends and removes what is left; says what could not be.
    fn sweep(&self, place: &Place) -> Vec<String> {
        let mut stuck = Vec::new();
        for dir in self.new_cgroups() {
            // A frozen process does not end; only one of the two files is there.
            fs::write(dir.join("cgroup.freeze"), "0").ok();
            fs::write(dir.join("freezer.state"), "THAWED").ok();
        }
        if !end_processes() {
            stuck.push("processes do not end".to_owned());
        }
        for mount in look::mounts(std::process::id() as i32).into_iter().rev() {
            let point = mount.mount_point;
            if point.starts_with(place.base())
                && let Err(error) = umount2(&point, MntFlags::MNT_DETACH)
            {
                stuck.push(format!("cannot unmount {}: {error}", point.display()));
            }
        }
        for dir in self.new_cgroups().into_iter().rev() {
            if !look::eventually_within(Duration::from_secs(1), || fs::remove_dir(&dir).is_ok() || !dir.exists()) {
                stuck.push(format!("cannot remove {}", dir.display()));
            }
        }
        for state in place.state() {
            if let Err(error) = fs::remove_dir_all(&state) {
                stuck.push(format!("cannot remove {}: {error}", state.display()));
            }
        }
        stuck
    }
}

/// Kills every process below this one; false when one does not end.
pub fn end_processes() -> bool {
    look::eventually_within(Duration::from_secs(5), || {
        for pid in processes() {
            // It may have ended since.
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        reaper::collect();
        processes().is_empty()
    })
}

fn processes() -> Vec<i32> {
    let below = look::descendants(std::process::id() as i32);
    below.into_iter().filter(|pid| look::is_alive(*pid)).collect()
}

fn describe(pid: i32) -> String {
    let name = look::stat(pid).map(|stat| stat.comm).unwrap_or_default();
    format!("process {pid} ({name})")
}

/// In a cgroup namespace of the driver's own all cgroups count; else those with
/// the names that the suite or a runtime gives them, as others use the machine.
fn is_of_interest(dir: &Path) -> bool {
    let private = fs::metadata("/proc/self/ns/cgroup").is_ok_and(|meta| meta.ino() != INITIAL_CGROUP_NAMESPACE);
    let text = dir.to_string_lossy();
    private || text.contains("cgrouptest") || text.contains("testdir") || has_uuid(&text)
}

/// Whether 8-4-4-4-12 hexadecimal digits stand in `text`.
fn has_uuid(text: &str) -> bool {
    text.as_bytes().windows(36).any(|window| {
        window.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    })
}

fn delete(runtime: &Path, id: &str) -> Result<(), String> {
    let mut command = Command::new(runtime);
    command.args(["delete", "--force", id]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    reaper::keep(child.id() as i32);
    let mut status = Ok(None);
    look::eventually_within(Duration::from_secs(15), || {
        status = child.try_wait();
        !matches!(status, Ok(None))
    });
    reaper::release(child.id() as i32);
    match status {
        Ok(Some(status)) if status.success() => Ok(()),
        Ok(Some(status)) => Err(status.to_string()),
        Ok(None) => Err("does not end".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::has_uuid;

    #[test]
    fn names_that_hold_a_uuid() {
        assert!(has_uuid("/sys/fs/cgroup/crun-79f59a23-77f4-4b76-935f-973081ec41a8.scope"));
        assert!(!has_uuid("/sys/fs/cgroup/79f59a23-77f4-4b76-935f-973081ec41a"));
        assert!(!has_uuid("/sys/fs/cgroup/79f59a23x77f4-4b76-935f-973081ec41a8"));
    }
}
