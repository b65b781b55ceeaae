//! `proa exec`.

use super::create::{pid_file, preserve_fds, write_pid_file};
use super::{App, with_record};
use crate::config::{self, spec};
use crate::error::{Context, Error, Result, bad, unsupported};
use crate::parent::attach::{Foreground, Signals, Terminal};
use crate::parent::{exec, sockets};
use crate::plan::{Host, Namespaces, Process, ProcessOptions};
use crate::state::{Record, StateDir, StateRoot, Status, view};
use rustix::fd::{AsFd, AsRawFd};
use spec::{Capabilities, List, Str};
use std::borrow::Cow;

pub(super) fn command(app: &App<'_>) -> Result<i32> {
    with_record(app, |root, dir, record| {
        let (status, init) = view(dir, record)?;
        let refuse = |article, status| Error::Status { verb: "exec in", article, status, id: dir.id.clone() };
        match status {
            Status::Stopped => return Err(refuse("a", "stopped")),
            Status::Creating => return Err(refuse("a still", "creating")),
            Status::Paused if !app.flag("ignore-paused") => return Err(refuse("a", "paused")),
            _ => {}
        }
        for label in ["apparmor", "process-label"] {
            if app.value(label).is_some() {
                return Err(unsupported(format_args!("--{label}")));
            }
        }
        let init = init.ok_or_else(|| Error::NotRunning(dir.id.clone()))?;
        let config = dir.read_config()?;
        let spec = config::parse_spec(&config)?;
        let file = app.value("process").map(read_process).transpose()?;
        let host = Host::default();
        let namespaces = Namespaces::new(&spec, &host)?;
        let asked = match &file {
            Some((path, text)) => config::parse_process(path, text)?,
            None => from_flags(app, &spec)?,
        };
        run(app, root, dir, record, &init, &spec, &asked, &namespaces, &host)
    })
}

fn read_process(path: &str) -> Result<(String, String)> {
    let text = std::fs::read_to_string(path).context(|| format!("--process {path:?}"))?;
    Ok((path.to_owned(), text))
}

/// The container's process with what the flags change.
fn from_flags<'a>(app: &App<'a>, spec: &'a spec::Spec<'_>) -> Result<spec::Process<'a>> {
    let base = spec.process.as_ref();
    let own = |text: &'a str| Str(Cow::Borrowed(text));
    let mut process = spec::Process {
        cwd: Some(own(app.value("cwd").or_else(|| base.and_then(|base| base.cwd.as_deref())).unwrap_or("/"))),
        terminal: Some(app.flag("tty")),
        no_new_privileges: base.and_then(|base| base.no_new_privileges),
        oom_score_adj: base.and_then(|base| base.oom_score_adj),
        ..spec::Process::default()
    };
    process.args = List(app.parsed.args[1..].iter().map(|arg| own(arg)).collect());
    if process.args.is_empty() {
        return Err(Error::Usage("exec needs a program to execute".to_owned()));
    }
    let mut env: Vec<Str<'a>> = base.map(|base| base.env.iter().map(|entry| own(entry)).collect()).unwrap_or_default();
    for entry in app.parsed.values.all("env") {
        // As runc: a name without a value is taken from the caller's environment.
        match (entry.contains('='), std::env::var(entry)) {
            (true, _) => env.push(own(entry)),
            (false, Ok(value)) => env.push(Str(Cow::Owned(format!("{entry}={value}")))),
            (false, Err(_)) => {}
        }
    }
    process.env = List(env);
    if let Some(base) = base {
        process.rlimits = List(
            base.rlimits
                .iter()
                .map(|limit| spec::Rlimit { kind: limit.kind.as_deref().map(own), soft: limit.soft, hard: limit.hard })
                .collect(),
        );
        process.scheduler = base.scheduler.as_ref().map(|given| spec::Scheduler {
            policy: given.policy.as_deref().map(own),
            flags: List(given.flags.iter().map(|flag| own(flag)).collect()),
            ..*given
        });
        process.io_priority = base
            .io_priority
            .as_ref()
            .map(|given| spec::IoPriority { class: given.class.as_deref().map(own), priority: given.priority });
        process.exec_cpu_affinity = base.exec_cpu_affinity.as_ref().map(|given| spec::ExecCpuAffinity {
            initial: given.initial.as_deref().map(own),
            last: given.last.as_deref().map(own),
        });
    }
    process.user = Some(user(app, base)?);
    process.capabilities = capabilities(app, base);
    if app.flag("no-new-privs") {
        process.no_new_privileges = Some(true);
    }
    Ok(process)
}

fn user<'a>(app: &App<'a>, base: Option<&spec::Process<'_>>) -> Result<spec::User<'a>> {
    let base = base.and_then(|base| base.user.as_ref());
    let mut user = spec::User {
        uid: base.and_then(|user| user.uid),
        gid: base.and_then(|user| user.gid),
        umask: base.and_then(|user| user.umask),
        additional_gids: base.map(|user| user.additional_gids.clone()).unwrap_or_default(),
        username: None,
    };
    if let Some(given) = app.parsed.values.get("user") {
        let (uid, gid) = parse_user(given)?;
        user.uid = Some(uid);
        if let Some(gid) = gid {
            user.gid = Some(gid);
        }
    }
    for group in app.parsed.values.all("additional-gids") {
        let gid = number(group).ok_or_else(|| bad("--additional-gids", format_args!("{group:?} is no group id")))?;
        user.additional_gids.0.push(gid);
    }
    Ok(user)
}

