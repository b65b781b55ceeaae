//! Who the process is from now on: terminal, keyring, scheduling, working directory, ids and capabilities, in the order
//! in which each step still has the right to do it. Init and exec take the same steps by this same code.

use super::{LabelFiles, Result, filter, property};
use crate::plan::Process;
use crate::sync::{Channel, Item, Signal};
use crate::sys;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, fstat, makedev, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::process::fchdir;
use std::ffi::{CStr, CString};

/// Where the standard streams come from.
pub(crate) enum Stdio {
    /// From the caller.
    Inherited,
    /// The container's terminal, which becomes the controlling one.
    Terminal(OwnedFd),
}

/// `HOME=...`
pub(crate) struct Home(CString);

impl Home {
    pub(crate) fn as_c_str(&self) -> &CStr {
        &self.0
    }
}

/// Becomes root of a user namespace that was just mapped, so that new files belong to it.
pub(crate) fn become_root() -> Result<()> {
    match sys::set_groups(&[]) {
        Err(Errno::PERM) => {}
        done => property("linux.gidMappings: drop the caller's groups", done)?,
    }
    // Without a mapping for root the process stays who it is; its capabilities are all there.
    for (what, done) in [
        ("linux.gidMappings: become root of the user namespace", sys::set_gid(0)),
        ("linux.uidMappings: become root of the user namespace", sys::set_uid(0)),
    ] {
        match done {
            Err(Errno::INVAL) => {}
            done => property(what, done)?,
        }
    }
    Ok(())
}

/// Everything but finding and executing the program. Must run in the root directory of the container.
pub(crate) fn take_identity(
    process: &Process,
    stdio: Stdio,
    labels: LabelFiles,
    userns: bool,
    channel: &Channel,
) -> Result<Option<Home>> {
    connect(stdio, process, userns)?;
    if let Some(name) = &process.keyring {
        // The user may search it; in a user namespace, whose owner is another user to the key, others may.
        let bits = if userns { 0x8 } else { 0x8_0000 };
        labels.label_keys(&process.labels, true)?;
        match sys::join_session_keyring(name, bits) {
            Err(Errno::NOSYS) => {}
            done => property("join the session keyring", done)?,
        }
        labels.label_keys(&process.labels, false)?;
    }
    labels.label_program(&process.labels)?;
    schedule(process)?;
    // The root needs neither making nor checking, and the process is there.
    let cwd = if &*process.cwd == c"/" { None } else { Some(make_cwd(process)?) };
    let enter = || cwd.as_ref().map_or(Ok(()), fchdir);
    let home = if process.needs_home { Some(find_home(process.uid)) } else { None };
    rustix::process::umask(Mode::from_raw_mode(process.umask));
    if process.no_new_privileges {
        property("process.noNewPrivileges", sys::set_no_new_privileges())?;
    }
    let entered = match enter() {
        // It may belong to the user, and be closed to a root without capabilities.
        Err(Errno::ACCESS) => false,
        done => property("process.cwd: change into it", done).map(|()| true)?,
    };
    limit(process, userns, channel)?;
    change_ids(process)?;
    if !entered {
        property("process.cwd: change into it", enter())?;
    }
    if cwd.is_some() {
        check_cwd()?;
    }
    Ok(home)
}

fn connect(stdio: Stdio, process: &Process, userns: bool) -> Result<()> {
    match stdio {
        Stdio::Terminal(slave) => {
            property("process.terminal: standard input", rustix::stdio::dup2_stdin(&slave))?;
            property("process.terminal: standard output", rustix::stdio::dup2_stdout(&slave))?;
            property("process.terminal: standard error", rustix::stdio::dup2_stderr(&slave))?;
            property("process.terminal: make it the controlling terminal", rustix::process::ioctl_tiocsctty(&slave))
        }
        Stdio::Inherited => {
            take_own_null()?;
            give_streams(process, userns)
        }
    }
}

