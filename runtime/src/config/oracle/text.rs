//! The text of config.json rather than its content: any bytes are read or refused without a panic, however deep they
//! nest; it does not matter how a document is written; errors say where in the text they are.

use super::generate;
use super::samples::GOOD;
use super::shape::{CONFIG, Shape};
use super::{disagreement, ours};
use crate::config::{Bundle, parse_process, parse_spec, unknown_properties};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};

/// Puts `text` through all that reads config.json. An error must have a place, which must be in the text.
fn survives(text: &str) -> Result<(), TestCaseError> {
    drop(parse_process("process.json", text));
    drop(unknown_properties(text));
    let Err(error) = parse_spec(text) else { return Ok(()) };
    let message = error.to_string();
    let (line, column) = position(&message);
    let lines: Vec<&str> = text.split('\n').collect();
    prop_assert!((1..=lines.len()).contains(&line) && column <= lines[line - 1].len() + 1, "{}", message);
    Ok(())
}

/// The numbers at the end of `... at line 3 column 14`.
fn position(message: &str) -> (usize, usize) {
    let (_, place) = message.rsplit_once(" at line ").unwrap_or_else(|| panic!("no place: {message}"));
    let (line, column) = place.split_once(" column ").unwrap();
    (line.parse().unwrap(), column.parse().unwrap())
}

/// Some of what JSON is made of, right and wrong.
const TOKENS: &[&str] =
    &["", "", "\"", "{", "}", "[", "]", ",", ":", "null", "true", "0", "-", "1e9", "\\u", "\\ud800", "é", "\n", "\0"];

/// What happens to a text: at some place, some bytes give way to others.
fn edits() -> impl Strategy<Value = Vec<(Index, usize, String)>> {
    let insert = prop_oneof![3 => prop::sample::select(TOKENS).prop_map(String::from), 1 => "\\PC{0,4}"];
    prop::collection::vec((any::<Index>(), 0..6_usize, insert), 1..4)
}

fn edited(text: &str, edits: &[(Index, usize, String)]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for (index, length, insert) in edits {
        let at = index.index(bytes.len() + 1);
        bytes.splice(at..(at + length).min(bytes.len()), insert.bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

proptest! {
    #![proptest_config(generate::config(512))]

    #[test]
    fn any_text_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..64), start in "[\\[{\":,a-z ]{0,8}") {
        survives(&(start + &String::from_utf8_lossy(&bytes)))?;
    }

    #[test]
    fn edited_samples_are_survived(sample in prop::sample::select(&GOOD[..]), edits in edits()) {
        let text = edited(sample.1, &edits);
        survives(&text)?;
        // Names that stand twice are lost in the Value; what is left must be read alike.
        if let Ok(document) = serde_json::from_str::<Value>(&text) {
            prop_assert_eq!(disagreement(&document), None);
        }
    }
}

proptest! {
    #![proptest_config(generate::config(96))]

    #[test]
    fn it_does_not_matter_how_a_document_is_written(document in generate::document(), seed in any::<u64>()) {
        let mut text = String::new();
        write(&document, &mut seed.max(1), &mut text);
        let read = serde_json::to_value(parse_spec(&text).map_err(|error| TestCaseError::fail(error.to_string()))?);
        prop_assert_eq!(Ok(read.unwrap()), ours(&document));
    }

    #[test]
    fn errors_are_where_the_error_is(document in generate::document(), pick in any::<Index>()) {
        let mut places = Vec::new();
        collect(&CONFIG, &document, &mut Vec::new(), &mut places);
        let (path, wrong) = &places[pick.index(places.len())];
        let mut spoilt = document;
        *path.iter().fold(&mut spoilt, Step::of) = wrong.clone();
        let text = serde_json::to_string_pretty(&spoilt).unwrap();
        let message = parse_spec(&text).unwrap_err().to_string();

        let mark = wrong.to_string();
        let end = text.find(&mark).unwrap() + mark.len();
        let line = text[..end].matches('\n').count() + 1;
        let column = end - text[..end].rfind('\n').map_or(0, |at| at + 1);
        prop_assert_eq!(position(&message), (line, column), "{}", message);
        let name: String = path.iter().map(Step::to_string).collect();
        let start = if path.is_empty() { String::new() } else { format!("{}: ", name.trim_start_matches('.')) };
        prop_assert!(message.starts_with(&format!("config.json: {start}invalid type")), "{}: {}", name, message);
    }
}

/// From a value to one in it.
#[derive(Clone, Debug)]
enum Step {
    Name(String),
    Index(usize),
}

impl Step {
    fn of<'a>(value: &'a mut Value, step: &Step) -> &'a mut Value {
        match step {
            Step::Name(name) => &mut value[name.as_str()],
            Step::Index(index) => &mut value[*index],
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

/// Every place in `value` that the spec gives a type, and a value of another.
fn collect(shape: &Shape, value: &Value, path: &mut Vec<Step>, places: &mut Vec<(Vec<Step>, Value)>) {
    let wrong = match shape {
        Shape::Word(_) | Shape::Text(_) => json!(987_654_321_012_345_678_u64),
        _ => json!("the wrong one"),
    };
    places.push((path.clone(), wrong));
    let mut go = |step: Step, shape: &Shape, value: &Value| {
        path.push(step);
        collect(shape, value, path, places);
        path.pop();
    };
    match (shape, value) {
        (Shape::Object(fields), Value::Object(map)) => {
            for field in fields {
                if let Some(value) = map.get(&field.name) {
                    go(Step::Name(field.name.clone()), &field.shape, value);
                }
            }
        }
        (Shape::Map(_, shape), Value::Object(map)) => {
            map.iter().for_each(|(name, value)| go(Step::Name(name.clone()), shape, value));
        }
        (Shape::List(shape), Value::Array(list)) => {
            list.iter().enumerate().for_each(|(index, value)| go(Step::Index(index), shape, value));
        }
        _ => {}
    }
}

/// A number below `n`; `seed` is the state of an xorshift generator.
fn below(n: usize, seed: &mut u64) -> usize {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    usize::try_from(*seed % n as u64).unwrap()
}

/// Writes `value` in one of the many ways that JSON has: space, escapes and the order of names as `seed` says.
fn write(value: &Value, seed: &mut u64, text: &mut String) {
    let space = |seed: &mut u64, text: &mut String| text.push_str(["", "", " ", "\n\t", "\r\n"][below(5, seed)]);
    space(seed, text);
    match value {
        Value::Object(map) => {
            let first = below(map.len() + 1, seed);
            text.push('{');
            for (index, (name, value)) in map.iter().skip(first).chain(map.iter().take(first)).enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                space(seed, text);
                write_text(name, seed, text);
                space(seed, text);
                text.push(':');
                write(value, seed, text);
            }
            space(seed, text);
            text.push('}');
        }
        Value::Array(list) => {
            text.push('[');
            for (index, value) in list.iter().enumerate() {
                text.push_str(if index > 0 { "," } else { "" });
                write(value, seed, text);
            }
            text.push(']');
        }
        Value::String(content) => write_text(content, seed, text),
        _ => text.push_str(&value.to_string()),
    }
    space(seed, text);
}

/// Some characters as escapes that need not be.
fn write_text(content: &str, seed: &mut u64, text: &mut String) {
    text.push('"');
    for c in content.chars() {
        if below(6, seed) == 0 || c < ' ' || c == '"' || c == '\\' {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04X}")));
        } else if c == '/' && below(2, seed) == 0 {
            text.push_str("\\/");
        } else {
            text.push(c);
        }
    }
    text.push('"');
}

