//! What a container leaves on disk: `ROOT/ID/state.json`, a copy of its config.json, and the start socket.
//!
//! What can be asked from the kernel is not stored: whether the container is created, running or stopped follows from
//! its init process.

mod dir;
mod process;
mod record;
mod status;

pub(crate) use dir::{StateDir, StateRoot, check_id, parse_record};
pub(crate) use process::{Process, ProcessStat, boot_id, read_file, wait_readable};
pub(crate) use record::{HostMounts, Init, Record, Restore, SocketName};
pub(crate) use status::{Status, glance, view};