/// `uid[:gid]` in decimal. Names are never looked up: whose would they be?
fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
    let wrong = || bad("--user", format_args!("{text:?} is not uid or uid:gid in numbers"));
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid).ok_or_else(wrong)?, Some(number(gid).ok_or_else(wrong)?))),
        None => Ok((number(text).ok_or_else(wrong)?, None)),
    }
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // The largest one means "no id" to the kernel.
    text.parse().ok().filter(|id| digits && *id != u32::MAX)
}

/// As runc: `--cap` adds to bounding, effective and permitted, and to ambient where the container may inherit.
fn capabilities<'a>(app: &App<'a>, base: Option<&'a spec::Process<'_>>) -> Option<Capabilities<'a>> {
    let own = |text: &'a str| Str(Cow::Borrowed(text));
    let given = base.and_then(|base| base.capabilities.as_ref());
    let copy = |list: &'a List<Str<'_>>| List(list.iter().map(|name| own(name)).collect::<Vec<_>>());
    let mut sets = given.map(|given| Capabilities {
        bounding: copy(&given.bounding),
        effective: copy(&given.effective),
        permitted: copy(&given.permitted),
        inheritable: copy(&given.inheritable),
        ambient: copy(&given.ambient),
    });
    for cap in app.parsed.values.all("cap") {
        let sets = sets.get_or_insert_default();
        for list in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !list.iter().any(|known| &**known == cap) {
                list.0.push(own(cap));
            }
        }
    }
    sets
}

#[allow(clippy::too_many_arguments)]
fn run(
    app: &App<'_>,
    root: &StateRoot,
    dir: &StateDir,
    record: &Record<'_>,
    init: &crate::state::Process,
    spec: &spec::Spec<'_>,
    asked: &spec::Process<'_>,
    namespaces: &Namespaces,
    host: &Host,
) -> Result<i32> {
    let terminal = asked.terminal == Some(true) || app.flag("tty");
    let detach = app.flag("detach");
    let socket = app.value("console-socket");
    if terminal && detach && socket.is_none() {
        return Err(Error::Usage("cannot allocate a terminal without --console-socket when detached".into()));
    }
    if socket.is_some() && !(terminal && detach) {
        return Err(Error::Usage("--console-socket is only for a detached process with a terminal".into()));
    }
    let preserve = preserve_fds(&app.parsed)?;
    let options = ProcessOptions {
        new_user_namespace: namespaces.has_own(libc::CLONE_NEWUSER),
        keyring: Some(format!("_ses.{}", dir.id)),
        extra_env: &[],
        notify: false,
        exec: true,
    };
    let mut warnings = Vec::new();
    let mut process = Process::new(asked, spec.linux.as_ref(), &options, host, &mut warnings)?;
    process.terminal = terminal;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    let console_socket = socket.map(|path| sockets::connect_stream("--console-socket", path)).transpose()?;
    let pidfd_socket =
        app.value("pidfd-socket").map(|path| sockets::connect_stream("--pidfd-socket", path)).transpose()?;
    let pid_file = pid_file(app)?;
    let signals = if detach { None } else { Some(Signals::block()?) };
    let request = exec::Request {
        init,
        namespaces,
        cgroup: cgroup(app, record)?,
        console_socket,
        preserve_fds: preserve,
        close: vec![root.fd().as_raw_fd(), dir.fd().as_raw_fd()],
    };
    let mut prepared = exec::prepare(&mut process, &request)?;
    let terminal = prepared.console.take().map(Terminal::new).transpose()?;
    exec::go(&process, &prepared)?;
    if let Some(path) = &pid_file {
        write_pid_file(path, prepared.pid)?;
    }
    if let Some(socket) = &pidfd_socket {
        sockets::send_pidfd(socket, "setns", prepared.pidfd.as_fd())?;
    }
    match signals {
        None => Ok(0),
        Some(signals) => {
            let pidfd = prepared.pidfd.as_fd();
            Foreground { signals, pid: prepared.pid, pidfd, terminal, notify: None }.relay()
        }
    }
}

/// The container's cgroup, or those below it that `--cgroup` names.
fn cgroup(app: &App<'_>, record: &Record<'_>) -> Result<Option<cgroup::Cgroup>> {
    let subs: Vec<&str> = app.parsed.values.all("cgroup").collect();
    let Some(cgroup) = record.cgroup.open()?.filter(|_| !record.cgroup.is_disabled()) else {
        return match subs.first() {
            Some(sub) => Err(bad("--cgroup", format_args!("{sub:?}: the container has no cgroup"))),
            None => Ok(None),
        };
    };
    if subs.is_empty() {
        return Ok(Some(cgroup));
    }
    let split: Vec<(Vec<&str>, &str)> = subs
        .iter()
        .map(|sub| match sub.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), *sub),
        })
        .collect();
    let subs: Vec<_> = split.iter().map(|(controllers, path)| cgroup::SubCgroup { controllers, path }).collect();
    Ok(Some(cgroup.within(&subs)?))
}

#[cfg(test)]
mod tests {
    use super::parse_user;

    #[test]
    fn users_are_numbers() {
        assert_eq!(parse_user("1").unwrap(), (1, None));
        assert_eq!(parse_user("1000:5").unwrap(), (1000, Some(5)));
        for bad in ["", ":", "1:", ":1", "-1", "4294967295", "4294967296", "0x0", "root", " 1", "+1", "1:2:3"] {
            assert!(parse_user(bad).is_err(), "{bad:?}");
        }
    }
}
