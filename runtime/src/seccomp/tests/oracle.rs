//! The same profiles given to libseccomp, and where it can express them to seccompiler: the verdicts must be the same.

use super::super::{Action, Arch, Condition, Instruction, Operator, Profile, Rule, table};
use super::random::{self, Random};
use super::{DOCKER, Data, PODMAN, on, parse, simulate};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::io::{Read, Seek};

fn action(action: Action) -> ScmpAction {
    match action.0 & 0xffff_0000 {
        0x0005_0000 => ScmpAction::Errno((action.0 & 0xffff) as i32),
        0x7ff0_0000 => ScmpAction::Trace((action.0 & 0xffff) as u16),
        _ => match action {
            Action::ALLOW => ScmpAction::Allow,
            Action::KILL_PROCESS => ScmpAction::KillProcess,
            Action::KILL_THREAD => ScmpAction::KillThread,
            Action::TRAP => ScmpAction::Trap,
            Action::LOG => ScmpAction::Log,
            Action::NOTIFY => ScmpAction::Notify,
            other => panic!("{other:?}"),
        },
    }
}

fn arch(arch: Arch) -> ScmpArch {
    match arch {
        Arch::X86_64 => ScmpArch::X8664,
        Arch::X86 => ScmpArch::X86,
        Arch::X32 => ScmpArch::X32,
        Arch::Aarch64 => ScmpArch::Aarch64,
        Arch::Arm => ScmpArch::Arm,
    }
}

fn condition(given: &Condition) -> ScmpArgCompare {
    let operator = match given.operator {
        Operator::Ne => ScmpCompareOp::NotEqual,
        Operator::Lt => ScmpCompareOp::Less,
        Operator::Le => ScmpCompareOp::LessOrEqual,
        Operator::Eq => ScmpCompareOp::Equal,
        Operator::Ge => ScmpCompareOp::GreaterEqual,
        Operator::Gt => ScmpCompareOp::Greater,
        Operator::MaskedEq => ScmpCompareOp::MaskedEqual(given.mask),
    };
    ScmpArgCompare::new(given.argument.into(), operator, given.value)
}

