//! `proa exec`.

use super::create::{pid_file, preserve_fds, write_pid_file};
use super::{App, with_record};
use crate::config::{self, spec};
use crate::error::{Context, Error, Result, bad};
use crate::parent::attach::{self, Foreground, Signals, Terminal};
use crate::parent::start::document;
use crate::parent::{exec, sockets};
use crate::plan::{Host, LANDLOCK_ANNOTATION, Process, ProcessOptions};
use crate::state::{Record, Status, view};
use rustix::fd::AsFd;
use spec::{Capabilities, List, Str};
use std::borrow::Cow;

pub(super) fn command(app: &App<'_>) -> Result<i32> {
    with_record(app, |_, dir, record| {
        let (status, init) = view(dir, record)?;
        let refuse = |article, status| Error::Status { verb: "exec in", article, status, id: dir.id.clone() };
        match status {
            Status::Stopped => return Err(refuse("a", "stopped")),
            Status::Creating => return Err(refuse("a still", "creating")),
            Status::Paused if !app.flag("ignore-paused") => return Err(refuse("a", "paused")),
            _ => {}
        }
        let init = init.ok_or_else(|| Error::NotRunning(dir.id.clone()))?;
        let config = dir.read_config()?;
        let spec = config::parse_spec(&config)?;
        let file = app.value("process").map(read_process).transpose()?;
        let mut asked = match &file {
            Some((path, text)) => from_file(app, &spec, config::parse_process(path, text)?),
            None => from_flags(app, &spec)?,
        };
        labels(app, &spec, &mut asked);
        Exec { app, record, init: &init, status, spec: &spec }.run(&asked)
    })
}

/// Those of the container, unless the process comes with its own.
fn labels<'a>(app: &App<'a>, spec: &'a spec::Spec<'_>, process: &mut spec::Process<'a>) {
    let own = |text: &'a str| Str(Cow::Borrowed(text));
    let base = spec.process.as_ref();
    for (flag, label, inherited) in [
        ("apparmor", &mut process.apparmor_profile, base.and_then(|base| base.apparmor_profile.as_deref())),
        ("process-label", &mut process.selinux_label, base.and_then(|base| base.selinux_label.as_deref())),
    ] {
        let given = label.take().filter(|label| !label.is_empty());
        *label = app.value(flag).map(own).or(given).or(inherited.map(own));
    }
}

fn read_process(path: &str) -> Result<(String, String)> {
    let text = std::fs::read_to_string(path).context(|| format!("--process {path:?}"))?;
    Ok((path.to_owned(), text))
}

/// What a process document does not say is as in the container, as with runc.
fn from_file<'a>(app: &App<'a>, spec: &'a spec::Spec<'_>, mut process: spec::Process<'a>) -> spec::Process<'a> {
    for flag in ["cwd", "env", "user", "additional-gids", "cap", "no-new-privs"] {
        if app.flag(flag) {
            log::warn!("--{flag} means nothing beside --process");
        }
    }
    let Some(base) = &spec.process else { return process };
    process.oom_score_adj = process.oom_score_adj.or(base.oom_score_adj);
    if process.capabilities.is_none() {
        process.capabilities = base.capabilities.as_ref().map(copy);
    }
    let umask = base.user.as_ref().and_then(|user| user.umask);
    let user = process.user.get_or_insert_default();
    user.umask = user.umask.or(umask);
    process
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
        env.push(own(entry));
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
pub(crate) fn parse_user(text: &str) -> Result<(u32, Option<u32>)> {
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

fn copy<'a>(given: &'a Capabilities<'_>) -> Capabilities<'a> {
    let list = |list: &'a List<Str<'_>>| List(list.iter().map(|name| Str(Cow::Borrowed(&**name))).collect());
    Capabilities {
        bounding: list(&given.bounding),
        effective: list(&given.effective),
        permitted: list(&given.permitted),
        inheritable: list(&given.inheritable),
        ambient: list(&given.ambient),
    }
}

/// As runc: `--cap` adds to bounding, effective and permitted, and to ambient what is inheritable.
fn capabilities<'a>(app: &App<'a>, base: Option<&'a spec::Process<'_>>) -> Option<Capabilities<'a>> {
    let mut sets = base.and_then(|base| base.capabilities.as_ref()).map(copy);
    for cap in app.parsed.values.all("cap") {
        let sets = sets.get_or_insert_default();
        let inheritable = sets.inheritable.iter().any(|known| &**known == cap);
        let ambient = inheritable.then_some(&mut sets.ambient);
        for list in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted].into_iter().chain(ambient) {
            if !list.iter().any(|known| &**known == cap) {
                list.0.push(Str(Cow::Borrowed(cap)));
            }
        }
    }
    sets
}

