//! `org.systemd.property.*` annotations: properties for the container's scope.

use super::Options;
use crate::config::spec::Spec;
use crate::error::{Result, bad};
use cgroup::Property;

const PREFIX: &str = "org.systemd.property.";

/// What a bundle may set: how and when the scope is stopped, and what it is called. Engines set the first four. Others
/// may name units or actions of the host, which only the operator can allow, by `--systemd-property`.
const ALLOWED: [&str; 10] = [
    "KillSignal",
    "TimeoutStopUSec",
    "DefaultDependencies",
    "After",
    "Before",
    "CollectMode",
    "Description",
    "KillMode",
    "SendSIGHUP",
    "SendSIGKILL",
];

pub(super) fn properties(spec: &Spec<'_>, options: &Options) -> Result<Vec<Property>> {
    let given = spec.annotations.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, &**value)));
    given
        .map(|(name, value)| {
            let annotation = || format!("annotations[\"{PREFIX}{name}\"]");
            let property = Property::parse(name, value).map_err(|problem| bad(annotation(), problem))?;
            let allowed = ALLOWED.contains(&property.name())
                || options.systemd_properties.iter().any(|allowed| allowed == property.name() || allowed == name);
            match allowed {
                true => Ok(property),
                false => {
                    Err(bad(annotation(), "a bundle may not set this property, unless --systemd-property names it"))
                }
            }
        })
        .collect()
}
