//! Profiles and calls at random, the same ones each time.

use super::super::{Action, Arch, Condition, Operator, Profile, Rule, table};
use super::Data;

/// SplitMix64.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub(super) fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const ACTIONS: [Action; 9] = [
    Action::ALLOW,
    Action::errno(1),
    Action::errno(0),
    Action::errno(4094),
    Action::KILL_PROCESS,
    Action::KILL_THREAD,
    Action::TRAP,
    Action::LOG,
    Action::trace(7),
];

const VALUES: [u64; 10] = [0, 1, 5, 8, 40, 0x2_0000, 0xffff_ffff, 0x1_0000_0000, 0x5_0000_0007, 0xffff_ffff_ffff_ffff];

pub(super) fn value(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => random.next(),
        1 => random.next() & 0xffff_ffff,
        2 => random.pick(&VALUES).wrapping_add(random.below(3) as u64).wrapping_sub(1),
        _ => random.pick(&VALUES),
    }
}

/// Up to `most` rules, for few system calls, so that many meet.
pub(super) fn profile<'a>(random: &mut Random, names: &[&'a str], most: usize, one_action: bool) -> Profile<'a> {
    let architectures: &[Arch] = random.pick(&[
        &[Arch::X86_64][..],
        &[Arch::X86_64, Arch::X86],
        &[Arch::X86_64, Arch::X32],
        &[Arch::X86_64, Arch::X86, Arch::X32],
        &[Arch::Aarch64, Arch::Arm],
        &[Arch::Aarch64],
    ]);
    let default = random.pick(&ACTIONS);
    let few: Vec<&str> = (0..1 + random.below(30)).map(|_| random.pick(names)).collect();
    let only = random.pick(&ACTIONS);
    let rules = (0..random.below(most) + 1).map(|_| {
        let names = (0..1 + random.below(6)).map(|_| random.pick(&few)).collect();
        let action = if one_action { only } else { random.pick(&ACTIONS) };
        Rule { names, action, conditions: conditions(random) }
    });
    Profile { default, architectures: architectures.to_vec(), rules: rules.collect() }
}

fn conditions(random: &mut Random) -> Vec<Condition> {
    use Operator::*;
    let mut list: Vec<Condition> = Vec::new();
    for _ in 0..random.pick(&[0, 0, 1, 1, 1, 2, 3]) {
        let argument = random.below(6) as u8;
        if list.iter().any(|other| other.argument == argument) {
            continue;
        }
        let operator = random.pick(&[Ne, Lt, Le, Eq, Eq, Ge, Gt, MaskedEq]);
        let mask = if operator == MaskedEq { value(random) } else { u64::MAX };
        list.push(Condition { argument, operator, value: value(random), mask });
    }
    list
}

/// A call that may interest the profile.
pub(super) fn call(random: &mut Random, profile: &Profile<'_>) -> Data {
    let arch = random.pick(&profile.architectures);
    let other = random.below(40) == 0;
    let audit = if other { Arch::X86.audit() ^ 1 } else { arch.audit() };
    let rule = &profile.rules[random.below(profile.rules.len())];
    let named = table::find(random.pick(&rule.names)).and_then(|numbers| table::number(numbers, arch));
    let number = match (random.below(8), named) {
        (0, _) => random.next() as u32,
        (1, _) => random.below(600) as u32 | if random.below(2) == 0 { table::X32_BIT } else { 0 },
        (2, Some(number)) => number.wrapping_add(random.below(3) as u32).wrapping_sub(1),
        (3, _) if arch == Arch::X86 => random.pick(&[102, 117]),
        (_, Some(number)) => number,
        (_, None) => random.pick(&[0, 471, 472, 0x4000_0000, 0x8000_0000, 0xc000_0000, u32::MAX]),
    };
    let mut arguments = [0; 6];
    for (at, argument) in arguments.iter_mut().enumerate() {
        let near = rule.conditions.iter().find(|condition| usize::from(condition.argument) == at);
        *argument = match (near, random.below(4)) {
            (Some(condition), 0) => condition.value,
            (Some(condition), 1) => condition.value.wrapping_add(random.below(3) as u64).wrapping_sub(1),
            (Some(condition), 2) => condition.value ^ (1 << random.below(64)),
            _ if arch == Arch::X86 && number == 102 => 1 + random.below(20) as u64,
            _ => value(random),
        };
    }
    if number == 102 && random.below(2) == 0 {
        arguments[0] = 1 + random.below(20) as u64;
    }
    Data { number, arch: audit, arguments }
}
