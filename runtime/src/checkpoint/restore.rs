//! `proa restore`: from the record of the intent to a container that is held still, compared with config.json, and let
//! run on.

use super::cgroup_mounts::CgroupMounts;
use super::dump::EXTERNAL_NAMESPACES;
use super::images::{self, Images};
use super::mounts::{self, Source};
use super::options::{self, CONFIG_ANNOTATION, CgroupMode, Flags};
use super::rpc::{self, CgroupRoot, InheritFd, JoinNamespace, Kind, Options};
use super::swrk::{self, Criu, Notification, Service};
use super::verify::{self, Held};
use super::{cgroup_images, mount_images, pages};
use crate::child::Entry;
use crate::error::{Context, Error, Result, bad};
use crate::parent::create::Channels;
use crate::parent::story::Story;
use crate::parent::{Undo, clone, create, describe, hooks, limits, mapped_ids, net_devices, rootless, story, writable};
use crate::plan::{LANDLOCK_ANNOTATION, Label, NAMESPACES, Plan, path_text};
use crate::state::{Init, ProcessStat, Restore, StateRoot};
use crate::sync::{Failure, Item, Message, Signal};
use crate::sys;
use rootfs::Sources;
use rootfs::plan::{CText, MountsAre};
use rootfs::stage::{self, Place};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, mkdirat};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::Path;

const LOG: &str = "restore.log";
/// In the state directory: where CRIU finds what of the host is mounted in the container.
const PLACES: &str = "places";

/// What restore is asked beside the plan.
pub(crate) struct Request<'a> {
    pub flags: &'a Flags,
    /// config.json as it was read.
    pub config: &'a str,
    /// Where state directories are.
    pub state_root: &'a Path,
    pub lsm_profile: Option<&'a str>,
    pub lsm_mount_context: Option<&'a str>,
}

/// A container whose processes wait to be let go.
pub(crate) struct Restored<'a> {
    pub plan: Plan,
    pub pid: i32,
    /// The terminal's master.
    pub console: Option<OwnedFd>,
    pub undo: Undo<'a>,
    init: Init,
    story: Story,
    held: Held,
    cgroup: cgroup::Cgroup,
}

impl Restored<'_> {
    /// The container is: its processes run on.
    pub(crate) fn release(&mut self) -> Result<()> {
        self.story.restore = Some(Restore::Done);
        self.story.write(&self.plan, &self.undo, self.cgroup.place(), Some(self.init))?;
        self.held.release()
    }

    /// Takes back what restore has made, after something else has failed; the error to tell.
    pub(crate) fn take_back(self, error: Error) -> Error {
        let Restored { plan, undo, held, .. } = self;
        // What is held first: the end of its init waits for that of all others.
        drop(held);
        drop(undo);
        create::poststop(&plan, error)
    }
}

/// Brings a container back. On failure nothing of it is left.
pub(crate) fn restore<'a>(
    mut plan: Plan,
    channels: Channels,
    root: &'a StateRoot,
    request: &Request<'_>,
) -> Result<Restored<'a>> {
    options::need_root("restore")?;
    check(&plan)?;
    let images = Images::open(&request.flags.image_path)?;
    let streams = images::read_descriptors(images.directory())?;
    pages::check(&images)?;
    let mode = cgroup_mode(&plan, request, &images)?;
    let criu = Criu::find()?;
    let dir = root.create_container(&plan.id)?;
    let mut undo = Undo::new(root, dir);
    let mut hooks_began = false;
    let hooks = &mut hooks_began;
    let made = Making { plan: &mut plan, request, images: &images, mode, undo: &mut undo, hooks_began: hooks }
        .make(&criu, channels, &streams);
    match made {
        Ok(Made { init, console, story, held, cgroup }) => {
            Ok(Restored { plan, pid: init.pid, console, undo, init, story, held, cgroup })
        }
        Err(error) => {
            drop(undo);
            let error = match error {
                Error::Step(failure) => describe::failure(&plan, &failure),
                error => error,
            };
            Err(if hooks_began { create::poststop(&plan, error) } else { error })
        }
    }
}

/// What CRIU has no means for.
fn check(plan: &Plan) -> Result<()> {
    if plan.root.mounts_are != MountsAre::Own {
        return Err(bad("linux.namespaces", "a container without a mount namespace cannot be restored"));
    }
    for join in &plan.namespaces.join {
        let flags = [libc::CLONE_NEWNS, libc::CLONE_NEWUSER, libc::CLONE_NEWCGROUP, libc::CLONE_NEWTIME];
        if flags.contains(&join.kind) {
            let property = format_args!("linux.namespaces[{}].path {:?}", join.index, join.path);
            return Err(bad(property, "CRIU cannot restore a container into such a namespace"));
        }
    }
    match plan.process.as_ref().is_some_and(|process| process.landlock.is_some()) {
        true => {
            let property = format_args!("annotations[{LANDLOCK_ANNOTATION:?}]");
            Err(bad(property, "a restored process cannot be held to it"))
        }
        false => Ok(()),
    }
}

