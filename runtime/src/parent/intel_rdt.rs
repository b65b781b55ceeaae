//! `linux.intelRdt`: the container's process into a class of service, or a monitoring group, of resctrl
//! (Documentation/filesystems/resctrl.rst). What the lines mean is for the kernel to say, but for those that an
//! existing class must have already.

use crate::error::{Context, Error, Result, bad, text};
use crate::plan::IntelRdt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, statfs, unlinkat};
use rustix::io::{self, Errno, retry_on_intr};
use std::path::Path;

const BASE: &str = "/sys/fs/resctrl";
/// Much more than any machine's schemata file has.
const MAX_FILE: usize = 64 * 1024;

/// Puts the process there. Returns the groups made that delete has to remove, below /sys/fs/resctrl, in the order to
/// remove them. After a failure nothing that was made is left.
pub(crate) fn apply(rdt: &IntelRdt, pid: i32) -> Result<Vec<String>> {
    // The type is signed or not, and 32 bits wide or 64, from one architecture to the next.
    match statfs(BASE) {
        Ok(found) if found.f_type as u64 == libc::RDTGROUP_SUPER_MAGIC as u64 => apply_in(Path::new(BASE), rdt, pid),
        _ => Err(bad("linux.intelRdt", format_args!("resctrl is not mounted at {BASE}"))),
    }
}

/// Other schemata for a group that is there.
pub(crate) fn update(group: &str, lines: &[String]) -> Result<()> {
    let file = if group == "/" { "schemata".to_owned() } else { format!("{group}/schemata") };
    Tree::new(Path::new(BASE)).write(&file, lines.iter().map(|line| format!("{line}\n")))
}

pub(crate) fn apply_in(base: &Path, rdt: &IntelRdt, pid: i32) -> Result<Vec<String>> {
    Tree::new(base).apply(rdt, pid)
}

/// Removes what [`apply`] returned, as far as it is there: the kernel moves what still runs in a group out of it.
pub(crate) fn remove(groups: &[String]) {
    remove_in(Path::new(BASE), groups);
}

pub(crate) fn remove_in(base: &Path, groups: &[String]) {
    Tree::new(base).remove(groups);
}

/// A resctrl file system, whose directories come with files in them and go in spite of them.
struct Tree<'a> {
    base: &'a Path,
    make: fn(&Path) -> io::Result<()>,
    unmake: fn(&Path) -> io::Result<()>,
}

impl Tree<'_> {
    fn new(base: &Path) -> Tree<'_> {
        Tree {
            base,
            make: |path| mkdirat(CWD, path, Mode::from_raw_mode(0o755)),
            unmake: |path| unlinkat(CWD, path, AtFlags::REMOVEDIR),
        }
    }

    fn apply(&self, rdt: &IntelRdt, pid: i32) -> Result<Vec<String>> {
        // The newest first.
        let mut made = Vec::new();
        if let Err(error) = self.place(rdt, pid, &mut made) {
            self.remove(&made);
            return Err(error);
        }
        made.retain(|group| !rdt.shared || *group != rdt.group);
        Ok(made)
    }

    fn place(&self, rdt: &IntelRdt, pid: i32, made: &mut Vec<String>) -> Result<()> {
        let root = rdt.group == "/";
        if !root && !is_group(&rdt.group) {
            return Err(bad("linux.intelRdt", format_args!("{:?} cannot be the name of a group", rdt.group)));
        }
        if !root && !self.join(rdt)? {
            made.insert(0, rdt.group.clone());
        } else if rdt.shared {
            rdt.compared.iter().try_for_each(|line| self.compare(rdt, line))?;
        }
        let inside = |name: &str| if root { name.to_owned() } else { format!("{}/{name}", rdt.group) };
        if !rdt.schemata.is_empty() {
            self.write(&inside("schemata"), rdt.schemata.iter().map(|line| format!("{line}\n")))?;
        }
        self.write(&inside("tasks"), [format!("{pid}\n")])?;
        let Some(monitor) = &rdt.monitor else { return Ok(()) };
        if !is_name(monitor) {
            let problem = format_args!("{monitor:?} cannot be the name of a group");
            return Err(bad("linux.intelRdt.enableMonitoring", problem));
        }
        let monitor = inside(&format!("mon_groups/{monitor}"));
        let what = || format!("linux.intelRdt.enableMonitoring: make the group {monitor:?}");
        (self.make)(&self.base.join(&monitor)).map_err(|errno| self.failed(what(), errno))?;
        made.insert(0, monitor);
        // After the class: a process can only be in a monitoring group of the class that it is in.
        self.write(&format!("{}/tasks", made[0]), [format!("{pid}\n")])
    }

    /// True if the group was there already.
    fn join(&self, rdt: &IntelRdt) -> Result<bool> {
        let path = self.base.join(&rdt.group);
        if rdt.shared && rdt.schemata.is_empty() {
            return match path.is_dir() {
                true => Ok(true),
                false => {
                    Err(bad("linux.intelRdt.closID", format_args!("{:?} is not in {}", rdt.group, self.base.display())))
                }
            };
        }
        match (self.make)(&path) {
            Ok(()) => Ok(false),
            Err(Errno::EXIST) => Ok(true),
            Err(errno) => Err(self.failed(format!("linux.intelRdt: make the group {:?}", rdt.group), errno)),
        }
    }

    /// A class that others may be in is not changed: it must have this line's values.
    fn compare(&self, rdt: &IntelRdt, line: &str) -> Result<()> {
        let path = self.base.join(if rdt.group == "/" { "" } else { &rdt.group }).join("schemata");
        let schemata = read(&path).context(|| format!("linux.intelRdt: read {}", path.display()))?;
        let step = read(&self.base.join("info/MB/bandwidth_gran")).ok().and_then(|text| text.trim().parse().ok());
        if schemata.lines().any(|found| covers(found, line, step.unwrap_or(1))) {
            return Ok(());
        }
        let property = if line.starts_with("MB") { "memBwSchema" } else { "l3CacheSchema" };
        let resource = line.split(':').next().unwrap_or_default();
        let found = schemata.lines().map(str::trim).find(|found| found.split(':').next() == Some(resource));
        let problem = format!("the existing closID {:?} has {:?}, not {line:?}", rdt.group, found.unwrap_or_default());
        Err(bad(format_args!("linux.intelRdt.{property}"), problem))
    }

    /// Writes each text by its own write(2), as the kernel takes them.
    fn write(&self, file: &str, texts: impl IntoIterator<Item = String>) -> Result<()> {
        let what = || format!("linux.intelRdt: write {}", self.base.join(file).display());
        let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = openat(CWD, self.base.join(file), flags, Mode::empty()).context(what)?;
        for text in texts {
            match retry_on_intr(|| io::write(&open, text.as_bytes())) {
                Ok(written) if written == text.len() => {}
                Ok(_) => return Err(self.failed(format!("{}: {:?}", what(), text.trim_end()), Errno::IO)),
                Err(errno) => return Err(self.failed(format!("{}: {:?}", what(), text.trim_end()), errno)),
            }
        }
        Ok(())
    }

    /// An error with the kernel's own words for it, if it has any.
    fn failed(&self, what: String, errno: Errno) -> Error {
        let status = read(&self.base.join("info/last_cmd_status")).unwrap_or_default();
        match status.trim() {
            "" | "ok" => Error::Sys { what, errno },
            status => bad(what, format_args!("{} ({})", text(errno), status.replace('\n', "; "))),
        }
    }

    fn remove(&self, groups: &[String]) {
        for group in groups {
            if !is_made_by_us(group) {
                log::warn!("linux.intelRdt: {group:?} is no group of ours");
                continue;
            }
            match (self.unmake)(&self.base.join(group)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => log::warn!("linux.intelRdt: remove the group {group:?}: {}", text(errno)),
            }
        }
    }
}

