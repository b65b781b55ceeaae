//! Cgroups made by systemd: a transient scope for each container (systemd.scope(5), org.freedesktop.systemd1(5)).
//!
//! A scope cannot be empty: it is made around the container's first process. What systemd does not manage, some of the
//! cgroup v1 hierarchies, is made beside it under the same path.

mod bus;
mod devices;
mod limits;
mod message;
mod property;
mod scope;

use std::time::Duration;

use rustix::process::{geteuid, getuid};
use zvariant::{OwnedObjectPath, Value};

use crate::devices::DeviceRule;
use crate::error::Error;
use crate::own;
use bus::{Bus, Failure};
use message::{Kind, Method};

pub(crate) use limits::Written;
pub use property::Property;
pub(crate) use scope::Scope;

/// For everything that one command wants of systemd. It is busy for seconds where many units come and go.
const PATIENCE: Duration = Duration::from_secs(25);

const SYSTEM_BUS: &str = "unix:path=/run/dbus/system_bus_socket";
/// systemd's own socket, for root: where no bus runs.
const SYSTEMD_ITSELF: &str = "unix:path=/run/systemd/private";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const READ_ONLY: &str = "org.freedesktop.DBus.Error.PropertyReadOnly";
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A method of systemd's manager.
const fn manager(member: &'static str) -> Method {
    Method { destination: DESTINATION, path: "/org/freedesktop/systemd1", interface: MANAGER, member }
}

/// A method of the bus itself.
const fn of_bus(member: &'static str) -> Method {
    let name = "org.freedesktop.DBus";
    Method { destination: name, path: "/org/freedesktop/DBus", interface: name, member }
}

/// Whether it is a user's systemd that this process has to do with. Root of a user namespace is such a user, as engines
/// make one for a user, where the environment leads to the user's bus; but not where USER says that it is root for the
/// whole of a session.
pub(crate) fn is_user() -> bool {
    let named_root = || variable("USER").is_some_and(|user| user == "root");
    !geteuid().is_root() || (host_uid() != 0 && !named_root() && user_bus().is_ok())
}

/// The own user outside of the user namespace that this process is in.
fn host_uid() -> u32 {
    let own = getuid().as_raw();
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    outside(&map, own).unwrap_or(own)
}

fn outside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(|word| word.parse::<u32>().ok());
        let (inside, outside, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
        outside.checked_add(id.checked_sub(inside).filter(|offset| *offset < size)?)
    })
}

/// Where in the tree of cgroups that systemd is: nowhere, `/`, for the machine's.
pub(crate) fn root(user: bool) -> Result<String, Error> {
    if user {
        let uid = host_uid();
        let service = format!("/user@{uid}.service");
        let own = own::systemds("self")?;
        return Ok(match own.find(&service) {
            Some(at) => own[..at + service.len()].to_owned(),
            None => format!("/user.slice/user-{uid}.slice/user@{uid}.service"),
        });
    }
    let of_init = own::systemds("1")?;
    Ok(of_init.strip_suffix("/init.scope").unwrap_or(&of_init).trim_end_matches('/').to_owned())
}

/// Makes the scope around a process, and returns when that is in it.
pub(crate) fn start(scope: &Scope, pid: i32, rules: &[DeviceRule], v1: bool, more: &[Property]) -> Result<(), Error> {
    let description = format!("container {}", scope.unit.trim_end_matches(".scope"));
    let essential = vec![
        ("Description", Value::from(description)),
        ("Slice", Value::from(scope.slice.as_str())),
        ("PIDs", Value::from(vec![pid as u32])),
        ("Delegate", Value::from(true)),
        ("DefaultDependencies", Value::from(false)),
        // One that failed, by the OOM killer say, would stay for ever.
        ("CollectMode", Value::from("inactive-or-failed")),
    ];
    let io = if v1 { "BlockIOAccounting" } else { "IOAccounting" };
    let mut optional: Vec<_> =
        ["CPUAccounting", "MemoryAccounting", io, "TasksAccounting"].map(|name| (name, Value::from(true))).into();
    // Unless it is limited later: systemd has a default of its own, of which the bundle says nothing.
    optional.push(("TasksMax", Value::from(u64::MAX)));
    if v1 {
        optional.extend(devices::properties(rules));
    }
    let of_annotations: Vec<_> = more.iter().map(|property| (property.name(), property.value())).collect();
    let mut connection = Systemd::connect(scope)?;
    let all = joined(&[&essential, &optional, &of_annotations]);
    let started = match connection.start(scope, &all) {
        Err(failure) if failure.is(UNIT_EXISTS) => {
            // What failed before systemd knew CollectMode, or was not collected yet.
            connection.reset_failed(scope).ok();
            connection.start(scope, &all)
        }
        Err(failure) if failure.is(READ_ONLY) || failure.is(UNKNOWN_PROPERTY) => {
            log::debug!("systemd: {failure}");
            connection.start(scope, &joined(&[&essential, &of_annotations]))
        }
        started => started,
    };
    started.map_err(|failure| error(scope, "start", failure))
}

