//! The numbers of system calls by name, from `syscalls.txt`, which the script `generate` writes from the kernel's headers.
//!
//! Read by the compiler: the binary holds an index of offsets into the text, without a pointer that would have to be
//! relocated at each start.

use super::Arch;

static TEXT: &[u8] = include_bytes!("syscalls.txt");

/// The version of the kernel that the numbers are from, `7.2`.
pub(crate) const KERNEL: &str = kernel();

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    start: u16,
    length: u8,
    /// In the order of the columns; [`NONE`] where there is no such call.
    numbers: [u32; 5],
    /// The call of x86 that this one may go through, with the first argument that means it; zeros if none.
    through: (u8, u8),
}

const NONE: u32 = u32::MAX;

/// On x86 a C library may make these calls through socketcall(2), 102, or ipc(2), 117 (linux/net.h, linux/ipc.h).
const THROUGH: [(&str, (u8, u8)); 32] = [
    ("socket", (102, 1)),
    ("bind", (102, 2)),
    ("connect", (102, 3)),
    ("listen", (102, 4)),
    ("accept", (102, 5)),
    ("getsockname", (102, 6)),
    ("getpeername", (102, 7)),
    ("socketpair", (102, 8)),
    ("send", (102, 9)),
    ("recv", (102, 10)),
    ("sendto", (102, 11)),
    ("recvfrom", (102, 12)),
    ("shutdown", (102, 13)),
    ("setsockopt", (102, 14)),
    ("getsockopt", (102, 15)),
    ("sendmsg", (102, 16)),
    ("recvmsg", (102, 17)),
    ("accept4", (102, 18)),
    ("recvmmsg", (102, 19)),
    ("sendmmsg", (102, 20)),
    ("semop", (117, 1)),
    ("semget", (117, 2)),
    ("semctl", (117, 3)),
    ("semtimedop", (117, 4)),
    ("msgsnd", (117, 11)),
    ("msgrcv", (117, 12)),
    ("msgget", (117, 13)),
    ("msgctl", (117, 14)),
    ("shmat", (117, 21)),
    ("shmdt", (117, 22)),
    ("shmget", (117, 23)),
    ("shmctl", (117, 24)),
];

const COUNT: usize = {
    let mut lines = 0;
    let mut at = 0;
    while at < TEXT.len() {
        lines += (TEXT[at] == b'\n') as usize;
        at += 1;
    }
    // The first line is a comment.
    lines - 1
};

static ENTRIES: [Entry; COUNT] = parse();

const fn kernel() -> &'static str {
    let start = "# Linux ".len();
    let mut end = start;
    while TEXT[end] != b':' {
        end += 1;
    }
    match std::str::from_utf8(TEXT.split_at(end).0.split_at(start).1) {
        Ok(version) => version,
        Err(_) => panic!("syscalls.txt is not ASCII"),
    }
}

#[allow(long_running_const_eval)]
const fn parse() -> [Entry; COUNT] {
    let none = Entry { start: 0, length: 0, numbers: [NONE; 5], through: (0, 0) };
    let mut entries = [none; COUNT];
    assert!(TEXT.len() <= u16::MAX as usize);
    let mut at = 0;
    while TEXT[at] != b'\n' {
        at += 1;
    }
    let mut index = 0;
    while index < COUNT {
        at += 1;
        let start = at;
        while TEXT[at] != b' ' {
            at += 1;
        }
        let through = through(start, at);
        let mut entry = Entry { start: start as u16, length: (at - start) as u8, through, ..none };
        let mut column = 0;
        while column < 5 {
            at += 1;
            let mut number = 0;
            while TEXT[at] != b' ' && TEXT[at] != b'\n' {
                number = if TEXT[at] == b'-' { NONE } else { number * 10 + (TEXT[at] - b'0') as u32 };
                at += 1;
            }
            entry.numbers[column] = number;
            column += 1;
        }
        entries[index] = entry;
        index += 1;
    }
    entries
}

/// What the name between these places may go through.
const fn through(start: usize, end: usize) -> (u8, u8) {
    let mut index = 0;
    while index < THROUGH.len() {
        let name = THROUGH[index].0.as_bytes();
        let mut at = 0;
        while at < name.len() && start + at < end && name[at] == TEXT[start + at] {
            at += 1;
        }
        if at == name.len() && start + at == end {
            return THROUGH[index].1;
        }
        index += 1;
    }
    (0, 0)
}

/// Where the names with each first byte begin.
static FIRSTS: [u16; 257] = {
    let mut firsts = [0; 257];
    let mut index = 0;
    let mut byte = 0;
    while byte < 257 {
        while index < COUNT && (TEXT[ENTRIES[index].start as usize] as usize) < byte {
            index += 1;
        }
        firsts[byte] = index as u16;
        byte += 1;
    }
    firsts
};

/// None if the kernel of [`KERNEL`] has a call of this name on no architecture at all.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    let first = usize::from(*name.as_bytes().first()?);
    let list = &ENTRIES[usize::from(FIRSTS[first])..usize::from(FIRSTS[first + 1])];
    let text = |entry: &Entry| &TEXT[usize::from(entry.start)..usize::from(entry.start) + usize::from(entry.length)];
    list.binary_search_by(|entry| text(entry).cmp(name.as_bytes())).ok().map(|index| &list[index])
}

impl Entry {
    /// The call of x86 that this one may go through, with the first argument that means it.
    pub(super) fn through(&self) -> Option<(u32, u8)> {
        (self.through.0 != 0).then_some((u32::from(self.through.0), self.through.1))
    }
}

/// Whether some architecture has a call of this name.
pub(crate) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// Calls through x32 have this bit set.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The number on this architecture.
pub(super) fn number(entry: &Entry, arch: Arch) -> Option<u32> {
    let (column, bits) = match arch {
        Arch::X86_64 => (0, 0),
        Arch::X86 => (1, 0),
        Arch::X32 => (2, X32_BIT),
        Arch::Aarch64 => (3, 0),
        Arch::Arm => (4, 0),
    };
    Some(entry.numbers[column]).filter(|number| *number != NONE).map(|number| number | bits)
}