/// One directory below another, and no way out.
fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains(['/', '\n', '\0'])
}

/// Of a class of service: not one that the kernel keeps beside them.
fn is_group(name: &str) -> bool {
    is_name(name) && !matches!(name, "info" | "mon_data" | "mon_groups")
}

fn is_made_by_us(path: &str) -> bool {
    let mut parts = path.split('/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(group), None, ..) => is_group(group),
        (Some("mon_groups"), Some(monitor), None, _) => is_name(monitor),
        (Some(group), Some("mon_groups"), Some(monitor), None) => is_group(group) && is_name(monitor),
        _ => false,
    }
}

/// Whether a line of a schemata file says all that `line` asks for: `RESOURCE:ID=VALUE;...`, in any order and with
/// any spaces. `step` is what the kernel rounds bandwidth up to.
fn covers(found: &str, line: &str, step: u64) -> bool {
    let (Some((resource, wanted)), Some((other, found))) = (line.split_once(':'), found.split_once(':')) else {
        return false;
    };
    let bandwidth = resource.trim() == "MB";
    let domains = |text| domains(text, if bandwidth { 10 } else { 16 });
    let (true, Some(wanted), Some(found)) = (resource.trim() == other.trim(), domains(wanted), domains(found)) else {
        return false;
    };
    let same = |found: u64, wanted: u64| {
        found == wanted || bandwidth && wanted.checked_next_multiple_of(step).is_some_and(|wanted| wanted == found)
    };
    wanted.iter().all(|(id, wanted)| found.iter().any(|(other, found)| id == other && same(*found, *wanted)))
}

/// `ID=VALUE;...`: ids are decimal numbers; the values bit masks in hexadecimal, or percentages and the like.
fn domains(text: &str, radix: u32) -> Option<Vec<(u32, u64)>> {
    let domain = |domain: &str| {
        let (id, value) = domain.split_once('=')?;
        let value = value.trim();
        let digits = if radix == 16 { value.strip_prefix("0x").unwrap_or(value) } else { value };
        Some((id.trim().parse().ok()?, u64::from_str_radix(digits, radix).ok()?))
    };
    text.split(';').map(domain).collect()
}

fn read(path: &Path) -> io::Result<String> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(4096);
    while retry_on_intr(|| io::read(&file, rustix::buffer::spare_capacity(&mut bytes)))? > 0 {
        if bytes.len() > MAX_FILE {
            return Err(Errno::FBIG);
        }
        bytes.reserve(1);
    }
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
}

#[cfg(test)]
mod tests;
