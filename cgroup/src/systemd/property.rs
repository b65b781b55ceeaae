//! Properties of a unit that are given as text, in the form that gdbus(1) and GVariant know: `'text'`, `true`, `5`,
//! `uint64 5`, `['a', 'b']`.

use zvariant::Value;

/// A property for the scope of a container.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    name: String,
    value: PropertyValue,
}

#[derive(Debug, Clone, PartialEq)]
enum PropertyValue {
    Bool(bool),
    Byte(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    Double(f64),
    Text(String),
    Texts(Vec<String>),
}

impl Property {
    /// The name has only letters, three at least. One that ends in `Sec` is in seconds, as systemd.directives(7) has it,
    /// and becomes the `USec` of the bus, in microseconds.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(name: &str, text: &str) -> Result<Property, String> {
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err("is no name of a property of systemd's".to_owned());
        }
        let value = parse(text.trim())
            .ok_or_else(|| format!("{text:?} is no value such as 'text', true, 5, uint64 5 or ['a', 'b']"))?;
        match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
            None => Ok(Property { name: name.to_owned(), value }),
            Some(stem) => {
                let value = value.microseconds().ok_or_else(|| format!("{text:?} is no number of seconds"))?;
                Ok(Property { name: format!("{stem}USec"), value: PropertyValue::U64(value) })
            }
        }
    }

    /// Its name on the bus.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn value(&self) -> Value<'_> {
        match &self.value {
            PropertyValue::Bool(value) => Value::from(*value),
            PropertyValue::Byte(value) => Value::from(*value),
            PropertyValue::I16(value) => Value::from(*value),
            PropertyValue::U16(value) => Value::from(*value),
            PropertyValue::I32(value) => Value::from(*value),
            PropertyValue::U32(value) => Value::from(*value),
            PropertyValue::I64(value) => Value::from(*value),
            PropertyValue::U64(value) => Value::from(*value),
            PropertyValue::Double(value) => Value::from(*value),
            PropertyValue::Text(value) => Value::from(value.as_str()),
            PropertyValue::Texts(values) => Value::from(values.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }
}

impl PropertyValue {
    fn microseconds(&self) -> Option<u64> {
        const SECOND: u64 = 1_000_000;
        match *self {
            PropertyValue::Byte(value) => Some(u64::from(value) * SECOND),
            PropertyValue::U16(value) => Some(u64::from(value) * SECOND),
            PropertyValue::I16(value) => u64::try_from(value).ok()?.checked_mul(SECOND),
            PropertyValue::U32(value) => Some(u64::from(value) * SECOND),
            PropertyValue::I32(value) => u64::try_from(value).ok()?.checked_mul(SECOND),
            PropertyValue::I64(value) => u64::try_from(value).ok()?.checked_mul(SECOND),
            PropertyValue::U64(value) => value.checked_mul(SECOND),
            PropertyValue::Double(value) if (0.0..1e13).contains(&value) => Some((value * SECOND as f64) as u64),
            _ => None,
        }
    }
}

fn parse(text: &str) -> Option<PropertyValue> {
    if let Some((kind, value)) = text.split_once(' ') {
        let value = value.trim();
        match kind {
            "boolean" => return value.parse().ok().map(PropertyValue::Bool),
            "byte" => return byte(value).map(PropertyValue::Byte),
            "int16" => return value.parse().ok().map(PropertyValue::I16),
            "uint16" => return value.parse().ok().map(PropertyValue::U16),
            "int32" | "handle" => return value.parse().ok().map(PropertyValue::I32),
            "uint32" => return value.parse().ok().map(PropertyValue::U32),
            "int64" => return value.parse().ok().map(PropertyValue::I64),
            "uint64" => return value.parse().ok().map(PropertyValue::U64),
            "double" => return value.parse().ok().map(PropertyValue::Double),
            "string" => {
                return quoted(value).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| PropertyValue::Text(text));
            }
            "@as" => return texts(value),
            _ => {}
        }
    }
    match text.chars().next()? {
        '\'' | '"' => quoted(text).filter(|(_, rest)| rest.is_empty()).map(|(text, _)| PropertyValue::Text(text)),
        '[' => texts(text),
        't' | 'f' => text.parse().ok().map(PropertyValue::Bool),
        _ if text.contains('.') => text.parse().ok().map(PropertyValue::Double),
        _ => text.parse().ok().map(PropertyValue::I32),
    }
}

fn byte(text: &str) -> Option<u8> {
    text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |digits| u8::from_str_radix(digits, 16).ok())
}

fn texts(text: &str) -> Option<PropertyValue> {
    let mut rest = text.strip_prefix('[')?.strip_suffix(']')?.trim();
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (one, after) = quoted(rest)?;
        all.push(one);
        rest = match after.trim_start().strip_prefix(',') {
            Some(after) if !after.trim().is_empty() => after.trim(),
            None if after.trim().is_empty() => "",
            _ => return None,
        };
    }
    Some(PropertyValue::Texts(all))
}

/// A text in quotes, and what is after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut plain = String::new();
    let mut chars = text[1..].char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' => plain.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                escaped @ ('\\' | '\'' | '"') => escaped,
                _ => return None,
            }),
            '\0' => return None,
            char if char == quote => return Some((plain, &text[1 + at + 1..])),
            char => plain.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_in_all_forms() {
        let texts = |list: &[&str]| PropertyValue::Texts(list.iter().map(|text| (*text).to_owned()).collect());
        for (text, value) in [
            ("true", PropertyValue::Bool(true)),
            ("15", PropertyValue::I32(15)),
            ("-3", PropertyValue::I32(-3)),
            ("uint64 10000000", PropertyValue::U64(10_000_000)),
            ("int64 -1", PropertyValue::I64(-1)),
            ("uint32 7", PropertyValue::U32(7)),
            ("byte 0x1f", PropertyValue::Byte(31)),
            ("1.5", PropertyValue::Double(1.5)),
            ("'it\\'s'", PropertyValue::Text("it's".to_owned())),
            ("\"a b\"", PropertyValue::Text("a b".to_owned())),
            ("['a', \"b\"]", texts(&["a", "b"])),
            ("[]", texts(&[])),
            ("@as []", texts(&[])),
        ] {
            assert_eq!(Property::parse("Some", text).map(|property| property.value), Ok(value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in
            ["", "word", "'open", "'a' 'b'", "['a'", "['a',]", "[1]", "uint64 -1", "99999999999", "('a', 1)", "'\\x'"]
        {
            assert!(Property::parse("Some", text).is_err(), "{text:?}");
        }
        for name in ["", "Ab", "Kill Signal", "Kill=", "Kill-Signal", "Exec1"] {
            assert!(Property::parse(name, "1").is_err(), "{name:?}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (name, text, microseconds) in [
            ("TimeoutStopSec", "10", 10_000_000),
            ("TimeoutStopSec", "0.5", 500_000),
            ("TimeoutStopUSec", "uint64 7", 7),
        ] {
            let property = Property::parse(name, text).unwrap();
            assert_eq!((property.name(), &property.value), ("TimeoutStopUSec", &PropertyValue::U64(microseconds)));
        }
        assert!(Property::parse("TimeoutStopSec", "-1").is_err());
        assert!(Property::parse("TimeoutStopSec", "'x'").is_err());
    }
}
