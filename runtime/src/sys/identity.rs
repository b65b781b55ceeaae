//! Who a process is: ids, groups, capabilities, no_new_privs, keyring. Raw calls, which change this thread only; there
//! is no other.

use super::answer;
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// setgroups(2), setresgid(2), setresuid(2), in the order that keeps the right to do the next.
pub(crate) fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: the kernel reads `len` ids of 32 bits.
    answer(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

pub(crate) fn set_gid(gid: u32) -> Result<()> {
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

pub(crate) fn set_uid(uid: u32) -> Result<()> {
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

fn prctl(option: i32, a: u64, b: u64) -> Result<()> {
    // SAFETY: the options used here take integers.
    answer(unsafe { libc::syscall(libc::SYS_prctl, option, a, b, 0u64, 0u64) }).map(drop)
}

/// Keeps the permitted set over a change of uid.
pub(crate) fn keep_capabilities() -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

/// Drops from the bounding set all that is not in `keep`; ends at the newest capability that the kernel knows.
pub(crate) fn limit_bounding_set(keep: u64) -> Result<()> {
    for capability in 0..64 {
        if keep & (1 << capability) != 0 {
            continue;
        }
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Err(Errno::INVAL) => return Ok(()),
            done => done?,
        }
    }
    Ok(())
}

/// Clears the ambient set, then raises `set`.
pub(crate) fn set_ambient(set: u64) -> Result<()> {
    match prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0) {
        // Kernels before 4.3 have none to clear.
        Err(Errno::INVAL) if set == 0 => return Ok(()),
        done => done?,
    }
    for capability in (0..64).filter(|bit| set & (1 << bit) != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, capability)?;
    }
    Ok(())
}

/// capset(2), version 3.
pub(crate) fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    let header = Header { version: 0x2008_0522, pid: 0 };
    let mut data = [0u32; 6];
    for (half, words) in data.chunks_exact_mut(3).enumerate() {
        for (word, set) in words.iter_mut().zip([effective, permitted, inheritable]) {
            *word = (set >> (32 * half)) as u32;
        }
    }
    // SAFETY: version 3 reads a header and two data structs of three words.
    answer(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// PR_SET_NO_NEW_PRIVS.
pub(crate) fn set_no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// PR_SET_DUMPABLE: whether others with the same ids may look into this process.
pub(crate) fn set_dumpable(on: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on), 0)
}

/// PR_SET_CHILD_SUBREAPER: orphans below become children of this process.
pub(crate) fn set_child_subreaper() -> Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)
}

/// Joins the session keyring of this name, made if missing, and adds permission bits to it (keyctl(2)). Answers ENOSYS where the kernel has no keyrings.
pub(crate) fn join_session_keyring(name: &CStr, bits: u32) -> Result<()> {
    // SAFETY: `name` ends in NUL and outlives the call.
    let key =
        answer(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING as i64, name.as_ptr()) })?;
    let mut text = [0u8; 256];
    let describe = libc::KEYCTL_DESCRIBE as i64;
    // SAFETY: the kernel writes at most 256 bytes to `text`.
    let length = answer(unsafe { libc::syscall(libc::SYS_keyctl, describe, key, text.as_mut_ptr(), text.len()) })?;
    // keyring;uid;gid;perm;name, perm in hexadecimal.
    let text = &text[..(length as usize).min(text.len())];
    let perm = text.split(|byte| *byte == b';').nth(3).and_then(|field| std::str::from_utf8(field).ok());
    let perm = perm.and_then(|field| u32::from_str_radix(field, 16).ok()).ok_or(Errno::INVAL)?;
    let perm = perm | bits;
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_SETPERM as i64, key, perm) }).map(drop)
}