/// Where CRIU is in the container's cgroup namespace, it can do no harm with cgroups.
fn cgroup_mode(plan: &Plan, request: &Request<'_>, images: &Images) -> Result<CgroupMode> {
    let own = plan.namespaces.has_new(libc::CLONE_NEWCGROUP);
    let mode = request.flags.cgroup_mode.unwrap_or(if own { CgroupMode::Soft } else { CgroupMode::Ignore });
    if mode == CgroupMode::Ignore || !cgroup_images::are_saved(images.directory())? {
        return Ok(CgroupMode::Ignore);
    }
    cgroup_images::check(images.directory())?;
    Ok(mode)
}

struct Making<'m, 'u> {
    plan: &'m mut Plan,
    request: &'m Request<'m>,
    images: &'m Images,
    mode: CgroupMode,
    undo: &'m mut Undo<'u>,
    hooks_began: &'m mut bool,
}

struct Made {
    init: Init,
    console: Option<OwnedFd>,
    story: Story,
    held: Held,
    cgroup: cgroup::Cgroup,
}

impl Making<'_, '_> {
    fn make(mut self, criu: &Criu, channels: Channels, streams: &[Option<String>; 3]) -> Result<Made> {
        let entries = clone::open_namespaces(&self.plan.namespaces)?;
        let mut story = Story::begin()?;
        story.restore = Some(Restore::UnderWay);
        let claim = writable::claim(self.plan)?;
        story.write(self.plan, self.undo, &self.plan.cgroup, None)?;
        let (work_path, places_path) = self.fill_directory()?;
        let mut cgroup = rootless::make_cgroup(self.plan)?;
        self.undo.cgroup = Some(cgroup.place().clone());
        let id_namespaces = mapped_ids::open(&self.plan.mapped_ids, &entries)?;
        let mut sources =
            Sources::open(&self.plan.root, &id_namespaces).map_err(|failure| Error::Step(failure.into()))?;
        let wanted = mounts::sources(self.plan)?;
        mount_images::check(
            self.images.directory(),
            self.plan.root.layers.is_none().then_some(&self.plan.root.path),
            &wanted,
        )?;
        // Each goes by two names, and CRIU takes a descriptor for each.
        let again = outside(&entries).map(|(_, fd)| fcntl_dupfd_cloexec(fd, 3)).collect::<rustix::io::Result<Vec<_>>>();
        let again = again.context(|| "keep the namespaces to join".to_owned())?;
        let mut options = self.options(&places_path, &wanted, streams, &entries, &again);
        let places: Vec<Place> = wanted.iter().filter_map(place).collect();

        let Channels { theirs, ours } = channels;
        let keep: Vec<BorrowedFd<'_>> =
            entries.iter().map(|entry| entry.fd.as_fd()).chain(again.iter().map(AsFd::as_fd)).collect();
        let needed: Vec<BorrowedFd<'_>> = [theirs.fd()].into_iter().chain(sources.descriptors()).collect();
        let needed: Vec<i32> = needed.iter().map(AsRawFd::as_raw_fd).collect();
        // What the images say of interfaces outside the container is not to reach the host's.
        let own_network = if self.plan.namespaces.has_own(libc::CLONE_NEWNET) { libc::CLONE_NEWNET } else { 0 };
        let namespaces = libc::CLONE_NEWNS | own_network | (self.plan.namespaces.new & libc::CLONE_NEWCGROUP);
        let root = &self.plan.root;
        let child = || {
            // That nothing is left of it if we are killed.
            if !theirs.expect(Signal::Joined) {
                sys::exit_now(1);
            }
            let unshared = sys::unshare(namespaces)
                .map_err(|errno| Item::Property.failure("make namespaces for CRIU", errno))
                .and_then(|()| stage::stage(root, &mut sources, &places_path, &places).map_err(Failure::from))
                .and_then(|()| Item::Property.at("--work-path: open", options::open_directory(&*work_path)))
                .and_then(|work| Item::Property.at("--work-path: send", theirs.send_directory(work.as_fd())));
            if let Err(failure) = unshared {
                theirs.fail(&failure);
                sys::exit_now(1)
            }
        };
        // CRIU opens images as root of the container.
        let to_root = self.plan.namespaces.ids.as_ref().and_then(|ids| ids.host_uid(0));
        let lent = to_root.map(|uid| self.images.lend(uid)).transpose()?;
        let service = criu.start(&keep, &needed, child)?;
        drop(theirs);
        self.join(&mut cgroup, &story, service.pid)?;
        ours.signal(Signal::Joined).context(|| "answer the child that becomes CRIU".to_owned())?;
        // As CRIU sees it: it mounts file systems of its own there.
        let work = match ours.receive().context(|| "hear from the child that becomes CRIU".to_owned())? {
            Message::Directory(work) => work,
            Message::Failure(failure) => return Err(Error::Step(failure)),
            _ => return Err(Error::Usage("the child that becomes CRIU ended".to_owned())),
        };
        options.work_dir_fd = Some(work.as_raw_fd());
        options.cg_root = self.cgroup_roots(service.pid)?;
        let own = self.plan.namespaces.has_new(libc::CLONE_NEWCGROUP);
        let mounted = if own || self.mode == CgroupMode::Ignore { None } else { Some(CgroupMounts::now()?) };
        let called = self.call(&service, options, &cgroup, &story, &work);
        drop((service, lent));
        mounted.map_or(Ok(()), |mounted| mounted.restore())?;
        let (init, console) = called?;
        writable::claimed(self.plan, init)?;
        drop(claim);
        let held = Held::take(&cgroup, init.pid)?;
        verify::all(self.plan, &entries, init.pid, &held)?;
        rootless::settle(self.plan, &cgroup, init.pid)?;
        limits::apply(self.plan, &cgroup, self.undo.init.as_ref())?;
        Ok(Made { init, console, story, held, cgroup })
    }

