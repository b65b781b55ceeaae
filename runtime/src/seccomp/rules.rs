//! The rules of a profile, sorted by architecture and number: for each number one verdict.

use super::table::{self, Call, X32_BIT};
use super::{Action, Arch, Condition, Operator, Profile, Rule};

/// What happens to a call of one number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Return(Action),
    Depends(Cases),
}

/// The first whose conditions hold counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cases {
    pub cases: Vec<Case>,
    pub otherwise: Action,
    /// Compare all 64 bits of arguments.
    pub wide: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Case {
    /// Ordered by argument.
    pub conditions: Vec<Condition>,
    pub action: Action,
}

/// All calls with one AUDIT_ARCH_* value.
#[derive(Debug)]
pub(super) struct Section {
    pub audit: u32,
    /// The first number of each range of calls with the same verdict, from 0 on.
    pub ranges: Vec<(u32, Verdict)>,
}

/// A rule's claim on a number.
struct Claim {
    rule: u32,
    /// x86 has two calls that many others go through; this is the first argument that means the named one.
    through: Option<u8>,
}

/// What the profile says of one architecture as a whole.
struct Known {
    arch: Arch,
    /// The highest number that the profile names.
    highest: Option<u32>,
}

/// Which rules name which calls. Those that say nothing are not in it.
struct Named {
    /// By the place of the call in the table.
    first: Vec<First>,
    /// In the order of the rules.
    given: Vec<(Call, u32)>,
    /// The same for calls whose first rule has conditions, in the order of the calls.
    sorted: Vec<(Call, u32)>,
}

/// The first rule that names a call.
#[derive(Clone, Copy)]
enum First {
    None,
    /// It has no conditions, so that it counts on all architectures.
    Always(Action),
    Conditional,
}

/// Private calls of arm begin here (`__ARM_NR_BASE`), far above the others.
const ARM_PRIVATE: u32 = 0xf_0000;

/// With the names that are no calls at all.
pub(super) fn sections<'a>(profile: &Profile<'a>) -> (Vec<Section>, Vec<&'a str>) {
    let mut known: Vec<Known> = profile.architectures.iter().map(|arch| Known { arch: *arch, highest: None }).collect();
    let mut unknown: Vec<&str> = Vec::new();
    let mut named = Named::new(profile);
    for (index, rule) in profile.rules.iter().enumerate() {
        for name in &rule.names {
            let Some(call) = table::find(name) else {
                if !unknown.contains(name) {
                    unknown.push(name);
                }
                continue;
            };
            for known in &mut known {
                let number = table::number(call, known.arch);
                known.highest = known.highest.max(number.filter(|n| known.arch != Arch::Arm || *n < ARM_PRIVATE));
            }
            // Else it says nothing, but its names are known to the profile.
            if rule.action != profile.default {
                named.add(call, index as u32, rule);
            }
        }
    }
    // Stable.
    named.sorted.sort_by_key(|(call, _)| *call);
    let mut sections: Vec<Section> = Vec::new();
    for Known { arch, .. } in &known {
        let audit = arch.audit();
        if sections.iter().all(|section| section.audit != audit) {
            // x32 calls have the higher numbers.
            let mut group: Vec<&Known> = known.iter().filter(|known| known.arch.audit() == audit).collect();
            group.sort_by_key(|known| known.arch == Arch::X32);
            sections.push(Section { audit, ranges: ranges(profile, &group, &named) });
        }
    }
    (sections, unknown)
}

impl Named {
    fn new(profile: &Profile<'_>) -> Named {
        let count = profile.rules.iter().map(|rule| rule.names.len()).sum();
        Named { first: vec![First::None; table::COUNT], given: Vec::with_capacity(count), sorted: Vec::new() }
    }

    fn add(&mut self, call: Call, index: u32, rule: &Rule<'_>) {
        self.given.push((call, index));
        let first = &mut self.first[call.index()];
        match first {
            First::None if rule.conditions.is_empty() => *first = First::Always(rule.action),
            First::None | First::Conditional => {
                *first = First::Conditional;
                self.sorted.push((call, index));
            }
            First::Always(_) => {}
        }
    }

