//! The same profiles given to libseccomp, and where it can express them to seccompiler: the verdicts must be the same.

use super::super::{Action, Arch, Condition, Instruction, Operator, Profile, Rule, table};
use super::random::{self, Random};
use super::{DOCKER, Data, PODMAN, by_hand, on, parse, simulate};
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
    let mut single = Vec::new();
    for rule in &profile.rules {
        single.extend(rule.names.iter().map(|name| Rule { names: vec![*name], ..rule.clone() }));
    }
    profile.rules = single;
    let filter = loop {
        match add_all(profile) {
            Ok(filter) => break filter,
            // Its memory is not in order after it has refused a rule: begin anew without that one.
            Err((filter, refused)) => {
                std::mem::forget(filter);
                profile.rules.remove(refused);
            }
        }
    };
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

/// The filter, or with the first rule that is refused.
fn add_all(profile: &Profile<'_>) -> Result<ScmpFilterContext, (ScmpFilterContext, usize)> {
    let mut filter = ScmpFilterContext::new(action(profile.default)).unwrap();
    for given in &profile.architectures {
        filter.add_arch(arch(*given)).unwrap();
    }
    if profile.architectures[0] != Arch::X86_64 {
        filter.remove_arch(ScmpArch::X8664).unwrap();
    }
    for (index, rule) in profile.rules.iter().enumerate() {
        let call = ScmpSyscall::from_name(rule.names[0]).unwrap();
        let conditions: Vec<ScmpArgCompare> = rule.conditions.iter().map(condition).collect();
        let added = match (rule.action == profile.default, conditions.is_empty()) {
            // runc leaves these out.
            (true, _) => Ok(()),
            (_, true) => filter.add_rule(action(rule.action), call).map(drop),
            (_, false) => filter.add_rule_conditional(action(rule.action), call, &conditions).map(drop),
        };
        if added.is_err() {
            return Err((filter, index));
        }
    }
    Ok(filter)
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

/// How often what was the case.
#[derive(Debug, Default)]
struct Counts {
    calls: usize,
    /// A rule had its way.
    decided: usize,
    /// libseccomp took the default although a rule holds, or an action that no rule has there: its tree does not come
    /// back from a branch that turned out wrong, or its program has another fault.
    lost: usize,
    /// Several rules hold, and libseccomp's tree tries them in another order.
    order: usize,
}

/// Compares on calls at random.
fn compare(random: &mut Random, profile: &mut Profile<'_>, calls: usize, counts: &mut Counts) {
    let named: Vec<&str> = profile.rules.iter().flat_map(|rule| rule.names.iter().copied()).collect();
    let theirs = libseccomp(profile);
    let accepted = profile.rules.len();
    // A refused rule still counts for the highest number: as one that says nothing.
    profile.rules.push(Rule { names: named.clone(), action: profile.default, conditions: Vec::new() });
    let ours = profile.compile().0;
    for _ in 0..calls {
        let data = random::call(random, profile);
        let stub = stub(profile, &named, &data);
        let expected = stub.unwrap_or_else(|| Action(simulate::run(&theirs, &data).0));
        let found = Action(simulate::run(&ours, &data).0);
        counts.calls += 1;
        counts.decided += usize::from(found != profile.default);
        if found == expected {
            continue;
        }
        let holding = by_hand::holding(&profile.rules[..accepted], profile, &data);
        let right = if holding.is_empty() { found == profile.default } else { holding.contains(&found) };
        assert!(right && stub.is_none(), "{found:x?} where libseccomp says {expected:x?}: {data:x?}\n{profile:x?}");
        match holding.contains(&expected) {
            true => counts.order += 1,
            false => counts.lost += 1,
        }
    }
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
    let mut counts = Counts::default();
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
            compare(&mut random, &mut profile, 5000, &mut counts);
        }
    }
    println!("{counts:?}");
    assert!(counts.decided > 20_000 && (counts.lost, counts.order) == (0, 0));
}

/// Where each system call has one rule there is nothing to be of two minds about.
#[test]
fn random_profiles_without_overlap_have_libseccomps_verdicts() {
    // socketcall and ipc of x86 are where rules about different calls meet.
    let mut names = common_names();
    names.retain(|name| table::find(name).unwrap().through().is_none());
    // libseccomp 2.5.4 now and then forgets to load the number after a rule about a call that the architecture lacks.
    names.retain(|name| ARCHITECTURES.iter().all(|arch| table::number(table::find(name).unwrap(), *arch).is_some()));
    let mut random = Random(2);
    let mut counts = Counts::default();
    for _ in 0..300 {
        let mut profile = random::profile(&mut random, &names, 60, false);
        let mut seen: Vec<&str> = Vec::new();
        for rule in &mut profile.rules {
            rule.names.retain(|name| {
                !seen.contains(name) && {
                    seen.push(name);
                    true
                }
            });
        }
        profile.rules.retain(|rule| !rule.names.is_empty());
        compare(&mut random, &mut profile, 200, &mut counts);
    }
    println!("{counts:?}");
    assert!(counts.decided > 15_000 && (counts.lost, counts.order) == (0, 0), "{counts:?}");
}

