//! From an image to layers in the store: what is missing is unpacked aside, all layers at once, written to disk, and then
//! put in place. What needs the layers below it comes last, one after another.

use super::apply;
use super::dirs::{self, CHAINS, LAYERS, Lock, Scratch};
use super::error::{At, Error, Result};
use super::records::{ImageRecord, LayerRecord};
use super::unpack::{self, Form, Stop, Warnings};
use super::view::is_merged;
use super::{Limits, Progress, Store, Stored, Xattrs};
use crate::image::tar::Reader;
use crate::image::{Digest, Image, Layer, stream};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fchmod, open};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// More layers than overlay takes at once.
const MAX_LAYERS: usize = 500;

pub(super) fn import(
    store: &Store,
    image: &Image,
    limits: &Limits,
    xattrs: Xattrs,
    progress: &dyn Progress,
) -> Result<Stored> {
    dirs::prepare(&store.dir)?;
    let lock = dirs::shared(&store.dir)?;
    dirs::sweep(&store.dir)?;
    if let Some(record) = ImageRecord::read(&store.dir, image.id())?
        && record.directories().all(|dir| store.dir.join(dir).join("diff").is_dir())
    {
        if !record.names.iter().any(|name| name == image.name()) {
            name_it(&store.dir, &record, image.name())?;
        }
        return Ok(stored(store, &record, image.name(), lock));
    }
    if !(1..=MAX_LAYERS).contains(&image.layers().len()) {
        let why = format!("has {} layers, not 1 to {MAX_LAYERS}", image.layers().len());
        return Err(Error::Layer { layer: image.name().to_owned(), why });
    }
    let config = String::from_utf8(image.config_json().to_vec());
    let config = config.map_err(|_| Error::Record { path: "configuration".into(), why: "is no UTF-8".to_owned() })?;
    let warnings = Warnings::new(progress, !may_do_all());
    let work = Work {
        store: &store.dir,
        xattrs,
        progress,
        warnings: &warnings,
        bytes: AtomicU64::new(limits.bytes),
        entries: AtomicU64::new(limits.entries),
        limits,
        stop: AtomicBool::new(false),
    };
    let record = work.stack(image, config)?;
    name_it(&store.dir, &record, image.name())?;
    Ok(stored(store, &record, image.name(), lock))
}

pub(super) fn stored(store: &Store, record: &ImageRecord, name: &str, lock: Lock) -> Stored {
    let tree = |dir: &String| store.dir.join(dir).join("diff");
    Stored {
        id: record.id.clone(),
        name: name.to_owned(),
        layers: record.layers.iter().map(tree).collect(),
        root: tree(&record.root),
        config_json: record.config.clone().into_bytes(),
        _lock: lock,
    }
}

/// Writes the record of an image under one more name, which no other image has then.
fn name_it(store: &Path, record: &ImageRecord, name: &str) -> Result<()> {
    let _lock = dirs::images(store)?;
    for mut other in ImageRecord::all(store)? {
        if other.id != record.id && other.names.iter().any(|its| its == name) {
            other.names.retain(|its| its != name);
            other.write(store)?;
        }
    }
    let mut record = record.clone();
    // Somebody else may have named it meanwhile.
    if let Some(there) = ImageRecord::read(store, &record.id)? {
        record.names = there.names;
    }
    if !record.names.iter().any(|its| its == name) {
        record.names.push(name.to_owned());
    }
    record.write(store)
}

/// Root of the first user namespace: whatever it may not do is an error.
fn may_do_all() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// One import under way.
pub(super) struct Work<'a> {
    pub(super) store: &'a Path,
    pub(super) xattrs: Xattrs,
    progress: &'a dyn Progress,
    pub(super) warnings: &'a Warnings<'a>,
    limits: &'a Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
    /// Another layer has failed.
    stop: AtomicBool,
}

/// A layer on the stack.
pub(super) struct Tree {
    /// The directory of `diff` and `layer.json`.
    pub(super) dir: PathBuf,
    pub(super) record: LayerRecord,
    /// Where it is in the store, or will be.
    place: String,
    /// It is not there yet.
    scratch: Option<Scratch>,
}

impl Tree {
    pub(super) fn diff(&self) -> PathBuf {
        self.dir.join("diff")
    }
}

