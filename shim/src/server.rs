//! The process that stays: one thread, which answers containerd, relays streams and waits for children.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::fs::{CWD, Mode, OFlags, openat};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixListener;
use ttrpc::r#async::Server;

use crate::args::Args;
use crate::events::Events;
use crate::shim::Shim;
use crate::{logging, sandbox, sys, tasks};

/// How long the last events may take.
const FLUSH: Duration = Duration::from_secs(5);
/// How long a shim without work stays ready for more.
const REST: Duration = Duration::from_secs(1);
/// How long the answer to the call that ends the shim may take to be read.
const ANSWER: Duration = Duration::from_millis(50);

/// Serves until containerd, or a signal, ends it.
///
/// # Errors
/// One line: it cannot begin.
pub(crate) fn serve(args: &Args) -> Result<(), String> {
    let listener = sys::passed_socket().map_err(|error| format!("no socket was passed as descriptor 3: {error}"))?;
    log_to_containerd();
    logging::begin(args.debug);
    sys::open_many_files();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|error| format!("cannot become a subreaper: {error}"))?;
    // Before anything that could start a thread: there is none, and signals come by the descriptor alone.
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(|error| format!("signalfd: {error}"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    let runtime = runtime.map_err(|error| format!("cannot wait for events: {error}"))?;
    runtime.block_on(run(args, listener, signals)).map_err(|error| error.to_string())
}

async fn run(args: &Args, listener: std::os::unix::net::UnixListener, signals: SignalFd) -> ttrpc::Result<()> {
    let failed = |error: std::io::Error| ttrpc::Error::Others(error.to_string());
    let path = listener.local_addr().ok().and_then(|it| it.as_pathname().map(ToOwned::to_owned));
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = UnixListener::from_std(listener).map_err(failed)?;
    let events = Events::new(&args.namespace, &std::env::var("TTRPC_ADDRESS").unwrap_or_default());
    let shim = Shim::new(&args.namespace, events.clone(), path);
    tokio::spawn(events.clone().run());
    tokio::spawn(rest(shim.clone()));
    tokio::spawn(be_known(shim.clone()));
    let mut server = Server::new()
        .add_listener(listener.into())
        .register_service(tasks::services(&shim))
        .register_service(sandbox::service(&shim));
    server.start().await?;
    let signals = sys::watch(signals, Interest::READABLE).map_err(failed)?;
    tokio::select! {
        () = shim.ended() => tokio::time::sleep(ANSWER).await,
        () = signalled(&signals, &shim) => shim.hide(),
    }
    events.flush(FLUSH).await;
    Ok(())
}

/// Ends the shim if `start` has ended before it could tell containerd where this shim is.
async fn be_known(shim: Arc<Shim>) {
    let told = async {
        let input = sys::watch(std::io::stdin().as_fd().try_clone_to_owned()?, Interest::READABLE)?;
        loop {
            let mut ready = input.readable().await?;
            let mut byte = [0];
            if let Ok(read) = ready.try_io(|input| Ok(rustix::io::read(input, &mut byte)?)) {
                return read;
            }
        }
    };
    if told.await.is_ok_and(|read| read == 0) {
        log::info!("containerd was not told of this shim, which ends");
        shim.shutdown();
    }
    // Nothing more comes.
    if let Ok(null) = std::fs::File::open("/dev/null") {
        rustix::stdio::dup2_stdin(null).ok();
    }
}

/// Whenever nothing has been asked of the shim for a moment, it gives back what only work needs in memory.
async fn rest(shim: Arc<Shim>) {
    loop {
        shim.asked().await;
        while tokio::time::timeout(REST, shim.asked()).await.is_ok() {}
        sys::forget_instructions();
    }
}

/// Acts on signals; returns when one ends the shim.
async fn signalled(signals: &AsyncFd<SignalFd>, shim: &Arc<Shim>) {
    loop {
        let Ok(mut ready) = signals.readable().await else { return };
        let Ok(read) = ready.try_io(|fd| fd.get_ref().read_signal().map_err(std::io::Error::from)?.ok_or_else(again))
        else {
            continue;
        };
        match read.map(|info| Signal::try_from(info.ssi_signo as i32)) {
            Ok(Ok(Signal::SIGCHLD)) => shim.reaper.sweep(),
            Ok(Ok(Signal::SIGUSR1)) => dump(shim),
            Ok(Ok(signal)) => {
                let left = shim.containers().len();
                log::info!("{signal}: the shim ends; containerd cleans up {left} containers");
                return;
            }
            _ => {}
        }
    }
}

fn again() -> std::io::Error {
    std::io::ErrorKind::WouldBlock.into()
}

/// For people, when something hangs.
fn dump(shim: &Arc<Shim>) {
    for container in shim.containers() {
        log::info!("container {}: pid {}, {:?}", container.id, container.init.pid(), container.init.phase());
        container.with_execs(|execs| {
            for (id, exec) in execs {
                log::info!("  process {id}: pid {}, {:?}", exec.pid(), exec.phase());
            }
        });
    }
}

/// Standard error becomes the FIFO that containerd reads as this shim's log. It is open for reading as well, so that
/// nothing happens when containerd is away, and never blocks.
fn log_to_containerd() {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if let Ok(log) = openat(CWD, "log", flags, Mode::empty())
        && let Err(error) = rustix::stdio::dup2_stderr(log.as_fd())
    {
        eprintln!("log: {error}");
    }
}
