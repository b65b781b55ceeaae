//! Mounts whose files show mapped ids: `mounts[].uidMappings`, `gidMappings`, the options `idmap` and `ridmap`, and an
//! annotation for the root.

use super::namespaces::{IdMaps, Namespaces, mappings};
use crate::config::spec::{self, Spec};
use crate::error::{Result, bad};
use rootfs::options::{self, Word};
use rootfs::plan::{MappedIds, Plan, What};
use serde::Serialize;

/// The root's files show the container's ids, with the value `idmap`, or `ridmap` for what is mounted below it too. The
/// specification has no property for it.
pub(crate) const ROOT_ANNOTATION: &str = "io.github.proa.root.mapped-ids";

/// Where a user namespace comes from that is used for its id mappings alone.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum IdSource {
    /// One is made with these. The text is the property they are from.
    Maps(IdMaps, String),
    /// The container's, which is joined.
    Joined,
}

/// Says of each mount, and of the root, whose ids it shows; the namespaces they are numbered by.
pub(super) fn apply(spec: &Spec<'_>, namespaces: &Namespaces, root: &mut Plan) -> Result<Vec<IdSource>> {
    let mut sources = Vec::new();
    for (index, (mount, planned)) in spec.mounts.iter().zip(&mut root.mounts).enumerate() {
        let property = format!("mounts[{index}]");
        let Some((source, recursive)) = of_mount(&property, mount, namespaces)? else { continue };
        if !matches!(planned.what, What::Bind { .. }) {
            return Err(bad(property, "ids can be mapped for a bind mount only"));
        }
        planned.ids = Some(MappedIds { namespace: number(&mut sources, source), recursive });
    }
    if let Some(word) = spec.annotation(ROOT_ANNOTATION) {
        let property = format!("annotations[{ROOT_ANNOTATION:?}]");
        let recursive = match word {
            "idmap" => false,
            "ridmap" => true,
            other => return Err(bad(property, format_args!("{other:?} is neither idmap nor ridmap"))),
        };
        let source = of_container(&property, namespaces)?;
        root.ids = Some(MappedIds { namespace: number(&mut sources, source), recursive });
    }
    Ok(sources)
}

fn number(sources: &mut Vec<IdSource>, source: IdSource) -> usize {
    let same = |known: &IdSource| match (known, &source) {
        (IdSource::Maps(known, _), IdSource::Maps(maps, _)) => known == maps,
        (known, source) => known == source,
    };
    sources.iter().position(same).unwrap_or_else(|| {
        sources.push(source);
        sources.len() - 1
    })
}

fn of_mount(property: &str, mount: &spec::Mount<'_>, namespaces: &Namespaces) -> Result<Option<(IdSource, bool)>> {
    let asked = mount.options.iter().filter_map(|word| match options::lookup(word) {
        Some(Word::MapIds(recursive)) => Some(recursive),
        _ => None,
    });
    let recursive = asked.reduce(|one, other| one | other);
    let source = match (mount.uid_mappings.is_empty(), mount.gid_mappings.is_empty(), recursive) {
        (true, true, None) => return Ok(None),
        (true, true, Some(_)) => of_container(property, namespaces)?,
        (true, false, _) => return Err(bad(format_args!("{property}.uidMappings"), "missing beside gidMappings")),
        (false, true, _) => return Err(bad(format_args!("{property}.gidMappings"), "missing beside uidMappings")),
        (false, false, _) => {
            let uid = mappings(&format!("{property}.uidMappings"), &mount.uid_mappings)?;
            let gid = mappings(&format!("{property}.gidMappings"), &mount.gid_mappings)?;
            IdSource::Maps(IdMaps { uid, gid }, property.to_owned())
        }
    };
    Ok(Some((source, recursive.unwrap_or(false))))
}

fn of_container(property: &str, namespaces: &Namespaces) -> Result<IdSource> {
    match &namespaces.ids {
        Some(maps) => Ok(IdSource::Maps(maps.clone(), "linux".to_owned())),
        None if namespaces.joins_user() => Ok(IdSource::Joined),
        None => {
            Err(bad(property, "mapped ids need uidMappings and gidMappings, or a user namespace of the container's"))
        }
    }
}