/// Rules that overlap: ours are right by the rules themselves, and libseccomp's mostly the same. All of one action, since
/// libseccomp does not always come to an end where overlapping rules differ.
#[test]
fn random_profiles_that_overlap() {
    let names = common_names();
    let mut random = Random(3);
    let mut counts = Counts::default();
    for _ in 0..200 {
        let mut profile = random::profile(&mut random, &names, 30, true);
        compare(&mut random, &mut profile, 200, &mut counts);
    }
    println!("{counts:?}");
    assert!(counts.decided > 10_000 && counts.lost + counts.order < 40, "{counts:?}");
}

/// Those that differ, against the rules alone.
#[test]
fn random_profiles_that_contradict_themselves() {
    let names = common_names();
    let mut random = Random(4);
    let mut several = 0;
    for _ in 0..200 {
        let mut profile = random::profile(&mut random, &names, 30, false);
        let program = profile.compile().0;
        let named: Vec<&str> = profile.rules.iter().flat_map(|rule| rule.names.iter().copied()).collect();
        profile.rules.retain(|rule| !rule.names.is_empty());
        for _ in 0..200 {
            let data = random::call(&mut random, &profile);
            if stub(&profile, &named, &data).is_some() || !profile.architectures.iter().any(|a| a.audit() == data.arch)
            {
                continue;
            }
            let found = Action(simulate::run(&program, &data).0);
            let holding = by_hand::holding(&profile.rules, &profile, &data);
            let x32_without = data.arch == Arch::X86_64.audit() && data.number >= table::X32_BIT;
            let right = match holding.is_empty() {
                true => found == profile.default || x32_without,
                false => holding.contains(&found),
            };
            assert!(right, "{found:x?} of {holding:x?}: {data:x?}\n{profile:x?}");
            several += usize::from(holding.len() > 1);
        }
    }
    assert!(several > 500, "{several} calls with several rules");
}

/// Where seccompiler can express a profile: one architecture, one action beside the default, no number without rules.
#[test]
fn seccompiler_says_the_same() {
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    };
    let names = common_names();
    let mut random = Random(5);
    let mut decided = 0;
    for _ in 0..100 {
        let mut profile = random::profile(&mut random, &names, 20, true);
        (profile.default, profile.architectures) = (Action::LOG, vec![Arch::X86_64]);
        let mut map = std::collections::BTreeMap::<i64, Vec<SeccompRule>>::new();
        let mut whole = Vec::new();
        for rule in &mut profile.rules {
            rule.action = Action::errno(7);
            let conditions: Vec<_> = rule
                .conditions
                .iter()
                .map(|given| {
                    let operator = match given.operator {
                        Operator::Ne => SeccompCmpOp::Ne,
                        Operator::Lt => SeccompCmpOp::Lt,
                        Operator::Le => SeccompCmpOp::Le,
                        Operator::Eq => SeccompCmpOp::Eq,
                        Operator::Ge => SeccompCmpOp::Ge,
                        Operator::Gt => SeccompCmpOp::Gt,
                        Operator::MaskedEq => SeccompCmpOp::MaskedEq(given.mask),
                    };
                    let length = SeccompCmpArgLen::Qword;
                    SeccompCondition::new(given.argument, length, operator, given.value).unwrap()
                })
                .collect();
            for number in rule.names.iter().filter_map(|name| table::number(table::find(name)?, Arch::X86_64)) {
                let list = map.entry(number.into()).or_default();
                match conditions.is_empty() {
                    true => whole.push(i64::from(number)),
                    false => list.push(SeccompRule::new(conditions.clone()).unwrap()),
                }
            }
        }
        whole.iter().for_each(|number| drop(map.insert(*number, Vec::new())));
        let filter = SeccompFilter::new(map, SeccompAction::Log, SeccompAction::Errno(7), "x86_64".try_into().unwrap());
        let theirs: BpfProgram = filter.unwrap().try_into().unwrap();
        let theirs: Vec<Instruction> =
            theirs.iter().map(|i| Instruction { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
        let ours = profile.compile().0;
        for _ in 0..100 {
            let data = Data { arch: Arch::X86_64.audit(), ..random::call(&mut random, &profile) };
            // It knows no other architecture, x32 included.
            if data.number < table::X32_BIT {
                let (found, expected) = (simulate::run(&ours, &data).0, simulate::run(&theirs, &data).0);
                assert_eq!(found, expected, "{data:x?}\n{profile:x?}");
                decided += usize::from(found != Action::LOG.0);
            }
        }
    }
    assert!(decided > 2000, "{decided}");
}