/// The properties of all lists; of those with the same name, the last.
fn joined<'l>(lists: &[&'l [(&'l str, Value<'l>)]]) -> Vec<(&'l str, &'l Value<'l>)> {
    let mut all: Vec<(&str, &Value<'_>)> = Vec::new();
    for (name, value) in lists.iter().copied().flatten() {
        all.retain(|(known, _)| known != name);
        all.push((name, value));
    }
    all
}

/// Says the limits that are in force to systemd. One that it does not know is passed over.
pub(crate) fn set(scope: &Scope, written: &[Written]) -> Result<(), Error> {
    let properties = limits::properties(written);
    if properties.is_empty() {
        return Ok(());
    }
    let mut connection = Systemd::connect(scope)?;
    match connection.set(scope, &properties) {
        Err(failure @ Failure::Refused { .. }) if !failure.is(NO_SUCH_UNIT) => {
            log::debug!("systemd: {failure}");
            for property in &properties {
                if let Err(failure) = connection.set(scope, std::slice::from_ref(property)) {
                    log::debug!("systemd does not take {}: {failure}", property.0);
                }
            }
            Ok(())
        }
        done => done.map_err(|failure| error(scope, "set properties of", failure)),
    }
}

/// Moves a process into a scope that this one may not write to.
pub(crate) fn attach(scope: &Scope, pid: i32) -> Result<(), Error> {
    let attached = Systemd::connect(scope)?.attach(scope, pid);
    attached.map_err(|failure| error(scope, "attach a process to", failure))
}

/// Ends a scope in which nothing runs any more. One that is gone is fine.
pub(crate) fn stop(scope: &Scope) -> Result<(), Error> {
    let mut connection = Systemd::connect(scope)?;
    match connection.stop(scope) {
        Err(failure) if failure.is(NO_SUCH_UNIT) => Ok(()),
        Err(failure) => Err(error(scope, "stop", failure)),
        Ok(()) => {
            // Gone, mostly; one that stays since it has failed is forgotten.
            connection.reset_failed(scope).ok();
            Ok(())
        }
    }
}

fn error(scope: &Scope, what: &str, failure: Failure) -> Error {
    Error::Systemd { step: format!("{what} {}", scope.unit), problem: failure.to_string() }
}

/// A connection on which systemd is heard.
struct Systemd {
    bus: Bus,
}

impl Systemd {
    fn connect(scope: &Scope) -> Result<Systemd, Error> {
        let connected = match scope.user {
            true => user_bus().and_then(|address| Systemd::on_bus(Bus::connect(&address, PATIENCE)?)),
            false => {
                let address = variable("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|| SYSTEM_BUS.to_owned());
                match Bus::connect(&address, PATIENCE) {
                    // Only if there is no bus: a busy one is not to be gone around.
                    Err(Failure::Connect { .. }) => Bus::connect(SYSTEMD_ITSELF, PATIENCE).map(|bus| Systemd { bus }),
                    bus => bus.and_then(Systemd::on_bus),
                }
            }
        };
        connected.map_err(|failure| error(scope, "connect for", failure))
    }

    fn on_bus(mut bus: Bus) -> Result<Systemd, Failure> {
        bus.call(&of_bus("Hello"), true, &())?;
        Ok(Systemd { bus })
    }

    /// Calls what answers with a job for a unit, and waits for the job to be done.
    fn job<B: serde::Serialize + zvariant::Type>(
        &mut self,
        scope: &Scope,
        member: &'static str,
        body: &B,
    ) -> Result<(), Failure> {
        let rule = format!("type='signal',interface='{MANAGER}',member='JobRemoved',arg2='{}'", scope.unit);
        self.bus.call(&of_bus("AddMatch"), false, &(rule,))?;
        self.bus.call(&manager("Subscribe"), false, &())?;
        let serial = self.bus.call(&manager(member), true, body)?;
        let (job,) = self.bus.answer(serial)?.read::<(OwnedObjectPath,)>()?;
        loop {
            let signal = self.bus.wait(|message| message.kind == Kind::Signal("JobRemoved".to_owned()))?;
            let (_, removed, _, result) = signal.read::<(u32, OwnedObjectPath, String, String)>()?;
            match (removed == job, result.as_str()) {
                (false, _) => {}
                (true, "done") => return Ok(()),
                (true, result) => return Err(Failure::Job(result.to_owned())),
            }
        }
    }

    fn start(&mut self, scope: &Scope, properties: &[(&str, &Value<'_>)]) -> Result<(), Failure> {
        let none: &[(&str, &[(&str, Value<'_>)])] = &[];
        self.job(scope, "StartTransientUnit", &(&scope.unit, "fail", properties, none))
    }

    fn stop(&mut self, scope: &Scope) -> Result<(), Failure> {
        self.job(scope, "StopUnit", &(&scope.unit, "replace"))
    }

    fn set(&mut self, scope: &Scope, properties: &[(&'static str, Value<'static>)]) -> Result<(), Failure> {
        let serial = self.bus.call(&manager("SetUnitProperties"), true, &(&scope.unit, true, properties))?;
        self.bus.answer(serial).map(drop)
    }

    fn attach(&mut self, scope: &Scope, pid: i32) -> Result<(), Failure> {
        let pids: &[u32] = &[pid as u32];
        let serial = self.bus.call(&manager("AttachProcessesToUnit"), true, &(&scope.unit, "", pids))?;
        self.bus.answer(serial).map(drop)
    }

    fn reset_failed(&mut self, scope: &Scope) -> Result<(), Failure> {
        let serial = self.bus.call(&manager("ResetFailedUnit"), true, &(&scope.unit,))?;
        self.bus.answer(serial).map(drop)
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn user_bus() -> Result<String, Failure> {
    let beside = || variable("XDG_RUNTIME_DIR").map(|dir| format!("unix:path={dir}/bus"));
    variable("DBUS_SESSION_BUS_ADDRESS").or_else(beside).ok_or(Failure::NoAddress)
}

#[cfg(test)]
mod tests {
    use super::outside;

    #[test]
    fn ids_outside_of_a_user_namespace() {
        let engines = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(engines, 0), Some(1000));
        assert_eq!(outside(engines, 7), Some(100_006));
        assert_eq!(outside(engines, 65537), None);
        assert_eq!(outside("0 0 4294967295\n", 0), Some(0));
        assert_eq!(outside("", 0), None);
    }
}