    /// config.json as it is now; CRIU's work directory, and where it finds what is in the container of the host's.
    fn fill_directory(&self) -> Result<(CText, CText)> {
        let Some(dir) = &self.undo.dir else { return Err(Error::NoContainer(self.plan.id.clone())) };
        dir.write_config(self.request.config.as_bytes())?;
        mkdirat(dir.fd(), PLACES, Mode::from_raw_mode(0o700)).context(|| format!("make {PLACES}"))?;
        let own = self.request.state_root.join(&self.plan.id);
        let work = match &self.request.flags.work_path {
            Some(path) => {
                options::clear_work(&options::directory("--work-path", path)?)?;
                path
            }
            None => &own,
        };
        Ok((path_text("--work-path", work)?, path_text("--root", &own.join(PLACES))?))
    }

    fn options(
        &self,
        places: &CText,
        wanted: &[Source],
        streams: &[Option<String>; 3],
        entries: &[Entry],
        again: &[OwnedFd],
    ) -> Options {
        let stdio = streams.iter().zip(0..).filter_map(|(key, fd)| key.clone().map(|key| InheritFd { key, fd }));
        let mut inherit_fd: Vec<InheritFd> = stdio.collect();
        for (([ours, theirs], fd), again) in outside(entries).zip(again) {
            let inherit = |key: &str, fd: &OwnedFd| InheritFd { key: key.to_owned(), fd: fd.as_raw_fd() };
            inherit_fd.extend([inherit(ours, fd), inherit(theirs, again)]);
        }
        let join = |entry: &Entry| {
            let (.., file) = NAMESPACES.iter().find(|(_, flag, _)| *flag == entry.kind)?;
            let fd = entry.fd.as_raw_fd();
            Some(JoinNamespace { ns: (*file).to_owned(), ns_file: format!("/proc/self/fd/{fd}") })
        };
        let is_outside = |entry: &&Entry| EXTERNAL_NAMESPACES.iter().any(|(_, flag, _)| *flag == entry.kind);
        let join_ns = entries.iter().filter(|entry| !is_outside(entry)).filter_map(join).collect();
        Options {
            root: Some(format!("{places}/{}", stage::ROOT.to_string_lossy())),
            rst_sibling: Some(true),
            orphan_pts_master: Some(true),
            external: mounts::external(wanted, places),
            inherit_fd,
            join_ns,
            lsm_profile: self.lsm_profile(),
            lsm_mount_context: self.request.lsm_mount_context.map(str::to_owned),
            config_file: options::config_file(self.annotation(CONFIG_ANNOTATION)),
            ..self.request.flags.options(self.images.directory(), LOG, self.mode)
        }
    }