/// Runs on a stack of 128 KiB what would recurse a hundred thousand times if it did.
#[test]
fn deep_nesting_is_no_recursion() {
    const DEPTH: usize = 100_000;
    let nests = || {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let nest = open.repeat(DEPTH) + "0" + &close.repeat(DEPTH);
            assert!(survives(&nest).is_ok() && parse_spec(&nest).is_err() != open.starts_with('{'));
            for place in ["process", "mounts", "annotations", "hostname", "linux"] {
                let text = format!("{{\"{place}\":{nest}}}");
                assert!(survives(&text).is_ok() && (open != "[" || parse_spec(&text).is_err()), "{place}");
            }
            for start in ["{\"annotations\":{\"a\":", "{\"process\":{\"args\":[", "{\"mounts\":[{\"options\":"] {
                assert!(survives(&format!("{start}{nest}")).is_ok() && parse_spec(&format!("{start}{nest}")).is_err());
            }
            // What is unknown is skipped, whatever it is, as long as it is JSON.
            let unknown = format!("{{\"x\":{nest}}}");
            assert_eq!(unknown_properties(&unknown), ["x"]);
            assert!(parse_spec(&unknown).is_ok() && parse_spec(&unknown[..unknown.len() - 2]).is_err());
            let message = parse_spec(&format!("{{\"x\":{nest},\n\"hostname\":7}}")).unwrap_err().to_string();
            assert_eq!(position(&message), (2, 12), "{message}");
        }
    };
    std::thread::Builder::new().stack_size(128 << 10).spawn(nests).unwrap().join().unwrap();
}

/// glossary.md: "All configuration JSON MUST be encoded in UTF-8."
#[test]
fn other_encodings_are_refused() {
    let bundle = std::env::temp_dir().join(format!("proa-encodings-{}", std::process::id()));
    std::fs::create_dir(&bundle).unwrap();
    let read = |bytes: &[u8]| {
        std::fs::write(bundle.join("config.json"), bytes).unwrap();
        Bundle::read(bundle.to_str().unwrap(), None).and_then(|bundle| parse_spec(&bundle.text).map(drop))
    };
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let outcomes =
        [&b"{\"hostname\":\"\xe9\"}"[..], b"\xef\xbb\xbf{}", &utf16, "{\"hostname\":\"é\"}".as_bytes()].map(read);
    std::fs::remove_dir_all(&bundle).unwrap();
    let [latin1, marked, utf16, utf8] = outcomes.map(|outcome| outcome.map_err(|error| error.to_string()));
    assert!(latin1.unwrap_err().contains("not UTF-8: invalid utf-8 sequence of 1 bytes from index 13"));
    assert!(marked.unwrap_err().contains("line 1 column 1") && utf16.unwrap_err().contains("line 1 column 2"));
    utf8.unwrap();
}
