//! What a container uses, as containerd's messages have it: io.containerd.cgroups.v1.Metrics or v2.

use cgroup::Usage;
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::error::{Error, Result};
use crate::{metrics_v1, metrics_v2, usage};

/// The message for the host's kind of cgroups.
///
/// # Errors
/// It cannot be written.
pub(crate) fn of(usage: &Usage) -> Result<Any> {
    match usage::is_v1() {
        true => any("io.containerd.cgroups.v1.Metrics", &metrics_v1::of(usage)),
        false => any("io.containerd.cgroups.v2.Metrics", &metrics_v2::of(usage)),
    }
}

fn any(name: &str, message: &impl Message) -> Result<Any> {
    let value = message.write_to_bytes().map_err(|error| Error::Failed(format!("metrics: {error}")))?;
    Ok(Any { type_url: name.to_owned(), value, ..Default::default() })
}

/// A figure of a list of lines by its name; 0 where the kernel has none.
pub(crate) fn line(lines: &[(String, u64)], name: &str) -> u64 {
    lines.iter().find(|(found, _)| found == name).map_or(0, |(_, value)| *value)
}