/// libseccomp's program, made as runc makes it; the rules that it refuses are taken out of the profile.
fn libseccomp(profile: &mut Profile<'_>) -> Vec<Instruction> {
    let mut filter = ScmpFilterContext::new(action(profile.default)).unwrap();
    for given in &profile.architectures {
        filter.add_arch(arch(*given)).unwrap();
    }
    if profile.architectures[0] != Arch::X86_64 {
        filter.remove_arch(ScmpArch::X8664).unwrap();
    }
    let mut accepted = Vec::new();
    for rule in &profile.rules {
        for name in &rule.names {
            let call = ScmpSyscall::from_name(name).unwrap();
            let conditions: Vec<ScmpArgCompare> = rule.conditions.iter().map(condition).collect();
            let added = match (rule.action == profile.default, conditions.is_empty()) {
                // runc leaves these out.
                (true, _) => Ok(()),
                (_, true) => filter.add_rule(action(rule.action), call).map(drop),
                (_, false) => filter.add_rule_conditional(action(rule.action), call, &conditions).map(drop),
            };
            if added.is_ok() {
                accepted.push(Rule { names: vec![name], ..rule.clone() });
            }
        }
    }
    profile.rules = accepted;
    let mut file = std::fs::File::from(rustix::fs::memfd_create("bpf", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    filter.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let word = |b: &[u8]| u32::from_le_bytes(b.try_into().unwrap());
    let instruction =
        |b: &[u8]| Instruction { code: u16::from_le_bytes([b[0], b[1]]), jt: b[2], jf: b[3], k: word(&b[4..8]) };
    bytes.chunks_exact(8).map(instruction).collect()
}

/// What runc puts before libseccomp's program: ENOSYS for numbers above those that the profile names.
fn stub(profile: &Profile<'_>, named: &[&str], data: &Data) -> Option<Action> {
    let permissive = [0x7fff_0000, 0x7ffc_0000, 0x7ff0_0000].contains(&(profile.default.0 & 0xffff_0000));
    let of_x32 = data.number & table::X32_BIT != 0;
    let arch = profile.architectures.iter().find(|arch| {
        let x32 = matches!(arch, Arch::X32);
        arch.audit() == data.arch && (data.arch != Arch::X86_64.audit() || x32 == of_x32)
    })?;
    let highest = named
        .iter()
        .filter_map(|name| table::number(table::find(name)?, *arch))
        // Our own difference: those of arm that are far above all others do not count.
        .filter(|number| *number < 0xf_0000 || *arch == Arch::X32)
        .max()?;
    let arm = *arch == Arch::Arm && data.number >= 0xf_0000;
    (!permissive && data.number > highest && !arm).then_some(Action::errno(38))
}

/// Compares on calls at random; how many there were, and how many of libseccomp's verdicts were not the default.
fn compare(random: &mut Random, profile: &mut Profile<'_>, calls: usize) -> usize {
    let named: Vec<&str> = profile.rules.iter().flat_map(|rule| rule.names.iter().copied()).collect();
    let whole: Vec<Rule<'_>> = profile.rules.clone();
    let theirs = libseccomp(profile);
    // A refused rule still counts for the highest number: as one that says nothing.
    let silent = Rule { names: named.clone(), action: profile.default, conditions: Vec::new() };
    profile.rules.push(silent);
    let ours = profile.compile();
    profile.rules = whole;
    let mut decided = 0;
    for _ in 0..calls {
        let data = random::call(random, profile);
        let expected = stub(profile, &named, &data).unwrap_or_else(|| Action(simulate::run(&theirs, &data).0));
        let found = Action(simulate::run(&ours, &data).0);
        if found != expected {
            // Only what is about this call.
            profile.rules.retain(|rule| {
                rule.names.iter().any(|name| {
                    let numbers = table::find(name).unwrap();
                    let here = |arch: &Arch| table::number(numbers, *arch) == Some(data.number);
                    profile.architectures.iter().any(here) || matches!(data.number, 102 | 117)
                })
            });
            panic!("{found:x?} where libseccomp says {expected:x?}: {data:x?}\n{profile:x?}");
        }
        decided += usize::from(found != profile.default);
    }
    decided
}

const ARCHITECTURES: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// libseccomp's number; None where it has a negative one, of a name that the architecture lacks.
fn their_number(name: &str, given: Arch) -> Option<u32> {
    let number = ScmpSyscall::from_name_by_arch(name, arch(given)).ok()?;
    u32::try_from(i32::from(number)).ok()
}

fn all_names() -> impl Iterator<Item = &'static str> {
    include_str!("../syscalls.txt").lines().skip(1).filter_map(|line| line.split(' ').next())
}

/// The names that both tables have, and on the same architectures: libseccomp's is older.
fn common_names() -> Vec<&'static str> {
    let known = |name: &&str| ScmpSyscall::from_name(name).is_ok();
    let same = |name: &str, arch| table::number(table::find(name).unwrap(), arch) == their_number(name, arch);
    all_names().filter(known).filter(|name| ARCHITECTURES.iter().all(|arch| same(name, *arch))).collect()
}

fn restrict(profile: &mut Profile<'_>) {
    let names = common_names();
    for rule in &mut profile.rules {
        rule.names.retain(|name| names.contains(name));
    }
    profile.rules.retain(|rule| !rule.names.is_empty());
}

#[test]
fn tables_agree() {
    let mut compared = 0;
    for name in all_names() {
        for given in ARCHITECTURES {
            if let Some(theirs) = their_number(name, given) {
                assert_eq!(table::number(table::find(name).unwrap(), given), Some(theirs), "{name} {given:?}");
                compared += 1;
            }
        }
    }
    println!("{compared} numbers agree, {} names are used below", common_names().len());
    assert!(compared > 1800 && common_names().len() > 400);
}

#[test]
fn profiles_of_engines_have_libseccomps_verdicts() {
    let mut random = Random(1);
    for text in [DOCKER, PODMAN] {
        let given = parse(text);
        for architectures in [
            &[Arch::X86_64, Arch::X86, Arch::X32][..],
            &[Arch::X86_64],
            &[Arch::X86_64, Arch::X86],
            &[Arch::Aarch64, Arch::Arm],
        ] {
            let mut profile = on(&given, architectures);
            restrict(&mut profile);
            assert!(compare(&mut random, &mut profile, 5000) > 2000);
        }
    }
}

#[test]
fn profiles_at_random_have_libseccomps_verdicts() {
    let names = common_names();
    let mut random = Random(2);
    let mut decided = 0;
    for round in 0..400 {
        let mut profile = random::profile(&mut random, &names, 30, round % 2 == 0);
        decided += compare(&mut random, &mut profile, 200);
    }
    assert!(decided > 20_000, "{decided} of 80,000 calls met a rule");
}
