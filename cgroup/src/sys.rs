//! The system calls that rustix has not: bpf(2), and kill(2) with any signal. The only unsafe code of this crate.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// One instruction of a BPF program, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Insn {
    /// Class, operation and source of the operand.
    pub(crate) code: u8,
    /// Destination and source register, four bits each.
    pub(crate) registers: u8,
    /// Offset of a jump, in instructions, or of a load, in bytes.
    pub(crate) offset: i16,
    /// The constant operand.
    pub(crate) constant: i32,
}

/// `union bpf_attr`, zeroed and larger than any kernel's. Linux 6.17 wrote past the end of one that was shorter than
/// its own; an older kernel takes a longer one as long as what it does not know is zero.
#[repr(C, align(8))]
struct Attr([u8; 512]);

impl Attr {
    fn new() -> Attr {
        Attr([0; 512])
    }

    fn set_u32(mut self, at: usize, value: u32) -> Attr {
        self.0[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn set_u64(mut self, at: usize, value: u64) -> Attr {
        self.0[at..at + 8].copy_from_slice(&value.to_ne_bytes());
        self
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes([self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3]])
    }
}

// From linux/bpf.h.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_int = 13;
const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// # Safety
/// Every pointer that `command` finds in `attr` must be valid for what the kernel does with it.
unsafe fn bpf(command: libc::c_int, attr: &mut Attr) -> Result<libc::c_int, Errno> {
    // SAFETY: `attr` is as long as said and may be written to; the pointers in it are the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.0.as_mut_ptr(), attr.0.len()) };
    // Results are descriptors or zero; -1 with errno is the only other.
    if result < 0 { Err(last_errno()) } else { Ok(result as libc::c_int) }
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`.
pub(crate) fn load_device_program(program: &[Insn]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let mut attr = Attr::new()
        .set_u32(0, BPF_PROG_TYPE_CGROUP_DEVICE)
        .set_u32(4, u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?)
        .set_u64(8, program.as_ptr() as u64)
        .set_u64(16, license.as_ptr() as u64);
    // prog_name, for `bpftool prog` to show whose it is.
    attr.0[48..60].copy_from_slice(b"proa_devices");
    // SAFETY: both pointers are to memory that outlives the call, of the length given and zero-terminated.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr)? };
    // SAFETY: BPF_PROG_LOAD has just made this descriptor, nobody else owns it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to a cgroup beside those that are there: a device is allowed if all allow it.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = target(cgroup, program).set_u32(12, BPF_F_ALLOW_MULTI);
    // SAFETY: there is no pointer in `attr`.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attr) }.map(drop)
}

/// Detaches a device program from a cgroup.
pub(crate) fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = target(cgroup, program);
    // SAFETY: there is no pointer in `attr`.
    unsafe { bpf(BPF_PROG_DETACH, &mut attr) }.map(drop)
}

fn target(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Attr {
    Attr::new()
        .set_u32(0, cgroup.as_raw_fd() as u32)
        .set_u32(4, program.as_raw_fd() as u32)
        .set_u32(8, BPF_CGROUP_DEVICE)
}

/// The ids of the device programs attached to this very cgroup, at most 64, as many as the kernel attaches.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut ids = [0u32; 64];
    let mut attr = Attr::new()
        .set_u32(0, cgroup.as_raw_fd() as u32)
        .set_u32(4, BPF_CGROUP_DEVICE)
        .set_u64(16, ids.as_mut_ptr() as u64)
        .set_u32(24, ids.len() as u32);
    // SAFETY: `ids` has room for as many ids as `attr` says.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr)? };
    Ok(ids.into_iter().take(attr.u32(24) as usize).collect())
}

/// A descriptor for the program with this id.
pub(crate) fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = Attr::new().set_u32(0, id);
    // SAFETY: there is no pointer in `attr`.
    let fd = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attr)? };
    // SAFETY: BPF_PROG_GET_FD_BY_ID has just made this descriptor, nobody else owns it. It is close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// kill(2) with a signal by number, real-time signals too. `pid` must be a process: 0 and less mean groups.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    if pid <= 0 {
        return Err(Errno::SRCH);
    }
    // SAFETY: kill has no memory of ours to touch.
    if unsafe { libc::kill(pid, signal) } < 0 { Err(last_errno()) } else { Ok(()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
