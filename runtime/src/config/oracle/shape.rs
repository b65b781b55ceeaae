//! What a config.json may look like, read from the JSON schema of the runtime-spec. Not a validator: the shape is what
//! documents are generated from, and tells apart the objects, lists and maps of one that was parsed.
//!
//! Places are written as `linux.devices[].path`, with `[]` for the items of a list and `*` for the values of a map.

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::LazyLock;

pub(super) enum Shape {
    /// Properties named by the spec.
    Object(Vec<Field>),
    /// Names of the writer's choice; those given are examples.
    Map(&'static [&'static str], Box<Shape>),
    List(Box<Shape>),
    /// One of a closed set.
    Word(Vec<String>),
    /// Anything, such as these.
    Text(&'static [&'static str]),
    Int {
        min: i128,
        max: i128,
    },
    Bool,
}

pub(super) struct Field {
    pub name: String,
    pub required: bool,
    pub shape: Shape,
}

/// The whole document, for Linux.
pub(super) static CONFIG: LazyLock<Shape> =
    LazyLock::new(|| Builder { file: "config-schema.json" }.shape("", Builder::load("config-schema.json")).unwrap());

/// What the schema has for other platforms only.
pub(super) const FOREIGN: [&str; 6] = ["freebsd", "process.commandLine", "solaris", "vm", "windows", "zos"];

/// capabilities(7), which the schema leaves to the text.
pub(super) const CAPABILITIES: &str = "AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN \
    DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE \
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN \
    SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG \
    WAKE_ALARM";
/// getrlimit(2).
const RLIMITS: &str =
    "AS CORE CPU DATA FSIZE LOCKS MEMLOCK MSGQUEUE NICE NOFILE NPROC RSS RTPRIO RTTIME SIGPENDING STACK";

fn words(prefix: &str, list: &str) -> Shape {
    Shape::Word(list.split_whitespace().map(|word| format!("{prefix}{word}")).collect())
}

/// Reads one schema file, following its references into the others.
struct Builder {
    file: &'static str,
}

impl Builder {
    fn load(file: &str) -> &'static Value {
        macro_rules! schema {
            ($($name:literal)*) => {
                match file {
                    $($name => {
                        static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
                            serde_json::from_str(include_str!(concat!("../samples/schema/", $name))).unwrap()
                        });
                        &DOCUMENT
                    })*
                    _ => &Value::Null,
                }
            };
        }
        schema! { "config-schema.json" "config-linux.json" "defs.json" "defs-linux.json" }
    }

    /// `None` if it is of another platform, whose schema is not among the samples.
    fn shape(&self, path: &str, schema: &'static Value) -> Option<Shape> {
        if let Some(special) = beyond_the_schema(path) {
            return Some(special);
        }
        if let Some(target) = schema["$ref"].as_str() {
            let (file, pointer) = target.split_once('#').unwrap();
            let file = if file.is_empty() { self.file } else { file };
            let found = Self::load(file).pointer(pointer)?;
            return Builder { file }.shape(path, found);
        }
        if let [only] = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice) {
            return self.shape(path, only);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.shape(path, part));
            return Some(Shape::Object(parts.flat_map(|part| part.unwrap().into_fields()).collect()));
        }
        if let Some(list) = schema["enum"].as_array() {
            return Some(Shape::Word(list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()));
        }
        Some(match schema["type"].as_str().unwrap_or_else(|| panic!("{path}: {schema}")) {
            "object" => return self.object(path, schema),
            "array" => Shape::List(Box::new(self.shape(&format!("{path}[]"), &schema["items"])?)),
            "string" => text(path, schema["pattern"].as_str()),
            "boolean" => Shape::Bool,
            "integer" => Shape::Int {
                min: schema["minimum"].as_i64().unwrap_or(i64::MIN).into(),
                max: schema["maximum"].as_u64().map_or(i64::MAX.into(), i128::from),
            },
            other => panic!("{path}: {other}"),
        })
    }

    fn object(&self, path: &str, schema: &'static Value) -> Option<Shape> {
        let Some(properties) = schema["properties"].as_object() else {
            let values = schema.get("additionalProperties").or(schema.pointer("/patternProperties/.{1,}"))?;
            let names = names(path);
            return Some(Shape::Map(names, Box::new(self.shape(&format!("{path}.*"), values)?)));
        };
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        if path == "linux.timeOffsets" {
            // config-linux.md has a map: "The name of the clock is the entry key."
            let offset = self.shape("linux.timeOffsets.*", &properties["monotonic"])?;
            return Some(Shape::Map(names(path), Box::new(offset)));
        }
        let fields = properties.iter().filter_map(|(name, schema)| {
            let path = join(path, name);
            let shape = if FOREIGN.contains(&path.as_str()) { None } else { self.shape(&path, schema) }?;
            Some(Field { name: name.clone(), required: required.iter().any(|r| r == name), shape })
        });
        Some(Shape::Object(fields.collect()))
    }
}

