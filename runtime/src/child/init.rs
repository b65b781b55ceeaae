//! The container's init process until it executes its program: the order of everything, in one screen.

use super::{LabelFiles, Result, filter, identity, landlock, program, property, sysctl};
use crate::hooks;
use crate::plan::{Hook, Plan};
use crate::sync::{Channel, Failure, Item, Signal, send_descriptor};
use crate::sys;
use rootfs::{Root, Sources};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::Mode;
use rustix::io::Errno;

/// What the child gets from its parent beside the plan.
pub(crate) struct Init<'p> {
    pub plan: &'p mut Plan,
    pub channel: Channel,
    pub sources: Sources,
    /// A new user namespace came with the clone: wait for its maps.
    pub map_ids: bool,
    /// Wait until the parent has put this process into its cgroups.
    pub join_cgroup: bool,
    /// The cgroup namespace had to wait for that.
    pub new_cgroup: bool,
    /// Where `proa start` connects; None for `proa run`.
    pub listener: Option<OwnedFd>,
    /// Where the terminal goes; None: to the parent.
    pub console_socket: Option<OwnedFd>,
    /// Runtime hooks or network devices need the parent once all is mounted.
    pub stop_when_mounted: bool,
    /// The state for hooks in the container, around the pid.
    pub state: HookState,
}

/// A state document, cut where the pid goes.
pub(crate) struct HookState {
    pub before: Vec<u8>,
    pub after: Vec<u8>,
}

/// Never returns.
pub(crate) fn run(mut init: Init<'_>) -> ! {
    let failure = match build(&mut init) {
        Ok((found, home)) => wait_and_execute(&mut init, &found, home.as_ref()),
        Err(failure) => failure,
    };
    init.channel.fail(&failure);
    sys::exit_now(1)
}

type Prepared = (Option<program::Found>, Option<identity::Home>);

fn build(init: &mut Init<'_>) -> Result<Prepared> {
    if init.join_cgroup {
        expect(&init.channel, Signal::Joined);
    }
    if init.new_cgroup {
        property("linux.namespaces: new cgroup namespace", sys::unshare(libc::CLONE_NEWCGROUP))?;
    }
    if init.map_ids {
        property("linux.uidMappings: ask for the id maps", init.channel.signal(Signal::MapIds))?;
        expect(&init.channel, Signal::Mapped);
    }
    // Not earlier: only root of the host may be cloned into the cgroup and write the offsets of clocks.
    if init.plan.root.userns {
        identity::become_root()?;
    }
    property("setsid", rustix::process::setsid().map(drop))?;
    // While /proc is the host's.
    let labels = match &init.plan.process {
        Some(process) => LabelFiles::open(&process.labels)?,
        None => LabelFiles::default(),
    };
    rustix::process::umask(Mode::empty());
    name_host(init.plan)?;
    if init.plan.namespaces.has_new(libc::CLONE_NEWNET) {
        property("linux.namespaces: bring the loopback device up", sys::loopback_up())?;
    }
    let mut root = Root::open(&init.plan.root, &mut init.sources)?;
    root.fill(&mut init.sources)?;
    let console = open_console(init.plan, init.console_socket.take(), &init.channel, &mut root)?;
    if init.stop_when_mounted {
        property("hooks: tell of the mounts", init.channel.signal(Signal::Mounted))?;
        expect(&init.channel, Signal::HooksDone);
    }
    run_hooks(&init.plan.hooks.create_container, &init.state, Item::CreateContainer, init.plan)?;
    sysctl::write(&init.plan.sysctl, &root)?;
    root.restrict()?;
    root.enter()?;
    close_the_rest(init, console.as_ref(), &labels)?;
    let Some(process) = &init.plan.process else { return Ok((None, None)) };
    let stdio = match console {
        Some(slave) => identity::Stdio::Terminal(slave),
        None => identity::Stdio::Inherited,
    };
    let home = identity::take_identity(process, stdio, labels, init.plan.root.userns, &init.channel)?;
    let found = program::find(process)?;
    if !init.plan.hooks.start_container.is_empty() {
        // Those of the image must not take descriptors from this process. It ends with execve.
        property("hide the process from hooks", sys::set_dumpable(false))?;
    }
    landlock::restrict(process)?;
    filter::load_early(process, init.plan.preserve_fds, &init.channel)?;
    Ok((Some(found), home))
}

