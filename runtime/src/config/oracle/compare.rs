//! Two documents, brought to one form and compared. The form keeps what means something: `null`, an empty list and an
//! empty map are left out, and so are properties unknown to the spec.

use super::shape::{Shape, join};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// `value` in the common form.
pub(super) fn normal(shape: &Shape, value: &Value) -> Value {
    normal_at("", shape, value)
}

fn normal_at(path: &str, shape: &Shape, value: &Value) -> Value {
    match (shape, value) {
        (Shape::Object(fields), Value::Object(map)) => {
            let kept = fields.iter().filter_map(|field| {
                let path = join(path, &field.name);
                let value = normal_at(&path, &field.shape, map.get(&field.name)?);
                (!is_nothing(&path, &field.shape, &value)).then(|| (field.name.clone(), value))
            });
            Value::Object(kept.collect())
        }
        (Shape::Map(_, shape), Value::Object(map)) => {
            let path = join(path, "*");
            map.iter().map(|(name, value)| (name.clone(), normal_at(&path, shape, value))).collect::<Map<_, _>>().into()
        }
        (Shape::List(shape), Value::Array(list)) => {
            let path = format!("{path}[]");
            list.iter().map(|value| normal_at(&path, shape, value)).collect()
        }
        _ => value.clone(),
    }
}

fn is_nothing(path: &str, shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (_, Value::Null) => true,
        // Without flags a runtime may choose some, with an empty list it may not.
        (Shape::List(_), Value::Array(list)) => list.is_empty() && path != "linux.seccomp.flags",
        (Shape::Map(..), Value::Object(map)) => map.is_empty(),
        _ => false,
    }
}

/// The lists of `process.capabilities` in order and without repetitions, as for the kernel they are sets.
pub(super) fn sort_capabilities(shape: &Shape, value: &mut Value) {
    shape.visit(value, &mut |path, _, value| {
        if path.starts_with("process.capabilities.") && !path.ends_with("[]") {
            let Value::Array(list) = value else { return };
            list.sort_by_key(Value::to_string);
            list.dedup();
        }
    });
}

/// The first place where `left` and `right` differ, with what stands there.
pub(super) fn difference(left: &Value, right: &Value) -> Option<String> {
    difference_at("", left, right)
}

fn difference_at(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().find_map(|name| {
                let path = format!("{path}.{name}");
                match (a.get(name), b.get(name)) {
                    (Some(a), Some(b)) => difference_at(&path, a, b),
                    (a, b) => Some(format!("{path}: {a:?} and {b:?}")),
                }
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(index, (a, b))| difference_at(&format!("{path}[{index}]"), a, b))
        }
        _ => (left != right).then(|| format!("{path}: {left} and {right}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::CONFIG;
    use super::*;
    use serde_json::json;

    #[test]
    fn the_form_keeps_what_means_something() {
        let document = json!({"mounts": [], "hostname": null, "x": 1, "process": {"args": null}, "linux": {"sysctl": {},
            "netDevices": {"eth0": {}}, "seccomp": {"flags": [], "syscalls": []}}});
        let expected = json!({"process": {}, "linux": {"netDevices": {"eth0": {}}, "seccomp": {"flags": []}}});
        assert_eq!(normal(&CONFIG, &document), expected);
    }

    #[test]
    fn differences_have_a_path() {
        let [a, b] = [json!({"a": [{"b": 1}], "c": 1}), json!({"a": [{"b": 2}], "c": 2})];
        assert_eq!(difference(&a, &b).unwrap(), ".a[0].b: 1 and 2");
        assert_eq!(difference(&json!({"a": [1]}), &json!({"a": []})).unwrap(), ".a: [1] and []");
        assert!(difference(&json!({}), &json!({"a": 0})).unwrap().starts_with(".a"));
        assert_eq!(difference(&a, &a), None);
    }
}
