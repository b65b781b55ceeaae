//! `proa create`, and what it shares with `run`.

use super::App;
use super::flags::Parsed;
use crate::checkpoint::{self, Flags, Request as RestoreRequest, Restored};
use crate::config::{self, Bundle};
use crate::error::{Context, Error, Result, bad};
use crate::parent::create::{self, Channels, Created, Request};
use crate::parent::{attach, notify, sockets};
use crate::plan::{Host, Options, Plan, path_text};
use crate::state::{SocketName, StateRoot};
use crate::sync::{Channel, Signal};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use std::path::PathBuf;

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let (setup, plan, channels) = Setup::new(app, true)?;
    let root = StateRoot::create(&app.root)?;
    let mut created = setup.create(plan, channels, &root, false)?;
    match release(&setup, &mut created) {
        Ok(()) => {
            drop(created.undo.disarm());
            Ok(())
        }
        Err(error) => Err(created.take_back(error)),
    }
}

/// The last steps: from here on the container is.
fn release(setup: &Setup, created: &mut Created<'_>) -> Result<()> {
    setup.announce(created.pid, &mut created.undo)?;
    if let Some(dir) = &created.undo.dir {
        dir.rename(SocketName::CREATING, SocketName::CREATED)?;
    }
    created.channel.signal(Signal::Go).context(|| "release the container's init".to_owned())
}

/// The flags of create and run, and all that must be opened before anything is made.
pub(super) struct Setup {
    bundle: Bundle,
    pid_file: Option<PathBuf>,
    console_socket: Option<OwnedFd>,
    pidfd_socket: Option<OwnedFd>,
    terminal: bool,
}

impl Setup {
    /// With the plan of the container, and what its process and ours will talk through.
    pub(super) fn new(app: &App<'_>, detached: bool) -> Result<(Setup, Plan, Channels)> {
        let id = app.arg(0);
        crate::state::check_id(id)?;
        // First, so that its process's end has the lowest number: all others are closed by one call.
        let (theirs, ours) = Channel::pair().context(|| "make a socket pair".to_owned())?;
        let bundle = Bundle::read(app.value("bundle").unwrap_or("."), app.value("config"))?;
        let options = options(app)?;
        let spec = config::parse_spec(&bundle.text)?;
        let terminal = spec.process.as_ref().is_some_and(|process| process.terminal == Some(true));
        check_console(app, terminal, detached)?;
        let plan = Plan::new(&spec, &bundle.path, id, &options, &Host::default())?;
        drop(spec);
        log::debug!("container {id}: root {}, cgroup {:?}", plan.root.path, plan.cgroup);
        plan.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let connect = |name: &str, path: Option<&str>| path.map(|path| sockets::connect_stream(name, path)).transpose();
        let console_socket = connect("--console-socket", app.value("console-socket"))?;
        let pidfd_socket = connect("--pidfd-socket", app.value("pidfd-socket"))?;
        let pid_file = pid_file(app)?;
        Ok((Setup { bundle, pid_file, console_socket, pidfd_socket, terminal }, plan, Channels { theirs, ours }))
    }

    pub(super) fn terminal(&self) -> bool {
        self.terminal
    }

    /// Makes the container.
    pub(super) fn create<'a>(
        &self,
        plan: Plan,
        channels: Channels,
        root: &'a StateRoot,
        run: bool,
    ) -> Result<Created<'a>> {
        let console_socket = match &self.console_socket {
            Some(fd) => Some(fd.try_clone().context(|| "--console-socket".to_owned())?),
            None => None,
        };
        create::create(plan, channels, root, Request { config: &self.bundle.text, run, console_socket })
    }

    /// Brings the container back.
    pub(super) fn restore<'a>(
        &self,
        app: &App<'_>,
        plan: Plan,
        channels: Channels,
        root: &'a StateRoot,
        flags: &Flags,
    ) -> Result<Restored<'a>> {
        let request = RestoreRequest {
            flags,
            config: &self.bundle.text,
            state_root: &app.root,
            lsm_profile: app.value("lsm-profile"),
            lsm_mount_context: app.value("lsm-mount-context"),
        };
        let mut restored = checkpoint::restore(plan, channels, root, &request)?;
        if let (Some(socket), Some(master)) = (&self.console_socket, &restored.console) {
            let sent = crate::sync::send_descriptor(socket.as_fd(), b"/dev/ptmx", master.as_fd());
            if let Err(error) = sent.context(|| "--console-socket: send the terminal".to_owned()) {
                return Err(restored.take_back(error));
            }
            restored.console = None;
        }
        Ok(restored)
    }

    /// Tells whoever asked about the container's process.
    pub(super) fn announce(&self, pid: i32, undo: &mut crate::parent::Undo<'_>) -> Result<()> {
        if let Some(path) = &self.pid_file {
            undo.pid_file = Some(path.clone());
            write_pid_file(path, pid)?;
        }
        if let (Some(socket), Some(pidfd)) = (&self.pidfd_socket, &undo.init) {
            sockets::send_pidfd(socket, "standard", pidfd.as_fd())?;
        }
        Ok(())
    }
}

