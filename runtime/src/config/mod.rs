//! config.json: found, read and parsed. What it means is the plan's business.

mod bundle;
#[cfg(test)]
mod oracle;
pub(crate) mod spec;

pub(crate) use bundle::{Bundle, parse_process, parse_resources, parse_spec, unknown_properties};
