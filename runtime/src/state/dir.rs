//! The state root and one directory in it per container. Nothing in it is reached through a link, and an id never
//! leaves it.

use super::record::{Init, Record};
use crate::error::{Context, Error, Result};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FlockOperation, Mode, OFlags, ResolveFlags, flock, mkdirat, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// A file that may turn out to be something else.
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";
const CONFIG: &str = "config.json";
/// State is small; what is larger is not ours.
const MAX_STATE: u64 = 16 << 20;

/// Whether an id can name a container: a letter, digit, `_` or `+` first, then also `.` and `-`, 255 bytes in all.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'+';
    let mut bytes = id.bytes();
    let good = bytes.next().is_some_and(word) && bytes.all(|byte| word(byte) || byte == b'.' || byte == b'-');
    match good && id.len() <= 255 {
        true => Ok(()),
        false => Err(Error::Usage(format!(
            "invalid container ID {id:?}: it must match [A-Za-z0-9_+][A-Za-z0-9_+.-]* and have at most 255 characters"
        ))),
    }
}

/// The directory that holds the states of all containers, 0700.
pub(crate) struct StateRoot {
    path: PathBuf,
    fd: OwnedFd,
}

impl StateRoot {
    /// None: it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Option<StateRoot>> {
        match openat(CWD, path, DIRECTORY & !OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => Ok(Some(StateRoot { path: path.to_owned(), fd })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::Sys { what: format!("open state root {}", path.display()), errno }),
        }
    }

    /// Made with its parents where missing.
    pub(crate) fn create(path: &Path) -> Result<StateRoot> {
        if let Some(root) = StateRoot::open(path)? {
            return Ok(root);
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            std::fs::create_dir_all(parent).context(|| format!("create {}", parent.display()))?;
        }
        // The sticky bit keeps it from who clears old files out of XDG_RUNTIME_DIR (XDG Base Directory Specification).
        match mkdirat(CWD, path, Mode::from_raw_mode(0o1700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(Error::Sys { what: format!("create {}", path.display()), errno }),
        }
        StateRoot::open(path)?
            .ok_or_else(|| Error::Sys { what: format!("open state root {}", path.display()), errno: Errno::NOENT })
    }

    /// The names in it, sorted. Not each is a container.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let what = || format!("read {}", self.path.display());
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).context(what)? {
            let name = entry.context(what)?;
            if let Ok(name) = name.file_name().to_str()
                && check_id(name).is_ok()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A container's directory that must not exist yet; locked for as long as it is open.
    pub(crate) fn create_container(&self, id: &str) -> Result<StateDir> {
        check_id(id)?;
        match mkdirat(&self.fd, id, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) => return Err(Error::Exists(id.to_owned())),
            done => done.context(|| format!("create {}/{id}", self.path.display()))?,
        }
        let made = self.container(id).and_then(|dir| dir.lock().map(|()| dir));
        if made.is_err() {
            // Or the id would be taken by nothing.
            unlinkat(&self.fd, id, AtFlags::REMOVEDIR).ok();
        }
        made
    }

    pub(crate) fn container(&self, id: &str) -> Result<StateDir> {
        self.find(id)?.ok_or_else(|| Error::NoContainer(id.to_owned()))
    }

    pub(crate) fn find(&self, id: &str) -> Result<Option<StateDir>> {
        check_id(id)?;
        match openat(&self.fd, id, DIRECTORY, Mode::empty()) {
            Ok(fd) => Ok(Some(StateDir { id: id.to_owned(), fd })),
            // A stray file or link is no container.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(Error::Sys { what: format!("open {}/{id}", self.path.display()), errno }),
        }
    }

    /// The text of a container's `state.json`, without opening its directory; None before it was first written.
    pub(crate) fn read(&self, id: &str) -> Result<Option<String>> {
        check_id(id)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(&self.fd, format!("{id}/{STATE}"), FILE, Mode::empty(), resolve) {
            Ok(file) => read_text(id, STATE, &file).map(Some),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            // Without openat2, or what it has to say stands in an error.
            Err(_) => self.find(id)?.map_or(Ok(None), |dir| dir.read()),
        }
    }

    /// Removes a container's directory with all in it.
    pub(crate) fn remove(&self, dir: &StateDir) -> Result<()> {
        let what = || format!("remove {}/{}", self.path.display(), dir.id);
        // Mostly there is nothing else.
        for name in [STATE, CONFIG] {
            match unlinkat(&dir.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
                Err(errno) => return Err(errno).context(what),
            }
        }
        let remove = || match unlinkat(&self.fd, &dir.id, AtFlags::REMOVEDIR) {
            Err(Errno::NOENT) => Ok(()),
            done => done,
        };
        match remove() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => empty(dir.fd.as_fd()).and_then(|()| remove()).context(what),
            done => done.context(what),
        }
    }
}

/// Removes what is in a directory, directories too, without following a link.
fn empty(dir: BorrowedFd<'_>) -> rustix::io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                empty(openat(dir, name, DIRECTORY, Mode::empty())?.as_fd())?;
                unlinkat(dir, name, AtFlags::REMOVEDIR)?;
            }
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// One container's directory.
pub(crate) struct StateDir {
    pub id: String,
    fd: OwnedFd,
}

