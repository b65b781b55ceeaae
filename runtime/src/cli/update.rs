//! `proa update`: other limits for a container that is there.

use super::{App, with_record};
use crate::config::{self, spec};
use crate::error::{Context, Error, Result, bad};
use crate::parent::intel_rdt;
use crate::plan::{Host, intel_rdt_of, updated_limits};
use crate::state::{Record, StateDir, Status, view};
use cgroup::{Limit, Resources};
use spec::Str;
use std::borrow::Cow;
use std::io::Read;

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let file = app.value("resources").map(read).transpose()?;
    let given = match &file {
        Some((path, text)) => config::parse_resources(path, text)?,
        None => from_flags(app)?,
    };
    for flag in ["kernel-memory", "kernel-memory-tcp"] {
        if app.flag(flag) {
            log::warn!("--{flag} has no effect: kernels no longer have that limit");
        }
    }
    let host = Host::default();
    let mut warnings = Vec::new();
    let resources = updated_limits(&given, &host, &mut warnings)?;
    warnings.iter().for_each(|warning| log::warn!("{warning}"));
    with_record(app, |_, dir, record| {
        let (status, _) = view(dir, record)?;
        if !matches!(status, Status::Created | Status::Running | Status::Paused) {
            return Err(Error::Refused { what: "container not running", id: dir.id.clone() });
        }
        update_cgroup(record, resources, &host)?;
        update_rdt(app, dir)
    })
}

/// Only what is set is written. Limits come into force one after the other: after one that fails, those before it are in
/// force.
fn update_cgroup(record: &Record<'_>, mut resources: Resources, host: &Host) -> Result<()> {
    if resources.is_unlimited() {
        return Ok(());
    }
    let cgroup = match record.cgroup.open()? {
        Some(_) if record.cgroup.is_disabled() => {
            return Err(Error::Usage(format!("container {} has no cgroup to limit it by", &*record.id)));
        }
        Some(cgroup) => cgroup,
        None => return Err(Error::NotRunning(record.id.to_string())),
    };
    resources.check(host.cgroups()?)?;
    // The limit on both says nothing of swap without that on memory.
    if let (None, Some(Limit::Of(_))) = (resources.memory.limit, resources.memory.swap) {
        resources.memory.limit = cgroup.memory_limit()?;
    }
    Ok(cgroup.apply(&resources)?)
}

fn update_rdt(app: &App<'_>, dir: &StateDir) -> Result<()> {
    let lines: Vec<String> = ["l3-cache-schema", "mem-bw-schema"]
        .into_iter()
        .filter_map(|flag| app.value(flag))
        .map(str::to_owned)
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let text = dir.read_config()?;
    let spec = config::parse_spec(&text)?;
    match intel_rdt_of(spec.linux.as_ref(), &dir.id)? {
        Some(rdt) => intel_rdt::update(&rdt.group, &lines),
        None => Err(bad("--l3-cache-schema, --mem-bw-schema", "this container was made without linux.intelRdt")),
    }
}

fn read(path: &str) -> Result<(String, String)> {
    let mut text = String::new();
    let read = match path {
        "-" => std::io::stdin().read_to_string(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
    };
    read.context(|| format!("--resources {path:?}"))?;
    Ok((path.to_owned(), text))
}

/// The flags as linux.resources has them.
fn from_flags<'a>(app: &App<'a>) -> Result<spec::Resources<'a>> {
    let own = |name: &str| app.value(name).map(|text| Str(Cow::Borrowed(text)));
    let cpu = spec::Cpu {
        shares: number(app, "cpu-share")?,
        quota: number(app, "cpu-quota")?,
        burst: number(app, "cpu-burst")?,
        period: number(app, "cpu-period")?,
        realtime_runtime: number(app, "cpu-rt-runtime")?,
        realtime_period: number(app, "cpu-rt-period")?,
        cpus: own("cpuset-cpus"),
        mems: own("cpuset-mems"),
        idle: number(app, "cpu-idle")?,
    };
    let memory = spec::Memory {
        limit: size(app, "memory")?,
        reservation: size(app, "memory-reservation")?,
        swap: size(app, "memory-swap")?,
        ..spec::Memory::default()
    };
    let block_io = spec::BlockIo { weight: number(app, "blkio-weight")?, ..spec::BlockIo::default() };
    Ok(spec::Resources {
        cpu: Some(cpu),
        memory: Some(memory),
        pids: number(app, "pids-limit")?.map(|limit| spec::Pids { limit: Some(limit) }),
        block_io: Some(block_io),
        ..spec::Resources::default()
    })
}

fn number<T: std::str::FromStr>(app: &App<'_>, name: &str) -> Result<Option<T>> {
    let parse =
        |text: &str| text.parse().map_err(|_| bad(format!("--{name}"), format_args!("{text:?} is no number in range")));
    app.value(name).map(parse).transpose()
}

fn size(app: &App<'_>, name: &str) -> Result<Option<i64>> {
    let parse = |text: &str| {
        bytes(text).ok_or_else(|| bad(format!("--{name}"), format_args!("{text:?} is no size such as 64m, 1.5g or -1")))
    };
    app.value(name).map(parse).transpose()
}

/// `64m`, `1.5 GiB`, `4096`: suffixes are powers of 1024, with or without `b` or `ib`. -1 is no limit.
pub(super) fn bytes(text: &str) -> Option<i64> {
    let text = text.trim();
    if text == "-1" {
        return Some(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let suffix = suffix.trim().to_ascii_lowercase();
    let power = match suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix) {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let factor = 1i64 << (10 * power);
    match number.parse::<i64>() {
        Ok(number) => number.checked_mul(factor),
        Err(_) => {
            let bytes = number.parse::<f64>().ok()? * factor as f64;
            (bytes < i64::MAX as f64).then_some(bytes as i64)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4096", Some(4096)),
            ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)),
            ("1.5g", Some(3 << 29)),
            ("2 KiB", Some(2048)),
            ("7kb", Some(7168)),
            ("5b", Some(5)),
            ("-1", Some(-1)),
            ("-2", None),
            ("", None),
            ("m", None),
            ("1x", None),
            ("1.2.3", None),
            ("99999999999999999999", None),
            ("9999999999g", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
