//! Which devices a container's processes may make, read and write: rules, and what cgroup v1 makes of them.
//!
//! Rules are in order: for each kind of access to a device the last rule that speaks of it decides. A device that no
//! rule speaks of is allowed.

use std::fmt;

/// The devices that a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character and block devices.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// Allows or denies access to a device or a range of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Allow or deny.
    pub allow: bool,
    /// Character devices, block devices, or both.
    pub kind: DeviceKind,
    /// The major number; all if absent.
    pub major: Option<u32>,
    /// The minor number; all if absent.
    pub minor: Option<u32>,
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// Making nodes of it by mknod(2).
    pub mknod: bool,
}

impl DeviceRule {
    const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> DeviceRule {
        DeviceRule { allow: true, kind, major, minor, read: true, write: true, mknod: true }
    }

    const fn allow_mknod(kind: DeviceKind) -> DeviceRule {
        DeviceRule { read: false, write: false, ..DeviceRule::allow(kind, None, None) }
    }

    /// Whether it replaces all rules before it. A denial for all devices does so whatever access it names, as it does
    /// in cgroup v1: one that names none would otherwise deny nothing.
    pub(crate) fn is_sweeping(&self) -> bool {
        let all_access = self.read && self.write && self.mknod;
        self.kind == DeviceKind::All && self.major.is_none() && self.minor.is_none() && (all_access || !self.allow)
    }

    fn has_access(&self) -> bool {
        self.read || self.write || self.mknod
    }

    pub(crate) fn same_devices(&self, other: &DeviceRule) -> bool {
        self.kind == other.kind && self.major == other.major && self.minor == other.minor
    }

    /// Whether there is an access to a device that both speak of.
    fn overlaps(&self, other: &DeviceRule) -> bool {
        let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.kind == other.kind
            && meet(self.major, other.major)
            && meet(self.minor, other.minor)
            && (self.read && other.read || self.write && other.write || self.mknod && other.mknod)
    }
}

/// As cgroup v1 writes it: `c 1:3 rwm`, `b *:* m`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Char => 'c',
            DeviceKind::Block => 'b',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let access = [(self.read, "r"), (self.write, "w"), (self.mknod, "m")];
        access.iter().filter(|(set, _)| *set).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// The devices that every container may use, for a runtime to add to the rules of its configuration: nodes of all
/// devices may be made, and /dev/null, zero, full, random, urandom, tty, console, ptmx, the pseudo-terminals and
/// net/tun be used.
pub fn default_device_rules() -> Vec<DeviceRule> {
    use DeviceKind::{Block, Char};
    let char = |major, minor| DeviceRule::allow(Char, Some(major), minor);
    let mut rules = vec![DeviceRule::allow_mknod(Char), DeviceRule::allow_mknod(Block)];
    rules.extend([3, 5, 7, 8, 9].map(|minor| char(1, Some(minor))));
    rules.extend([char(5, Some(0)), char(136, None), char(5, Some(2)), char(10, Some(200)), char(5, Some(1))]);
    rules
}

/// Rules without those that say nothing or that later ones replace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    /// What the last sweeping rule says of all devices, if there is one.
    pub(crate) base: Option<bool>,
    /// The rules after it, in order.
    pub(crate) rest: Vec<DeviceRule>,
}

impl Rules {
    pub(crate) fn new(rules: &[DeviceRule]) -> Rules {
        let last = rules.iter().rposition(DeviceRule::is_sweeping);
        Rules {
            base: last.map(|at| rules[at].allow),
            rest: rules[last.map_or(0, |at| at + 1)..].iter().filter(|rule| rule.has_access()).copied().collect(),
        }
    }

    /// What to write to cgroup v1's devices.allow (true) and devices.deny (false), in this order.
    ///
    /// cgroup v1 keeps a list of exceptions to the base. A rule that is for less or more devices than an exception that
    /// it is to take back would do nothing, and the kernel would not say so: then the later and the earlier rule are
    /// the error.
    pub(crate) fn v1_writes(&self) -> Result<Vec<(bool, String)>, (DeviceRule, DeviceRule)> {
        let rest: Vec<DeviceRule> = self.rest.iter().flat_map(split_kinds).collect();
        for (at, rule) in rest.iter().enumerate() {
            let ignored = |earlier: &&DeviceRule| {
                // Only what differs from the base is an exception; without a base either may be.
                let exception = self.base.is_none_or(|base| earlier.allow != base);
                exception && earlier.allow != rule.allow && earlier.overlaps(rule) && !earlier.same_devices(rule)
            };
            if let Some(earlier) = rest[..at].iter().find(ignored) {
                return Err((*rule, *earlier));
            }
        }
        let base = self.base.map(|allow| (allow, "a *:* rwm".to_owned()));
        Ok(base.into_iter().chain(rest.iter().map(|rule| (rule.allow, rule.to_string()))).collect())
    }
}