impl StateDir {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Waits for whoever creates or deletes this container.
    pub(crate) fn lock(&self) -> Result<()> {
        rustix::io::retry_on_intr(|| flock(&self.fd, FlockOperation::LockExclusive))
            .context(|| format!("lock the state of {}", self.id))
    }

    /// Lets others delete it, or save it.
    pub(crate) fn unlock(&self) -> Result<()> {
        flock(&self.fd, FlockOperation::Unlock).context(|| format!("unlock the state of {}", self.id))
    }

    /// The same as [`StateDir::lock`] for at most `milliseconds`.
    pub(crate) fn lock_within(&self, milliseconds: u64) -> Result<()> {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        loop {
            match flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK | Errno::INTR) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                done => return done.context(|| format!("lock the state of {}, which another proa holds", self.id)),
            }
        }
    }

    /// Whether somebody creates or deletes this container just now.
    pub(crate) fn is_locked(&self) -> bool {
        match flock(&self.fd, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {
                flock(&self.fd, FlockOperation::Unlock).ok();
                false
            }
            Err(_) => true,
        }
    }

    /// Writes `state.json`, whole or not at all.
    pub(crate) fn write(&self, record: &Record<'_>) -> Result<()> {
        let what = || format!("write the state of {}", self.id);
        let text = serde_json::to_vec(record)
            .map_err(|error| Error::State { id: self.id.clone(), problem: error.to_string() })?;
        self.write_file(STATE_NEW, &text).context(what)?;
        renameat(&self.fd, STATE_NEW, &self.fd, STATE).context(what)
    }

    /// The config.json that the container was made with: later commands must not see an edited one.
    pub(crate) fn write_config(&self, text: &[u8]) -> Result<()> {
        self.write_file(CONFIG, text).context(|| format!("copy config.json into the state of {}", self.id))
    }

    fn write_file(&self, name: &str, text: &[u8]) -> rustix::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))?;
        let mut rest = text;
        while !rest.is_empty() {
            match rustix::io::write(&file, rest) {
                Ok(0) => return Err(Errno::NOSPC),
                Ok(written) => rest = &rest[written..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// The text of `state.json`; None before it was first written.
    pub(crate) fn read(&self) -> Result<Option<String>> {
        self.read_file(STATE)
    }

    /// The config.json that the container was made with.
    pub(crate) fn read_config(&self) -> Result<String> {
        let lost = || Error::State { id: self.id.clone(), problem: "config.json is missing".to_owned() };
        self.read_file(CONFIG)?.ok_or_else(lost)
    }

    fn read_file(&self, name: &str) -> Result<Option<String>> {
        match openat(&self.fd, name, FILE, Mode::empty()) {
            Err(Errno::NOENT) => Ok(None),
            opened => {
                let file = opened.context(|| format!("read {name} of container {}", self.id))?;
                read_text(&self.id, name, &file).map(Some)
            }
        }
    }

    /// Parses the text that [`StateDir::read`] gave.
    pub(crate) fn parse<'a>(&self, text: &'a str) -> Result<Record<'a>> {
        parse_record(&self.id, text)
    }

    /// Whether there is a record; before, there is hardly a container.
    pub(crate) fn is_recorded(&self) -> bool {
        self.exists(STATE)
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        renameat(&self.fd, from, &self.fd, to).context(|| format!("rename {from} of container {}", self.id))
    }
}

/// Parses the text of a container's `state.json`.
pub(crate) fn parse_record<'a>(id: &str, text: &'a str) -> Result<Record<'a>> {
    Record::parse(text).map_err(|problem| Error::State { id: id.to_owned(), problem })
}

/// All of a container's file. It is over where a read is short of what was asked for.
fn read_text(id: &str, name: &str, file: &OwnedFd) -> Result<String> {
    let what = || format!("read {name} of container {id}");
    let mut text: Vec<u8> = Vec::new();
    let mut part = [MaybeUninit::uninit(); 4096];
    loop {
        let (read, rest) = rustix::io::read(file, &mut part).context(what)?;
        text.extend_from_slice(read);
        if text.len() as u64 > MAX_STATE {
            return Err(Error::State { id: id.to_owned(), problem: format!("{name} is too large") });
        }
        if !rest.is_empty() {
            break;
        }
    }
    String::from_utf8(text).map_err(|_| Error::State { id: id.to_owned(), problem: format!("{name} is not UTF-8") })
}

impl Init {
    /// The init process if it lives, on this boot.
    pub(crate) fn open(&self, record: &Record<'_>) -> Result<Option<super::Process>> {
        if record.is_of_this_boot()? { super::Process::open(self.pid, self.start_time) } else { Ok(None) }
    }

    /// The same without holding it.
    pub(crate) fn look(&self, record: &Record<'_>) -> Result<Option<super::ProcessStat>> {
        if record.is_of_this_boot()? { super::Process::look(self.pid, self.start_time) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn ids() {
        for good in ["a", "0", "_x", "+", "a.b-c+d_e", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", ".x", "a/b", "../a", "a\n", "a b", "é", "a\0", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
