//! What programs answer, said by hand.

use super::super::{Action, Arch, Condition, MAX_INSTRUCTIONS, Operator, Profile, Rule, table};
use super::{DOCKER, Data, PODMAN, on, parse, simulate};

const X86_64: u32 = Arch::X86_64.audit();
const X86: u32 = Arch::X86.audit();
const EPERM: Action = Action::errno(1);
const ENOSYS: Action = Action::errno(38);

fn profile<'a>(default: Action, architectures: &[Arch], rules: &[(&'a str, Action, Vec<Condition>)]) -> Profile<'a> {
    let rules = rules.iter().map(|(name, action, conditions)| Rule {
        names: vec![name],
        action: *action,
        conditions: conditions.clone(),
    });
    Profile { default, architectures: architectures.to_vec(), rules: rules.collect() }
}

fn compare(argument: u8, operator: Operator, value: u64) -> Condition {
    Condition { argument, operator, value, mask: u64::MAX }
}

fn ask(profile: &Profile<'_>, arch: u32, number: u32, arguments: [u64; 6]) -> Action {
    Action(simulate::run(&profile.compile().0, &Data { number, arch, arguments }).0)
}

#[test]
fn the_table_is_sorted_and_complete() {
    let text = include_str!("../syscalls.txt");
    let names: Vec<&str> = text.lines().skip(1).map(|line| line.split(' ').next().unwrap()).collect();
    assert!(names.is_sorted_by(|a, b| a.as_bytes() < b.as_bytes()));
    for line in text.lines().skip(1) {
        let mut fields = line.split(' ');
        let numbers = table::find(fields.next().unwrap()).unwrap();
        let columns = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];
        for (arch, field) in columns.into_iter().zip(fields) {
            let bit = if arch == Arch::X32 { table::X32_BIT } else { 0 };
            assert_eq!(table::number(numbers, arch), field.parse::<u32>().ok().map(|n| n | bit), "{line}");
        }
    }
    assert_eq!(table::find("no_such_call"), None);
    assert!(table::KERNEL.starts_with(|c: char| c.is_ascii_digit()));
}

#[test]
fn the_headers_agree_with_those_of_the_c_library() {
    for (name, number) in [
        ("read", libc::SYS_read),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("openat2", libc::SYS_openat2),
        ("clone3", libc::SYS_clone3),
        ("landlock_add_rule", libc::SYS_landlock_add_rule),
    ] {
        let numbers = table::find(name).unwrap();
        assert_eq!(table::number(numbers, Arch::native().unwrap()), Some(number as u32), "{name}");
    }
}

/// Each operator at the edges of both halves of an argument.
#[test]
fn operators() {
    let value = 0x0000_0005_0000_0007u64;
    let inputs = [0, 7, value - 1, value, value + 1, value - (1 << 32), value + (1 << 32), u64::MAX, 5 << 32, 8];
    type Holds = fn(u64, u64) -> bool;
    let holds: [(Operator, Holds); 6] = [
        (Operator::Eq, |a, b| a == b),
        (Operator::Ne, |a, b| a != b),
        (Operator::Lt, |a, b| a < b),
        (Operator::Le, |a, b| a <= b),
        (Operator::Gt, |a, b| a > b),
        (Operator::Ge, |a, b| a >= b),
    ];
    for (operator, holds) in holds {
        let conditions = vec![compare(3, operator, value)];
        let profile = profile(EPERM, &[Arch::X86_64, Arch::X86], &[("kill", Action::ALLOW, conditions)]);
        for input in inputs {
            let arguments = [9, 9, 9, input, 9, 9];
            let expected = |holds: bool| if holds { Action::ALLOW } else { EPERM };
            assert_eq!(ask(&profile, X86_64, 62, arguments), expected(holds(input, value)), "{operator:?} {input:#x}");
            let low = |n: u64| n & 0xffff_ffff;
            assert_eq!(ask(&profile, X86, 37, arguments), expected(holds(low(input), low(value))), "{operator:?}");
        }
    }
}

#[test]
fn masks() {
    let condition = Condition { argument: 1, operator: Operator::MaskedEq, value: 0x1_0000_0010, mask: 0x3_0000_00f0 };
    let profile = profile(EPERM, &[Arch::X86_64], &[("kill", Action::ALLOW, vec![condition])]);
    for (input, expected) in [
        (0x1_0000_0010, Action::ALLOW),
        (0xffff_fffd_ffff_ff1f, Action::ALLOW),
        (0x1_0000_0030, EPERM),
        (0x3_0000_0010, EPERM),
        (0x10, EPERM),
    ] {
        assert_eq!(ask(&profile, X86_64, 62, [0, input, 0, 0, 0, 0]), expected, "{input:#x}");
    }
}

#[test]
fn conditions_of_a_rule_hold_together() {
    let conditions = vec![compare(2, Operator::Ge, 5), compare(0, Operator::Eq, 1)];
    let profile = profile(Action::ALLOW, &[Arch::X86_64], &[("kill", Action::errno(7), conditions)]);
    for (arguments, expected) in [([1, 0, 5], Action::errno(7)), ([1, 0, 4], Action::ALLOW), ([2, 0, 5], Action::ALLOW)]
    {
        let [a, b, c] = arguments;
        assert_eq!(ask(&profile, X86_64, 62, [a, b, c, 0, 0, 0]), expected);
    }
}

