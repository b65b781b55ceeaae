//! The lines of `events`, with the names and the omissions that runc's have.

use cgroup::{Amount, CPUSET_FLAGS, HugetlbUsage, IoEntry, Pressure, Stall, Usage};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Stats<'a>>,
}

/// Made from a container's figures.
pub(super) struct Stats<'u>(&'u Usage);

impl<'u> Stats<'u> {
    pub(super) fn new(usage: &'u Usage) -> Stats<'u> {
        Stats(usage)
    }
}

impl Serialize for Stats<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let usage = self.0;
        let mut stats = Map::new();
        stats.insert("cpu".into(), cpu(usage));
        stats.insert("cpuset".into(), cpuset(usage));
        stats.insert("memory".into(), memory(usage));
        stats.insert("pids".into(), pids(usage));
        stats.insert("blkio".into(), blkio(usage));
        stats.insert("hugetlb".into(), Value::Object(usage.hugetlb.iter().map(hugetlb).collect()));
        // Of resctrl nothing is read.
        stats.insert("intel_rdt".into(), Value::Object(Map::new()));
        // runc lists interfaces that it made itself, and none is its to make.
        stats.insert("network_interfaces".into(), Value::Null);
        stats.serialize(serializer)
    }
}

/// An object whose numbers are left out where they are zero.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn always(mut self, name: &str, value: impl Into<Value>) -> Object {
        self.0.insert(name.into(), value.into());
        self
    }

    fn number(self, name: &str, value: u64) -> Object {
        if value == 0 { self } else { self.always(name, value) }
    }

    fn list(self, name: &str, values: Vec<Value>) -> Object {
        if values.is_empty() { self } else { self.always(name, values) }
    }

    fn pressure(self, pressure: Option<&Pressure>) -> Object {
        let stall = |stall: &Stall| {
            let object = Object::default().always("avg10", stall.avg10).always("avg60", stall.avg60);
            object.always("avg300", stall.avg300).always("total", stall.total).value()
        };
        match pressure {
            None => self,
            Some(pressure) => {
                let both =
                    Object::default().always("some", stall(&pressure.some)).always("full", stall(&pressure.full));
                self.always("psi", both.value())
            }
        }
    }

    fn value(self) -> Value {
        Value::Object(self.0)
    }
}

fn numbers(list: &[u64]) -> Vec<Value> {
    list.iter().map(|number| Value::from(*number)).collect()
}

fn cpu(usage: &Usage) -> Value {
    let cpu = usage.cpu.clone().unwrap_or_default();
    let time = Object::default()
        .number("total", cpu.total)
        .list("percpu", numbers(&cpu.per_cpu))
        .list("percpu_kernel", numbers(&cpu.per_cpu_kernel))
        .list("percpu_user", numbers(&cpu.per_cpu_user))
        .always("kernel", cpu.kernel)
        .always("user", cpu.user);
    let throttling = Object::default()
        .number("periods", cpu.periods)
        .number("throttledPeriods", cpu.throttled_periods)
        .number("throttledTime", cpu.throttled_time);
    let object = Object::default().always("usage", time.value()).always("throttling", throttling.value());
    object.pressure(cpu.pressure.as_ref()).value()
}

fn cpuset(usage: &Usage) -> Value {
    let cpuset = usage.cpuset.clone().unwrap_or_default();
    let list = |list: &[u16]| list.iter().map(|number| Value::from(*number)).collect::<Vec<_>>();
    let mut object = Object::default().list("cpus", list(&cpuset.cpus)).list("mems", list(&cpuset.mems));
    for name in CPUSET_FLAGS {
        let value = cpuset.flags.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value);
        object = object.always(name, value);
    }
    object.value()
}

fn amount(amount: &Amount) -> Value {
    let object = Object::default().always("limit", amount.limit).number("usage", amount.usage);
    object.number("max", amount.max).always("failcnt", amount.failcnt).value()
}

fn memory(usage: &Usage) -> Value {
    let memory = usage.memory.clone().unwrap_or_default();
    let raw: Map<String, Value> = memory.raw.iter().map(|(name, value)| (name.clone(), Value::from(*value))).collect();
    let object = Object::default()
        .number("cache", memory.cache)
        .always("usage", amount(&memory.usage))
        .always("swap", amount(&memory.with_swap))
        .always("kernel", amount(&memory.kernel))
        .always("kernelTCP", amount(&memory.kernel_tcp));
    let object = if raw.is_empty() { object } else { object.always("raw", Value::Object(raw)) };
    object.pressure(memory.pressure.as_ref()).value()
}

fn pids(usage: &Usage) -> Value {
    let pids = usage.pids.unwrap_or_default();
    Object::default().number("current", pids.current).number("limit", pids.limit).value()
}

fn blkio(usage: &Usage) -> Value {
    let entry = |entry: &IoEntry| {
        let mut object = Object::default().number("major", entry.major).number("minor", entry.minor);
        if !entry.op.is_empty() {
            object = object.always("op", entry.op.as_str());
        }
        object.number("value", entry.value).value()
    };
    let io = &usage.io;
    let mut object = Object::default();
    for (name, list) in [
        ("ioServiceBytesRecursive", &io.bytes),
        ("ioServicedRecursive", &io.requests),
        ("ioQueueRecursive", &io.queued),
        ("ioServiceTimeRecursive", &io.service_time),
        ("ioWaitTimeRecursive", &io.wait_time),
        ("ioMergedRecursive", &io.merged),
        ("ioTimeRecursive", &io.time),
        ("sectorsRecursive", &io.sectors),
    ] {
        object = object.list(name, list.iter().map(entry).collect());
    }
    object.pressure(io.pressure.as_ref()).value()
}

fn hugetlb((size, usage): &(String, HugetlbUsage)) -> (String, Value) {
    let object = Object::default().number("usage", usage.usage).number("max", usage.max);
    (size.clone(), object.always("failcnt", usage.failcnt).value())
}
