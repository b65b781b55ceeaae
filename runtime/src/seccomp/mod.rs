//! From a list of rules about system calls to a program of classic BPF for seccomp(2).
//!
//! Pure: no system call, and nothing of OCI. The names of the rules become numbers for each architecture (`table`), the
//! rules of one number become one verdict (`rules`), and the numbers become a binary tree (`program`), so that a
//! system call costs some ten instructions whatever the length of the profile.
//!
//! Verdicts are those of runc with libseccomp, which the tests compare (`tests`):
//!
//! - A rule without conditions beats those with. Of two without, the first counts.
//! - Rules with conditions are tried in an order of their own, see [`rules`].
//! - A system call of an architecture that is not in the filter kills the thread.
//! - Where the default forbids, a number above the highest that the profile names answers ENOSYS: a profile cannot have
//!   meant calls that are younger than itself, and C libraries try an older call on ENOSYS only.

mod program;
mod rules;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::KERNEL;

/// One instruction, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// What the kernel does with a call: a SECCOMP_RET_* value with its data (seccomp(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Action(pub u32);

impl Action {
    pub(crate) const KILL_PROCESS: Action = Action(0x8000_0000);
    pub(crate) const KILL_THREAD: Action = Action(0);
    pub(crate) const TRAP: Action = Action(0x0003_0000);
    pub(crate) const NOTIFY: Action = Action(0x7fc0_0000);
    pub(crate) const LOG: Action = Action(0x7ffc_0000);
    pub(crate) const ALLOW: Action = Action(0x7fff_0000);

    /// Fails with this error; the kernel takes 4095 at most.
    pub(crate) const fn errno(number: u16) -> Action {
        Action(0x0005_0000 | number as u32)
    }

    /// Tells a tracer, with this message.
    pub(crate) const fn trace(message: u16) -> Action {
        Action(0x7ff0_0000 | message as u32)
    }

    /// Lets the call through, or leaves it to a tracer, who knows calls of the future as well as we do.
    fn is_permissive(self) -> bool {
        matches!(Action(self.0 & 0xffff_0000), Action::ALLOW | Action::LOG) || self.0 & 0xffff_0000 == 0x7ff0_0000
    }
}

/// An architecture as libseccomp counts them: x32 is the second way into an x86_64 kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Arch {
    /// Of this program, which is the kernel's own; None where there is no table for it.
    pub(crate) const fn native() -> Option<Arch> {
        if cfg!(target_arch = "x86_64") {
            Some(Arch::X86_64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Arch::Aarch64)
        } else {
            None
        }
    }

    /// AUDIT_ARCH_* of linux/audit.h.
    const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Whether calls of this architecture can be made on a kernel of that one.
    pub(crate) const fn runs_on(self, native: Arch) -> bool {
        match native {
            Arch::Aarch64 => matches!(self, Arch::Aarch64 | Arch::Arm),
            _ => matches!(self, Arch::X86_64 | Arch::X86 | Arch::X32),
        }
    }

    /// Arguments are compared in full; else their lower half.
    const fn is_64_bit(self) -> bool {
        matches!(self, Arch::X86_64 | Arch::Aarch64)
    }
}

/// How an argument is compared with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Ne,
    Lt,
    Le,
    Eq,
    Ge,
    Gt,
    MaskedEq,
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// 0 to 5.
    pub argument: u8,
    pub operator: Operator,
    pub value: u64,
    /// All bits but for [`Operator::MaskedEq`].
    pub mask: u64,
}

/// What to do with some system calls if all conditions hold, at most one for each argument.
#[derive(Clone, Debug)]
pub(crate) struct Rule<'a> {
    pub names: Vec<&'a str>,
    pub action: Action,
    pub conditions: Vec<Condition>,
}

/// A filter to be.
#[derive(Debug)]
pub(crate) struct Profile<'a> {
    /// For calls that no rule is about.
    pub default: Action,
    /// Without repetition.
    pub architectures: Vec<Arch>,
    pub rules: Vec<Rule<'a>>,
}

/// BPF_MAXINSNS of linux/bpf_common.h.
pub(crate) const MAX_INSTRUCTIONS: usize = 4096;

impl<'a> Profile<'a> {
    /// The program. One longer than [`MAX_INSTRUCTIONS`] is refused by the kernel. With the names that no architecture of
    /// the kernel of [`KERNEL`] has.
    pub(crate) fn compile(&self) -> (Vec<Instruction>, Vec<&'a str>) {
        let (sections, unknown) = rules::sections(self);
        (program::write(&sections), unknown)
    }
}
