//! create, from the record of the intent to a container that waits for start: the ordered list.

use super::clone::{self, Made, Request as CloneRequest, Side};
use super::hooks;
use super::listener::{self, Filtered};
use super::story::{Story, document};
use super::undo::Undo;
use super::{
    describe, host_mounts, id_map, intel_rdt, limits, mapped_ids, net_devices, notify, rootless, sockets, writable,
};
use crate::child::{self, Init};
use crate::error::{Context, Error, Result, bad};
use crate::plan::Plan;
use crate::state::{self, ProcessStat, SocketName, StateRoot};
use crate::sync::{Channel, Failure, Message, Signal};
use crate::sys;
use rootfs::Sources;
use rootfs::plan::MountsAre;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::io::Errno;

/// What create needs beside the plan.
pub(crate) struct Request<'a> {
    /// config.json as it was read.
    pub config: &'a str,
    /// `proa run`: no start socket, the caller says when to go.
    pub run: bool,
    pub console_socket: Option<OwnedFd>,
}

/// What the container's process and its parent talk through.
pub(crate) struct Channels {
    pub theirs: Channel,
    pub ours: Channel,
}

/// A container whose init waits for [`Signal::Go`].
pub(crate) struct Created<'a> {
    pub plan: Plan,
    pub pid: i32,
    pub channel: Channel,
    /// The terminal's master, if no console socket took it.
    pub console: Option<OwnedFd>,
    pub undo: Undo<'a>,
}

/// Makes the container. On failure nothing of it is left.
pub(crate) fn create<'a>(
    mut plan: Plan,
    channels: Channels,
    root: &'a StateRoot,
    request: Request<'_>,
) -> Result<Created<'a>> {
    let dir = root.create_container(&plan.id)?;
    let mut undo = Undo::new(root, dir);
    let mut hooks_began = false;
    match make(&mut plan, channels, &request, &mut undo, &mut hooks_began) {
        Ok((pid, channel, console)) => Ok(Created { plan, pid, channel, console, undo }),
        Err(error) => {
            drop(undo);
            let error = match error {
                Error::Step(failure) => describe::failure(&plan, &failure),
                error => error,
            };
            Err(if hooks_began { poststop(&plan, error) } else { error })
        }
    }
}

/// How long a child that is about to end may take to, in milliseconds.
const ENDING: i64 = 1000;

type MadeContainer = (i32, Channel, Option<OwnedFd>);

