//! Writes the program: a jump for each architecture, then a binary tree over the numbers of its calls.
//!
//! It is written from its end to its beginning, so that all targets of a jump are known when it is written.

use super::rules::{Case, Cases, Section, Verdict};
use super::{Action, Condition, Instruction, Operator};

// linux/bpf_common.h
const LD_W_ABS: u16 = 0x20;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_K: u16 = 0x25;
const JGE_K: u16 = 0x35;
const AND_K: u16 = 0x54;
const RET_K: u16 = 0x06;

// struct seccomp_data of linux/seccomp.h; the lower half of an argument comes first on all machines that proa knows.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u8, high: bool) -> u32 {
    16 + 8 * index as u32 + 4 * high as u32
}

/// Where an instruction is: how many there are behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(usize);

struct Writer<'s> {
    /// The last instruction first.
    code: Vec<Instruction>,
    /// The nearest return with each action.
    returns: Vec<(Action, Place)>,
    /// Where comparisons of arguments are: calls of several architectures have the same.
    cases: Vec<(&'s Cases, Place)>,
}

pub(super) fn write(sections: &[Section]) -> Vec<Instruction> {
    let mut writer = Writer { code: Vec::with_capacity(1024), returns: Vec::new(), cases: Vec::new() };
    // Of the architectures the first one is asked for first.
    let places: Vec<(u32, Place)> =
        sections.iter().rev().map(|section| (section.audit, writer.section(section))).collect();
    let mut next = writer.action(Action::KILL_THREAD);
    for (audit, place) in places {
        next = writer.jump(JEQ_K, audit, place, next);
    }
    writer.begin_at(next);
    writer.emit(LD_W_ABS, ARCH);
    writer.code.reverse();
    writer.code
}

/// As many numbers are asked for one by one.
const ONE_BY_ONE: usize = 3;

/// What holds for these numbers but for a few that stand alone.
fn ground(ranges: &[(u32, Verdict)], end: u64) -> Option<&Verdict> {
    if ranges.len() > 2 * ONE_BY_ONE + 1 {
        return None;
    }
    let ends = ranges.iter().skip(1).map(|(start, _)| u64::from(*start)).chain([end]);
    let is_ground = |around: &Verdict| {
        let mut others = ranges.iter().zip(ends.clone()).filter(|((_, verdict), _)| verdict != around);
        others.all(|((start, _), end)| u64::from(*start) + 1 == end)
    };
    ranges.iter().take(2).map(|(_, verdict)| verdict).find(|verdict| is_ground(verdict))
}

/// Whether an argument is compared with values that have the same upper half, and with nothing else.
fn are_values(cases: &[Case], wide: bool) -> bool {
    let bits = if wide { u64::MAX } else { u64::from(u32::MAX) };
    let one = |case: &Case| match case.conditions[..] {
        [Condition { argument, operator: Operator::Eq, value, mask }] if mask == bits => Some((argument, value >> 32)),
        _ => None,
    };
    cases.first().is_some_and(|first| one(first).is_some() && cases.iter().all(|case| one(case) == one(first)))
}

impl<'s> Writer<'s> {
    fn emit(&mut self, code: u16, k: u32) -> Place {
        self.code.push(Instruction { code, jt: 0, jf: 0, k });
        Place(self.code.len() - 1)
    }

    /// How many instructions a jump that is written next has to skip.
    fn distance(&self, to: Place) -> usize {
        self.code.len() - to.0 - 1
    }

    /// A place that such a jump can reach even if `more` instructions come between.
    fn reachable(&mut self, to: Place, more: usize) -> Place {
        if self.distance(to) + more <= usize::from(u8::MAX) {
            return to;
        }
        match self.code[to.0] {
            Instruction { code: RET_K, k, .. } => self.new_return(Action(k)),
            _ => {
                let skip = self.distance(to) as u32;
                self.emit(JA, skip)
            }
        }
    }

    fn jump(&mut self, code: u16, k: u32, if_true: Place, if_false: Place) -> Place {
        if if_true == if_false {
            return if_true;
        }
        let if_true = self.reachable(if_true, 1);
        let if_false = self.reachable(if_false, 0);
        let (jt, jf) = (self.distance(if_true) as u8, self.distance(if_false) as u8);
        self.code.push(Instruction { code, jt, jf, k });
        Place(self.code.len() - 1)
    }

    /// Makes what is written next go on there.
    fn begin_at(&mut self, place: Place) {
        let skip = self.distance(place) as u32;
        if skip > 0 {
            self.emit(JA, skip);
        }
    }

    fn new_return(&mut self, action: Action) -> Place {
        let place = self.emit(RET_K, action.0);
        self.returns.retain(|(known, _)| *known != action);
        self.returns.push((action, place));
        place
    }