/// A stream that is the host's /dev/null becomes the container's: it is not to hold a file of the host's, and containerd's
/// shim gives one that can only be read, for all three. Where the container has none, it stays.
fn take_own_null() -> Result<()> {
    let is_null = |stat: &Stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
    };
    let mut own = None;
    for number in 0..3 {
        let stream = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()][number];
        if !fstat(stream).is_ok_and(|stat| is_null(&stat)) {
            continue;
        }
        if own.is_none() {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::NONBLOCK;
            let Ok(null) = openat(CWD, c"/dev/null", flags, Mode::empty()) else { return Ok(()) };
            if !fstat(&null).is_ok_and(|stat| is_null(&stat)) {
                return Ok(());
            }
            own = Some(null);
        }
        let Some(null) = &own else { return Ok(()) };
        let connected = match number {
            0 => rustix::stdio::dup2_stdin(null),
            1 => rustix::stdio::dup2_stdout(null),
            _ => rustix::stdio::dup2_stderr(null),
        };
        property("connect a standard stream to /dev/null", connected)?;
    }
    // Closed by execve(2).
    std::mem::forget(own);
    Ok(())
}

/// The program may open /proc/self/fd/1 only if it owns the pipe or socket behind it. Devices and files of the host, the
/// caller's terminal above all, stay whose they are.
fn give_streams(process: &Process, userns: bool) -> Result<()> {
    if process.uid == 0 && !userns {
        return Ok(());
    }
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = fstat(stream) else { continue };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Fifo | FileType::Socket if stat.st_uid != process.uid => {}
            _ => continue,
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(process.uid)), None::<Gid>) {
            Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            done => Item::Property.at("process.user: give it the standard streams", done)?,
        }
    }
    Ok(())
}

fn schedule(process: &Process) -> Result<()> {
    if let Some(schedule) = &process.schedule {
        property("process.scheduler", sys::set_schedule(schedule))?;
    }
    if let Some((class, level)) = process.io_priority {
        property("process.ioPriority", sys::set_io_priority(class, level))?;
    }
    if let Some(policy) = &process.memory_policy {
        property("linux.memoryPolicy", sys::set_memory_policy(policy.mode, &policy.nodes))?;
    }
    if let Some(persona) = process.personality {
        property("linux.personality", sys::set_personality(persona))?;
    }
    Ok(())
}

/// Opens a directory of the container. Links count, but for those of /proc that lead to what a process has open: they
/// lead out of the container (CVE-2024-21626).
fn open_directory(path: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        // Without openat2 no link at all is followed at the end; the check of the working directory has the last word.
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, flags | OFlags::NOFOLLOW, Mode::empty()),
        opened => opened,
    }
}

/// Opens the working directory; what is missing of it is made, each part in the one above that is held open.
fn make_cwd(process: &Process) -> Result<OwnedFd> {
    let failed = |what, errno| Item::Property.failure(what, errno);
    match open_directory(&process.cwd) {
        Ok(fd) => return Ok(fd),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(failed("process.cwd: change into it", errno)),
    }
    let path = process.cwd.to_bytes();
    let mut above = property("process.cwd: open the root", open_directory(c"/"))?;
    let mut start = 1;
    for end in (1..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/') {
        let prefix = CString::new(&path[..end]).unwrap_or_default();
        let name = CString::new(&path[start..end]).unwrap_or_default();
        start = (end + 1).min(path.len());
        above = match open_directory(&prefix) {
            Err(Errno::NOENT) => {
                property("process.cwd: create it", mkdirat(&above, &*name, Mode::from_raw_mode(0o755)))?;
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                property("process.cwd: open it", openat(&above, &*name, flags, Mode::empty()))?
            }
            Err(errno) => return Err(failed("process.cwd: change into it", errno)),
            Ok(fd) => fd,
        };
    }
    Ok(above)
}

/// A working directory outside the root has no path that starts with a slash (CVE-2024-21626).
fn check_cwd() -> Result<()> {
    let failure = |errno| Item::Property.failure("process.cwd: it is outside the container", errno);
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().first() == Some(&b'/') => Ok(()),
        Ok(_) => Err(failure(Errno::PERM)),
        Err(errno) => Err(failure(errno)),
    }
}

/// Resource limits, while there is still the right to raise them. Root of a user namespace never had it: the parent
/// does it then.
fn limit(process: &Process, userns: bool, channel: &Channel) -> Result<()> {
    for limit in &process.rlimits {
        match sys::set_rlimit(0, limit.resource, limit.soft, limit.hard) {
            Err(Errno::PERM) if userns => {
                property("process.rlimits: ask the parent", channel.signal(Signal::Limits))?;
                if !channel.expect(Signal::LimitsSet) {
                    sys::exit_now(1);
                }
                return Ok(());
            }
            done => Item::Rlimit(limit.resource as u16).at("set", done)?,
        }
    }
    Ok(())
}

