//! Where a container's cgroup is, how processes get in, freeze, are killed, and how it goes; what they may use.
//!
//! Knows the files of cgroup v1, v2 and both together, but neither OCI nor who uses it. Everything happens in the
//! calling thread, with few system calls; every wait has an end.
//!
//! ```text
//! Host::detect ── place(cgroupsPath, id) ──▶ Place ── create, open ──▶ Cgroup ── join, apply, freeze, kill
//! what the host has                         data, for the state file   a handle, while a command runs
//! ```
//!
//! It does not choose limits, does not follow a container that moves itself to another cgroup, and never touches a
//! cgroup that is not below the container's, but for the missing directories above it and their controllers.

mod bpf;
mod controllers;
mod cpuset;
mod create;
mod deadline;
mod delegate;
mod devices;
mod error;
mod files;
mod freeze;
mod host;
mod join;
mod kill;
mod leaf;
mod limits;
mod mountinfo;
mod oom;
mod own;
mod path;
mod place;
mod remove;
mod resources;
mod sub;
mod sys;
mod systemd;
mod usage;
mod walk;

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use systemd::Written;

pub use devices::{DeviceKind, DeviceRule, default_device_rules};
pub use error::Error;
pub use host::{Hierarchy, Host, Mode};
pub use mountinfo::unescape;
pub use oom::OomWatch;
pub use place::Place;
pub use resources::{
    BlockIo, Cpu, DeviceWeight, HugepageLimit, Limit, Memory, Network, Rdma, Resources, Throttle, ThrottleKind,
    check_unified_name,
};
pub use sub::SubCgroup;
pub use systemd::Property;
pub use usage::{
    Amount, CPUSET_FLAGS, CpuUsage, CpusetUsage, HugetlbUsage, IoEntry, IoUsage, MemoryUsage, PidsUsage, Pressure,
    RdmaUsage, Stall, Usage,
};

/// A container's cgroup, in all hierarchies at once. Dropping it leaves the cgroup as it is.
#[derive(Debug)]
pub struct Cgroup {
    place: Place,
    /// The directory in cgroup v2, where there is one.
    unified: Option<OwnedFd>,
    /// Whether the directory in cgroup v2 was made by this handle, so that nothing of anybody's is attached to it.
    fresh: bool,
    /// What systemd has to be told of a scope: the limits that were written to its files.
    written: RefCell<Vec<Written>>,
}

impl Cgroup {
    fn of(place: Place, unified: Option<OwnedFd>, fresh: bool) -> Cgroup {
        Cgroup { place, unified, fresh, written: RefCell::default() }
    }

    /// Makes the scope around a process, with device rules as systemd takes them and properties of its own; waits until
    /// the process is in it, in those hierarchies that systemd manages, and makes the other directories. The place to
    /// keep is another then. Does nothing for a cgroup that is no scope.
    ///
    /// # Errors
    /// [`Error::Systemd`]: it cannot be reached within 25 s, or refuses; or a directory cannot be made. The scope may be
    /// there: [`Place::remove`] takes it back once the process has ended.
    pub fn start(&mut self, pid: i32, rules: &[DeviceRule], properties: &[Property]) -> Result<(), Error> {
        match self.place.scope.clone() {
            Some(scope) => create::start(self, &scope, pid, rules, properties),
            None => Ok(()),
        }
    }

    /// The place to keep: as given, with what creation has made above it.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether its directory in cgroup v2 was made by this handle: nothing has happened in it before.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The directory in cgroup v2, for CLONE_INTO_CGROUP: O_PATH, close-on-exec.
    pub fn unified_fd(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Moves a process, with all its threads, into the cgroup. `in_unified`: it is in that of cgroup v2 already. Does
    /// nothing, and asks nothing, where there is no other.
    ///
    /// # Errors
    /// The first write that fails, with `errno` ESRCH when the process is gone, EBUSY when a cgroup v2 has handed
    /// controllers to cgroups below it. The process is then in some of the hierarchies.
    pub fn join(&self, pid: i32, in_unified: bool) -> Result<(), Error> {
        match (join::join(&self.place, pid, !in_unified), &self.place.scope) {
            // The way there is through cgroups of others, from another session say.
            (Err(error), Some(scope)) if matches!(error.errno(), Some(libc::EACCES | libc::EPERM)) => {
                systemd::attach(scope, pid)
            }
            (joined, _) => joined,
        }
    }

    /// The cgroup as a process should enter it that goes to other cgroups, below this one, in some hierarchies.
    /// cgroup v2 has only one hierarchy: it takes no names of controllers.
    ///
    /// # Errors
    /// A path that leads out, a controller without a hierarchy, or a cgroup that does not exist.
    pub fn within(&self, subs: &[SubCgroup<'_>]) -> Result<Cgroup, Error> {
        sub::within(self, subs)
    }

    /// Puts into force what has to be there before the first process comes in: device rules, processors and memory
    /// nodes, real-time bandwidth. None of it is in the way of setting a container up. [`Place::disabled`] takes none
    /// and reports none.
    ///
    /// # Errors
    /// What cannot be applied, by limit and file.
    pub fn prepare(&self, resources: &Resources) -> Result<(), Error> {
        if self.place.is_disabled() { Ok(()) } else { limits::prepare(self, resources) }
    }

    /// Puts all other limits into force, on the processes that are there too: cgroup v2 kills some when memory is
    /// limited below what is in use, cgroup v1 refuses. A new memory limit is the last but that on processes.
    ///
    /// # Errors
    /// As for [`Cgroup::prepare`]: [`Error::Limit`]; limits before it are in force then.
    pub fn limit(&self, resources: &Resources) -> Result<(), Error> {
        if self.place.is_disabled() {
            return Ok(());
        }
        limits::limit(self, resources)?;
        match &self.place.scope {
            Some(scope) => systemd::set(scope, &self.written.take()),
            None => Ok(()),
        }
    }

    /// [`Cgroup::prepare`] and [`Cgroup::limit`] in one, for a cgroup that is in use.
    ///
    /// # Errors
    /// As theirs.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        self.prepare(resources)?;
        self.limit(resources)
    }

    /// What its processes use, and those of cgroups below; `None` when it is gone. Files that there are not count nothing.
    ///
    /// # Errors
    /// A file that is there and cannot be read or understood.
    pub fn usage(&self) -> Result<Option<Usage>, Error> {
        let usage = usage::read(&self.place)?;
        // Looked at after: what goes meanwhile reads as if nothing was used.
        Ok(self.place.open()?.map(|_| usage))
    }

    /// Something to wait by for the kernel killing a process for want of memory; `None` where memory is not counted.
    ///
    /// # Errors
    /// The kernel does not let it be watched.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>, Error> {
        OomWatch::new(self)
    }