    /// What happens to a call with this number, which these calls have; None if no rule is about it.
    fn verdict(&self, profile: &Profile<'_>, arch: Arch, number: u32, calls: &[(u32, Call)]) -> Option<Verdict> {
        let is_through = arch == Arch::X86 && table::is_through(number);
        let ([(_, call)], false) = (calls, is_through) else {
            return self.gather(profile, arch, number, calls, is_through);
        };
        match self.first[call.index()] {
            First::None => None,
            First::Always(action) => Some(Verdict::Return(action)),
            First::Conditional => {
                let start = self.sorted.partition_point(|(other, _)| other < call);
                let of_call = self.sorted[start..].iter().take_while(|(other, _)| other == call);
                let claims: Vec<Claim> = of_call.map(|(_, rule)| Claim { rule: *rule, through: None }).collect();
                Some(verdict(profile, arch, &claims))
            }
        }
    }

    /// The same for a number that several calls have or go through.
    fn gather(
        &self,
        profile: &Profile<'_>,
        arch: Arch,
        number: u32,
        calls: &[(u32, Call)],
        is_through: bool,
    ) -> Option<Verdict> {
        let mut claims = Vec::new();
        for (call, rule) in &self.given {
            if calls.iter().any(|(_, other)| other == call) {
                claims.push(Claim { rule: *rule, through: None });
            }
            if let Some((_, first)) = call.through().filter(|(through, _)| is_through && *through == number) {
                claims.push(Claim { rule: *rule, through: Some(first) });
            }
        }
        (!claims.is_empty()).then(|| verdict(profile, arch, &claims))
    }
}

/// Of the one or two architectures that share an AUDIT_ARCH_* value.
fn ranges(profile: &Profile<'_>, group: &[&Known], named: &Named) -> Vec<(u32, Verdict)> {
    let unclaimed = unclaimed(profile, group);
    let mut ranges = Ranges { list: Vec::with_capacity(256), unclaimed, at: 0, next: 0 };
    for Known { arch, .. } in group {
        let bit = if *arch == Arch::X32 { X32_BIT } else { 0 };
        for calls in table::by_number(*arch) {
            let number = calls[0].0 | bit;
            if let Some(verdict) = named.verdict(profile, *arch, number, calls) {
                ranges.leave_unclaimed(u64::from(number));
                ranges.push(number, verdict);
                ranges.next = u64::from(number) + 1;
            }
        }
    }
    ranges.leave_unclaimed(1 << 32);
    ranges.list
}

/// What happens to numbers that no rule is about: ranges by their first number.
fn unclaimed(profile: &Profile<'_>, group: &[&Known]) -> Vec<(u32, Action)> {
    let too_new = Action::errno(libc::ENOSYS as u16);
    let young = !profile.default.is_permissive();
    let mut list = Vec::new();
    for known in group {
        let start = if known.arch == Arch::X32 { X32_BIT } else { 0 };
        list.push((start, profile.default));
        if let Some(highest) = known.highest.filter(|_| young) {
            list.push((highest + 1, too_new));
            if known.arch == Arch::Arm {
                list.push((ARM_PRIVATE, profile.default));
            }
        }
    }
    if let [Known { arch: Arch::X86_64, highest }] = group {
        // The calls of x32, which is not in the filter. Numbers with the highest bit are nobody's, and -1 is what a
        // tracer leaves of a call to be skipped.
        list.push((X32_BIT, Action::KILL_THREAD));
        if highest.is_some() && young {
            list.push((1 << 31, too_new));
            list.push((1 << 31 | X32_BIT, Action::KILL_THREAD));
        }
        list.push((u32::MAX, profile.default));
    }
    list
}

struct Ranges {
    list: Vec<(u32, Verdict)>,
    unclaimed: Vec<(u32, Action)>,
    /// The one of those that the next number is in, or comes before.
    at: usize,
    /// The first number that is not covered yet.
    next: u64,
}

