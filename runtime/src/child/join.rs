//! The intermediate process, where namespaces are joined or clocks set: it enters them one by one and then clones the
//! container's process as a child of its own parent.
//!
//! It shares its parent's descriptor table (CLONE_FILES), so nothing may be closed here.

use super::{Result, property};
use crate::sync::{Channel, Item, Signal};
use crate::sys::{self, CloneArgs, Cloned};
use rustix::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};
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
    /// Who made this process.
    pub parent: i32,
    /// For the clone of the container's process.
    pub clone_flags: u64,
    pub cgroup: Option<BorrowedFd<'p>>,
}

/// Returns in the container's process; the intermediate one tells the parent and exits.
///
/// What it returns there is whether that process is in its cgroup.
pub(crate) fn run(plan: &JoinPlan<'_>, channel: &Channel) -> bool {
    match enter(plan, channel) {
        Ok(Some(in_cgroup)) => in_cgroup,
        Ok(None) => sys::exit_now(0),
        Err(failure) => {
            channel.fail(&failure);
            sys::exit_now(1)
        }
    }
}

/// None in the intermediate process.
fn enter(plan: &JoinPlan<'_>, channel: &Channel) -> Result<Option<bool>> {
    join_all(plan)?;
    if plan.new_user {
        property("linux.namespaces: new user namespace", sys::unshare(libc::CLONE_NEWUSER))?;
    }
    // The shared descriptors include the parent's end of the channel, so that its end would not be noticed here. After
    // the user namespace, since a change of rights undoes it.
    property("watch the parent", sys::end_with_parent(plan.parent))?;
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
    let args = CloneArgs { flags: plan.clone_flags | libc::CLONE_PARENT as u64, exit_signal: 0, cgroup: plan.cgroup };
    match property("clone the container's process", sys::clone(&args))? {
        Cloned::Child { in_cgroup } => Ok(Some(in_cgroup)),
        Cloned::Parent { pid, pidfd, in_cgroup } => {
            // The number stays valid in the shared table; a negative one says that the cgroup is still to be joined.
            let number = pidfd.into_raw_fd();
            let number = if in_cgroup || plan.cgroup.is_none() { number } else { -number };
            property("tell of the container's process", channel.send_init(pid, number))?;
            Ok(None)
        }
    }
}

/// Those that need the rights of now first, then the user namespace, then what only its owner may enter.
fn join_all(plan: &JoinPlan<'_>) -> Result<()> {
    if let Some((process, flags)) = plan.of_process {
        return Item::Property.at("join the container's namespaces", sys::setns(process, flags));
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
    // The table is shared with the parent, where this number is free: it may be closed.
    if written == offsets.len() { Ok(()) } else { Err(Item::Property.failure("linux.timeOffsets", Errno::INVAL)) }
}
