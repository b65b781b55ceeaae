//! Mount option words (config.md, Linux mount options; mount(8)) and what each of them does.
//!
//! One table serves the plan, which turns words into flags, and `proa features`, which lists them.

use crate::plan::{Attr, PropagationKind};

/// MOUNT_ATTR_* of mount_setattr(2).
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-ID bits and file capabilities are ignored.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes cannot be opened.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Programs cannot be executed.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
/// The field of access time modes; zero in it is relatime.
pub const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
/// Access times are not updated.
pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
/// Access times are always updated.
pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
/// Access times of directories are not updated.
pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
/// Symbolic links are not followed (5.10 by mount(2), 5.14 by mount_setattr(2)).
pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
/// All per-mount flags that a word can change.
pub const ALL: u64 = RDONLY | NOSUID | NODEV | NOEXEC | ATIME | NODIRATIME | NOSYMFOLLOW;

/// What a word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Nothing (`defaults`).
    Nothing,
    /// Sets per-mount flags.
    Set(u64),
    /// Clears per-mount flags.
    Clear(u64),
    /// Sets per-mount flags here and below.
    SetBelow(u64),
    /// Clears per-mount flags here and below.
    ClearBelow(u64),
    /// Sets or clears a superblock flag that the mount API spells so.
    Super(&'static str, bool),
    /// Sets or clears a mount(2) flag which the newer calls do not have.
    Legacy(u64, bool),
    /// Bind mount; true: recursive.
    Bind(bool),
    /// Changes an existing mount.
    Remount,
    /// Propagation; true: recursive.
    Propagation(PropagationKind, bool),
    /// Files show the ids of a user namespace; true: in the mounts below too.
    MapIds(bool),
    /// A tmpfs starts with what it covers.
    CopyUp,
}

use PropagationKind::{Private, Shared, Slave, Unbindable};
use Word::{Bind, Clear, ClearBelow, CopyUp, Legacy, MapIds, Nothing, Remount, Set, SetBelow, Super};

/// Every word, in alphabetical order.
pub static WORDS: &[(&str, Word)] = &[
    ("async", Super("sync", false)),
    ("atime", Clear(NOATIME)),
    ("bind", Bind(false)),
    ("defaults", Nothing),
    ("dev", Clear(NODEV)),
    ("diratime", Clear(NODIRATIME)),
    ("dirsync", Super("dirsync", true)),
    ("exec", Clear(NOEXEC)),
    ("idmap", MapIds(false)),
    ("iversion", Legacy(libc::MS_I_VERSION, true)),
    ("lazytime", Super("lazytime", true)),
    ("loud", Legacy(libc::MS_SILENT, false)),
    ("mand", Super("mand", true)),
    ("noatime", Set(NOATIME)),
    ("nodev", Set(NODEV)),
    ("nodiratime", Set(NODIRATIME)),
    ("noexec", Set(NOEXEC)),
    ("noiversion", Legacy(libc::MS_I_VERSION, false)),
    ("nolazytime", Super("lazytime", false)),
    ("nomand", Super("mand", false)),
    ("norelatime", Nothing),
    ("nostrictatime", Clear(STRICTATIME)),
    ("nosuid", Set(NOSUID)),
    ("nosymfollow", Set(NOSYMFOLLOW)),
    ("private", Word::Propagation(Private, false)),
    ("ratime", ClearBelow(NOATIME)),
    ("rbind", Bind(true)),
    ("rdev", ClearBelow(NODEV)),
    ("rdiratime", ClearBelow(NODIRATIME)),
    ("relatime", Clear(ATIME)),
    ("remount", Remount),
    ("rexec", ClearBelow(NOEXEC)),
    ("ridmap", MapIds(true)),
    ("rnoatime", SetBelow(NOATIME)),
    ("rnodev", SetBelow(NODEV)),
    ("rnodiratime", SetBelow(NODIRATIME)),
    ("rnoexec", SetBelow(NOEXEC)),
    ("rnorelatime", SetBelow(STRICTATIME)),
    ("rnostrictatime", ClearBelow(STRICTATIME)),
    ("rnosuid", SetBelow(NOSUID)),
    ("rnosymfollow", SetBelow(NOSYMFOLLOW)),
    ("ro", Set(RDONLY)),
    ("rprivate", Word::Propagation(Private, true)),
    ("rrelatime", ClearBelow(ATIME)),
    ("rro", SetBelow(RDONLY)),
    ("rrw", ClearBelow(RDONLY)),
    ("rshared", Word::Propagation(Shared, true)),
    ("rslave", Word::Propagation(Slave, true)),
    ("rstrictatime", SetBelow(STRICTATIME)),
    ("rsuid", ClearBelow(NOSUID)),
    ("rsymfollow", ClearBelow(NOSYMFOLLOW)),
    ("runbindable", Word::Propagation(Unbindable, true)),
    ("rw", Clear(RDONLY)),
    ("shared", Word::Propagation(Shared, false)),
    ("silent", Legacy(libc::MS_SILENT, true)),
    ("slave", Word::Propagation(Slave, false)),
    ("strictatime", Set(STRICTATIME)),
    ("suid", Clear(NOSUID)),
    ("symfollow", Clear(NOSYMFOLLOW)),
    ("sync", Super("sync", true)),
    ("tmpcopyup", CopyUp),
    ("unbindable", Word::Propagation(Unbindable, false)),
];

