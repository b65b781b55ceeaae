//! Makes the container's process: by one clone3, or through an intermediate process where namespaces are joined or
//! clocks are set.

use crate::child::{self, Entry, JoinPlan};
use crate::error::{Context, Error, Result, bad};
use crate::plan::{NAMESPACES, Namespaces};
use crate::state::wait_readable;
use crate::sync::{Channel, Item, Message, Signal};
use crate::sys::{self, CloneArgs, Cloned};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// The container's process as its parent knows it.
pub(crate) struct Made {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// It was born in the cgroup v2 that it was to be in.
    pub in_cgroup: bool,
}

/// Who returned from [`make`].
pub(crate) enum Side {
    Parent(Made),
    Child {
        /// As the parent's.
        in_cgroup: bool,
    },
}

/// How to make it.
pub(crate) struct Request<'p> {
    pub namespaces: &'p Namespaces,
    pub entries: &'p [Entry],
    /// For exec: the container's init, whose namespaces (CLONE_NEW* flags) are joined.
    pub of_process: Option<(BorrowedFd<'p>, i32)>,
    pub cgroup: Option<BorrowedFd<'p>>,
    /// The cgroup namespace is made by the child once it is in its cgroups.
    pub later: i32,
    /// Descriptors that the container's process needs.
    pub keep: &'p [i32],
}

impl Request<'_> {
    /// Whether an intermediate process is needed.
    pub(crate) fn goes_through(&self) -> bool {
        !self.entries.is_empty()
            || self.of_process.is_some()
            || self.namespaces.time_offsets.is_some()
            || (self.namespaces.has_new(libc::CLONE_NEWTIME) && !sys::has_clone3())
    }
}

/// Opens the namespaces to join and checks that each is what it is said to be.
pub(crate) fn open_namespaces(namespaces: &Namespaces) -> Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(namespaces.join.len());
    for join in &namespaces.join {
        let property = format!("linux.namespaces[{}].path {:?}", join.index, join.path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = openat(CWD, &*join.path, flags, Mode::empty()).context(|| property.clone())?;
        let wanted = NAMESPACES.iter().find(|(_, flag, _)| *flag == join.kind).map_or("", |(name, ..)| name);
        let found = sys::namespace_type(fd.as_fd()).map_err(|_| bad(&property, "is no namespace"))?;
        if found != join.kind {
            let found = NAMESPACES.iter().find(|(_, flag, _)| *flag == found).map_or("other", |(name, ..)| name);
            return Err(bad(property, format_args!("is a {found} namespace, not a {wanted} one")));
        }
        entries.push(Entry { index: join.index, kind: join.kind, fd });
    }
    Ok(entries)
}

/// Clones. The child returns `Side::Child`; everything it inherited is its own copy.
pub(crate) fn make(request: &Request<'_>, channel: &Channel, theirs: &Channel) -> Result<Side> {
    let namespaces = request.namespaces;
    let new = namespaces.new & !request.later;
    let new_time = namespaces.has_new(libc::CLONE_NEWTIME);
    if !request.goes_through() {
        let args = CloneArgs { flags: new as u64, exit_signal: libc::SIGCHLD, cgroup: request.cgroup };
        let what = || "clone the container's process".to_owned();
        return Ok(match sys::clone(&args).context(what)? {
            Cloned::Child { in_cgroup } => {
                if let Err(errno) = sys::close_all_but(request.keep) {
                    theirs.fail(&Item::Property.failure("close the host's descriptors", errno));
                    sys::exit_now(1);
                }
                Side::Child { in_cgroup }
            }
            Cloned::Parent { pid, pidfd, in_cgroup } => Side::Parent(Made { pid, pidfd, in_cgroup }),
        });
    }
    // A new user namespace comes first, so that the others belong to it.
    let new_user = namespaces.has_new(libc::CLONE_NEWUSER);
    let mut join = JoinPlan {
        entries: request.entries,
        of_process: request.of_process,
        ask_about_ids: new_user || namespaces.expected_ids.is_some(),
        new_user,
        time_offsets: namespaces.time_offsets.as_deref(),
        new_time,
        keep: request.keep,
        clone_flags: (new & !libc::CLONE_NEWUSER & !libc::CLONE_NEWTIME) as u64,
    };
    let args = CloneArgs { flags: 0, exit_signal: libc::SIGCHLD, cgroup: request.cgroup };
    match sys::clone(&args).context(|| "clone the intermediate process".to_owned())? {
        Cloned::Child { in_cgroup } => {
            if request.cgroup.is_some() && !in_cgroup {
                // The root of the namespace would be our cgroup.
                join.clone_flags &= !(libc::CLONE_NEWCGROUP as u64);
            }
            child::run_join(&join, theirs);
            Ok(Side::Child { in_cgroup })
        }
        Cloned::Parent { pid, pidfd, in_cgroup } => {
            let made = serve_intermediate(pid, &pidfd, namespaces, channel, in_cgroup);
            // It ends at once: it has said all it had to say, or it is of no use any more.
            if made.is_err() {
                sys::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
            }
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
            made.map(Side::Parent)
        }
    }
}

fn serve_intermediate(
    pid: i32,
    pidfd: &OwnedFd,
    namespaces: &Namespaces,
    channel: &Channel,
    in_cgroup: bool,
) -> Result<Made> {
    loop {
        match next(channel, pidfd)? {
            Message::Signal(Signal::MapIds) => {
                super::id_map::answer(pid, namespaces)?;
                channel.signal(Signal::Mapped).context(|| "answer the intermediate process".to_owned())?;
            }
            Message::Init { pid, pidfd } => return Ok(Made { pid, pidfd, in_cgroup }),
            Message::Failure(failure) => return Err(Error::Step(failure)),
            Message::End => return Err(Error::ChildDied("ended before it was made".to_owned())),
            message => channel.keep(message),
        }
    }
}

/// The next message. Our copy of its end of the socket is still open, so that its end does not end the socket.
fn next(channel: &Channel, pidfd: &OwnedFd) -> Result<Message> {
    use rustix::event::{PollFd, PollFlags, poll};
    loop {
        let borrowed = channel.fd();
        let mut fds = [PollFd::new(&borrowed, PollFlags::IN), PollFd::new(pidfd, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            done => done.context(|| "poll".to_owned())?,
        };
        let (message, ended) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
        if message {
            return channel.receive_new().context(|| "hear from the intermediate process".to_owned());
        }
        if ended && !wait_readable_now(channel)? {
            return Ok(Message::End);
        }
    }
}

fn wait_readable_now(channel: &Channel) -> Result<bool> {
    let fd = channel.fd().try_clone_to_owned().context(|| "poll".to_owned())?;
    wait_readable(&fd, Some(0))
}
