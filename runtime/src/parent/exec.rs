//! exec: another process in a container that runs.

use super::clone::{self, Made, Request as CloneRequest, Side};
use super::hooks::HookDocument;
use super::listener::{self, Filtered};
use super::{create, describe, rootless};
use crate::child::{self, Entry, Stdio, property};
use crate::error::{Context, Error, Result};
use crate::plan::{Namespaces, Process};
use crate::state;
use crate::sync::{Channel, Failure, Message, Signal, send_descriptor};
use crate::sys;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, fstat, openat, stat};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What exec needs beside the process.
pub(crate) struct Request<'a> {
    pub init: &'a state::Process,
    /// What a listener is told of the container.
    pub container: HookDocument<'a>,
    pub status: &'static str,
    /// CLONE_NEW* flags of the container's own.
    pub namespaces: i32,
    pub cgroup: Option<cgroup::Cgroup>,
    pub console_socket: Option<OwnedFd>,
    pub preserve_fds: u32,
    /// `--rootless`, unless it is left to us.
    pub rootless: Option<bool>,
}

/// A process in the container that waits for [`Signal::Go`].
pub(crate) struct Prepared {
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub channel: Channel,
    pub console: Option<OwnedFd>,
    /// End it when this goes away: something failed.
    armed: bool,
}

impl Prepared {
    /// It runs, and lives on.
    pub(crate) fn release(&mut self) {
        self.armed = false;
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if self.armed {
            end(&self.pidfd);
        }
    }
}