/// One exec.
struct Exec<'e, 'a> {
    app: &'e App<'a>,
    record: &'e Record<'e>,
    init: &'e crate::state::Process,
    status: Status,
    spec: &'e spec::Spec<'e>,
}

impl Exec<'_, '_> {
    fn run(&self, asked: &spec::Process<'_>) -> Result<i32> {
        let app = self.app;
        let detach = app.flag("detach");
        let mut process = self.process(asked)?;
        check_console(app, process.terminal, detach)?;
        let connect =
            |name: &str| app.value(name).map(|path| sockets::connect_stream(&format!("--{name}"), path)).transpose();
        let console_socket = connect("console-socket")?;
        let pidfd_socket = connect("pidfd-socket")?;
        let pid_file = pid_file(app)?;
        let signals = if detach { None } else { Some(Signals::block()?) };
        let request = exec::Request {
            init: self.init,
            container: document(self.record),
            status: self.status.word(),
            namespaces: self.record.namespaces,
            cgroup: cgroup(app, self.record)?,
            console_socket,
            preserve_fds: preserve_fds(&app.parsed)?,
            rootless: app.rootless,
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
        prepared.release();
        match signals {
            None => Ok(0),
            Some(signals) => {
                let pidfd = prepared.pidfd.as_fd();
                Foreground { signals, pid: prepared.pid, pidfd, terminal, notify: None }.relay()
            }
        }
    }

    fn process(&self, asked: &spec::Process<'_>) -> Result<Process> {
        let options = ProcessOptions {
            new_user_namespace: self.record.namespaces & libc::CLONE_NEWUSER != 0,
            keyring: (!self.record.no_new_keyring).then(|| format!("_ses.{}", &*self.record.id)),
            extra_env: &[],
            notify: false,
            landlock: self.spec.annotation(LANDLOCK_ANNOTATION),
            exec: true,
        };
        let mut warnings = Vec::new();
        let linux = self.spec.linux.as_ref();
        let mut process = Process::new(asked, linux, &options, &Host::default(), &mut warnings)?;
        process.terminal |= self.app.flag("tty");
        warnings.iter().for_each(|warning| log::warn!("{warning}"));
        Ok(process)
    }
}

fn check_console(app: &App<'_>, terminal: bool, detach: bool) -> Result<()> {
    match (terminal && detach, app.value("console-socket").is_some()) {
        (true, false) => Err(Error::Usage("cannot allocate a terminal without --console-socket when detached".into())),
        (false, true) => Err(Error::Usage("--console-socket is only for a detached process with a terminal".into())),
        (false, false) if terminal => attach::find_terminal(),
        _ => Ok(()),
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
        // Where the init lives; if the container has removed that, where all begins.
        let leaf = record.cgroup.leaf().map(|path| cgroup.within(&[cgroup::SubCgroup { controllers: &[], path }]));
        return Ok(Some(leaf.and_then(std::result::Result::ok).unwrap_or(cgroup)));
    }
    let split: Vec<(Vec<&str>, &str)> = subs
        .iter()
        .map(|sub| match sub.split_once(':') {
            Some((controllers, path)) => (controllers.split(',').collect(), path),
            None => (Vec::new(), *sub),
        })
        .collect();
    let subs: Vec<_> = split.iter().map(|(controllers, path)| cgroup::SubCgroup { controllers, path }).collect();
    // Not in the kernel's words for it, which engines take for a missing program.
    match cgroup.within(&subs) {
        Err(error) if error.errno() == Some(libc::ENOENT) => {
            Err(bad("--cgroup", "no such cgroup below that of the container"))
        }
        within => Ok(Some(within?)),
    }
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
