//! The container's terminal: a pty of its own devpts, bound on /dev/console.

use crate::Root;
use crate::error::{Item, Result};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fstat, fstatfs, makedev, openat, openat2};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// Both ends of the terminal.
pub struct Console {
    /// For who watches the container.
    pub master: OwnedFd,
    /// For its standard streams.
    pub slave: OwnedFd,
}

impl Root<'_> {
    /// Opens a terminal of `rows` by `columns` characters (0: left alone) that belongs to `uid`, and puts it on
    /// /dev/console.
    pub fn console(&mut self, uid: u32, rows: u16, columns: u16) -> Result<Console> {
        let pts = Item::Console.at("open /dev/pts", self.dir.resolve(c"/dev/pts"))?;
        let console = terminal(&pts, uid, rows, columns)?;
        self.bind_console(Item::Console, &console.slave)?;
        Ok(console)
    }

    /// On a file that is new, or is known to be no link (CVE-2025-52565).
    fn bind_console(&mut self, item: Item, slave: &OwnedFd) -> Result<()> {
        let dev = self.take_dev(item)?;
        let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match openat(&dev, c"console", create, Mode::from_raw_mode(0o666)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return item.fail("create /dev/console", errno),
        }
        let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = item.at("open /dev/console", openat(&dev, c"console", look, Mode::empty()))?;
        let stat = item.at("look at /dev/console", fstat(&target))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::CharacterDevice => {}
            _ => return item.fail("/dev/console is neither a file nor a device", Errno::LOOP),
        }
        let tree = item.at("clone the terminal", self.api.clone_fd(slave.as_fd(), false))?;
        let again = || self.dir.resolve(c"/dev/console");
        item.at("bind /dev/console", self.api.attach(tree, target.as_fd(), again)).map(drop)
    }
}

/// Opens the multiplexer at the root of a devpts. Nothing can be planted there, but mounted on it, and what answers as
/// it likes would hand out descriptors that are not its own.
fn multiplexer(pts: &OwnedFd) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let master = match openat2(pts, c"ptmx", flags, Mode::empty(), within) {
        Err(Errno::NOSYS | Errno::PERM) => {
            // To open it may already be to wait for it.
            let look = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            check_multiplexer(&openat(pts, c"ptmx", look, Mode::empty())?)?;
            openat(pts, c"ptmx", flags, Mode::empty())?
        }
        opened => opened?,
    };
    check_multiplexer(&master)?;
    Ok(master)
}

/// Documentation/admin-guide/devices.txt: 5:2.
fn check_multiplexer(file: &OwnedFd) -> std::result::Result<(), Errno> {
    let stat = fstat(file)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    match is_device && stat.st_rdev == makedev(5, 2) && fstatfs(file)?.f_type == DEVPTS_SUPER_MAGIC {
        true => Ok(()),
        false => Err(Errno::NODEV),
    }
}

/// Opens a terminal of the devpts that `pts` is the root of.
pub fn terminal(pts: &OwnedFd, uid: u32, rows: u16, columns: u16) -> Result<Console> {
    let item = Item::Console;
    if !fstatfs(pts).is_ok_and(|fs| fs.f_type == DEVPTS_SUPER_MAGIC) {
        return item.fail("/dev/pts is no devpts", Errno::NODEV);
    }
    let master = item.at("open /dev/pts/ptmx", multiplexer(pts))?;
    item.at("unlock the terminal", unlockpt(&master))?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = item.at("open the terminal", ioctl_tiocgptpeer(&master, flags))?;
    if rows > 0 && columns > 0 {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        item.at("set the size of the terminal", tcsetwinsize(&master, size))?;
    }
    item.at("change the owner of the terminal", rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None::<Gid>))?;
    Ok(Console { master, slave })
}
