//! Documents for property tests: every property of the spec, absent, null or present, with values at and inside their
//! bounds, words in and out of their sets, properties that the spec does not know; and on request damage to any of it.

use super::shape::{CONFIG, Field, Shape};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

/// The same documents in every run, so that a failure is one of the commit. PROPTEST_RNG_SEED and PROPTEST_CASES, as
/// proptest has them, ask for others.
pub(super) fn config(cases: u32) -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_RNG_SEED").is_none() {
        config.rng_seed = RngSeed::Fixed(0x70_72_6f_61);
    }
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = cases;
    }
    config
}

/// A document that is of the right shape, though not all its words may be.
pub(super) fn document() -> BoxedStrategy<Value> {
    of(&CONFIG)
}

/// A document in which one or two values were replaced by ones of a wrong kind.
pub(super) fn damaged() -> impl Strategy<Value = Value> {
    let damage = prop::collection::vec((any::<Index>(), wrong()), 1..=2);
    (document(), damage).prop_map(|(mut document, damage)| {
        for (index, wrong) in damage {
            replace(&mut document, index, wrong);
        }
        document
    })
}

fn of(shape: &'static Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Object(fields) => object(fields),
        Shape::Map(names, shape) => {
            let name = prop_oneof![3 => prop::sample::select(*names).prop_map(String::from), 1 => any_text()];
            prop::collection::btree_map(name, of(shape), 0..3).prop_map(|map| map.into_iter().collect()).boxed()
        }
        Shape::List(shape) => prop::collection::vec(of(shape), 0..3).prop_map(Value::Array).boxed(),
        Shape::Word(words) => {
            let known = prop::sample::select(words.as_slice());
            let other = (prop::sample::select(words.as_slice()), any::<bool>());
            let respelt = other.prop_map(|(word, cut)| {
                if cut {
                    word.split_once('_').map_or(String::new(), |(_, end)| end.to_owned())
                } else {
                    word.to_lowercase()
                }
            });
            prop_oneof![40 => known, 1 => respelt, 1 => any_text()].prop_map(Value::String).boxed()
        }
        Shape::Text(examples) => {
            let example = prop::sample::select(*examples).prop_map(String::from);
            prop_oneof![2 => example, 1 => any_text()].prop_map(Value::String).boxed()
        }
        Shape::Int { min, max } => integer(*min, *max),
        Shape::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
    }
}

fn object(fields: &'static [Field]) -> BoxedStrategy<Value> {
    let values: Vec<_> = fields
        .iter()
        .map(|field| {
            let absent = if field.required { 1 } else { 12 };
            prop_oneof![absent => Just(None), 1 => Just(Some(Value::Null)), 25 => of(&field.shape).prop_map(Some)]
        })
        .collect();
    let foreign = prop::option::weighted(0.1, (foreign_name(fields), any_json()));
    (values, foreign)
        .prop_map(|(values, foreign)| {
            let known = fields.iter().zip(values).filter_map(|(field, value)| Some((field.name.clone(), value?)));
            known.chain(foreign).collect()
        })
        .boxed()
}

/// A name that no property has here: one with another initial, or none of the spec at all.
fn foreign_name(fields: &'static [Field]) -> impl Strategy<Value = String> {
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    prop_oneof![
        prop::sample::select(names).prop_map(|name| name[..1].to_uppercase() + &name[1..]),
        any_text().prop_map(|text| format!("x{text}")),
    ]
}

fn integer(min: i128, max: i128) -> BoxedStrategy<Value> {
    let edges: Vec<i128> =
        [min, min + 1, -1, 0, 1, 7, max - 1, max].into_iter().filter(|n| *n >= min && *n <= max).collect();
    let inside = (0..=u64::MAX).prop_map(move |n| min + i128::from(n) % (max - min + 1));
    prop_oneof![prop::sample::select(edges), inside].prop_map(number).boxed()
}

/// `n` as JSON, which has a number for it if a signed or an unsigned word of 64 bits has.
pub(super) fn number(n: i128) -> Value {
    i64::try_from(n).map(Value::from).or_else(|_| u64::try_from(n).map(Value::from)).unwrap_or(json!(1e20))
}

/// With characters that JSON escapes and such as take more than a byte.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z./=:_-]{1,12}", "[ -~\\n\\t\"\\\\é\u{1}\u{2028}\u{1f4e6}]{0,6}"]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![wrong(), any_text().prop_map(Value::String)];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::Array),
            prop::collection::btree_map(any_text(), inner, 0..3).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

/// Values that are of the wrong kind in most places.
fn wrong() -> impl Strategy<Value = Value> {
    let few = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(0.0),
        json!(65536),
        json!(4294967296_u64),
        json!(-2147483649_i64),
        json!(9223372036854775808_u64),
        json!(1e20),
        json!(""),
        json!("x"),
        json!("7"),
        json!([]),
        json!({}),
        json!([null]),
        json!(["x"]),
        json!([1, 2, 3]),
        json!({"x": null}),
        json!({"": 1}),
        json!([[]]),
        json!([{}]),
    ];
    prop::sample::select(few.to_vec())
}

/// Puts `wrong` in place of one of the values in `document`.
fn replace(document: &mut Value, index: Index, wrong: Value) {
    let mut pointers = Vec::new();
    collect(document, String::new(), &mut pointers);
    if let Some(value) = document.pointer_mut(&pointers[index.index(pointers.len())]) {
        *value = wrong;
    }
}

/// The JSON pointers (RFC 6901) of all values in `value`, itself among them.
fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                collect(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), pointers);
            }
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| collect(value, format!("{at}/{index}"), pointers));
        }
        _ => {}
    }
    pointers.push(at);
}
