//! The rules of a profile, sorted by architecture and number: for each number one verdict.

use super::table::{self, X32_BIT};
use super::{Action, Arch, Condition, Operator, Profile};

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
    number: u32,
    rule: usize,
    /// x86 has two calls that many others go through; this is the first argument that means the named one.
    through: Option<u8>,
}

/// What the rules say about one architecture.
struct Claims {
    arch: Arch,
    claims: Vec<Claim>,
    /// The highest number that the profile names.
    highest: Option<u32>,
}

/// Private calls of arm begin here (`__ARM_NR_BASE`), far above the others.
const ARM_PRIVATE: u32 = 0xf_0000;

pub(super) fn sections(profile: &Profile<'_>) -> Vec<Section> {
    let mut of_arch: Vec<Claims> = profile
        .architectures
        .iter()
        .map(|arch| Claims { arch: *arch, claims: Vec::with_capacity(512), highest: None })
        .collect();
    for (index, rule) in profile.rules.iter().enumerate() {
        // It says nothing, but its names are known to the profile.
        let silent = rule.action == profile.default;
        for entry in rule.names.iter().filter_map(|name| table::find(name)) {
            for claims in &mut of_arch {
                claims.add(entry, index, silent);
            }
        }
    }
    let mut sections: Vec<Section> = Vec::new();
    for claims in &of_arch {
        let audit = claims.arch.audit();
        if sections.iter().all(|section| section.audit != audit) {
            // x32 calls have the higher numbers.
            let mut group: Vec<&Claims> = of_arch.iter().filter(|claims| claims.arch.audit() == audit).collect();
            group.sort_by_key(|claims| claims.arch == Arch::X32);
            sections.push(Section { audit, ranges: ranges(profile, &group) });
        }
    }
    sections
}

impl Claims {
    fn add(&mut self, entry: &table::Entry, rule: usize, silent: bool) {
        let number = table::number(entry, self.arch);
        if let Some(number) = number.filter(|number| self.arch != Arch::Arm || *number < ARM_PRIVATE) {
            self.highest = self.highest.max(Some(number));
        }
        if silent {
            return;
        }
        self.claims.extend(number.map(|number| Claim { number, rule, through: None }));
        if self.arch == Arch::X86
            && let Some((number, first)) = entry.through()
        {
            self.claims.push(Claim { number, rule, through: Some(first) });
        }
    }
}

/// Of the one or two architectures that share an AUDIT_ARCH_* value.
fn ranges(profile: &Profile<'_>, group: &[&Claims]) -> Vec<(u32, Verdict)> {
    let calls = group.iter().flat_map(|claims| verdicts(profile, claims));
    let mut ranges = Ranges { list: Vec::with_capacity(256), unclaimed: unclaimed(profile, group), next: 0 };
    for (number, verdict) in calls {
        ranges.leave_unclaimed(u64::from(number));
        ranges.push(number, verdict);
        ranges.next = u64::from(number) + 1;
    }
    ranges.leave_unclaimed(1 << 32);
    ranges.list
}

/// What happens to numbers that no rule is about: ranges by their first number.
fn unclaimed(profile: &Profile<'_>, group: &[&Claims]) -> Vec<(u32, Action)> {
    let too_new = Action::errno(libc::ENOSYS as u16);
    let young = !profile.default.is_permissive();
    let mut list = Vec::new();
    for claims in group {
        let start = if claims.arch == Arch::X32 { X32_BIT } else { 0 };
        list.push((start, profile.default));
        if let Some(highest) = claims.highest.filter(|_| young) {
            list.push((highest + 1, too_new));
            if claims.arch == Arch::Arm {
                list.push((ARM_PRIVATE, profile.default));
            }
        }
    }
    if let [Claims { arch: Arch::X86_64, highest, .. }] = group {
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
    /// The first number that is not covered yet.
    next: u64,
}

impl Ranges {
    /// Covers the numbers up to `end` with what holds for those without a rule.
    fn leave_unclaimed(&mut self, end: u64) {
        for index in 0..self.unclaimed.len() {
            let (start, action) = self.unclaimed[index];
            let until = self.unclaimed.get(index + 1).map_or(1 << 32, |(next, _)| u64::from(*next));
            let first = self.next.max(u64::from(start));
            if first < until.min(end) {
                self.push(first as u32, Verdict::Return(action));
            }
        }
    }

    fn push(&mut self, start: u32, verdict: Verdict) {
        if self.list.last().is_none_or(|(_, last)| *last != verdict) {
            self.list.push((start, verdict));
        }
    }
}

/// One verdict for each number with a rule, in the order of the numbers.
fn verdicts(profile: &Profile<'_>, claims: &Claims) -> Vec<(u32, Verdict)> {
    let mut order: Vec<&Claim> = claims.claims.iter().collect();
    // Stable: claims on the same number stay in the order of the rules.
    order.sort_by_key(|claim| claim.number);
    let same = order.chunk_by(|a, b| a.number == b.number);
    same.map(|claims_on_it| (claims_on_it[0].number, verdict(profile, claims.arch, claims_on_it))).collect()
}

fn verdict(profile: &Profile<'_>, arch: Arch, claims: &[&Claim]) -> Verdict {
    let wide = arch.is_64_bit();
    let mut cases: Vec<Case> = Vec::new();
    for claim in claims {
        let rule = &profile.rules[claim.rule];
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
