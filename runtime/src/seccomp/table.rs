//! The numbers of system calls by name, from `syscalls.txt`, which the script `generate` writes from the kernel's headers.
//!
//! Read by the compiler: the binary holds an index of offsets into the text, without a pointer that would have to be
//! relocated at each start.

use super::Arch;

static TEXT: &[u8] = include_bytes!("syscalls.txt");

/// The version of the kernel that the numbers are from, `7.2`.
pub(crate) const KERNEL: &str = kernel();

/// One line.
#[derive(Clone, Copy)]
struct Entry {
    start: u16,
    length: u8,
    numbers: Numbers,
}

/// In the order of the columns; [`NONE`] where there is no such call.
pub(super) type Numbers = [u32; 5];
const NONE: u32 = u32::MAX;

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
    let mut entries = [Entry { start: 0, length: 0, numbers: [NONE; 5] }; COUNT];
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
        let mut entry = Entry { start: start as u16, length: (at - start) as u8, numbers: [NONE; 5] };
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

/// The numbers of this call on all architectures; None if the kernel of [`KERNEL`] has it on none at all.
pub(super) fn find(name: &str) -> Option<&'static Numbers> {
    let text = |entry: &Entry| &TEXT[usize::from(entry.start)..usize::from(entry.start) + usize::from(entry.length)];
    let found = ENTRIES.binary_search_by(|entry| text(entry).cmp(name.as_bytes()));
    found.ok().map(|index| &ENTRIES[index].numbers)
}

/// Whether some architecture has a call of this name.
pub(crate) fn is_known(name: &str) -> bool {
    find(name).is_some()
}

/// Calls through x32 have this bit set.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The number on this architecture.
pub(super) fn number(numbers: &Numbers, arch: Arch) -> Option<u32> {
    let (column, bits) = match arch {
        Arch::X86_64 => (0, 0),
        Arch::X86 => (1, 0),
        Arch::X32 => (2, X32_BIT),
        Arch::Aarch64 => (3, 0),
        Arch::Arm => (4, 0),
    };
    Some(numbers[column]).filter(|number| *number != NONE).map(|number| number | bits)
}
