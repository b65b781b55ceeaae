//! Device rules as the BPF program that cgroup v2 has instead of a devices controller.
//!
//! The kernel runs it with `struct bpf_cgroup_dev_ctx` for each open and mknod of a device in the cgroup: it returns 1
//! to allow and 0 to deny. Programs further up are asked too; all must allow.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::devices::{DeviceKind, DeviceRule, Rules};
use crate::error::{Context, Error};
use crate::sys::{self, Insn};

// Registers. R0 is the result, R1 the context.
const R0: u8 = 0;
const R1: u8 = 1;
/// What was asked for and no rule has allowed yet.
const WANTED: u8 = 2;
const KIND: u8 = 3;
/// Of no meaning from one rule to the next.
const SCRATCH: u8 = 4;
/// Major and minor number, the upper and the lower half.
const DEVICE: u8 = 5;

// Fields of struct bpf_cgroup_dev_ctx, linux/bpf.h: 32 bits each.
const CTX_ACCESS_TYPE: i16 = 0;
const CTX_MAJOR: i16 = 4;
const CTX_MINOR: i16 = 8;
// Its type, the lower half of access_type, and its access, the upper one.
const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;
const ACC_MKNOD: i32 = 1;
const ACC_READ: i32 = 2;
const ACC_WRITE: i32 = 4;
const ACC_ALL: i32 = ACC_MKNOD | ACC_READ | ACC_WRITE;

// Instruction codes, linux/bpf_common.h and linux/bpf.h: class, size or operation, mode or source.
const LDX_WORD: u8 = 0x61;
const MOV_REG: u8 = 0xbf;
const MOV: u8 = 0xb7;
const AND: u8 = 0x57;
const RSH: u8 = 0x77;
const LSH: u8 = 0x67;
const OR_REG: u8 = 0x4f;
/// The first of two instructions, whose constants are the lower and the upper half of one.
const LOAD: u8 = 0x18;
const JEQ_REG: u8 = 0x1d;
const JUMP: u8 = 0x05;
const JEQ: u8 = 0x15;
const JNE: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Puts `rules` into force in a cgroup. `replace`: instead of those that are attached to it, not in addition.
pub(crate) fn apply(rules: &Rules, cgroup: BorrowedFd<'_>, path: &str, replace: bool) -> Result<(), Error> {
    let old =
        if replace { sys::device_programs(cgroup).context("list the device programs of", path)? } else { Vec::new() };
    let program = sys::load_device_program(&compile(rules)).context("load the device program of", path)?;
    sys::attach_device_program(cgroup, program.as_fd()).context("attach the device program to", path)?;
    for id in old {
        detach(cgroup, id).context("detach an earlier device program from", path)?;
    }
    Ok(())
}