#[test]
fn which_rule_counts() {
    let one = || vec![compare(0, Operator::Eq, 1)];
    let rules = [("kill", Action::LOG, one()), ("kill", Action::ALLOW, vec![]), ("kill", Action::TRAP, vec![])];
    let profile = profile(EPERM, &[Arch::X86_64], &rules);
    assert_eq!(ask(&profile, X86_64, 62, [1, 0, 0, 0, 0, 0]), Action::ALLOW, "the first without conditions");
    // Of ranges that overlap the narrower one.
    let above = |value| vec![compare(0, Operator::Ge, value)];
    let rules = [("kill", Action::LOG, above(5)), ("kill", Action::ALLOW, above(10))];
    let profile = super::verdicts::profile(EPERM, &[Arch::X86_64], &rules);
    for (value, expected) in [(4, EPERM), (5, Action::LOG), (9, Action::LOG), (10, Action::ALLOW)] {
        assert_eq!(ask(&profile, X86_64, 62, [value, 0, 0, 0, 0, 0]), expected);
    }
}

#[test]
fn numbers_above_the_highest_that_is_named() {
    // The highest is known by a rule that says nothing, too.
    let rules = [("read", Action::ALLOW, vec![]), ("clone3", EPERM, vec![])];
    let strict = profile(EPERM, &[Arch::X86_64, Arch::X86], &rules);
    for (arch, number, expected) in [
        (X86_64, 0, Action::ALLOW),
        (X86_64, 1, EPERM),
        (X86_64, 435, EPERM),
        (X86_64, 436, ENOSYS),
        (X86, 3, Action::ALLOW),
        (X86, 435, EPERM),
        (X86, 436, ENOSYS),
        // x32 is not in the filter, nor is arm64.
        (X86_64, 0x4000_0000, Action::KILL_THREAD),
        (X86_64, u32::MAX, EPERM),
        (Arch::Aarch64.audit(), 63, Action::KILL_THREAD),
    ] {
        assert_eq!(ask(&strict, arch, number, [0; 6]), expected, "{arch:#x} {number}");
    }
    for default in [Action::ALLOW, Action::LOG, Action::trace(1)] {
        let open = profile(default, &[Arch::X86_64], &[("read", EPERM, vec![])]);
        assert_eq!(ask(&open, X86_64, 9999, [0; 6]), default);
    }
}

#[test]
fn calls_of_arm_that_are_its_own() {
    let rules = [("set_tls", Action::ALLOW, vec![]), ("statx", Action::ALLOW, vec![])];
    let profile = profile(EPERM, &[Arch::Aarch64, Arch::Arm], &rules);
    let arm = Arch::Arm.audit();
    for (number, expected) in [(397, Action::ALLOW), (398, ENOSYS), (0xf_0005, Action::ALLOW), (0xf_0002, EPERM)] {
        assert_eq!(ask(&profile, arm, number, [0; 6]), expected, "{number:#x}");
    }
}

#[test]
fn calls_that_go_through_others_on_x86() {
    let rules = [("socket", Action::ALLOW, vec![compare(0, Operator::Ne, 40)]), ("shmget", Action::ALLOW, vec![])];
    let profile = profile(EPERM, &[Arch::X86_64, Arch::X86], &rules);
    for (number, first, expected) in [
        (359, 2, Action::ALLOW),
        (359, 40, EPERM),
        (102, 1, Action::ALLOW),
        (102, 2, EPERM),
        (117, 23, Action::ALLOW),
        (117, 24, EPERM),
        (395, 0, Action::ALLOW),
    ] {
        assert_eq!(ask(&profile, X86, number, [first, 0, 0, 0, 0, 0]), expected, "{number} {first}");
    }
}

/// Jumps reach 255 instructions.
#[test]
fn long_programs() {
    let names: Vec<&str> =
        include_str!("../syscalls.txt").lines().skip(1).filter_map(|l| l.split(' ').next()).collect();
    let rules: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, Action::errno(100 + at as u16), vec![compare(0, Operator::Ge, 1 << 33)]))
        .collect();
    let profile = profile(EPERM, &[Arch::X86_64, Arch::X32], &rules);
    let program = profile.compile().0;
    assert!(program.len() > 2000);
    for (at, name) in names.iter().enumerate() {
        let Some(number) = table::number(table::find(name).unwrap(), Arch::X86_64) else { continue };
        for (first, expected) in [(0, EPERM), (1 << 33, Action::errno(100 + at as u16))] {
            let data = Data { number, arch: X86_64, arguments: [first, 0, 0, 0, 0, 0] };
            assert_eq!(Action(simulate::run(&program, &data).0), expected, "{name}");
        }
    }
}

/// The figures of the README; a change for the worse shows here.
#[test]
fn programs_of_engines_are_short() {
    for (name, text, most) in [("docker", DOCKER, 300), ("podman", PODMAN, 300)] {
        let given = parse(text);
        let profile = on(&given, &[Arch::X86_64, Arch::X86, Arch::X32]);
        let program = profile.compile().0;
        let mut longest = 0;
        for arch in [X86_64, X86] {
            for number in (0..600).chain(0x4000_0000..0x4000_0300) {
                for first in [0, 1, 8, 40, u64::MAX] {
                    let data = Data { number, arch, arguments: [first; 6] };
                    longest = longest.max(simulate::run(&program, &data).1);
                }
            }
        }
        // What the kernel runs through to learn which calls are always allowed.
        let calls = [X86_64, X86].into_iter().flat_map(|arch| (0..470).map(move |number| (arch, number)));
        let all: usize =
            calls.map(|(arch, number)| simulate::run(&program, &Data { number, arch, ..Data::default() }).1).sum();
        let start = std::time::Instant::now();
        (0..100).for_each(|_| drop(profile.compile().0));
        let elapsed = start.elapsed() / 100;
        println!("{name}: {} instructions, longest path {longest}, all {all}, {elapsed:?}", program.len());
        assert!(program.len() < most && program.len() <= MAX_INSTRUCTIONS, "{name}: {}", program.len());
        assert!(longest < 25 && all < 12_000, "{name}: {longest}, {all}");
    }
}
