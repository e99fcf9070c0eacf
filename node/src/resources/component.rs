//! Components: what they are called, what type they are, and their metadata with secrets put in.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::document::Document;
use super::secrets::{self, NoSecret, Secrets};
use crate::config::Environment;
use crate::pubsub::registry::{KIND_PREFIX, Server, server};

/// A declared component.
#[derive(Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its type, such as `pubsub.redis`.
    pub kind: String,
    /// Its version, such as `v1`.
    pub version: String,
    /// Whether the application can do without it.
    pub ignore_errors: bool,
    /// Its metadata, secrets included: never print them.
    pub metadata: BTreeMap<String, String>,
    /// Applications that may use it; empty: all.
    pub scopes: Vec<String>,
    /// File and line.
    pub place: String,
}

/// Without the values of its metadata: some are secrets.
impl fmt::Debug for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Component")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("version", &self.version)
            .field("metadata", &self.metadata.keys().collect::<Vec<_>>())
            .field("scopes", &self.scopes)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
pub(super) struct File {
    pub(super) spec: Spec,
    #[serde(default)]
    auth: Option<Auth>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Auth {
    #[serde(default)]
    secret_store: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spec {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    ignore_errors: bool,
    #[serde(default)]
    pub(super) metadata: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) name: String,
    #[serde(default)]
    value: Option<Value>,
    #[serde(default)]
    secret_key_ref: Option<KeyRef>,
    #[serde(default)]
    env_ref: Option<String>,
}

#[derive(Deserialize)]
struct KeyRef {
    #[serde(default)]
    name: String,
    #[serde(default)]
    key: String,
}

impl Component {
    /// `None`: it is left out, for it has no secret, and its file says that this is no error.
    /// `builtin` are the types that Ghostlight serves in place of their own system.
    pub(super) fn read(
        document: &Document,
        secrets: Secrets<'_>,
        builtin: &[String],
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, Error> {
        let name = document.name()?;
        let file: File = document.decode()?;
        if file.spec.kind.is_empty() {
            return Err(document.error(format!(
                "component {name} has no spec.type. Write one, such as state.redis"
            )));
        }
        document.warn_unknown(
            &["spec"],
            &["type", "version", "ignoreErrors", "initTimeout", "metadata"],
            warnings,
        );
        let store = file.auth.unwrap_or_default().secret_store;
        let mut metadata = BTreeMap::new();
        let (mut empty, mut missing) = (Vec::new(), Vec::new());
        for item in file.spec.metadata.unwrap_or_default() {
            let sentence =
                |why: String| format!("metadata {} of component {name}: {why}", item.name);
            let value = match item.read(&store, secrets) {
                Ok(value) => value,
                Err(Unread::Forbidden(why)) => return Err(document.error(sentence(why))),
                Err(Unread::Secret(NoSecret::Empty(why))) => {
                    empty.push(sentence(why));
                    String::new()
                }
                Err(Unread::Secret(NoSecret::Missing(why))) => {
                    missing.push(sentence(why));
                    String::new()
                }
            };
            metadata.insert(item.name, value);
        }
        let component = Self {
            name,
            kind: file.spec.kind,
            version: match file.spec.version.as_str() {
                "" => "v1".to_owned(),
                version => version.to_owned(),
            },
            ignore_errors: file.spec.ignore_errors,
            metadata,
            scopes: document.scopes(),
            place: document.place(),
        };
        let place = document.place();
        let empty_value = |why| format!("{place}: {why}: the value is empty");
        warnings.extend(empty.into_iter().map(empty_value));
        match missing.first() {
            Some(why) if component.needs_its_system(builtin) => {
                if !component.ignore_errors {
                    return Err(document.error(why));
                }
                warnings.push(format!(
                    "{place}: {why}: the component is left out, as its ignoreErrors says"
                ));
                Ok(None)
            }
            _ => {
                warnings.extend(missing.into_iter().map(empty_value));
                Ok(Some(component))
            }
        }
    }

    /// Whether something outside is called that may ask for its secrets: a bus. Of all others
    /// Ghostlight does not use any, or has what they are for itself.
    fn needs_its_system(&self, builtin: &[String]) -> bool {
        self.kind.starts_with(KIND_PREFIX) && server(self, builtin) == Server::ItsSystem
    }

    /// A value of its metadata; names differ in case alone in many files.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let found = self
            .metadata
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it is a state store that is marked for actors.
    #[must_use]
    pub fn is_actor_state_store(&self) -> bool {
        self.kind.starts_with("state.")
            && self.value("actorStateStore").is_some_and(|value| {
                matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "t")
            })
    }
}

impl Item {
    fn read(&self, store: &str, secrets: Secrets<'_>) -> Result<String, Unread> {
        if let Some(variable) = &self.env_ref {
            return from_environment(variable, secrets.environment).map_err(Unread::Forbidden);
        }
        if let Some(reference) = &self.secret_key_ref {
            let found = secrets.find(store, &reference.name, &reference.key);
            return found.map_err(Unread::Secret);
        }
        Ok(self.plain())
    }

    /// The value that stands in the file itself.
    pub(super) fn plain(&self) -> String {
        self.value.as_ref().map(secrets::text).unwrap_or_default()
    }
}

/// Why there is no value.
enum Unread {
    Forbidden(String),
    Secret(NoSecret),
}

/// Dapr's own tokens are nobody's configuration.
fn from_environment(variable: &str, environment: Environment<'_>) -> Result<String, String> {
    if secrets::is_daprs_own(variable) {
        return Err(format!("the variable {variable} may not be used in envRef"));
    }
    // As in Dapr, a variable that is not set is an empty value.
    Ok(environment(variable).unwrap_or_default())
}