fn make(
    plan: &mut Plan,
    Channels { theirs, ours }: Channels,
    request: &Request<'_>,
    undo: &mut Undo<'_>,
    hooks_began: &mut bool,
) -> Result<MadeContainer> {
    let story = Story::begin()?;
    if !plan.namespaces.has_own(libc::CLONE_NEWUSER) && story.owner != 0 {
        return Err(bad("linux.namespaces", "without root privileges a container needs a user namespace"));
    }
    let entries = clone::open_namespaces(&plan.namespaces)?;
    let claim = writable::claim(plan)?;
    undo.host_mounts = host_mounts::before(plan)?.map(|mounts| (plan.root.path.to_string(), mounts));
    story.write(plan, undo, &plan.cgroup, None)?;
    let listener = fill_directory(plan, request, undo)?;
    let mut cgroup = rootless::make_cgroup(plan)?;
    undo.cgroup = Some(cgroup.place().clone());
    let id_namespaces = mapped_ids::open(&plan.mapped_ids, &entries)?;
    let sources = Sources::open(&plan.root, &id_namespaces).map_err(|failure| Error::Step(failure.into()))?;
    drop(id_namespaces);
    let birth = Birth::new(plan, &cgroup);
    let keep = kept(plan, request, &theirs, listener.as_ref(), &sources);
    let clone_request = CloneRequest {
        namespaces: &plan.namespaces,
        entries: &entries,
        of_process: None,
        cgroup: cgroup.unified_fd(),
        later: birth.later,
        keep: &keep,
    };
    // Made is made: runtime.md counts a container as created once its environment is, before the hooks.
    let state = document(plan).cut("created");
    let made = match clone::make(&clone_request, &ours, &theirs)? {
        Side::Child { in_cgroup } => {
            let hooks = !plan.hooks.prestart.is_empty() || !plan.hooks.create_runtime.is_empty();
            child::run_init(Init {
                channel: theirs,
                sources,
                map_ids: plan.namespaces.ids.is_some() && !clone_request.goes_through(),
                join_cgroup: birth.waits(in_cgroup),
                new_cgroup: birth.unshares(in_cgroup),
                listener,
                console_socket: request.console_socket.as_ref().and_then(|fd| fd.try_clone().ok()),
                stop_when_mounted: hooks || !plan.net_devices.is_empty(),
                state,
                plan,
            })
        }
        Side::Parent(made) => made,
    };
    drop((theirs, listener, sources, entries));
    let Made { pid, pidfd, in_cgroup } = made;
    undo.init = Some(pidfd);
    let init = state::Init { pid, start_time: ProcessStat::read(pid)?.map_or(0, |stat| stat.start_time) };
    log::debug!("container {}: init is process {pid}, started at tick {}", plan.id, init.start_time);
    story.write(plan, undo, cgroup.place(), Some(init))?;
    writable::claimed(plan, init)?;
    drop(claim);
    let console = start_scope(plan, &mut cgroup, init, undo, &story)
        .and_then(|started| prepare(plan, &cgroup, pid, in_cgroup || started, birth.waits(in_cgroup), &ours))
        .and_then(|()| serve(plan, pid, &ours, undo, hooks_began))
        .and_then(|console| rootless::settle(plan, &cgroup, pid).map(|()| console))
        .and_then(|console| limits::apply(plan, &cgroup, undo.init.as_ref()).map(|()| console))
        .map_err(|error| prefer_the_childs_word(error, &ours, undo.init.as_ref()))
        .map_err(|error| match (error, &undo.init) {
            (Error::ChildDied(words), Some(init)) => limits::how_it_died(words, init, &cgroup),
            (error, _) => error,
        })?;
    finish(plan, pid, undo)?;
    if !undo.resctrl.is_empty() || undo.host_mounts.is_some() {
        story.write(plan, undo, cgroup.place(), Some(init))?;
    }
    Ok((pid, ours, console))
}

/// What later commands find there beside the record: config.json as it is now, and the start socket.
fn fill_directory(plan: &Plan, request: &Request<'_>, undo: &Undo<'_>) -> Result<Option<OwnedFd>> {
    let dir = undo.dir.as_ref().ok_or_else(|| Error::NoContainer(plan.id.clone()))?;
    dir.write_config(request.config.as_bytes())?;
    if notify::requested().is_some() {
        notify::make_directory(dir)?;
    }
    match request.run {
        true => Ok(None),
        false => sockets::listen_in(dir.fd(), SocketName::CREATING).map(Some),
    }
}

/// How the init gets into its cgroups.
struct Birth {
    /// CLONE_NEWCGROUP if that has to wait: where clone3 cannot put the child into all its cgroups, its cgroup namespace
    /// would have the wrong root.
    later: i32,
    /// It gets a cgroup namespace.
    namespace: bool,
    /// It must not go on before it is in its cgroups, or before it is recorded.
    must_wait: bool,
}

impl Birth {
    fn new(plan: &Plan, cgroup: &cgroup::Cgroup) -> Birth {
        let place = cgroup.place();
        let all_by_clone =
            cgroup.unified_fd().is_some() && place.paths().all(|(controllers, _)| controllers.is_empty());
        let later = if all_by_clone || place.is_disabled() { 0 } else { libc::CLONE_NEWCGROUP };
        // cgroup v1 refuses a process that is scheduled in real time already.
        let scheduled = plan.process.as_ref().is_some_and(|process| process.schedule.is_some());
        Birth {
            later,
            namespace: !place.is_disabled() && plan.namespaces.has_new(libc::CLONE_NEWCGROUP),
            // What is mounted on the host must be known to have an owner first.
            must_wait: (scheduled && later != 0) || plan.root.mounts_are == MountsAre::TheHosts,
        }
    }

