//! `process.capabilities`: names become bit masks.

use crate::config::spec::{Capabilities, Str};
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// The five sets of a process (capabilities(7)); bit n is capability n.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct CapabilitySets {
    pub bounding: Mask,
    pub effective: Mask,
    pub permitted: Mask,
    pub inheritable: Mask,
    pub ambient: Mask,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mask(pub u64);

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(caps::all().into_iter().filter(|cap| self.0 & cap.bitmask() != 0).map(|cap| cap.to_string()))
    }
}

/// Names that are unknown or cannot be granted are left out with a warning, as the spec has it. A set that is not
/// given is empty.
pub(crate) fn plan(
    capabilities: Option<&Capabilities<'_>>,
    available: u64,
    warnings: &mut Vec<String>,
) -> CapabilitySets {
    let Some(capabilities) = capabilities else { return CapabilitySets::default() };
    let mut refused: Vec<String> = Vec::new();
    let mut mask = |names: &[Str<'_>]| {
        let mut mask = 0;
        for name in names {
            match bit(name) {
                Some(bit) if available & bit != 0 => mask |= bit,
                _ if refused.iter().any(|known| known == &**name) => {}
                _ => refused.push(name.to_string()),
            }
        }
        Mask(mask)
    };
    let mut sets = CapabilitySets {
        bounding: mask(&capabilities.bounding),
        effective: mask(&capabilities.effective),
        permitted: mask(&capabilities.permitted),
        inheritable: mask(&capabilities.inheritable),
        ambient: mask(&capabilities.ambient),
    };
    if !refused.is_empty() {
        warnings.push(format!("process.capabilities: unknown or not to be granted here: {}", refused.join(", ")));
    }
    // The kernel refuses to raise others.
    let possible = sets.permitted.0 & sets.inheritable.0;
    if sets.ambient.0 & !possible != 0 {
        warnings.push("process.capabilities.ambient: only what is permitted and inheritable can be ambient".to_owned());
        sets.ambient.0 &= possible;
    }
    sets
}

/// The bit of one capability, named as in capabilities(7).
fn bit(name: &str) -> Option<u64> {
    caps::Capability::from_str(name).ok().map(|cap| cap.bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    #[test]
    fn unknown_and_ungrantable_names_warn() {
        let list = |names: &[&'static str]| {
            crate::config::spec::List(names.iter().map(|name| Str(Cow::Borrowed(*name))).collect())
        };
        let given = Capabilities {
            bounding: list(&["CAP_CHOWN", "CAP_NO_SUCH", "CAP_SYS_ADMIN", "CHOWN", "cap_kill"]),
            permitted: list(&["CAP_CHOWN"]),
            ambient: list(&["CAP_CHOWN"]),
            ..Capabilities::default()
        };
        let mut warnings = Vec::new();
        let sets = plan(Some(&given), 1, &mut warnings);
        assert_eq!((sets.bounding.0, sets.permitted.0, sets.effective.0, sets.ambient.0), (1, 1, 0, 0));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("CAP_NO_SUCH, CAP_SYS_ADMIN, CHOWN, cap_kill"));
    }
}
