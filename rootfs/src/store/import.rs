//! From an image to layers in the store: what is missing is unpacked aside, all layers at once, written to disk, and then
//! put in place. What needs the layers below it comes last, one after another.

use super::apply;
use super::budget::{Budget, Share};
use super::dirs::{self, CHAINS, LAYERS, Lock, Scratch};
use super::error::{At, Error, Result};
use super::records::{ImageRecord, LayerRecord};
use super::unpack::{self, Form, Stop, Warnings};
use super::view::is_merged;
use super::{Limits, Progress, Store, Stored, Xattrs};
use crate::image::tar::Reader;
use crate::image::{self, Digest, Image, Layer, familiar, stream};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, fchmod, open};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    dirs::sweep(&store.dir, progress)?;
    let lock = dirs::shared(&store.dir)?;
    if let Some(record) = ImageRecord::read(&store.dir, image.id())?
        && record.directories().all(|dir| store.dir.join(dir).join("diff").is_dir())
    {
        xattrs.check(record.xattrs, || format!("image {}", record.id))?;
        name_it(&store.dir, record.clone(), image.name())?;
        return Ok(stored(store, &record, image.name(), lock));
    }
    let wrong = |what: &str, why| image::Error::Document { what: what.to_owned(), why };
    if !(1..=MAX_LAYERS).contains(&image.layers().len()) {
        let why = format!("has {} layers, not 1 to {MAX_LAYERS}", image.layers().len());
        return Err(wrong(image.name(), why).into());
    }
    let config = String::from_utf8(image.config_json().to_vec());
    let config = config.map_err(|_| wrong("configuration", "is no UTF-8".to_owned()))?;
    let warnings = Warnings::new(progress, !may_do_all());
    let work = Work {
        store: &store.dir,
        xattrs,
        progress,
        warnings: &warnings,
        budget: Budget::new(*limits),
        stop: AtomicBool::new(false),
    };
    let record = work.stack(image, config)?;
    name_it(&store.dir, record.clone(), image.name())?;
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

/// Writes the record of an image under one more name, which no other image has then. It has it before the other has not,
/// so that a crash cannot lose the name.
fn name_it(store: &Path, mut record: ImageRecord, name: &str) -> Result<()> {
    let _lock = dirs::images(store)?;
    let is_it = |its: &String| familiar(its) == familiar(name);
    let there = ImageRecord::read(store, &record.id)?;
    // Somebody else may have named it meanwhile.
    if let Some(there) = &there {
        record.names.clone_from(&there.names);
    }
    if !record.names.iter().any(is_it) {
        record.names.push(name.to_owned());
    }
    if there.as_ref() != Some(&record) {
        record.write(store)?;
    }
    for mut other in ImageRecord::all(store)? {
        if other.id != record.id && other.names.iter().any(is_it) {
            other.names.retain(|its| !is_it(its));
            other.write(store)?;
        }
    }
    Ok(())
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
    budget: Arc<Budget>,
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
    new: Option<(Scratch, Share)>,
}

impl Tree {
    pub(super) fn diff(&self) -> PathBuf {
        self.dir.join("diff")
    }
}

/// A layer that was unpacked by itself.
struct Unpacked {
    scratch: Scratch,
    record: LayerRecord,
    share: Share,
}

