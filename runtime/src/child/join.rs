//! The intermediate process, where namespaces are joined or clocks set: it enters them one by one and then clones the
//! container's process as a child of its own parent.
//!
//! It is in the container's cgroup already, so that its child is born there, and it closes what it has of the host
//! before that: a container that may trace its processes sees the child's descriptors from its first moment.

use super::{Result, property};
use crate::sync::{Channel, Item, Signal};
use crate::sys::{self, CloneArgs, Cloned};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;

/// One namespace to enter.
pub(crate) struct Entry {
    /// Place in `linux.namespaces`.
    pub index: u16,
    pub kind: i32,
    pub fd: OwnedFd,
}

/// What the intermediate process does.
pub(crate) struct JoinPlan<'p> {
    pub entries: &'p [Entry],
    /// Everything at once: the namespaces of this process (CLONE_NEW* flags), Linux 5.8.
    pub of_process: Option<(BorrowedFd<'p>, i32)>,
    /// A user namespace that was joined came with mappings to compare, or a new one has to be mapped.
    pub ask_about_ids: bool,
    pub new_user: bool,
    /// Lines for the offsets of a new time namespace.
    pub time_offsets: Option<&'p str>,
    /// A new time namespace has to be unshared.
    pub new_time: bool,
    /// Descriptors that the container's process needs; all others are closed.
    pub keep: &'p [i32],
    /// For the clone of the container's process.
    pub clone_flags: u64,
}

/// Returns in the container's process; the intermediate one tells the parent and exits.
pub(crate) fn run(plan: &JoinPlan<'_>, channel: &Channel) {
    match enter(plan, channel) {
        Ok(true) => {}
        Ok(false) => sys::exit_now(0),
        Err(failure) => {
            channel.fail(&failure);
            sys::exit_now(1)
        }
    }
}

/// True in the container's process.
fn enter(plan: &JoinPlan<'_>, channel: &Channel) -> Result<bool> {
    // The parent's end of the channel too, or its end would not be noticed here.
    let mut keep = plan.keep.to_vec();
    keep.extend(plan.entries.iter().map(|entry| entry.fd.as_raw_fd()));
    keep.extend(plan.of_process.map(|(process, _)| process.as_raw_fd()));
    property("close the host's descriptors", sys::close_all_but(&keep))?;
    join_all(plan)?;
    property("close the namespaces' descriptors", sys::close_all_but(plan.keep))?;
    if plan.new_user {
        property("linux.namespaces: new user namespace", sys::unshare(libc::CLONE_NEWUSER))?;
    }
    if plan.ask_about_ids {
        property("linux.uidMappings: ask for the id maps", channel.signal(Signal::MapIds))?;
        if !channel.expect(Signal::Mapped) {
            sys::exit_now(1);
        }
    }
    if plan.new_time {
        property("linux.namespaces: new time namespace", sys::unshare(libc::CLONE_NEWTIME))?;
        set_clocks(plan.time_offsets)?;
    }
    // Before anything in the container can see this process (CVE-2016-9962).
    property("hide the process", sys::set_dumpable(false))?;
    let args = CloneArgs { flags: plan.clone_flags | libc::CLONE_PARENT as u64, exit_signal: 0, cgroup: None };
    match property("clone the container's process", sys::clone(&args))? {
        Cloned::Child { .. } => Ok(true),
        Cloned::Parent { pid, pidfd, .. } => {
            property("tell of the container's process", channel.send_init(pid, pidfd.as_fd()))?;
            Ok(false)
        }
    }
}

/// Those that need the rights of now first, then the user namespace, then what only its owner may enter.
fn join_all(plan: &JoinPlan<'_>) -> Result<()> {
    if let Some((process, flags)) = plan.of_process {
        Item::Property.at("join the container's namespaces", sys::setns(process, flags))?;
    }
    let user = |entry: &&Entry| entry.kind == libc::CLONE_NEWUSER;
    // The mount namespace last: its root hides the paths of this one.
    let order = |kind: i32| match kind {
        libc::CLONE_NEWNS => 2,
        libc::CLONE_NEWPID => 1,
        _ => 0,
    };
    let mut others: Vec<&Entry> = plan.entries.iter().filter(|entry| !user(entry)).collect();
    others.sort_by_key(|entry| order(entry.kind));
    let mut left = Vec::new();
    let has_user = plan.entries.iter().any(|entry| user(&entry));
    for entry in others {
        match sys::setns(entry.fd.as_fd(), entry.kind) {
            Err(Errno::PERM) if has_user => left.push(entry),
            done => Item::Namespace(entry.index).at("join", done)?,
        }
    }
    for entry in plan.entries.iter().filter(user).chain(left) {
        Item::Namespace(entry.index).at("join", sys::setns(entry.fd.as_fd(), entry.kind))?;
    }
    Ok(())
}

fn set_clocks(offsets: Option<&str>) -> Result<()> {
    let Some(offsets) = offsets else { return Ok(()) };
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = property(
        "linux.timeOffsets: open /proc/self/timens_offsets",
        openat(CWD, c"/proc/self/timens_offsets", flags, Mode::empty()),
    )?;
    let written = property("linux.timeOffsets", rustix::io::write(&file, offsets.as_bytes()))?;
    if written == offsets.len() { Ok(()) } else { Err(Item::Property.failure("linux.timeOffsets", Errno::INVAL)) }
}
