//! ptrace(2), as far as it takes to look at a process that is held still.

use super::answer;
use crate::seccomp::Instruction;
use rustix::io::{Errno, Result};

/// linux/ptrace.h; not in every C library's headers.
const SECCOMP_GET_FILTER: i32 = 0x420c;

fn ptrace(request: i32, tid: i32, address: usize, data: usize) -> Result<libc::c_long> {
    // SAFETY: the requests of this module take integers, or a buffer that its caller has checked the length of.
    answer(unsafe {
        libc::syscall(libc::SYS_ptrace, libc::c_long::from(request), libc::c_long::from(tid), address, data)
    })
}

/// Becomes the tracer of a thread, which goes on, but is killed if the tracer ends without letting go of it.
pub(crate) fn seize(tid: i32) -> Result<()> {
    ptrace(libc::PTRACE_SEIZE as i32, tid, 0, libc::PTRACE_O_EXITKILL as usize).map(drop)
}

/// Stops a thread that was seized, before it executes another instruction of its own.
pub(crate) fn interrupt(tid: i32) -> Result<()> {
    ptrace(libc::PTRACE_INTERRUPT as i32, tid, 0, 0).map(drop)
}

/// Lets go of a thread that has stopped, which then goes on.
pub(crate) fn detach(tid: i32) -> Result<()> {
    ptrace(libc::PTRACE_DETACH as i32, tid, 0, 0).map(drop)
}

/// Waits until a thread that was interrupted has stopped. False: it has ended.
pub(crate) fn wait_stopped(tid: i32) -> Result<bool> {
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one integer.
        match answer(unsafe { libc::waitpid(tid, &raw mut status, libc::__WALL) }.into()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(libc::WIFSTOPPED(status)),
        }
    }
}

/// Waits until a thread that was seized, and killed, has ended.
pub(crate) fn wait_ended(tid: i32) -> Result<()> {
    while wait_stopped(tid)? {}
    Ok(())
}

/// One of the filters of a thread that has stopped; None: it has no more.
pub(crate) fn seccomp_filter(tid: i32, index: usize) -> Result<Option<Vec<Instruction>>> {
    let length = match ptrace(SECCOMP_GET_FILTER, tid, index, 0) {
        // Without any filter it is EINVAL.
        Err(Errno::NOENT | Errno::INVAL) => return Ok(None),
        length => usize::try_from(length?).unwrap_or_default(),
    };
    let mut program = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; length];
    // A filter does not change, so the kernel writes as many instructions as it said.
    ptrace(SECCOMP_GET_FILTER, tid, index, program.as_mut_ptr().addr())?;
    Ok(Some(program))
}
