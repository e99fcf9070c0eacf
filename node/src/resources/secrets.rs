//! Secrets that the metadata of components refers to: in the environment, or in a file of JSON.
//!
//! As in Dapr, a variable that is not set is an empty value. Absent: which components can do
//! without theirs (`component`), and all other secret stores.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::FILE_BYTES_MAX;
use super::component::{File, Item};
use super::document::Document;
use crate::config::Environment;
use crate::pubsub::metadata::truth;

/// A declared secret store.
pub(super) struct SecretStore {
    name: String,
    source: Source,
}

enum Source {
    /// `secretstores.local.env`: variables whose names begin so.
    Environment { prefix: String },
    /// `secretstores.local.file`: what the file has, by name and key, or why it cannot be read.
    File(Result<BTreeMap<String, Held>, String>),
    /// Any other.
    Other { kind: String },
}

/// What a name in a file stands for.
enum Held {
    One(String),
    /// Keys with their values: the store is `multiValued`.
    Many(BTreeMap<String, String>),
}

/// Where secrets come from.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) stores: &'a [SecretStore],
    pub(super) environment: Environment<'a>,
}

/// Why there is no value. Both are sentences that follow a colon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoSecret {
    /// The value is an empty one.
    Empty(String),
    /// It cannot be had.
    Missing(String),
}

impl SecretStore {
    pub(super) fn of(document: &Document) -> Option<Self> {
        let spec = document.decode::<File>().ok()?.spec;
        let items = spec.metadata.unwrap_or_default();
        let value = |name: &str| {
            let mut items = items.iter();
            let item = items.find(|item| item.name.eq_ignore_ascii_case(name));
            item.map(Item::plain).filter(|value| !value.is_empty())
        };
        let source = match spec.kind.as_str() {
            "secretstores.local.env" => Source::Environment {
                prefix: value("prefix").unwrap_or_default(),
            },
            "secretstores.local.file" => {
                let path = value("secretsFile").unwrap_or_default();
                let separator = value("nestedSeparator").unwrap_or_else(|| ":".to_owned());
                let many = value("multiValued").as_deref().and_then(truth);
                Source::File(read(&path).map(|json| match many {
                    Some(true) => many_valued(&json, &separator),
                    Some(false) | None => one_valued(&json, &separator),
                }))
            }
            kind if kind.starts_with("secretstores.") => Source::Other {
                kind: kind.to_owned(),
            },
            _ => return None,
        };
        let name = document.name().ok()?;
        Some(Self { name, source })
    }
}

impl Secrets<'_> {
    /// The secret that `name` and `key` stand for in a store; without a key it is that of the name.
    pub(super) fn find(&self, store: &str, name: &str, key: &str) -> Result<String, NoSecret> {
        let missing = |why: String| Err(NoSecret::Missing(why));
        let key = match key {
            "" => name,
            key => key,
        };
        let Some(known) = self.stores.iter().find(|known| known.name == store) else {
            return missing(format!(
                "its secret is in the secret store {store:?}, which is not declared. Declare a \
                 secretstores.local.env and name it in auth.secretStore, or use envRef"
            ));
        };
        match &known.source {
            Source::Environment { prefix } => self.variable(&format!("{prefix}{key}")),
            Source::File(Err(why)) => missing(format!("the secret store {store}: {why}")),
            Source::File(Ok(held)) => {
                let found = match held.get(name) {
                    Some(Held::One(value)) if key == name => Some(value),
                    Some(Held::Many(values)) => values.get(key),
                    Some(Held::One(_)) | None => None,
                };
                let none = || {
                    let why = format!("the secret store {store} has no {key:?} of {name:?}");
                    NoSecret::Missing(why)
                };
                found.cloned().ok_or_else(none)
            }
            Source::Other { kind } => missing(format!(
                "its secret is in {store}, a {kind}. Secrets are read from the environment and from files: use \
                 envRef, a secretstores.local.env or a secretstores.local.file"
            )),
        }
    }

    /// Dapr's own tokens are nobody's secrets.
    fn variable(&self, name: &str) -> Result<String, NoSecret> {
        if is_daprs_own(name) {
            return Err(NoSecret::Empty(format!(
                "the variable {name} is not given to components"
            )));
        }
        (self.environment)(name)
            .ok_or_else(|| NoSecret::Empty(format!("the environment has no variable {name}")))
    }
}

/// Whether a variable is Dapr's, and nobody's configuration.
pub(super) fn is_daprs_own(variable: &str) -> bool {
    variable == "APP_API_TOKEN" || variable.starts_with("DAPR_")
}

fn read(path: &str) -> Result<serde_json::Map<String, Value>, String> {
    let unreadable = |why: String| format!("its secretsFile {path:?} cannot be read ({why})");
    let text = std::fs::metadata(Path::new(path))
        .and_then(|file| match file.len() > FILE_BYTES_MAX {
            true => Err(std::io::Error::other(format!(
                "it has {} bytes, at most {FILE_BYTES_MAX} are read",
                file.len()
            ))),
            false => std::fs::read(path),
        })
        .map_err(|error| unreadable(error.to_string()))?;
    // What is in the file is not told: it is secrets.
    serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        unreadable(format!(
            "it is no object of JSON, at line {line} column {column}"
        ))
    })
}

/// Every value by the names that lead to it.
fn one_valued(json: &serde_json::Map<String, Value>, separator: &str) -> BTreeMap<String, Held> {
    let mut flat = BTreeMap::new();
    for (name, value) in json {
        flatten(name.clone(), value, separator, &mut flat);
    }
    let held = flat.into_iter();
    held.map(|(name, value)| (name, Held::One(value))).collect()
}

/// The values below each name, by the names that lead to them from there.
fn many_valued(json: &serde_json::Map<String, Value>, separator: &str) -> BTreeMap<String, Held> {
    let held = json.iter().map(|(name, value)| {
        let held = match value {
            Value::Object(fields) => {
                let mut below = BTreeMap::new();
                for (key, value) in fields {
                    flatten(key.clone(), value, separator, &mut below);
                }
                Held::Many(below)
            }
            value => Held::One(text(value)),
        };
        (name.clone(), held)
    });
    held.collect()
}

fn flatten(name: String, value: &Value, separator: &str, flat: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                flatten(format!("{name}{separator}{key}"), value, separator, flat);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                flatten(format!("{name}{separator}{place}"), value, separator, flat);
            }
        }
        value => drop(flat.insert(name, text(value))),
    }
}

/// A value of metadata or of a file.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