impl Work<'_> {
    /// Brings all layers into the store.
    fn stack(&self, image: &Image, config: String) -> Result<ImageRecord> {
        let layers = image.layers();
        let chains = chain_ids(layers);
        let missing: Vec<&Layer> = layers
            .iter()
            .zip(&chains)
            .filter(|(layer, chain)| {
                let there = |kind: &str, id: &Digest| self.store.join(kind).join(id.hex()).join("layer.json").exists();
                !there(LAYERS, &layer.diff_id) && !there(CHAINS, chain)
            })
            .map(|(layer, _)| layer)
            .collect();
        let mut unpacked = self.unpack_all(&missing)?;

        let mut stack: Vec<Tree> = Vec::new();
        // The layers below one that hides them all; the root's attributes may be theirs.
        let mut hidden: Vec<Tree> = Vec::new();
        let mut root = None;
        for (layer, chain) in layers.iter().zip(&chains) {
            let alone = self.alone(layer, &mut unpacked)?.filter(|tree| self.fits(tree, &stack));
            let tree = match alone {
                Some(tree) => tree,
                None => self.chain(layer, chain, &stack, root.as_ref())?,
            };
            if tree.record.is_empty() && !stack.is_empty() {
                continue;
            }
            if tree.record.opaque_root {
                hidden.append(&mut stack);
            }
            if tree.record.root || root.is_none() {
                root = Some((tree.dir.clone(), tree.place.clone()));
            }
            stack.push(tree);
        }
        let layers: Vec<String> = stack.iter().map(|tree| tree.place.clone()).collect();
        let root = root.map(|(_, place)| place).unwrap_or_default();
        self.settle(hidden.into_iter().filter(|tree| tree.place == root).chain(stack))?;
        Ok(ImageRecord::new(image.id().clone(), config, layers, root))
    }

    /// The layer by itself, from the store or just unpacked.
    fn alone(&self, layer: &Layer, unpacked: &mut HashMap<Digest, (Scratch, LayerRecord)>) -> Result<Option<Tree>> {
        let place = format!("{LAYERS}/{}", layer.diff_id.hex());
        if let Some((scratch, record)) = unpacked.remove(&layer.diff_id) {
            return Ok(Some(Tree { dir: scratch.path.clone(), record, place, scratch: Some(scratch) }));
        }
        self.there(place)
    }

    fn there(&self, place: String) -> Result<Option<Tree>> {
        let dir = self.store.join(&place);
        let Some(record) = LayerRecord::of(&dir)? else { return Ok(None) };
        if record.xattrs != self.xattrs {
            let why = "was unpacked for another kind of user, with whom no store can be shared".to_owned();
            return Err(Error::Layer { layer: record.diff_id.to_string(), why });
        }
        Ok(Some(Tree { dir, record, place, scratch: None }))
    }

    /// Whether the layer by itself is right in this stack: its marks have something to hide, and it is not there already,
    /// as overlay takes no directory twice.
    fn fits(&self, tree: &Tree, stack: &[Tree]) -> bool {
        if stack.iter().any(|below| below.place == tree.place) {
            return false;
        }
        if tree.record.whiteouts.is_empty() {
            return true;
        }
        let lowers: Vec<PathBuf> =
            if tree.record.opaque_root { Vec::new() } else { stack.iter().map(Tree::diff).collect() };
        let diff = tree.diff();
        tree.record.whiteouts.iter().all(|path| is_merged(&diff, &lowers, path, self.xattrs))
    }

    /// The layer as it changes those below it.
    fn chain(&self, layer: &Layer, chain: &Digest, stack: &[Tree], root: Option<&(PathBuf, String)>) -> Result<Tree> {
        let place = format!("{CHAINS}/{}", chain.hex());
        if let Some(tree) = self.there(place.clone())? {
            return Ok(tree);
        }
        let scratch = self.scratch()?;
        let record = apply::apply(self, layer, &scratch, stack, root.map(|(dir, _)| dir.join("diff")).as_deref())?;
        self.write_record(&scratch, &record)?;
        self.progress.done(&layer.diff_id);
        Ok(Tree { dir: scratch.path.clone(), record, place, scratch: Some(scratch) })
    }

    /// Writes all that is new to the disk, and then puts it in place.
    fn settle(&self, trees: impl Iterator<Item = Tree>) -> Result<()> {
        let new: Vec<(Scratch, String)> =
            trees.filter_map(|tree| tree.scratch.map(|scratch| (scratch, tree.place))).collect();
        if let Some((scratch, _)) = new.first() {
            self.progress.syncing();
            rustix::fs::syncfs(&scratch.fd).at("sync", self.store)?;
        }
        new.into_iter().try_for_each(|(scratch, place)| scratch.settle(&self.store.join(place)))
    }

    /// Unpacks several layers, as many at once as there are processors. Those that depend on others are left out.
    fn unpack_all(&self, layers: &[&Layer]) -> Result<HashMap<Digest, (Scratch, LayerRecord)>> {
        let mut waiting: Vec<&Layer> = Vec::new();
        for layer in layers {
            if !waiting.iter().any(|other| other.diff_id == layer.diff_id) {
                waiting.push(layer);
            }
        }
        if waiting.is_empty() {
            return Ok(HashMap::new());
        }
        self.progress.layers(&waiting);
        // The largest first, so that none is left over when all others are done.
        waiting.sort_by_key(|layer| layer.size);
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(waiting.len());
        let (waiting, done, failed) = (Mutex::new(waiting), Mutex::new(HashMap::new()), Mutex::new(None));
        let lock = |error: std::sync::PoisonError<_>| error.into_inner();
        let work = || {
            while let Some(layer) = waiting.lock().unwrap_or_else(lock).pop() {
                match self.unpack_alone(layer) {
                    Ok(Some(tree)) => {
                        self.progress.done(&layer.diff_id);
                        done.lock()
                            .unwrap_or_else(std::sync::PoisonError::into_inner)
                            .insert(layer.diff_id.clone(), tree);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        // The first is the one to tell; it has the others stop.
                        let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failed.get_or_insert(error);
                        self.stop.store(true, Ordering::Relaxed);
                        return;
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..workers {
                // Without another thread there is this one.
                std::thread::Builder::new().name("layers".to_owned()).spawn_scoped(scope, work).ok();
            }
            work();
        });
        match failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)),
        }
    }

    fn unpack_alone(&self, layer: &Layer) -> Result<Option<(Scratch, LayerRecord)>> {
        let scratch = self.scratch()?;
        let root = self.tree(&scratch)?;
        match self.unpack(layer, root, Form::Alone(self.xattrs))? {
            Some(record) => {
                self.write_record(&scratch, &record)?;
                Ok(Some((scratch, record)))
            }
            None => Ok(None),
        }
    }

    pub(super) fn scratch(&self) -> Result<Scratch> {
        Scratch::new(self.store)
    }

    /// An empty tree in a scratch directory.
    pub(super) fn tree(&self, scratch: &Scratch) -> Result<OwnedFd> {
        let path = scratch.path.join("diff");
        std::fs::create_dir(&path).at("make the directory", &path)?;
        let root = open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        let root = root.at("open", &path)?;
        fchmod(&root, Mode::from_raw_mode(0o755)).at("set the mode of", &path)?;
        Ok(root)
    }

    fn write_record(&self, scratch: &Scratch, record: &LayerRecord) -> Result<()> {
        let path = scratch.path.join("layer.json");
        std::fs::write(&path, record.text()?).at("write", &path)
    }

    /// Unpacks and verifies a layer; `None` if it depends on those below.
    pub(super) fn unpack(&self, layer: &Layer, root: OwnedFd, form: Form) -> Result<Option<LayerRecord>> {
        let wrong = |why| Error::Layer { layer: layer.diff_id.to_string(), why };
        let read = |bytes| {
            self.progress.advanced(&layer.diff_id, bytes);
            if self.stop.load(Ordering::Relaxed) { Err(io::Error::other("another layer has failed")) } else { Ok(()) }
        };
        let bytes = |bytes| {
            let why = || format!("the image unpacks to more than {} bytes, which is the limit", self.limits.bytes);
            take(&self.bytes, bytes, why)
        };
        let entry = || take(&self.entries, 1, || format!("the image has more than {} entries", self.limits.entries));
        let unpacked = stream(layer, &read, &bytes, |chunks| {
            let mut reader = Reader::new(chunks);
            let facts = unpack::unpack(root, form, &mut reader, self.warnings, &entry)?;
            Ok((facts, reader.input().digest()))
        })?;
        match unpacked {
            Ok((_, digest)) if digest != layer.diff_id => {
                Err(wrong(format!("its uncompressed content has digest {digest}")))
            }
            Ok((facts, _)) => Ok(Some(LayerRecord::new(&layer.diff_id, facts, self.xattrs))),
            Err(Stop::Depends) => Ok(None),
            Err(Stop::Failed(why)) => Err(wrong(why)),
        }
    }
}

/// Takes from what may still be used.
fn take(left: &AtomicU64, amount: u64, why: impl Fn() -> String) -> io::Result<()> {
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount));
    taken.map(drop).map_err(|_| io::Error::other(why()))
}

/// Ids of each layer together with all below it.
fn chain_ids(layers: &[Layer]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::new();
    for layer in layers {
        chains.push(match chains.last() {
            None => layer.diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {}", layer.diff_id).as_bytes()),
        });
    }
    chains
}