fn detach(cgroup: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    match sys::program_by_id(id).and_then(|program| sys::detach_device_program(cgroup, program.as_fd())) {
        // Somebody else has detached it.
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

/// Instructions of a rule, at most, and of what comes before and after all of them.
const RULE_LENGTH: usize = 10;
const FRAME_LENGTH: usize = 11;
/// Rules of a group, at most: a jump over it is 16 bits.
const GROUP: usize = 1000;

/// The program: from the last rule to the first, the base at the end.
pub(crate) fn compile(rules: &Rules) -> Vec<Insn> {
    let mut program = Vec::with_capacity(FRAME_LENGTH + rules.rest.len() * RULE_LENGTH);
    program.extend([
        insn(LDX_WORD, KIND, R1, CTX_ACCESS_TYPE, 0),
        insn(MOV_REG, WANTED, KIND, 0, 0),
        insn(RSH, WANTED, 0, 0, 16),
        // No other bit comes; the verifier, told so, has fewer cases to follow.
        insn(AND, WANTED, 0, 0, ACC_ALL),
        insn(AND, KIND, 0, 0, 0xffff),
        insn(LDX_WORD, DEVICE, R1, CTX_MAJOR, 0),
        insn(LSH, DEVICE, 0, 0, 32),
        insn(LDX_WORD, SCRATCH, R1, CTX_MINOR, 0),
        insn(OR_REG, DEVICE, SCRATCH, 0, 0),
    ]);
    // What allows and stands together may change places.
    for run in rules.rest.chunk_by(|a, b| a.allow && b.allow).rev() {
        for kind in [DeviceKind::Char, DeviceKind::Block] {
            let of_kind: Vec<u64> = run.iter().filter(|it| it.kind == kind).filter_map(whole_device).collect();
            of_kind.chunks(GROUP).for_each(|group| push_group(&mut program, kind, group));
        }
        let grouped = |rule: &&DeviceRule| rule.kind != DeviceKind::All && whole_device(rule).is_some();
        run.iter().rev().filter(|rule| !grouped(rule)).for_each(|rule| push_rule(&mut program, rule));
    }
    program.extend(verdict(rules.base.unwrap_or(true)));
    program
}

/// The number of the one device that a rule allows all access to.
fn whole_device(rule: &DeviceRule) -> Option<u64> {
    let (major, minor) = rule.major.zip(rule.minor)?;
    let whole = rule.allow && access_bits(rule) == ACC_ALL;
    // One above i32::MAX no device has.
    (whole && major.max(minor) <= i32::MAX as u32).then_some(u64::from(major) << 32 | u64::from(minor))
}

/// Allows all access to some devices: one comparison for each, since loading a program takes the kernel as long as there
/// are branches to follow.
fn push_group(program: &mut Vec<Insn>, kind: DeviceKind, devices: &[u64]) {
    let length = devices.len() as i16 * 3;
    program.push(insn(JNE, KIND, 0, length + 3, number_of(kind)));
    for (at, device) in devices.iter().enumerate() {
        let (lower, upper) = ((*device as u32).cast_signed(), ((device >> 32) as u32).cast_signed());
        program.push(insn(LOAD, SCRATCH, 0, 0, lower));
        program.push(insn(0, 0, 0, 0, upper));
        program.push(insn(JEQ_REG, DEVICE, SCRATCH, length - 3 * (at as i16 + 1) + 1, 0));
    }
    program.push(insn(JUMP, 0, 0, 2, 0));
    program.extend(verdict(true));
}

fn number_of(kind: DeviceKind) -> i32 {
    if kind == DeviceKind::Block { DEV_BLOCK } else { DEV_CHAR }
}

/// One rule: skipped where it does not apply.
///
/// The numbers are loaded anew each time. In registers of their own the verifier would keep what each comparison says
/// of them, and follow each rule once for each one before it: a thousand rules were then too many for it.
fn push_rule(program: &mut Vec<Insn>, rule: &DeviceRule) {
    let start = program.len();
    if rule.kind != DeviceKind::All {
        program.push(insn(JNE, KIND, 0, 0, number_of(rule.kind)));
    }
    for (field, number) in [(CTX_MAJOR, rule.major), (CTX_MINOR, rule.minor)] {
        if let Some(number) = number {
            program.push(insn(LDX_WORD, SCRATCH, R1, field, 0));
            // One above i32::MAX, which no device has, is sign-extended and matches nothing.
            program.push(insn(JNE, SCRATCH, 0, 0, number.cast_signed()));
        }
    }
    let applies = program.len();
    match (rule.allow, access_bits(rule)) {
        // Nothing is left that another would have to allow.
        (true, ACC_ALL) => {}
        // What it allows needs no other rule; where that is all, this is the end.
        (true, bits) => {
            program.push(insn(AND, WANTED, 0, 0, !bits));
            program.push(insn(JNE, WANTED, 0, 2, 0));
        }
        (false, bits) => {
            program.push(insn(MOV_REG, SCRATCH, WANTED, 0, 0));
            program.push(insn(AND, SCRATCH, 0, 0, bits));
            program.push(insn(JEQ, SCRATCH, 0, 2, 0));
        }
    }
    program.extend(verdict(rule.allow));
    let end = program.len();
    for (at, test) in (start..applies).zip(&mut program[start..applies]) {
        if test.code == JNE {
            test.offset = (end - at - 1) as i16;
        }
    }
}

fn access_bits(rule: &DeviceRule) -> i32 {
    let bits = [(rule.read, ACC_READ), (rule.write, ACC_WRITE), (rule.mknod, ACC_MKNOD)];
    bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit)
}

fn verdict(allow: bool) -> [Insn; 2] {
    [insn(MOV, R0, 0, 0, allow.into()), insn(EXIT, 0, 0, 0, 0)]
}

fn insn(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Insn {
    // Two bit fields, laid out as the machine does.
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Insn { code, registers, offset, constant }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::default_device_rules;
    use crate::devices::tests::{rule, rules};

    /// Runs a program for an access to a device, as far as ours need: forward jumps, no memory but the context.
    fn run(program: &[Insn], access: i32, kind: i32, major: u32, minor: u32) -> bool {
        let context = [(access << 16 | kind) as u32, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0;
        loop {
            let Insn { code, registers: pair, offset, constant } = program[at];
            let (to, from) = (usize::from(pair & 15), usize::from(pair >> 4));
            let constant = i64::from(constant) as u64;
            at += 1;
            match code {
                LDX_WORD => {
                    assert_eq!(from, usize::from(R1));
                    registers[to] = context[offset as usize / 4].into();
                }
                MOV_REG => registers[to] = registers[from],
                MOV => registers[to] = constant,
                AND => registers[to] &= constant,
                RSH => registers[to] >>= constant,
                LSH => registers[to] <<= constant,
                OR_REG => registers[to] |= registers[from],
                LOAD => {
                    registers[to] = u64::from(constant as u32) | u64::from(program[at].constant as u32) << 32;
                    at += 1;
                }
                JUMP => at += offset as usize,
                JEQ_REG if registers[to] == registers[from] => at += offset as usize,
                JEQ_REG => assert!(offset >= 0),
                JEQ if registers[to] == constant => at += offset as usize,
                JNE if registers[to] != constant => at += offset as usize,
                JEQ | JNE => assert!(offset >= 0),
                EXIT => return registers[0] == 1,
                _ => panic!("instruction {code:#x}"),
            }
        }
    }

    /// The definition: for each kind of access the last rule that speaks of it.
    fn expected(all: &[DeviceRule], access: i32, kind: i32, major: u32, minor: u32) -> bool {
        let allowed = |bit: i32| {
            let speaks = |rule: &&DeviceRule| {
                let kinds = match rule.kind {
                    DeviceKind::All => true,
                    DeviceKind::Char => kind == DEV_CHAR,
                    DeviceKind::Block => kind == DEV_BLOCK,
                };
                let bits = [(ACC_READ, rule.read), (ACC_WRITE, rule.write), (ACC_MKNOD, rule.mknod)];
                let numbers = rule.major.is_none_or(|it| it == major) && rule.minor.is_none_or(|it| it == minor);
                kinds && numbers && (rule.is_sweeping() || bits.contains(&(bit, true)))
            };
            all.iter().rev().find(speaks).is_none_or(|rule| rule.allow)
        };
        [ACC_READ, ACC_WRITE, ACC_MKNOD].into_iter().filter(|bit| access & bit != 0).all(allowed)
    }

    #[test]
    fn a_program_decides_as_the_rules_do() {
        let pool = [
            "-a *:* rwm",
            "+a *:* rwm",
            "-a *:*",
            "+a *:* r",
            "-a 1:3 w",
            "+c 1:3 rwm",
            "+c 1:5 rwm",
            "+b 8:0 rwm",
            "+c 1:3 r",
            "+c 1:3 w",
            "-c 1:3 w",
            "+c 1:* rm",
            "-c *:3 m",
            "+b *:* m",
            "-b 8:0 rw",
            "+c 136:* rwm",
            "+c 4294967295:3 rwm",
        ]
        .map(rule);
        // All lists of up to three rules, each against accesses to devices in and out of them.
        let mut lists = vec![vec![]];
        for length in 0..3 {
            let longest: Vec<Vec<DeviceRule>> = lists.iter().filter(|list| list.len() == length).cloned().collect();
            lists.extend(longest.iter().flat_map(|list| pool.map(|rule| [&list[..], &[rule]].concat())));
        }
        let devices = [(1, 3), (1, 5), (8, 0), (136, 7), (u32::MAX, 3)];
        for list in &lists {
            let program = compile(&Rules::new(list));
            for access in 1..8 {
                for kind in [DEV_BLOCK, DEV_CHAR] {
                    for (major, minor) in devices {
                        // No device has such a number, and a rule for it matches none.
                        let dead = major == u32::MAX;
                        let list: Vec<_> =
                            list.iter().filter(|it| !dead || it.major != Some(u32::MAX)).copied().collect();
                        let decided = run(&program, access, kind, major, minor);
                        assert_eq!(
                            decided,
                            expected(&list, access, kind, major, minor),
                            "{list:?} {access} {kind} {major}:{minor}"
                        );
                    }
                }
            }
        }
        assert_eq!(lists.len(), 1 + 17 + 17 * 17 + 17 * 17 * 17);
    }

    #[test]
    fn what_two_rules_allow_together_may_be_done_at_once() {
        let program = compile(&rules(&["-a *:* rwm", "+c 1:3 r", "+c 1:3 w"]));
        assert!(run(&program, ACC_READ | ACC_WRITE, DEV_CHAR, 1, 3));
        assert!(!run(&program, ACC_READ | ACC_MKNOD, DEV_CHAR, 1, 3));
    }

    #[test]
    fn more_devices_than_one_jump_leads_over() {
        let number = 2 * GROUP + 1;
        let whole = (0..number).map(|minor| rule(&format!("+c 7:{minor} rwm")));
        let program = compile(&Rules::new(&[vec![rule("-a *:* rwm")], whole.collect()].concat()));
        let may = |kind, minor| run(&program, ACC_READ | ACC_MKNOD, kind, 7, minor as u32);
        for minor in [0, GROUP - 1, GROUP, 2 * GROUP - 1, 2 * GROUP] {
            assert!(may(DEV_CHAR, minor) && !may(DEV_BLOCK, minor), "{minor}");
        }
        assert!(!may(DEV_CHAR, number));
    }

    #[test]
    fn the_default_list_after_a_denial_of_all() {
        let all = [vec![rule("-a *:* rwm")], default_device_rules()].concat();
        let program = compile(&Rules::new(&all));
        let may = |access, kind, major, minor| run(&program, access, kind, major, minor);
        assert!(may(ACC_READ | ACC_WRITE, DEV_CHAR, 1, 3));
        assert!(may(ACC_READ | ACC_WRITE, DEV_CHAR, 136, 12));
        assert!(may(ACC_MKNOD, DEV_BLOCK, 8, 0));
        assert!(!may(ACC_READ, DEV_BLOCK, 8, 0));
        assert!(!may(ACC_READ, DEV_CHAR, 1, 1));
        assert!(!may(ACC_READ, DEV_BLOCK, 1, 3));
        assert!(program.len() < 60, "{} instructions", program.len());
    }
}