/// None: the word belongs to the file system.
pub fn lookup(word: &str) -> Option<Word> {
    WORDS.binary_search_by(|(name, _)| (*name).cmp(word)).ok().map(|at| WORDS[at].1)
}

/// All of them, for `features`.
pub fn supported() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(name, _)| *name)
}

impl Attr {
    /// A word that sets `bits`; an access time mode replaces the one before it.
    pub fn set(&mut self, bits: u64) {
        self.clear_field(bits);
        self.set |= bits;
        self.clear &= !(bits & !ATIME);
        self.explicit_clear &= !bits;
    }

    /// A word that clears `bits`.
    pub fn clear(&mut self, bits: u64) {
        self.clear_field(bits);
        self.set &= !bits;
        self.clear |= bits & !ATIME;
        self.explicit_clear |= bits & !ATIME;
    }

    /// mount_setattr(2) wants the whole access time field cleared whenever any of it changes.
    fn clear_field(&mut self, bits: u64) {
        if bits & ATIME != 0 {
            self.set &= !ATIME;
            self.clear |= ATIME;
        }
    }

    /// All flags at once, as mount(2) sets them: what is not set is cleared.
    pub fn exactly(self) -> Attr {
        Attr { set: self.set, clear: ALL & !(self.set & !ATIME), explicit_clear: self.explicit_clear }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_for_the_search() {
        assert!(WORDS.is_sorted_by(|a, b| a.0 < b.0));
        for (name, word) in WORDS {
            assert_eq!(lookup(name), Some(*word));
        }
        assert_eq!(lookup("size=1k"), None);
    }

    #[test]
    fn the_last_word_wins() {
        let mut attr = Attr::default();
        attr.set(RDONLY);
        attr.clear(RDONLY);
        assert_eq!((attr.set, attr.clear), (0, RDONLY));
        attr.set(NOATIME);
        attr.set(STRICTATIME);
        assert_eq!((attr.set, attr.clear), (STRICTATIME, RDONLY | ATIME));
        attr.clear(ATIME);
        assert_eq!((attr.set, attr.clear), (0, RDONLY | ATIME));
    }

    #[test]
    fn exact_flags_clear_what_was_left_out() {
        let mut attr = Attr::default();
        attr.set(NOSUID);
        assert_eq!(attr.exactly().clear, ALL & !NOSUID);
    }
}
