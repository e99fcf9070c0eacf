//! Components: what they are called, what type they are, and their metadata with secrets put in.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::document::Document;
use crate::config::Environment;

/// A declared component.
#[derive(Clone, PartialEq, Eq)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its type, such as `pubsub.redis`.
    pub kind: String,
    /// Its version, such as `v1`.
    pub version: String,
    /// Whether a failure of it is tolerated.
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
struct File {
    spec: Spec,
    #[serde(default)]
    auth: Option<Auth>,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Auth {
    #[serde(default)]
    secret_store: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    ignore_errors: bool,
    #[serde(default)]
    metadata: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    name: String,
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

/// A declared secret store.
pub(super) struct SecretStore {
    name: String,
    kind: String,
}

impl SecretStore {
    pub(super) fn of(document: &Document) -> Option<Self> {
        let kind = document.decode::<File>().ok()?.spec.kind;
        let name = document.name().ok()?;
        kind.starts_with("secretstores.")
            .then_some(Self { name, kind })
    }
}

/// Where secrets come from.
#[derive(Clone, Copy)]
pub(super) struct Secrets<'a> {
    pub(super) stores: &'a [SecretStore],
    pub(super) environment: Environment<'a>,
}

impl Component {
    pub(super) fn read(
        document: &Document,
        secrets: Secrets<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Error> {
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
        for item in file.spec.metadata.unwrap_or_default() {
            let value = item.read(&store, secrets).map_err(|why| {
                document.error(format!("metadata {} of component {name}: {why}", item.name))
            })?;
            metadata.insert(item.name, value);
        }
        Ok(Self {
            name,
            kind: file.spec.kind,
            version: match file.spec.version.as_str() {
                "" => "v1".to_owned(),
                version => version.to_owned(),
            },
            ignore_errors: file.spec.ignore_errors,
            metadata,
            scopes: file.scopes.unwrap_or_default(),
            place: document.place(),
        })
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
    /// Errors are sentences that follow a colon.
    fn read(&self, store: &str, secrets: Secrets<'_>) -> Result<String, String> {
        if let Some(variable) = &self.env_ref {
            return from_environment(variable, secrets.environment);
        }
        if let Some(reference) = &self.secret_key_ref {
            return reference.read(store, secrets);
        }
        Ok(match self.value.as_ref() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }
}

impl KeyRef {
    fn read(&self, store: &str, secrets: Secrets<'_>) -> Result<String, String> {
        let declared = secrets.stores.iter().find(|known| known.name == store);
        match declared {
            Some(known) if known.kind == "secretstores.local.env" => {
                let variable = if self.key.is_empty() {
                    &self.name
                } else {
                    &self.key
                };
                (secrets.environment)(variable)
                    .ok_or_else(|| format!("the environment has no variable {variable}"))
            }
            Some(known) => Err(format!(
                "its secret is in {store}, a {}. Secrets are read from the environment: use envRef, or a \
                 secretstores.local.env",
                known.kind
            )),
            None => Err(format!(
                "its secret is in the secret store {store:?}, which is not declared. Declare a \
                 secretstores.local.env and name it in auth.secretStore, or use envRef"
            )),
        }
    }
}

/// Dapr's own tokens are nobody's configuration.
fn from_environment(variable: &str, environment: Environment<'_>) -> Result<String, String> {
    if variable == "APP_API_TOKEN" || variable.starts_with("DAPR_") {
        return Err(format!("the variable {variable} may not be used in envRef"));
    }
    // As in Dapr, a variable that is not set is an empty value.
    Ok(environment(variable).unwrap_or_default())
}
