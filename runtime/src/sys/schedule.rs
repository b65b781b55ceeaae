//! When and where a process runs: scheduler, I/O priority, CPU affinity, memory policy, personality.

use super::answer;
use rustix::io::Result;

/// Arguments of sched_setattr(2); times in nanoseconds.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Schedule {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// sched_setattr(2) for this process.
pub(crate) fn set_schedule(schedule: &Schedule) -> Result<()> {
    #[repr(C)]
    struct Attr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }
    let attr = Attr {
        size: size_of::<Attr>() as u32,
        policy: schedule.policy,
        flags: schedule.flags,
        nice: schedule.nice,
        priority: schedule.priority,
        runtime: schedule.runtime,
        deadline: schedule.deadline,
        period: schedule.period,
    };
    // SAFETY: the kernel reads `size` bytes.
    answer(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// ioprio_set(2) for this process group: `class` and `level` as IOPRIO_PRIO_VALUE takes them.
pub(crate) fn set_io_priority(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PGRP: i32 = 2;
    let value = (class << 13) | level;
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PGRP, 0, value) }).map(drop)
}

/// A set of CPUs or memory nodes, as the kernel's bit masks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BitSet {
    words: Vec<u64>,
}

impl BitSet {
    /// Largest number that a mask here can hold.
    pub(crate) const LIMIT: usize = 8192;

    pub(crate) fn new() -> BitSet {
        BitSet { words: Vec::new() }
    }

    /// All that the kernel may know; it ignores those that the machine has not.
    pub(crate) fn full() -> BitSet {
        BitSet { words: vec![u64::MAX; BitSet::LIMIT / 64] }
    }

    pub(crate) fn insert(&mut self, number: usize) {
        if self.words.len() <= number / 64 {
            self.words.resize(number / 64 + 1, 0);
        }
        self.words[number / 64] |= 1 << (number % 64);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.words.len() * 64).filter(|n| self.words[n / 64] & (1 << (n % 64)) != 0)
    }
}

impl serde::Serialize for BitSet {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_seq(self.numbers())
    }
}

/// sched_setaffinity(2) of `pid`, 0 for this process.
pub(crate) fn set_affinity(pid: i32, cpus: &BitSet) -> Result<()> {
    let size = cpus.words.len() * 8;
    // SAFETY: the kernel reads `size` bytes.
    answer(unsafe { libc::syscall(libc::SYS_sched_setaffinity, pid, size, cpus.words.as_ptr()) }).map(drop)
}

/// set_mempolicy(2): MPOL_* with its flags, and the nodes it is about.
pub(crate) fn set_memory_policy(mode: u32, nodes: &BitSet) -> Result<()> {
    // The kernel counts one bit more than there are.
    let bits = if nodes.is_empty() { 0 } else { nodes.words.len() * 64 + 1 };
    let words = if nodes.is_empty() { std::ptr::null() } else { nodes.words.as_ptr() };
    // SAFETY: the kernel reads bits - 1 bits, which the words have, or nothing.
    answer(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, words, bits) }).map(drop)
}

/// personality(2).
pub(crate) fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: only an integer is passed.
    answer(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// Lets a process run on every CPU that its cgroup allows: it inherited what the caller was pinned to.
pub(crate) fn reset_affinity(pid: i32) {
    // A kernel that refuses keeps the caller's, which is no reason to fail.
    set_affinity(pid, &BitSet::full()).ok();
}

/// prlimit(2) with every resource number.
pub(crate) fn set_rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit = [soft, hard];
    let none = std::ptr::null::<u64>();
    // SAFETY: the kernel reads a struct of two words and writes none.
    answer(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, limit.as_ptr(), none) }).map(drop)
}

/// Soft and hard limit, prlimit(2).
pub(crate) fn get_rlimit(pid: i32, resource: u32) -> Result<(u64, u64)> {
    let mut limit = [0u64; 2];
    let none = std::ptr::null::<u64>();
    // SAFETY: the kernel reads none and writes a struct of two words.
    answer(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, none, limit.as_mut_ptr()) })?;
    Ok((limit[0], limit[1]))
}