fn change_ids(process: &Process) -> Result<()> {
    let sets = &process.capabilities;
    property("process.capabilities.bounding", sys::limit_bounding_set(sets.bounding.0))?;
    if process.uid != 0 {
        property("process.capabilities: keep them over the change of user", sys::keep_capabilities())?;
    }
    if !process.groups.is_empty() || !process.has_no_groups {
        match sys::set_groups(&process.groups) {
            // A user namespace may forbid it; then there must be nothing to set.
            Err(Errno::PERM) if process.groups.is_empty() => {}
            done => property("process.user.additionalGids", done)?,
        }
    }
    if !process.has_ids {
        property("process.user.gid", sys::set_gid(process.gid))?;
        property("process.user.uid", sys::set_uid(process.uid))?;
    }
    // What loading a filter needs is given back then.
    let borrowed = filter::borrowed_capabilities(process);
    let (effective, permitted) = (sets.effective.0 | borrowed, sets.permitted.0 | borrowed);
    sys::set_capabilities(effective, permitted, sets.inheritable.0)
        .map_err(|errno| filter::capabilities_failed(process, errno))?;
    // What is not inheritable is not ambient either (capabilities(7)).
    if sets.inheritable.0 | sets.ambient.0 != 0 {
        property("process.capabilities.ambient", sys::set_ambient(sets.ambient.0))?;
    }
    Ok(())
}

/// The largest /etc/passwd that is read, and the largest part of it at once.
const MAX_PASSWD: usize = 1 << 20;
const WINDOW: usize = 8192;

/// HOME from the container's /etc/passwd by uid, else `/`.
fn find_home(uid: u32) -> Home {
    Home(home_in_passwd(uid).unwrap_or_else(|| c"HOME=/".to_owned()))
}

/// The file is the image's: it may be anything.
fn home_in_passwd(uid: u32) -> Option<CString> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let opened = match openat2(CWD, c"/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, c"/etc/passwd", flags | OFlags::NOFOLLOW, Mode::empty()),
        opened => opened,
    };
    let file = opened.ok()?;
    if FileType::from_raw_mode(fstat(&file).ok()?.st_mode) != FileType::RegularFile {
        return None;
    }
    // Not on the stack: most of it is never touched.
    let mut window: Vec<u8> = Vec::with_capacity(WINDOW);
    let mut total = 0;
    while total < MAX_PASSWD {
        let read = rustix::io::read(&file, rustix::buffer::spare_capacity(&mut window)).ok()?;
        total += read;
        let end = match window.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            // A last line without newline, or one too long to be an entry.
            None => window.len(),
        };
        if let Some(dir) = window[..end].split(|byte| *byte == b'\n').find_map(|line| home_of(line, uid)) {
            return CString::new([b"HOME=", dir].concat()).ok();
        }
        if read == 0 {
            break;
        }
        window.drain(..end);
    }
    None
}

/// The longest directory that counts, PATH_MAX of linux/limits.h.
const MAX_HOME: usize = 4096;

/// The sixth field of a line whose third is `uid`.
fn home_of(line: &[u8], uid: u32) -> Option<&[u8]> {
    let mut fields = line.split(|byte| *byte == b':');
    let id = std::str::from_utf8(fields.nth(2)?).ok()?;
    let dir = fields.nth(2)?;
    let fits = !dir.is_empty() && dir.len() < MAX_HOME && !dir.contains(&0);
    (id.parse() == Ok(uid) && fits).then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::home_of;

    #[test]
    fn lines_of_passwd() {
        assert_eq!(home_of(b"app:x:1000:1000:App:/home/app:/bin/sh", 1000), Some(&b"/home/app"[..]));
        assert_eq!(home_of(b"app:x:1000:1000:App:/home/app:/bin/sh", 1), None);
        assert_eq!(home_of(b"app:x:1000:1000:App::/bin/sh", 1000), None);
        assert_eq!(home_of(b"app:x:1000", 1000), None);
        assert_eq!(home_of(b"", 0), None);
    }
}
