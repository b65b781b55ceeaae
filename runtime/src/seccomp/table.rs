//! The numbers of system calls by name, from `syscalls.txt`, which the script `generate` writes from the kernel's headers.
//!
//! Read by the compiler: the binary holds an index of offsets into the text, without a pointer that would have to be
//! relocated at each start.

use super::Arch;

static TEXT: &[u8] = include_bytes!("syscalls.txt");

/// The version of the kernel that the numbers are from, `7.2`.
pub(crate) const KERNEL: &str = kernel();

/// A call that has a line in the text, by the place of that line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call(u16);

/// One line.
#[derive(Clone, Copy)]
struct Entry {
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

pub(super) const COUNT: usize = {
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

/// The calls by the hash of their name, each in its own place or in the next free one; one more than their place in the
/// list, and 0 where there is none.
static SLOTS: [u16; SLOT_COUNT] = {
    let mut slots = [0; SLOT_COUNT];
    let mut index = 0;
    while index < COUNT {
        let start = ENTRIES[index].start as usize;
        let text = TEXT.split_at(start + ENTRIES[index].length as usize).0.split_at(start).1;
        let mut slot = hash(text) % SLOT_COUNT;
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOT_COUNT;
        }
        slots[slot] = index as u16 + 1;
        index += 1;
    }
    slots
};
const SLOT_COUNT: usize = 2048;

/// FNV-1a.
const fn hash(text: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < text.len() {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ hash >> 16) as usize
}

/// For each architecture all calls in the order of its numbers, at the end those that it does not have.
static BY_NUMBER: [[(u32, Call); COUNT]; 5] = {
    let mut lists = [[(NONE, Call(0)); COUNT]; 5];
    let mut column = 0;
    while column < 5 {
        let mut index = 0;
        while index < COUNT {
            let number = ENTRIES[index].numbers[column];
            let mut at = index;
            while at > 0 && lists[column][at - 1].0 > number {
                lists[column][at] = lists[column][at - 1];
                at -= 1;
            }
            lists[column][at] = (number, Call(index as u16));
            index += 1;
        }
        column += 1;
    }
    lists
};

/// None if the kernel of [`KERNEL`] has a call of this name on no architecture at all.
pub(super) fn find(name: &str) -> Option<Call> {
    let mut slot = hash(name.as_bytes()) % SLOT_COUNT;
    loop {
        let call = Call(SLOTS[slot].checked_sub(1)?);
        let (start, length) = (usize::from(call.entry().start), usize::from(call.entry().length));
        if TEXT[start..start + length] == *name.as_bytes() {
            return Some(call);
        }
        slot = (slot + 1) % SLOT_COUNT;
    }
}

/// The calls of this architecture in the order of their numbers, without [`X32_BIT`]; those that have the same together.
pub(super) fn by_number(arch: Arch) -> impl Iterator<Item = &'static [(u32, Call)]> {
    BY_NUMBER[column(arch)].chunk_by(|(a, _), (b, _)| a == b).take_while(|calls| calls[0].0 != NONE)
}

impl Call {
    fn entry(self) -> &'static Entry {
        &ENTRIES[usize::from(self.0)]
    }

    /// Below [`COUNT`].
    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The call of x86 that this one may go through, with the first argument that means it.
    pub(super) fn through(self) -> Option<(u32, u8)> {
        let (number, first) = self.entry().through;
        (number != 0).then_some((u32::from(number), first))
    }
}

/// Whether this is the number of a call of x86 that others go through.
pub(super) fn is_through(number: u32) -> bool {
    matches!(number, 102 | 117)
}

/// Calls through x32 have this bit set.
pub(super) const X32_BIT: u32 = 0x4000_0000;

fn column(arch: Arch) -> usize {
    match arch {
        Arch::X86_64 => 0,
        Arch::X86 => 1,
        Arch::X32 => 2,
        Arch::Aarch64 => 3,
        Arch::Arm => 4,
    }
}

/// The number on this architecture.
pub(super) fn number(call: Call, arch: Arch) -> Option<u32> {
    let bits = if arch == Arch::X32 { X32_BIT } else { 0 };
    Some(call.entry().numbers[column(arch)]).filter(|number| *number != NONE).map(|number| number | bits)
}