/// Makes the process; it is ended and reaped if anything fails.
pub(crate) fn prepare(process: &mut Process, request: &Request<'_>) -> Result<Prepared> {
    let (ours, theirs) = Channel::pair().context(|| "make a socket pair".to_owned())?;
    let flags = request.namespaces;
    let none = Namespaces::default();
    // Without a mount namespace of its own the container is only a directory.
    let root = match flags & libc::CLONE_NEWNS {
        0 => Some(open_root(request.init.pid)?),
        _ => None,
    };
    if let Some(cpus) = &process.affinity.0 {
        sys::set_affinity(0, cpus).context(|| "process.execCPUAffinity.initial".to_owned())?;
    }
    let unified = request.cgroup.as_ref().and_then(|cgroup| cgroup.unified_fd());
    // The other namespaces first: the process that the mount namespace is of has to be there still.
    let entries = match flags & (libc::CLONE_NEWNS | libc::CLONE_NEWUSER) {
        libc::CLONE_NEWNS => vec![mount_namespace(request.init.pid)?],
        _ => Vec::new(),
    };
    let at_once = if entries.is_empty() { flags } else { flags & !libc::CLONE_NEWNS };
    let of_process = (at_once != 0).then(|| (request.init.pidfd().as_fd(), at_once));
    let mut keep = vec![theirs.fd().as_raw_fd()];
    keep.extend(root.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(request.console_socket.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend((3..3 + request.preserve_fds).filter_map(|number| i32::try_from(number).ok()));
    let clone_request =
        CloneRequest { namespaces: &none, entries: &entries, of_process, cgroup: unified, later: 0, keep: &keep };
    let userns = flags & libc::CLONE_NEWUSER != 0;
    let made = clone::make(&clone_request, &ours, &theirs).map_err(|error| match error {
        Error::Step(failure) => describe::exec_failure(process, &failure),
        error => error,
    })?;
    let Made { pid, pidfd, in_cgroup } = match made {
        Side::Child { .. } => run(process, request, theirs, root, userns),
        Side::Parent(made) => made,
    };
    drop(theirs);
    let mut prepared = Prepared { pid, pidfd, channel: ours, console: None, armed: true };
    serve(process, request, &mut prepared, in_cgroup)?;
    Ok(prepared)
}

/// The mount namespace of a container that has the user namespace of this process. Its init can enter another one, which
/// it has made in a user namespace of its own: there it is the init's files that a privileged process would execute.
fn mount_namespace(pid: i32) -> Result<Entry> {
    let path = format!("/proc/{pid}/ns/mnt");
    let what = || format!("open {path}");
    let fd = openat(CWD, &path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    let owner = sys::user_namespace_of(&fd).and_then(|owner| Ok(fstat(&owner)?.st_ino)).ok();
    let own = stat("/proc/self/ns/user").context(|| "look at /proc/self/ns/user".to_owned())?.st_ino;
    match owner == Some(own) {
        true => Ok(Entry { index: 0, kind: libc::CLONE_NEWNS, fd }),
        false => {
            Err(Error::Usage(format!("process {pid} has left the container's mount namespace for one of its own")))
        }
    }
}

fn open_root(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, &path, flags, Mode::empty()).context(|| format!("open {path}"))
}

fn serve(process: &Process, request: &Request<'_>, prepared: &mut Prepared, in_cgroup: bool) -> Result<()> {
    if let Some(cgroup) = &request.cgroup {
        cgroup.join(prepared.pid, in_cgroup)?;
    }
    match (&process.affinity, request.cgroup.is_some()) {
        ((_, Some(cpus)), _) => {
            sys::set_affinity(prepared.pid, cpus).context(|| "process.execCPUAffinity.final".to_owned())?;
        }
        ((None, None), _) => sys::reset_affinity(prepared.pid),
        _ => {}
    }
    if let Some(score) = process.oom_score_adj {
        rootless::set_oom_score(prepared.pid, score, request.rootless)?;
    }
    loop {
        match prepared.channel.receive().context(|| "hear from the process".to_owned())? {
            Message::Console(master) => prepared.console = Some(master),
            Message::Listener(number) => {
                tell_listener(process, request, prepared, number)?;
                prepared.channel.signal(Signal::ListenerTaken).context(|| "answer the process".to_owned())?;
            }
            Message::Signal(Signal::Limits) => {
                create::set_rlimits(process, prepared.pid)?;
                prepared.channel.signal(Signal::LimitsSet).context(|| "answer the process".to_owned())?;
            }
            Message::Signal(Signal::Ready) => return Ok(()),
            Message::Failure(failure) => return Err(describe::exec_failure(process, &failure)),
            _ => return Err(Error::ChildDied("ended before it executed its program".to_owned())),
        }
    }
}

fn tell_listener(process: &Process, request: &Request<'_>, prepared: &Prepared, number: i32) -> Result<()> {
    match process.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref()) {
        Some(listener) => {
            let filtered = Filtered { pid: prepared.pid, pidfd: prepared.pidfd.as_fd(), number };
            listener::deliver(listener, &filtered, &request.container, request.status, request.init.pid)
        }
        None => Err(Error::ChildDied("tells of a listener that nobody asked for".to_owned())),
    }
}

/// Lets it become its program; the error says what failed.
pub(crate) fn go(process: &Process, prepared: &Prepared) -> Result<()> {
    create::go(&prepared.channel).map_err(|failure| match failure {
        Some(failure) => describe::exec_failure(process, &failure),
        None => Error::ChildDied("ended before it executed its program".to_owned()),
    })
}

fn end(pidfd: &OwnedFd) {
    sys::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
    rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
}

/// In the new process; never returns.
fn run(process: &mut Process, request: &Request<'_>, channel: Channel, root: Option<OwnedFd>, userns: bool) -> ! {
    let failure = match enter(process, request, &channel, root, userns) {
        Ok((found, home)) => {
            if channel.signal(Signal::Ready).is_err() || !channel.expect(Signal::Go) {
                sys::exit_now(1);
            }
            child::execute(process, &found, home.as_ref(), request.preserve_fds, &channel)
        }
        Err(failure) => failure,
    };
    channel.fail(&failure);
    sys::exit_now(1)
}

fn enter(
    process: &Process,
    request: &Request<'_>,
    channel: &Channel,
    root: Option<OwnedFd>,
    userns: bool,
) -> std::result::Result<(child::Found, Option<child::Home>), Failure> {
    if let Some(root) = root {
        property("enter the container's root", rustix::process::fchdir(&root))?;
        property("enter the container's root", rustix::process::chroot(c"."))?;
        drop(root);
    }
    property("enter the container's root", rustix::process::chdir(c"/"))?;
    property("setsid", rustix::process::setsid().map(drop))?;
    if userns {
        child::become_root()?;
    }
    let stdio = match process.terminal {
        false => Stdio::Inherited,
        true => Stdio::Terminal(open_terminal(process, request, channel)?),
    };
    let labels = child::LabelFiles::open(&process.labels)?;
    let home = child::take_identity(process, stdio, labels, userns, channel)?;
    let found = child::find(process)?;
    child::restrict(process)?;
    child::load_early(process, request.preserve_fds, channel)?;
    Ok((found, home))
}

fn open_terminal(process: &Process, request: &Request<'_>, channel: &Channel) -> std::result::Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let pts = property("process.terminal: open /dev/pts", openat(CWD, c"/dev/pts", flags, Mode::empty()))?;
    let (rows, columns) = process.console_size;
    let console = rootfs::terminal(&pts, process.uid, rows, columns)?;
    let sent = match &request.console_socket {
        Some(socket) => send_descriptor(socket.as_fd(), b"/dev/ptmx", console.master.as_fd()),
        None => channel.send_console(console.master.as_fd()),
    };
    property("process.terminal: send the terminal", sent)?;
    Ok(console.slave)
}
