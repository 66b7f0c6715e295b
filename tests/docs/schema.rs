//! A validator for the part of JSON Schema that `docs/schema/output.schema.json` uses. An unknown keyword is an error, so
//! that nothing in the schema is silently ignored.

#![allow(unreachable_pub, reason = "a module of one test program")]

use serde_json::{Map, Value};

/// Keywords that say nothing about validity.
const ANNOTATIONS: [&str; 5] = ["$schema", "$id", "$defs", "title", "description"];

/// Checks `value` against a definition of the schema.
///
/// # Errors
/// The path of the first value that does not match, and why.
pub fn validate(schema: &Value, definition: &str, value: &Value) -> Result<(), String> {
    let found = schema["$defs"].get(definition).unwrap_or_else(|| panic!("no definition `{definition}`"));
    check(schema, found, value, definition)
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let fail = |reason: String| Err(format!("{at}: {reason}: {value}"));
    let schema = schema.as_object().unwrap_or_else(|| panic!("the schema of {at} is not an object"));
    for (keyword, rule) in schema {
        match keyword.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix("#/$defs/").expect("a local reference");
                check(root, &root["$defs"][name], value, at)?;
            }
            "type" => {
                let types = match rule {
                    Value::Array(types) => types.clone(),
                    one => vec![one.clone()],
                };
                if !types.iter().any(|name| is_a(value, name.as_str().unwrap())) {
                    return fail(format!("not of type {rule}"));
                }
            }
            "const" if value != rule => return fail(format!("not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => return fail(format!("not one of {rule}")),
            "const" | "enum" => {}
            "minimum" if value.as_f64().is_some_and(|value| value < rule.as_f64().unwrap()) => {
                return fail(format!("below {rule}"));
            }
            "minimum" => {}
            "pattern" => {
                let pattern = regex::Regex::new(rule.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    return fail(format!("does not match {rule}"));
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "oneOf" | "anyOf" => {
                let all: Vec<_> =
                    rule.as_array().unwrap().iter().map(|rule| check(root, rule, value, at)).collect();
                let fitting = all.iter().filter(|result| result.is_ok()).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    return fail(format!("{fitting} alternatives fit: {all:?}"));
                }
            }
            "required" => {
                let missing = rule.as_array().unwrap().iter().find(|name| {
                    value.as_object().is_some_and(|object| !object.contains_key(name.as_str().unwrap()))
                });
                if let Some(missing) = missing {
                    return fail(format!("{missing} is missing"));
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, rule, value, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                assert_eq!(rule, &Value::Bool(false), "only `false` is supported");
                let known = schema.get("properties").and_then(Value::as_object);
                let is_known =
                    |name: &String| known.is_some_and(|known: &Map<_, _>| known.contains_key(name));
                let unknown = value.as_object().and_then(|object| object.keys().find(|name| !is_known(name)));
                if let Some(unknown) = unknown {
                    return fail(format!("`{unknown}` is not in the schema"));
                }
            }
            other => assert!(ANNOTATIONS.contains(&other), "the keyword `{other}` at {at} is not supported"),
        }
    }
    Ok(())
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type `{other}`"),
    }
}
