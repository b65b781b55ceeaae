//! Rules applied to a call one by one, without any program: which of them hold.

use super::super::{Action, Arch, Condition, Operator, Profile, Rule, table};
use super::Data;

/// The actions of the rules that hold for this call. A rule without conditions leaves no question.
pub(super) fn holding(rules: &[Rule<'_>], profile: &Profile<'_>, data: &Data) -> Vec<Action> {
    let of_x32 = data.number & table::X32_BIT != 0;
    let arch = profile.architectures.iter().find(|arch| {
        arch.audit() == data.arch && (data.arch != Arch::X86_64.audit() || (**arch == Arch::X32) == of_x32)
    });
    let Some(arch) = arch else { return Vec::new() };
    let mut list = Vec::new();
    for rule in rules.iter().filter(|rule| rule.action != profile.default) {
        for name in &rule.names {
            let conditions = match through(name, *arch, data) {
                Some(()) => rule.conditions.iter().filter(|condition| condition.argument != 0).collect(),
                None if number(name, *arch) == Some(data.number) => rule.conditions.iter().collect::<Vec<_>>(),
                None => continue,
            };
            // One that masks away all that the architecture compares is none.
            let says =
                |condition: &&Condition| condition.operator != Operator::MaskedEq || condition.mask & bits(*arch) != 0;
            let always = !conditions.iter().any(says) && through(name, *arch, data).is_none();
            if conditions.iter().all(|condition| holds(condition, *arch, data)) {
                if always {
                    return vec![rule.action];
                }
                list.push(rule.action);
            }
        }
    }
    list
}

fn number(name: &str, arch: Arch) -> Option<u32> {
    table::number(table::find(name)?, arch)
}

/// This is socketcall(2) or ipc(2) of x86 for the call of this name.
fn through(name: &str, arch: Arch, data: &Data) -> Option<()> {
    let known = table::find(name)?.through().filter(|_| arch == Arch::X86);
    let (number, first) = known?;
    (data.number == number && data.arguments[0] as u32 == u32::from(first)).then_some(())
}

fn holds(condition: &Condition, arch: Arch, data: &Data) -> bool {
    let bits = bits(arch);
    let argument = data.arguments[usize::from(condition.argument)] & bits;
    let value = condition.value & bits;
    match condition.operator {
        Operator::Ne => argument != value,
        Operator::Lt => argument < value,
        Operator::Le => argument <= value,
        Operator::Eq => argument == value,
        Operator::Ge => argument >= value,
        Operator::Gt => argument > value,
        Operator::MaskedEq => argument & condition.mask == value & condition.mask,
    }
}

/// Those of an argument that are compared.
fn bits(arch: Arch) -> u64 {
    if arch.is_64_bit() { u64::MAX } else { 0xffff_ffff }
}