impl Ranges {
    /// Covers the numbers up to `end` with what holds for those without a rule.
    fn leave_unclaimed(&mut self, end: u64) {
        while let Some((start, action)) = self.unclaimed.get(self.at).copied() {
            let first = self.next.max(u64::from(start));
            if first >= end {
                break;
            }
            let until = self.unclaimed.get(self.at + 1).map_or(1 << 32, |(next, _)| u64::from(*next));
            if first < until {
                self.push(first as u32, Verdict::Return(action));
                self.next = until.min(end);
            }
            if until <= end {
                self.at += 1;
            }
        }
    }

    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.list.last().is_none_or(|(_, last)| *last != verdict) {
            self.list.push((start, verdict));
        }
    }
}

fn verdict(profile: &Profile<'_>, arch: Arch, claims: &[Claim]) -> Verdict {
    let wide = arch.is_64_bit();
    let mut cases: Vec<Case> = Vec::new();
    for claim in claims {
        let rule = &profile.rules[claim.rule as usize];
        if rule.conditions.is_empty() && claim.through.is_none() {
            return Verdict::Return(rule.action);
        }
        let conditions = conditions(&rule.conditions, claim.through, wide);
        if conditions.is_empty() {
            return Verdict::Return(rule.action);
        }
        if cases.iter().any(|case| case.conditions == conditions) {
            continue;
        }
        let place = cases.iter().position(|case| comes_before(&conditions, &case.conditions, wide));
        cases.insert(place.unwrap_or(cases.len()), Case { conditions, action: rule.action });
    }
    Verdict::Depends(Cases { cases, otherwise: profile.default, wide })
}

/// As the architecture sees them, in the order of the arguments.
fn conditions(given: &[Condition], through: Option<u8>, wide: bool) -> Vec<Condition> {
    // The arguments of the call itself are in memory then, where no filter looks.
    let first =
        through.map(|value| Condition { argument: 0, operator: Operator::Eq, value: u64::from(value), mask: u64::MAX });
    let rest = given.iter().filter(|condition| first.is_none() || condition.argument != 0).copied();
    let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let mut list: Vec<Condition> = first
        .into_iter()
        .chain(rest)
        .map(|condition| {
            let mask = condition.mask & bits;
            Condition { mask, value: condition.value & mask, ..condition }
        })
        .filter(|condition| condition.operator != Operator::MaskedEq || condition.mask != 0)
        .collect();
    list.sort_by_key(|condition| condition.argument);
    list
}

/// The order in which libseccomp's tree tries rules, where it matters since they overlap and differ: those about later
/// arguments first, then equality before "less" before "greater", then the narrower range or the larger value.
fn comes_before(a: &[Condition], b: &[Condition], wide: bool) -> bool {
    for (a, b) in a.iter().zip(b) {
        for high in [true, false] {
            let (a, b) = (Key::new(a, high, wide), Key::new(b, high, wide));
            if a.rank != b.rank {
                return a.rank > b.rank;
            }
            // Of the same rank and not the same: in the order given.
            if a.node != b.node {
                return false;
            }
        }
    }
    a.len() < b.len()
}

/// A comparison of one half of an argument.
struct Key {
    /// The higher one comes first.
    rank: (u8, u8, u32),
    /// The comparison itself.
    node: (Operator, u32),
}

impl Key {
    fn new(condition: &Condition, high: bool, wide: bool) -> Key {
        use Operator::*;
        let shift = if high { 32 } else { 0 };
        let (mask, value) = ((condition.mask >> shift) as u32, (condition.value >> shift) as u32);
        let compared = if high { wide && mask != 0 } else { true };
        let kind = match condition.operator {
            Eq | Ne | MaskedEq => 3,
            Lt | Le => 2,
            Ge | Gt => 1,
        };
        let value = if kind == 2 { !value } else { value };
        let node = match (condition.operator, high) {
            (Eq | Ne, _) => Eq,
            (MaskedEq, _) => MaskedEq,
            (_, true) | (Gt | Le, false) => Gt,
            (Ge | Lt, false) => Ge,
        };
        // A half that is not compared comes after all that are.
        let argument = 2 * condition.argument + u8::from(compared && high);
        if compared || !high {
            Key { rank: (argument, kind, value), node: (node, mask) }
        } else {
            Key { rank: (argument, 0, 0), node: (Eq, 0) }
        }
    }
}