/// What the text of the spec closes and the schema leaves open.
fn beyond_the_schema(path: &str) -> Option<Shape> {
    match path {
        _ if path.starts_with("process.capabilities.") && path.ends_with("[]") => Some(words("CAP_", CAPABILITIES)),
        "process.rlimits[].type" => Some(words("RLIMIT_", RLIMITS)),
        // The schema has no bounds; proc_pid_oom_score_adj(5) has narrower ones than the types.
        "process.oomScoreAdj" => Some(Shape::Int { min: i32::MIN.into(), max: i32::MAX.into() }),
        // "type of device: `a` (all), `c` (char), or `b` (block)"
        "linux.resources.devices[].type" => Some(words("", "a c b")),
        _ => None,
    }
}

fn text(path: &str, pattern: Option<&str>) -> Shape {
    match pattern {
        None => Shape::Text(&["", "/", "a", "/some/where", "rootfs", "b c"]),
        Some("^[cbup]$") => words("", "c b u p"),
        Some("^[0-9, -]*$") => Shape::Text(&["0-3,7", "0", "", "1, 3", "12-15"]),
        Some("^MB:[^\\n]*$") => Shape::Text(&["MB:0=20;1=70", "MB:"]),
        Some("^[1-9][0-9]*[KMG]B$") => Shape::Text(&["2MB", "1GB", "64KB"]),
        Some(other) => panic!("{path}: pattern {other}"),
    }
}

fn names(path: &str) -> &'static [&'static str] {
    match path {
        "annotations" => &["com.example.key", "org.opencontainers.image.stopSignal", ""],
        "linux.sysctl" => &["net.ipv4.ip_forward", "kernel.shm_rmid_forced"],
        "linux.timeOffsets" => &["boottime", "monotonic"],
        "linux.netDevices" => &["eth0", "ens4"],
        "linux.resources.rdma" => &["mlx5_1", "rxe3"],
        "linux.resources.unified" => &["memory.high", "io.max", "hugetlb.1GB.max"],
        _ => panic!("{path}: a map without examples"),
    }
}

pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Shape {
    fn into_fields(self) -> Vec<Field> {
        if let Shape::Object(fields) = self { fields } else { Vec::new() }
    }

    /// The properties of an object.
    pub(super) fn fields(&self) -> &[Field] {
        if let Shape::Object(fields) = self { fields } else { &[] }
    }

    /// Calls `f` with every place of `value` that the spec knows and its name, a container before what is in it.
    pub(super) fn visit(&self, value: &mut Value, f: &mut dyn FnMut(&str, &Shape, &mut Value)) {
        self.visit_at("", value, f);
    }

    fn visit_at(&self, path: &str, value: &mut Value, f: &mut dyn FnMut(&str, &Shape, &mut Value)) {
        f(path, self, value);
        match (self, value) {
            (Shape::Object(fields), Value::Object(map)) => {
                for field in fields {
                    if let Some(value) = map.get_mut(&field.name) {
                        field.shape.visit_at(&join(path, &field.name), value, f);
                    }
                }
            }
            (Shape::Map(_, shape), Value::Object(map)) => {
                map.values_mut().for_each(|value| shape.visit_at(&join(path, "*"), value, f));
            }
            (Shape::List(shape), Value::Array(list)) => {
                list.iter_mut().for_each(|value| shape.visit_at(&format!("{path}[]"), value, f));
            }
            _ => {}
        }
    }

    /// A document with every property, every list and map with one entry.
    pub(super) fn example(&self) -> Value {
        match self {
            Shape::Object(fields) => fields.iter().map(|f| (f.name.clone(), f.shape.example())).collect(),
            Shape::Map(names, shape) => Value::Object([(names[0].to_owned(), shape.example())].into_iter().collect()),
            Shape::List(shape) => Value::Array(vec![shape.example()]),
            Shape::Word(words) => words[0].clone().into(),
            Shape::Text(examples) => examples[0].into(),
            Shape::Int { .. } => 1.into(),
            Shape::Bool => true.into(),
        }
    }

    /// The places of all that the spec knows.
    pub(super) fn places(&self) -> BTreeSet<String> {
        let mut places = BTreeSet::new();
        self.visit(&mut self.example(), &mut |path, _, _| {
            places.insert(path.to_owned());
        });
        places
    }
}