fn check_console(app: &App<'_>, terminal: bool, detached: bool) -> Result<()> {
    let socket = app.value("console-socket").is_some();
    match (terminal, detached, socket) {
        (true, true, false) => Err(Error::Usage(
            "cannot allocate a terminal (process.terminal) without --console-socket when detached".into(),
        )),
        (false, _, true) => Err(Error::Usage("--console-socket is only for a container with process.terminal".into())),
        (_, false, true) => Err(Error::Usage("--console-socket is only for a detached container".into())),
        (true, false, false) => attach::find_terminal(),
        _ => Ok(()),
    }
}

/// Those that plan and create share.
pub(super) fn options(app: &App<'_>) -> Result<Options> {
    let inherited = Inherited::new(&app.parsed)?;
    let notify = match notify::requested() {
        Some(_) => Some(path_text("--root", &app.root.join(app.arg(0)).join(notify::DIRECTORY))?),
        None => None,
    };
    Ok(Options {
        no_pivot: app.flag("no-pivot"),
        no_new_keyring: app.flag("no-new-keyring"),
        preserve_fds: inherited.count,
        cgroup_manager: app.cgroup_manager,
        systemd_properties: app.parsed.global.all("systemd-property").map(str::to_owned).collect(),
        rootless: app.rootless,
        notify,
        listen_env: inherited.env,
    })
}

/// Descriptors that pass from the caller to the container: those of socket activation, then `--preserve-fds`.
struct Inherited {
    count: u32,
    env: Vec<String>,
}

impl Inherited {
    fn new(parsed: &Parsed<'_>) -> Result<Inherited> {
        let preserve = preserve_fds(parsed)?;
        let (listen, env) = listen_fds();
        Ok(Inherited { count: listen + preserve, env })
    }
}

/// `--preserve-fds`.
pub(super) fn preserve_fds(parsed: &Parsed<'_>) -> Result<u32> {
    let Some(text) = parsed.values.get("preserve-fds").filter(|text| !text.is_empty()) else { return Ok(0) };
    text.parse()
        .ok()
        .filter(|count| *count < 1 << 20)
        .ok_or_else(|| bad("--preserve-fds", format_args!("{text:?} is no number")))
}

/// sd_listen_fds(3): counts only if it was meant for this process; the container's program is process 1.
fn listen_fds() -> (u32, Vec<String>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let own = || rustix::process::getpid().as_raw_nonzero().get() as u32;
    match (number("LISTEN_FDS"), number("LISTEN_PID")) {
        (Some(count @ 1..), Some(pid)) if pid == own() => {
            let mut env = vec![format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()];
            env.extend(std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}")));
            (count, env)
        }
        _ => (0, Vec::new()),
    }
}

/// For commands that enter a container, before anything is opened: descriptors that the container keeps must be open, all others are closed (CVE-2024-21626).
/// Then the program runs again from where nothing can be written to it.
pub(super) fn enter_safely(parsed: &Parsed<'_>, args: &[&std::ffi::CStr]) -> Result<()> {
    if !matches!(parsed.command.name, "create" | "run" | "exec" | "restore") {
        return Ok(());
    }
    // First, since the program begins anew by it.
    sys::seal(args).context(|| "run from a sealed copy of the program".to_owned())?;
    let keep = match parsed.command.name {
        "exec" => preserve_fds(parsed)?,
        "restore" => 0,
        _ => Inherited::new(parsed)?.count,
    };
    for number in 3..3 + keep {
        if !sys::is_open(number as i32) {
            return Err(bad("--preserve-fds", format_args!("descriptor {number} is not open")));
        }
    }
    // What is made here must be neither open to others nor closed to us; the container's umask is its own.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::wait_for_children().context(|| "sigaction".to_owned())?;
    sys::close_range_now(3 + keep).context(|| "close inherited descriptors".to_owned())
}

/// `--pid-file`, absolute.
pub(super) fn pid_file(app: &App<'_>) -> Result<Option<PathBuf>> {
    app.value("pid-file").map(|path| std::path::absolute(path).context(|| format!("--pid-file {path:?}"))).transpose()
}

/// Whole or not at all: a new file with the number and no newline, renamed into place.
pub(super) fn write_pid_file(path: &std::path::Path, pid: i32) -> Result<()> {
    let what = || format!("--pid-file {path:?}");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || openat(CWD, &temporary, flags, Mode::from_raw_mode(0o644));
    let file = match open() {
        Err(rustix::io::Errno::EXIST) => {
            unlinkat(CWD, &temporary, AtFlags::empty()).context(what)?;
            open()
        }
        opened => opened,
    }
    .context(what)?;
    rustix::io::write(&file, pid.to_string().as_bytes()).context(what)?;
    renameat(CWD, &temporary, CWD, path).context(what)
}
