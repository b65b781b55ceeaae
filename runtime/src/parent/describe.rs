//! Turns what the child reported into the sentence that people and engines read.

use crate::error::{Error, text};
use crate::hooks;
use crate::plan::{Plan, Process};
use crate::sync::{Failure, Item};
use rustix::io::Errno;

/// A failure on the way to a container.
pub(crate) fn failure(plan: &Plan, failure: &Failure) -> Error {
    match failure.item {
        Item::CreateContainer(index) => hook("createContainer", &plan.hooks.create_container, index, failure),
        Item::StartContainer(index) => hook("startContainer", &plan.hooks.start_container, index, failure),
        Item::Program => Error::Child(program(plan.process.as_ref(), failure)),
        Item::Rlimit(resource) => Error::Child(rlimit(plan.process.as_ref(), resource, failure)),
        Item::Landlock(index) => Error::Child(landlock(plan.process.as_ref(), index, failure)),
        item => Error::Child(sentence(plan, item, failure)),
    }
}

/// A failure of an exec, which has no mounts and no hooks.
pub(crate) fn exec_failure(process: &Process, failure: &Failure) -> Error {
    match failure.item {
        Item::Program => Error::Child(program(Some(process), failure)),
        Item::Rlimit(resource) => Error::Child(rlimit(Some(process), resource, failure)),
        Item::Landlock(index) => Error::Child(landlock(Some(process), index, failure)),
        _ => Error::Child(label(Some(process), failure).unwrap_or_else(|| with_errno(&failure.what, failure.number))),
    }
}

fn hook(stage: &'static str, list: &[crate::plan::Hook], index: u16, failure: &Failure) -> Error {
    Error::Hook {
        stage,
        index: usize::from(index),
        path: list.get(usize::from(index)).map_or_else(String::new, |hook| hook.path.to_string()),
        problem: hooks::describe(&failure.what, failure.number, &failure.detail),
    }
}

fn with_errno(what: &str, number: i32) -> String {
    format!("{what}: {}", text(Errno::from_raw_os_error(number)))
}

fn rlimit(process: Option<&Process>, resource: u16, failure: &Failure) -> String {
    let limit = process.and_then(|process| process.rlimits.iter().find(|limit| limit.resource == u32::from(resource)));
    let errno = text(Errno::from_raw_os_error(failure.number));
    limit.map_or_else(String::new, |limit| {
        format!("process.rlimits RLIMIT_{}: set soft {} and hard {}: {errno}", limit.name(), limit.soft, limit.hard)
    })
}

fn landlock(process: Option<&Process>, index: u16, failure: &Failure) -> String {
    let rules = process.and_then(|process| process.landlock.as_ref()).map(|landlock| &landlock.rules);
    let path = rules.and_then(|rules| rules.get(usize::from(index))).map(|rule| rule.path.to_string());
    with_errno(&format!("landlock {:?}: {}", path.unwrap_or_default(), failure.what), failure.number)
}

/// A label that the kernel did not take; ENOENT means that no such profile is loaded.
fn label(process: Option<&Process>, failure: &Failure) -> Option<String> {
    let labels = &process?.labels;
    let label =
        [&labels.apparmor, &labels.selinux].into_iter().flatten().find(|label| label.property == failure.what)?;
    let text = label.text.to_string();
    let given = text.strip_prefix("exec ").unwrap_or(&text);
    Some(match Errno::from_raw_os_error(failure.number) {
        Errno::NOENT => {
            format!("{}: {given:?}: no such profile is loaded, or /proc is not there to set it", failure.what)
        }
        _ => format!("{}: {given:?}: {}", failure.what, with_errno("set it", failure.number)),
    })
}

/// The phrases that engines tell a missing program by.
fn program(process: Option<&Process>, failure: &Failure) -> String {
    let name = process.and_then(|process| process.args.strings().first()).map(ToString::to_string).unwrap_or_default();
    let errno = Errno::from_raw_os_error(failure.number);
    match (failure.what.as_str(), errno) {
        ("find", Errno::NOENT) if !name.contains('/') => format!("exec: {name:?}: executable file not found in $PATH"),
        ("find", Errno::NOENT | Errno::NOTDIR) => format!("exec: {name:?}: stat {name}: {}", text(errno)),
        ("find", _) => format!("exec: {name:?}: {}", text(errno)),
        (what, _) => format!("{what} {name}: {}", text(errno)),
    }
}

