//! Messages of D-Bus as bytes (D-Bus Specification, "Message Protocol"): calls that go out, and what comes in.

use serde::Serialize;
use serde::de::Deserialize;
use zvariant::serialized::{Context, Data};
use zvariant::{Endian, NATIVE_ENDIAN, ObjectPath, SerializeValue, Signature, Type, Value};

use super::bus::Failure;

/// The fixed start of a message, which tells its length.
pub(super) const START: usize = 16;
/// The specification allows 128 MiB; systemd's answers here are below 1 KB.
const MAX: usize = 1 << 20;

const CALL: u8 = 1;
const NO_REPLY_EXPECTED: u8 = 1;

/// Fields of the header.
mod field {
    pub(super) const PATH: u8 = 1;
    pub(super) const INTERFACE: u8 = 2;
    pub(super) const MEMBER: u8 = 3;
    pub(super) const ERROR_NAME: u8 = 4;
    pub(super) const REPLY_SERIAL: u8 = 5;
    pub(super) const DESTINATION: u8 = 6;
    pub(super) const SIGNATURE: u8 = 8;
}

/// Whom a call is for, and what it asks.
#[derive(Clone, Copy)]
pub(super) struct Method {
    pub(super) destination: &'static str,
    pub(super) path: &'static str,
    pub(super) interface: &'static str,
    pub(super) member: &'static str,
}

/// The bytes of a call. Its order of bytes is this machine's.
pub(super) fn call<B>(serial: u32, method: &Method, expects_reply: bool, body: &B) -> Result<Vec<u8>, Failure>
where
    B: Serialize + Type,
{
    let context = Context::new_dbus(NATIVE_ENDIAN, 0);
    let body = zvariant::to_bytes(context, body)?;
    let mut fields = vec![
        (field::PATH, Field::Value(Value::from(ObjectPath::try_from(method.path)?))),
        (field::INTERFACE, Field::Value(Value::from(method.interface))),
        (field::MEMBER, Field::Value(Value::from(method.member))),
        (field::DESTINATION, Field::Value(Value::from(method.destination))),
    ];
    if !body.is_empty() {
        fields.push((field::SIGNATURE, Field::Types(Types(B::SIGNATURE.to_string_no_parens()))));
    }
    let flags = if expects_reply { 0 } else { NO_REPLY_EXPECTED };
    let length = u32::try_from(body.len()).map_err(|_| Failure::Malformed("a call is too long".to_owned()))?;
    let endian = match NATIVE_ENDIAN {
        Endian::Little => b'l',
        Endian::Big => b'B',
    };
    let header = zvariant::to_bytes(context, &(endian, CALL, flags, 1u8, length, serial, fields))?;
    let mut bytes = header.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The value of a field of the header: a variant.
enum Field<'v> {
    Value(Value<'v>),
    Types(Types),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Field::Value(value) => value.serialize(serializer),
            Field::Types(types) => SerializeValue(types).serialize(serializer),
        }
    }
}

/// The types of the arguments, one after the other. A `Signature` would put them in parentheses, as one.
struct Types(String);

impl Type for Types {
    const SIGNATURE: &'static Signature = &Signature::Signature;
}

impl Serialize for Types {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What kind of message came in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The answer to the call with that serial.
    Return(u32),
    /// That it failed, with the error's name.
    Error(u32, String),
    /// A signal, by its name.
    Signal(String),
    /// What nobody here asked for.
    Other,
}

/// A message that came in.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    context: Context,
    body: Vec<u8>,
}

impl Message {
    /// Its arguments; the first ones, where it has more.
    pub(super) fn read<T: for<'d> Deserialize<'d> + Type>(&self) -> Result<T, Failure> {
        let data = Data::new(self.body.as_slice(), self.context);
        Ok(data.deserialize::<T>()?.0)
    }

    /// The text of an error, which is its first argument by convention.
    pub(super) fn text(&self) -> String {
        self.read::<(String,)>().map(|(text,)| text).unwrap_or_default()
    }
}

/// The length of a whole message, by its first 16 bytes.
pub(super) fn length(start: &[u8; START]) -> Result<usize, Failure> {
    let endian = endian(start[0])?;
    let number = |at: usize| {
        let bytes = [start[at], start[at + 1], start[at + 2], start[at + 3]];
        match endian {
            Endian::Little => u32::from_le_bytes(bytes),
            Endian::Big => u32::from_be_bytes(bytes),
        }
    };
    let (body, fields) = (number(4) as usize, number(12) as usize);
    if body > MAX || fields > MAX {
        return Err(Failure::Malformed(format!("a message has {body} bytes, and a header of {fields}")));
    }
    Ok((START + fields).next_multiple_of(8) + body)
}

fn endian(byte: u8) -> Result<Endian, Failure> {
    match byte {
        b'l' => Ok(Endian::Little),
        b'B' => Ok(Endian::Big),
        other => Err(Failure::Malformed(format!("a message begins with byte {other}"))),
    }
}

type Header<'v> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'v>)>);

/// Reads a message of just this length.
pub(super) fn parse(bytes: &[u8]) -> Result<Message, Failure> {
    let context = Context::new_dbus(endian(bytes.first().copied().unwrap_or(0))?, 0);
    let data = Data::new(bytes, context);
    let ((_, kind, _, _, body, _, fields), _): (Header<'_>, usize) = data.deserialize()?;
    let body = bytes.len().checked_sub(body as usize).map(|at| bytes[at..].to_vec());
    let body = body.ok_or_else(|| Failure::Malformed("a message is shorter than it says".to_owned()))?;
    let field = |code: u8| fields.iter().find(|(known, _)| *known == code).map(|(_, value)| value);
    let text = |code: u8| match field(code) {
        Some(Value::Str(text)) => text.to_string(),
        _ => String::new(),
    };
    let serial = match field(field::REPLY_SERIAL) {
        Some(Value::U32(serial)) => Some(*serial),
        _ => None,
    };
    let kind = match (kind, serial) {
        (2, Some(serial)) => Kind::Return(serial),
        (3, Some(serial)) => Kind::Error(serial, text(field::ERROR_NAME)),
        (4, _) => Kind::Signal(text(field::MEMBER)),
        _ => Kind::Other,
    };
    Ok(Message { kind, context, body })
}
