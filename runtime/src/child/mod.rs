//! What runs in the container's own process, between clone3 and execve. It carries out the plan, decides nothing that
//! the plan could have, and tells the parent where it failed.

mod filter;
mod identity;
mod init;
mod join;
mod labels;
mod landlock;
mod program;
mod sysctl;

pub(crate) use filter::load_early;
pub(crate) use identity::{Home, Stdio, become_root, take_identity};
pub(crate) use init::{HookState, Init, run as run_init};
pub(crate) use join::{Entry, JoinPlan, run as run_join};
pub(crate) use labels::LabelFiles;
pub(crate) use landlock::restrict;
pub(crate) use program::{Found, execute, find};

/// A step of the child.
pub(crate) type Result<T> = std::result::Result<T, crate::sync::Failure>;

/// Attaches a property of config.json, or a name for the step, to what a system call answered.
pub(crate) fn property<T>(what: &'static str, result: rustix::io::Result<T>) -> Result<T> {
    crate::sync::Item::Property.at(what, result)
}