/// In cgroup v1 `a` is all devices whatever else is said: a rule for some of both kinds becomes two.
fn split_kinds(rule: &DeviceRule) -> Vec<DeviceRule> {
    match rule.kind {
        DeviceKind::All => [DeviceKind::Block, DeviceKind::Char].map(|kind| DeviceRule { kind, ..*rule }).to_vec(),
        _ => vec![*rule],
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `+c 1:3 rw` allows, `-a *:*` denies; what `DeviceRule` prints, with a sign.
    pub(crate) fn rule(text: &str) -> DeviceRule {
        let mut words = text[1..].split(' ');
        let kind = match words.next().unwrap() {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            _ => DeviceKind::Char,
        };
        let (major, minor) = words.next().unwrap().split_once(':').unwrap();
        let access = words.next().unwrap_or("");
        DeviceRule {
            allow: text.starts_with('+'),
            kind,
            major: major.parse().ok(),
            minor: minor.parse().ok(),
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        }
    }

    pub(crate) fn rules(texts: &[&str]) -> Rules {
        Rules::new(&texts.iter().map(|text| rule(text)).collect::<Vec<_>>())
    }

    fn writes(texts: &[&str]) -> Result<String, String> {
        let sign = |(allow, rule): (bool, String)| format!("{}{rule}", if allow { '+' } else { '-' });
        match rules(texts).v1_writes() {
            Ok(writes) => Ok(writes.into_iter().map(sign).collect::<Vec<_>>().join(", ")),
            Err((rule, earlier)) => Err(format!("{rule} against {earlier}")),
        }
    }

    #[test]
    fn the_defaults_are_the_fixed_list() {
        let printed: Vec<String> = default_device_rules().iter().map(DeviceRule::to_string).collect();
        let numbers = ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "136:*", "5:2", "10:200", "5:1"];
        let used = numbers.map(|number| format!("c {number} rwm"));
        assert_eq!(printed, [vec!["c *:* m".to_owned(), "b *:* m".to_owned()], used.to_vec()].concat());
        assert!(default_device_rules().iter().all(|rule| rule.allow));
    }

    #[test]
    fn v1_gets_the_rules_in_order_from_the_last_that_is_for_all() {
        assert_eq!(writes(&["-a *:* rwm", "+c 1:3 rwm", "+b 8:* r"]).unwrap(), "-a *:* rwm, +c 1:3 rwm, +b 8:* r");
        assert_eq!(writes(&["+c 1:3 rwm", "-a *:* rwm", "+c 1:5 w"]).unwrap(), "-a *:* rwm, +c 1:5 w");
        assert_eq!(writes(&["-c 1:3 w"]).unwrap(), "-c 1:3 w");
        assert_eq!(writes(&["+a *:* rwm"]).unwrap(), "+a *:* rwm");
    }

    #[test]
    fn a_denial_of_all_is_complete_and_a_permission_is_what_it_says() {
        assert_eq!(writes(&["-a *:*"]).unwrap(), "-a *:* rwm");
        assert_eq!(writes(&["-a *:* rwm", "+a *:* r"]).unwrap(), "-a *:* rwm, +b *:* r, +c *:* r");
        assert_eq!(writes(&["-a *:* rwm", "+a 1:3 rw"]).unwrap(), "-a *:* rwm, +b 1:3 rw, +c 1:3 rw");
        assert_eq!(writes(&["-a *:* rwm", "+c 1:3"]).unwrap(), "-a *:* rwm");
    }

    #[test]
    fn v1_refuses_to_take_back_a_part_as_the_kernel_would_not_do_it() {
        let refused = [
            (["-a *:* rwm", "+c 1:* rwm", "-c 1:3 w"], "c 1:3 w against c 1:* rwm"),
            (["-a *:* rwm", "+c 1:3 rwm", "-c *:* r"], "c *:* r against c 1:3 rwm"),
            (["+a *:* rwm", "-c *:3 w", "+c 1:* w"], "c 1:* w against c *:3 w"),
            (["-b 8:* rwm", "+b 8:0 r", "+c 1:3 r"], "b 8:0 r against b 8:* rwm"),
        ];
        for (texts, expected) in refused {
            assert_eq!(writes(&texts).unwrap_err(), expected);
        }
        let taken = [
            ["-a *:* rwm", "+c 1:3 rwm", "-c 1:3 w"],
            ["-a *:* rwm", "-c 1:3 rwm", "+c *:* m"],
            ["-a *:* rwm", "+c 1:* r", "-c 1:3 w"],
            ["-a *:* rwm", "+c 1:* r", "-b 1:3 r"],
        ];
        taken.iter().for_each(|texts| drop(writes(texts).unwrap()));
    }
}