    /// The limit on memory that is in force; `None` where it cannot be told.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn memory_limit(&self) -> Result<Option<Limit>, Error> {
        limits::memory_limit(self)
    }

    /// How many of its processes, and of those below, were killed for want of memory, since it was made. Zero where
    /// nobody counts.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn oom_kills(&self) -> Result<u64, Error> {
        if self.place.is_disabled() { Ok(0) } else { limits::oom_kills(self) }
    }

    /// Once the process is in its cgroup namespace: makes the host's user `owner` the owner of the cgroup and of those
    /// files in it that /sys/kernel/cgroup/delegate lists, for a container that manages cgroups itself; its group stays.
    /// And moves the process into the cgroup below that [`Place::with_leaf`] names, from where the container's own can
    /// hand down its controllers, as it does then. Does nothing where controllers are in cgroup v1.
    ///
    /// # Errors
    /// The first call that fails; a listed file that does not exist is none.
    pub fn settle(&self, pid: i32, owner: Option<u32>) -> Result<(), Error> {
        if self.place.v1.is_empty() { leaf::settle(self, pid, owner) } else { Ok(()) }
    }

    /// All processes in it and in cgroups below, of all hierarchies, each once, in ascending order.
    ///
    /// # Errors
    /// A directory or file that exists and cannot be read.
    pub fn procs(&self) -> Result<Vec<i32>, Error> {
        kill::processes(&self.place)
    }

    /// Freezes all processes and waits until they are, for at most 5 s.
    ///
    /// # Errors
    /// There is no freezer, or some did not freeze in time: then none is frozen.
    pub fn freeze(&self) -> Result<(), Error> {
        freeze::freeze(&self.place)
    }

    /// Lets all processes run. A cgroup that is gone is no error.
    ///
    /// # Errors
    /// There is no freezer, or it cannot be written to.
    pub fn thaw(&self) -> Result<(), Error> {
        freeze::thaw(&self.place)
    }

    /// Thaws whatever keeps killed processes from ending: on cgroup v1 all cgroups, those below too, which the container
    /// may have frozen itself.
    ///
    /// # Errors
    /// A file cannot be written to.
    pub fn let_die(&self) -> Result<(), Error> {
        freeze::thaw_v1(&self.place)
    }

    /// Kills all processes, frozen ones too, and does not wait for their end. At once with cgroup.kill of cgroup v2;
    /// on v1, or before Linux 5.14, one by one, held by the v1 freezer if they multiply. A v1 freezer is thawed after,
    /// or the dead could not go.
    ///
    /// # Errors
    /// A file that cannot be written, a process that may not be killed, or no end of new processes.
    pub fn kill(&self) -> Result<(), Error> {
        kill::kill(&self.place)
    }

    /// Sends a signal, by number, to each process that is there now; SIGKILL as [`Cgroup::kill`] does.
    ///
    /// # Errors
    /// The first process that may not be sent the signal; those after it have not got it.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        kill::signal(&self.place, signal)
    }

    /// Removes it in all hierarchies with all cgroups below, and those directories above it that creation made and
    /// nobody else uses. Waits up to 2 s for killed processes to go. Gone already is fine.
    ///
    /// # Errors
    /// [`Error::Busy`] when processes remain; the first error is told after all hierarchies have been tried.
    pub fn remove(&self) -> Result<(), Error> {
        remove::remove(&self.place)
    }
}