/// All that building the root has left open.
fn close_the_rest(init: &Init<'_>, console: Option<&OwnedFd>, labels: &LabelFiles) -> Result<()> {
    let mut keep = vec![init.channel.fd().as_raw_fd()];
    keep.extend(init.listener.as_ref().map(AsRawFd::as_raw_fd));
    keep.extend(console.map(AsRawFd::as_raw_fd));
    keep.extend(labels.descriptors());
    keep.extend((3..3 + init.plan.preserve_fds).filter_map(|number| i32::try_from(number).ok()));
    property("close what building the root has left open", sys::close_all_but(&keep))
}

/// The end of the parent is the end of an unfinished container.
fn expect(channel: &Channel, signal: Signal) {
    if !channel.expect(signal) {
        sys::exit_now(1);
    }
}

fn name_host(plan: &Plan) -> Result<()> {
    if let Some(name) = &plan.hostname {
        Item::Property.at("hostname", rustix::system::sethostname(name.to_bytes()))?;
    }
    if let Some(name) = &plan.domainname {
        Item::Property.at("domainname", rustix::system::setdomainname(name.to_bytes()))?;
    }
    Ok(())
}

/// Gives the master away and keeps the slave.
fn open_console(
    plan: &Plan,
    socket: Option<OwnedFd>,
    channel: &Channel,
    root: &mut Root<'_>,
) -> Result<Option<OwnedFd>> {
    let Some(process) = plan.process.as_ref().filter(|process| process.terminal) else { return Ok(None) };
    let (rows, columns) = process.console_size;
    let console = root.console(process.uid, rows, columns)?;
    let sent = match socket {
        Some(socket) => send_descriptor(socket.as_fd(), b"/dev/ptmx", console.master.as_fd()),
        None => channel.send_console(console.master.as_fd()),
    };
    Item::Property.at("process.terminal: send the terminal", sent)?;
    Ok(Some(console.slave))
}

fn run_hooks(list: &[Hook], state: &HookState, item: fn(u16) -> Item, plan: &Plan) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let mut text = state.before.clone();
    text.extend_from_slice(rustix::process::getpid().as_raw_nonzero().to_string().as_bytes());
    text.extend_from_slice(&state.after);
    let none = sys::StringArray::new(Vec::new());
    // startContainer hooks without an environment have the program's.
    let inherits = matches!(item(0), Item::StartContainer(_));
    let environment = plan.process.as_ref().filter(|_| inherits).map_or(&none, |process| &process.env);
    // As for hooks of the runtime; after pivot_root there is no bundle any more.
    let directory = if inherits { None } else { Some(&*plan.bundle) };
    for (index, hook) in list.iter().enumerate() {
        hooks::run(hook, &text, environment, directory).map_err(|failure| {
            let (what, number) = failure.kind.parts();
            Failure { item: item(index as u16), what: what.to_owned(), number, detail: failure.output }
        })?;
    }
    Ok(())
}

/// Says that all is ready, waits to be started, and becomes the program. Returns what went wrong.
fn wait_and_execute(init: &mut Init<'_>, found: &Option<program::Found>, home: Option<&identity::Home>) -> Failure {
    if let Err(errno) = init.channel.signal(Signal::Ready) {
        return Item::Property.failure("tell the parent", errno);
    }
    expect(&init.channel, Signal::Go);
    // It stays open until the program runs: a second start waits for that, and then learns that it was not the first.
    if let Some(listener) = &init.listener {
        match rustix::io::retry_on_intr(|| rustix::net::accept_with(listener, rustix::net::SocketFlags::CLOEXEC)) {
            // Whoever else connects finds nobody.
            Ok(connection) => {
                init.channel = Channel::from_fd(connection);
                if init.plan.process.as_ref().is_some_and(filter::is_early) {
                    init.channel.use_read_and_write();
                }
            }
            Err(errno) => return Item::Property.failure("wait for start", errno),
        }
    }
    let hooks = run_hooks(&init.plan.hooks.start_container, &init.state, Item::StartContainer, init.plan);
    if let Err(failure) = hooks {
        return failure;
    }
    match (found, init.plan.process.as_mut()) {
        (Some(found), Some(process)) => program::execute(process, found, home, init.plan.preserve_fds, &init.channel),
        _ => Item::Property.failure("process: not set in config.json", Errno::INVAL),
    }
}