    /// Empty: processes stay in the container's cgroup itself.
    fn cgroup_roots(&self, criu: i32) -> Result<Vec<CgroupRoot>> {
        if self.mode == CgroupMode::Ignore {
            return Ok(Vec::new());
        }
        match self.plan.namespaces.has_new(libc::CLONE_NEWCGROUP) {
            // CRIU is in it.
            true => Ok(vec![CgroupRoot { ctrl: None, path: "/".to_owned() }]),
            false => cgroup_images::roots(criu),
        }
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.plan.annotations.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// `TYPE:NAME`: as the command line has it, else that of config.json.
    fn lsm_profile(&self) -> Option<String> {
        let labels = self.plan.process.as_ref().map(|process| &process.labels);
        let word = |label: &Label| label.text.to_string();
        let apparmor = || {
            let profile = word(labels?.apparmor.as_ref()?);
            Some(format!("apparmor:{}", profile.strip_prefix("exec ").unwrap_or(&profile)))
        };
        let selinux = || Some(format!("selinux:{}", word(labels?.selinux.as_ref()?)));
        self.request.lsm_profile.map(str::to_owned).or_else(apparmor).or_else(selinux)
    }

    /// CRIU's children are born in its cgroups.
    fn join(&mut self, cgroup: &mut cgroup::Cgroup, story: &Story, pid: i32) -> Result<()> {
        let scope = cgroup.place().is_scope();
        if scope {
            let started = cgroup.start(pid, &self.plan.resources.devices, &self.plan.systemd_properties);
            self.undo.cgroup = Some(cgroup.place().clone());
            started?;
            story.write(self.plan, self.undo, cgroup.place(), None)?;
        }
        rootless::prepare_cgroup(self.plan, cgroup)?;
        Ok(cgroup.join(pid, scope)?)
    }

    /// Has CRIU do it. The container's processes are frozen then.
    fn call(
        &mut self,
        service: &Service,
        options: Options,
        cgroup: &cgroup::Cgroup,
        story: &Story,
        work: &OwnedFd,
    ) -> Result<(Init, Option<OwnedFd>)> {
        let request = rpc::Request { kind: Kind::Restore as i32, opts: Some(options), ..rpc::Request::default() };
        let (mut init, mut console, mut frozen) = (None, None, false);
        let mut failed = None;
        let notified = |told: Notification| {
            let done = match told.script.as_str() {
                "setup-namespaces" => self.begin(told.pid, cgroup, story).map(|found| init = Some(found)),
                "orphan-pts-master" => {
                    console = told.fd;
                    Ok(())
                }
                // Nothing of the container has run yet.
                "pre-resume" => freeze(cgroup, service.pid).map(|()| frozen = true),
                _ => Ok(()),
            };
            done.map_err(|error| {
                // CRIU would let go of them all the same.
                cgroup.kill().ok();
                failed = Some(error);
                Error::Usage("given up".to_owned())
            })
        };
        let answer = service.call(&request, notified).and_then(|response| swrk::succeeded(&response));
        match (answer, failed) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(swrk::explain("restore", error, work, LOG)),
            (Ok(()), None) => match init.filter(|_| frozen) {
                Some(init) => Ok((init, console)),
                None => Err(Error::Usage("restore: CRIU did not tell of the processes it has made".to_owned())),
            },
        }
    }

    /// The init is there, in its namespaces; nothing else of it is.
    fn begin(&mut self, pid: i32, cgroup: &cgroup::Cgroup, story: &Story) -> Result<Init> {
        let what = || format!("open restored process {pid}");
        let raw = Pid::from_raw(pid).ok_or(Errno::SRCH).context(what)?;
        self.undo.init = Some(pidfd_open(raw, PidfdFlags::empty()).context(what)?);
        let init = Init { pid, start_time: ProcessStat::read(pid)?.map_or(0, |stat| stat.start_time) };
        story.write(self.plan, self.undo, cgroup.place(), Some(init))?;
        if !self.plan.net_devices.is_empty() {
            self.undo.net_devices = Some(net_devices::move_all(&self.plan.net_devices, pid)?);
        }
        let hooks = &self.plan.hooks;
        *self.hooks_began |= !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty();
        let document = story::document(self.plan);
        hooks::run("prestart", &hooks.prestart, &document, "created", pid)?;
        hooks::run("createRuntime", &hooks.create_runtime, &document, "created", pid)?;
        Ok(init)
    }
}

/// The namespaces that CRIU is to take for those that it found to be others', with the names that it has for them.
fn outside(entries: &[Entry]) -> impl Iterator<Item = ([&'static str; 2], &OwnedFd)> {
    entries.iter().filter_map(|entry| {
        let (.., names) = EXTERNAL_NAMESPACES.iter().find(|(_, flag, _)| *flag == entry.kind)?;
        Some((*names, &entry.fd))
    })
}

fn place(source: &Source) -> Option<Place> {
    let mount = source.mapped?;
    Some(Place { name: CText::new(mounts::name(&source.point))?, mount })
}

/// Stops a container's cgroup, without CRIU, which has been in it till now.
fn freeze(cgroup: &cgroup::Cgroup, criu: i32) -> Result<()> {
    cgroup::Host::detect()?.fetch(criu)?;
    Ok(cgroup.freeze()?)
}