    fn action(&mut self, action: Action) -> Place {
        let known = self.returns.iter().find(|(known, _)| *known == action).map(|(_, place)| *place);
        match known {
            Some(place) => self.reachable(place, 8),
            None => self.new_return(action),
        }
    }

    fn section(&mut self, section: &'s Section) -> Place {
        let root = self.tree(&section.ranges, 1 << 32);
        self.begin_at(root);
        self.emit(LD_W_ABS, NUMBER)
    }

    /// Finds the range of the number in the accumulator, which is below `end`.
    fn tree(&mut self, ranges: &'s [(u32, Verdict)], end: u64) -> Place {
        if let [(_, verdict)] = ranges {
            return self.verdict(verdict);
        }
        if let Some(around) = ground(ranges, end) {
            let mut next = self.verdict(around);
            for (number, verdict) in ranges.iter().rev().filter(|(_, verdict)| verdict != around) {
                let hit = self.verdict(verdict);
                next = self.jump(JEQ_K, *number, hit, next);
            }
            return next;
        }
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let Some((first, _)) = high.first() else { return self.action(Action::KILL_THREAD) };
        let high = self.tree(high, end);
        let low = self.tree(low, u64::from(*first));
        self.jump(JGE_K, *first, high, low)
    }

    fn verdict(&mut self, verdict: &'s Verdict) -> Place {
        let cases = match verdict {
            Verdict::Return(action) => return self.action(*action),
            Verdict::Depends(cases) => cases,
        };
        let known = self.cases.iter().find(|(known, _)| *known == cases).map(|(_, place)| *place);
        if let Some(place) = known {
            return self.reachable(place, 8);
        }
        let place = self.cases(cases);
        self.cases.push((cases, place));
        place
    }

    fn cases(&mut self, Cases { cases, otherwise, wide }: &Cases) -> Place {
        let mut next = self.action(*otherwise);
        if are_values(cases, *wide) {
            return self.values(cases, *wide, next);
        }
        for Case { conditions, action } in cases.iter().rev() {
            let mut hit = self.action(*action);
            for condition in conditions.iter().rev() {
                hit = self.condition(condition, *wide, hit, next);
            }
            next = hit;
        }
        next
    }

    /// Compares an argument with several values, loaded once.
    fn values(&mut self, cases: &[Case], wide: bool, miss: Place) -> Place {
        let mut next = miss;
        for Case { conditions, action } in cases.iter().rev() {
            let hit = self.action(*action);
            next = self.jump(JEQ_K, conditions[0].value as u32, hit, next);
        }
        let Condition { argument: index, value, .. } = cases[0].conditions[0];
        self.begin_at(next);
        let lower = self.load(argument(index, false), u32::MAX);
        if !wide {
            return lower;
        }
        self.jump_always(JEQ_K, (value >> 32) as u32, lower, miss);
        self.load(argument(index, true), u32::MAX)
    }

    /// Goes to `hit` if the condition holds, else to `miss`.
    fn condition(&mut self, condition: &Condition, wide: bool, hit: Place, miss: Place) -> Place {
        use Operator::*;
        let (hit, miss) = match condition.operator {
            Eq | MaskedEq | Gt | Ge => (hit, miss),
            Ne | Le | Lt => (miss, hit),
        };
        let lower = match condition.operator {
            Eq | Ne | MaskedEq => JEQ_K,
            Gt | Le => JGT_K,
            Ge | Lt => JGE_K,
        };
        let masked = condition.operator == MaskedEq;
        let value = condition.value as u32;
        let high_value = (condition.value >> 32) as u32;
        let (mask, high_mask) = (condition.mask as u32, (condition.mask >> 32) as u32);
        let mut place = hit;
        if !masked || mask != 0 {
            self.jump_always(lower, value, hit, miss);
            place = self.load(argument(condition.argument, false), mask);
        }
        if !wide || (masked && high_mask == 0) {
            return place;
        }
        let equal = self.jump_always(JEQ_K, high_value, place, miss);
        if lower != JEQ_K {
            // A whole argument is the larger one if its upper half is.
            let place = self.jump(JGT_K, high_value, hit, equal);
            self.begin_at(place);
        }
        self.load(argument(condition.argument, true), high_mask)
    }

    /// As `jump`, but never left out: what is written next falls into it.
    fn jump_always(&mut self, code: u16, k: u32, hit: Place, miss: Place) -> Place {
        let place = self.jump(code, k, hit, miss);
        self.begin_at(place);
        Place(self.code.len() - 1)
    }

    fn load(&mut self, offset: u32, mask: u32) -> Place {
        if mask != u32::MAX {
            self.emit(AND_K, mask);
        }
        self.emit(LD_W_ABS, offset)
    }
}