    /// Whether the child makes its cgroup namespace itself.
    fn unshares(&self, in_cgroup: bool) -> bool {
        self.namespace && (self.later != 0 || !in_cgroup)
    }

    /// Whether it waits to be told that it has joined.
    fn waits(&self, in_cgroup: bool) -> bool {
        self.unshares(in_cgroup) || self.must_wait
    }
}

/// The descriptors that the container's init needs.
fn kept(
    plan: &Plan,
    request: &Request<'_>,
    theirs: &Channel,
    listener: Option<&OwnedFd>,
    sources: &Sources,
) -> Vec<i32> {
    let mut keep = vec![theirs.fd().as_raw_fd()];
    keep.extend(listener.map(AsRawFd::as_raw_fd));
    keep.extend(request.console_socket.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(sources.descriptors().map(|fd| fd.as_raw_fd()));
    keep.extend((3..3 + plan.preserve_fds).filter_map(|number| i32::try_from(number).ok()));
    keep
}

/// Makes the scope around the child, if the container is to be in one. False: it is not.
fn start_scope(
    plan: &Plan,
    cgroup: &mut cgroup::Cgroup,
    init: state::Init,
    undo: &mut Undo<'_>,
    story: &Story,
) -> Result<bool> {
    if !cgroup.place().is_scope() {
        return Ok(false);
    }
    let started = cgroup.start(init.pid, &plan.resources.devices, &plan.systemd_properties);
    undo.cgroup = Some(cgroup.place().clone());
    started?;
    story.write(plan, undo, cgroup.place(), Some(init))?;
    Ok(true)
}

/// While the child builds its root.
fn prepare(
    plan: &Plan,
    cgroup: &cgroup::Cgroup,
    pid: i32,
    in_cgroup: bool,
    join_cgroup: bool,
    channel: &Channel,
) -> Result<()> {
    // Before the join: cgroup v1 takes device rules one by one, and the first denies everything; no process enters a
    // cgroup without processors, and none that is to run in real time one without real-time bandwidth.
    rootless::prepare_cgroup(plan, cgroup)?;
    cgroup.join(pid, in_cgroup)?;
    if join_cgroup {
        channel.signal(Signal::Joined).context(|| "answer the container's init".to_owned())?;
    }
    let Some(process) = &plan.process else { return Ok(()) };
    if let Some(score) = process.oom_score_adj {
        rootless::set_oom_score(pid, score, plan.rootless)?;
    }
    Ok(())
}

/// Answers the child until it is ready.
fn serve(
    plan: &Plan,
    pid: i32,
    channel: &Channel,
    undo: &mut Undo<'_>,
    hooks_began: &mut bool,
) -> Result<Option<OwnedFd>> {
    let answer = |signal| channel.signal(signal).context(|| "answer the container's init".to_owned());
    let mut console = None;
    loop {
        match channel.receive().context(|| "hear from the container's init".to_owned())? {
            Message::Signal(Signal::MapIds) => {
                id_map::answer(pid, &plan.namespaces)?;
                answer(Signal::Mapped)?;
            }
            Message::Signal(Signal::Mounted) => {
                if !plan.net_devices.is_empty() {
                    undo.net_devices = Some(net_devices::move_all(&plan.net_devices, pid)?);
                }
                *hooks_began = true;
                let document = document(plan);
                hooks::run("prestart", &plan.hooks.prestart, &document, "created", pid)?;
                hooks::run("createRuntime", &plan.hooks.create_runtime, &document, "created", pid)?;
                answer(Signal::HooksDone)?;
            }
            Message::Signal(Signal::Limits) => {
                if let Some(process) = &plan.process {
                    set_rlimits(process, pid)?;
                }
                answer(Signal::LimitsSet)?;
            }
            Message::Console(master) => console = Some(master),
            Message::Listener(number) => {
                tell_listener(plan, pid, number, undo)?;
                answer(Signal::ListenerTaken)?;
            }
            Message::Signal(Signal::Ready) => return Ok(console),
            Message::Failure(failure) => {
                *hooks_began |= matches!(failure.item, crate::sync::Item::CreateContainer(_));
                return Err(Error::Step(failure));
            }
            Message::End => return Err(Error::ChildDied("ended while the container was being created".to_owned())),
            other => return Err(Error::ChildDied(format!("said {other:?} out of turn"))),
        }
    }
}

fn tell_listener(plan: &Plan, pid: i32, number: i32, undo: &Undo<'_>) -> Result<()> {
    let seccomp = plan.process.as_ref().and_then(|process| process.seccomp.as_ref());
    match (seccomp.and_then(|seccomp| seccomp.listener.as_ref()), &undo.init) {
        (Some(listener), Some(pidfd)) => {
            let process = Filtered { pid, pidfd: pidfd.as_fd(), number };
            // The container is still being made; agents know this word from runc.
            listener::deliver(listener, &process, &document(plan), "creating", pid)
        }
        _ => Err(Error::ChildDied("tells of a listener that nobody asked for".to_owned())),
    }
}

/// A step of ours that failed since the child is gone says less than what the child said before it went.
fn prefer_the_childs_word(error: Error, channel: &Channel, init: Option<&OwnedFd>) -> Error {
    // Of a child that hangs up, or is not to be found, the end may be still to come.
    let ending = match &error {
        Error::Sys { errno, .. } => matches!(*errno, Errno::PIPE | Errno::SRCH | Errno::NOENT),
        Error::Cgroup(cgroup) => cgroup.errno() == Some(libc::ESRCH),
        _ => false,
    };
    let patience = if ending { ENDING } else { 0 };
    let gone = init.is_some_and(|init| state::wait_readable(init, Some(patience)).unwrap_or(false));
    if matches!(error, Error::Step(_)) || !gone {
        return error;
    }
    loop {
        match channel.receive() {
            Ok(Message::Failure(failure)) => return Error::Step(failure),
            Ok(Message::End) | Err(_) => return error,
            Ok(_) => {}
        }
    }
}

/// What the child cannot do for itself.
fn finish(plan: &Plan, pid: i32, undo: &mut Undo<'_>) -> Result<()> {
    if let Some(rdt) = &plan.intel_rdt {
        undo.resctrl = intel_rdt::apply(rdt, pid)?;
    }
    sys::reset_affinity(pid);
    if let Some((path, mounts)) = &mut undo.host_mounts {
        *mounts = host_mounts::made(path, *mounts)?;
    }
    Ok(())
}

pub(crate) fn set_rlimits(process: &crate::plan::Process, pid: i32) -> Result<()> {
    for limit in &process.rlimits {
        sys::set_rlimit(pid, limit.resource, limit.soft, limit.hard).context(|| {
            format!("process.rlimits RLIMIT_{}: set soft {} and hard {}", limit.name(), limit.soft, limit.hard)
        })?;
    }
    Ok(())
}

/// Tells the init of `proa run` to become its program, and waits until it has.
pub(crate) fn go(channel: &Channel) -> std::result::Result<(), Option<Failure>> {
    channel.signal(Signal::Go).map_err(|_| None)?;
    super::start::wait_executed(channel)
}

pub(crate) fn describe_failure(plan: &Plan, failure: Option<&Failure>) -> Error {
    match failure {
        Some(failure) => describe::failure(plan, failure),
        None => Error::ChildDied("ended before it executed its program".to_owned()),
    }
}

/// For `run`, which has the plan at hand.
pub(crate) fn poststart(plan: &Plan, pid: i32) -> Result<()> {
    hooks::run("poststart", &plan.hooks.poststart, &document(plan), "running", pid)
}

impl Created<'_> {
    /// Takes back what create has made, after something else has failed; the error to tell.
    pub(crate) fn take_back(self, error: Error) -> Error {
        let Created { plan, undo, channel, .. } = self;
        drop((channel, undo));
        poststop(&plan, error)
    }
}

/// Runs poststop hooks after a failure, with nothing left of the container. What they say is told with it: nobody else
/// will know that what a hook before had made is still there.
pub(crate) fn poststop(plan: &Plan, error: Error) -> Error {
    match hooks::run_poststop(&plan.hooks.poststop, &document(plan)) {
        Ok(()) => error,
        Err(later) => Error::Twice(Box::new(error), Box::new(later)),
    }
}