/// What is told of.
struct Told<'l> {
    layers: Vec<&'l Layer>,
    /// Those of them that have come to nothing by themselves.
    in_vain: HashSet<Digest>,
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
        let missing = each_once(missing);
        let mut unpacked = self.unpack_all(&missing)?;
        let in_vain = missing.iter().map(|layer| layer.diff_id.clone()).filter(|id| !unpacked.contains_key(id));
        let mut told = Told { in_vain: in_vain.collect(), layers: missing };

        let mut stack: Vec<Tree> = Vec::new();
        // The layers below one that hides them all; the root's attributes may be theirs.
        let mut hidden: Vec<Tree> = Vec::new();
        let mut root = None;
        for (layer, chain) in layers.iter().zip(&chains) {
            let alone = self.alone(layer, &mut unpacked)?.filter(|tree| self.fits(tree, &stack));
            let tree = match alone {
                Some(tree) => tree,
                None => self.chain(layer, chain, &stack, root.as_ref(), &mut told)?,
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
        Ok(ImageRecord::new(image.id().clone(), config, layers, root, self.xattrs))
    }

    /// The layer by itself, from the store or just unpacked.
    fn alone(&self, layer: &Layer, unpacked: &mut HashMap<Digest, Unpacked>) -> Result<Option<Tree>> {
        let place = format!("{LAYERS}/{}", layer.diff_id.hex());
        if let Some(Unpacked { scratch, record, share }) = unpacked.remove(&layer.diff_id) {
            return Ok(Some(Tree { dir: scratch.path.clone(), record, place, new: Some((scratch, share)) }));
        }
        self.there(place)
    }

    fn there(&self, place: String) -> Result<Option<Tree>> {
        let dir = self.store.join(&place);
        let Some(record) = LayerRecord::of(&dir)? else { return Ok(None) };
        self.xattrs.check(Some(record.xattrs), || format!("layer {}", record.diff_id))?;
        Ok(Some(Tree { dir, record, place, new: None }))
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
    fn chain<'l>(
        &self,
        layer: &'l Layer,
        chain: &Digest,
        stack: &[Tree],
        root: Option<&(PathBuf, String)>,
        told: &mut Told<'l>,
    ) -> Result<Tree> {
        let place = format!("{CHAINS}/{}", chain.hex());
        if let Some(tree) = self.there(place.clone())? {
            return Ok(tree);
        }
        if !told.in_vain.remove(&layer.diff_id) {
            told.layers.push(layer);
            self.progress.layers(&told.layers);
        }
        let scratch = self.scratch()?;
        let root = root.map(|(dir, _)| dir.join("diff"));
        let (record, share) = apply::apply(self, layer, &scratch, stack, root.as_deref())?;
        self.write_record(&scratch, &record)?;
        self.progress.done(&layer.diff_id);
        Ok(Tree { dir: scratch.path.clone(), record, place, new: Some((scratch, share)) })
    }

    /// Writes all that is new to the disk, and then puts it in place.
    fn settle(&self, trees: impl Iterator<Item = Tree>) -> Result<()> {
        let new: Vec<(Scratch, String)> =
            trees.filter_map(|tree| tree.new.map(|(scratch, _)| (scratch, tree.place))).collect();
        let Some((scratch, _)) = new.first() else { return Ok(()) };
        self.progress.syncing();
        rustix::fs::syncfs(&scratch.fd).at("sync", self.store)?;
        new.into_iter().try_for_each(|(scratch, place)| scratch.settle(&self.store.join(place)))?;
        [LAYERS, CHAINS].iter().try_for_each(|kind| dirs::sync(&self.store.join(kind)))
    }

    /// Unpacks several layers, as many at once as there are processors. Those that depend on others are left out.
    fn unpack_all(&self, layers: &[&Layer]) -> Result<HashMap<Digest, Unpacked>> {
        if layers.is_empty() {
            return Ok(HashMap::new());
        }
        self.progress.layers(layers);
        let mut waiting = layers.to_vec();
        // The largest first, so that none is left over when all others are done.
        waiting.sort_by_key(|layer| layer.size);
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(waiting.len());
        let (waiting, done, failed) = (Mutex::new(waiting), Mutex::new(HashMap::new()), Mutex::new(None));
        // By itself, so that nobody else waits for the layer that is taken.
        let next = || lock(&waiting).pop();
        let work = || {
            while let Some(layer) = next() {
                match self.unpack_alone(layer) {
                    Ok(Some(unpacked)) => {
                        self.progress.done(&layer.diff_id);
                        lock(&done).insert(layer.diff_id.clone(), unpacked);
                    }
                    Ok(None) => {}
                    Err(error) => {
                        // The first is the one to tell; it has the others stop.
                        lock(&failed).get_or_insert(error);
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
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    fn unpack_alone(&self, layer: &Layer) -> Result<Option<Unpacked>> {
        let scratch = self.scratch()?;
        let root = self.tree(&scratch)?;
        let Some((record, share)) = self.unpack(layer, root, Form::Alone(self.xattrs))? else { return Ok(None) };
        self.write_record(&scratch, &record)?;
        Ok(Some(Unpacked { scratch, record, share }))
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
    pub(super) fn unpack(&self, layer: &Layer, root: OwnedFd, form: Form) -> Result<Option<(LayerRecord, Share)>> {
        let wrong = |why| Error::Layer { layer: layer.diff_id.to_string(), why };
        let read = |bytes| {
            self.progress.advanced(&layer.diff_id, bytes);
            if self.stop.load(Ordering::Relaxed) { Err(io::Error::other("another layer has failed")) } else { Ok(()) }
        };
        let share = Share::of(&self.budget);
        let unpacked = stream(layer, &read, &|bytes| share.take_bytes(bytes), |chunks| {
            let mut reader = Reader::new(chunks);
            let facts = unpack::unpack(root, form, &mut reader, self.warnings, &share)?;
            Ok((facts, reader.input().digest()))
        })?;
        match unpacked {
            Ok((_, digest)) if digest != layer.diff_id => {
                Err(wrong(format!("its uncompressed content has digest {digest}")))
            }
            Ok((facts, _)) => Ok(Some((LayerRecord::new(&layer.diff_id, facts, self.xattrs), share))),
            Err(Stop::Depends) => Ok(None),
            Err(Stop::Failed(why)) => Err(wrong(why)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn each_once(layers: Vec<&Layer>) -> Vec<&Layer> {
    let mut seen = HashSet::new();
    layers.into_iter().filter(|layer| seen.insert(&layer.diff_id)).collect()
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