fn sentence(plan: &Plan, item: Item, failure: &Failure) -> String {
    use rootfs::Item as R;
    let errno = text(Errno::from_raw_os_error(failure.number));
    let what = failure.what.as_str();
    let mount = |index: u16| plan.root.mounts.get(usize::from(index));
    let path = |list: &[rootfs::plan::CText], index: u16| {
        list.get(usize::from(index)).map_or_else(String::new, ToString::to_string)
    };
    match item {
        Item::Rootfs(R::Root) => format!("root.path {:?}: {what}: {errno}", plan.root.path),
        Item::Rootfs(R::Layers) => {
            let layers = plan.root.layers.as_ref().map_or(0, |layers| layers.lower.len());
            format!("annotations[{:?}] ({layers} layers): {what}: {errno}", crate::plan::LAYERS_ANNOTATION)
        }
        Item::Rootfs(R::MountSource(index)) => {
            let source = mount(index).and_then(|mount| match &mount.what {
                rootfs::plan::What::Bind { source, .. } => Some(source.to_string()),
                _ => None,
            });
            let destination = mount(index).map(|mount| mount.destination.to_string()).unwrap_or_default();
            format!("mounts[{index}] {destination:?}: {errno}: {}", source.unwrap_or_default())
        }
        Item::Rootfs(R::Mount(index)) => {
            let destination = mount(index).map(|mount| mount.destination.to_string()).unwrap_or_default();
            let kind = mount(index).and_then(|mount| match &mount.what {
                rootfs::plan::What::Filesystem(filesystem) if what == "mount" => Some(format!(" {}", filesystem.kind)),
                _ => None,
            });
            format!("mounts[{index}] {destination:?}: {what}{}: {errno}", kind.unwrap_or_default())
        }
        Item::Rootfs(R::Device(index)) => {
            let device = plan.root.devices.get(usize::from(index));
            let path = device.map(|device| device.path.to_string()).unwrap_or_default();
            match device.is_some_and(|device| device.default) {
                true => format!("default device {path:?}: {what}: {errno}"),
                false => format!("linux.devices[{index}] {path:?}: {what}: {errno}"),
            }
        }
        Item::Rootfs(R::Links) => format!("links in /dev: {what}: {errno}"),
        Item::Rootfs(R::Masked(index)) => {
            format!("linux.maskedPaths {:?}: {what}: {errno}", path(&plan.root.masked_paths, index))
        }
        Item::Rootfs(R::Readonly(index)) => {
            format!("linux.readonlyPaths {:?}: {what}: {errno}", path(&plan.root.readonly_paths, index))
        }
        Item::Rootfs(R::Console) => format!("process.terminal: {what}: {errno}"),
        Item::Namespace(index) => {
            let join = plan.namespaces.join.iter().find(|join| join.index == index);
            let path = join.map(|join| join.path.to_string()).unwrap_or_default();
            format!("linux.namespaces[{index}] {path:?}: {what}: {errno}")
        }
        Item::Sysctl(index) => {
            let name = plan.sysctl.get(usize::from(index)).map_or("", |sysctl| &sysctl.name);
            format!("linux.sysctl {name:?}: {what}: {errno}")
        }
        _ if matches!(Errno::from_raw_os_error(failure.number), Errno::INVAL) && what.starts_with("process: ") => {
            what.to_owned()
        }
        _ if what.starts_with("process.cwd") => {
            let cwd = plan.process.as_ref().map(|process| process.cwd.to_string()).unwrap_or_default();
            format!("{what} ({cwd:?}): {errno}")
        }
        _ => label(plan.process.as_ref(), failure).unwrap_or_else(|| format!("{what}: {errno}")),
    }
}
