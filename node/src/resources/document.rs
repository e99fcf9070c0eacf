//! One YAML document of a file: its kind, whom it is for, and where it stands.
//!
//! Names of fields are read in whatever case, as Dapr reads them. A document that is nobody's of
//! ours (a manifest of something else, a list) is left out with a warning, whatever is in it; text
//! that is no YAML is an error.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use crate::caseless::Caseless;

/// A document that has a kind. Empty ones are not kept.
#[derive(Clone, Debug)]
pub(super) struct Document {
    file: String,
    /// Lines of the file before it.
    lines_before: u64,
    text: String,
    head: Head,
}

#[derive(Clone, Deserialize, Debug, Default)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: Named,
    #[serde(default)]
    scopes: Option<Vec<String>>,
}

/// Group of the versions of Dapr's resources.
const GROUP: &str = "dapr.io/";

#[derive(Clone, Deserialize, Debug, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

impl Document {
    /// Cuts a file at its document markers: at the beginning of a line they are nothing else, also
    /// inside of a block scalar.
    pub(super) fn split(
        file: &str,
        text: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<Self>, Error> {
        let mut parts: Vec<(u64, String)> = vec![(0, String::new())];
        for (index, line) in (0_u64..).zip(text.split_inclusive('\n')) {
            let marker = line.trim_end();
            if marker == "---" || marker == "..." || line.starts_with("--- ") {
                parts.push((index + 1, String::new()));
            } else if let Some((_, part)) = parts.last_mut() {
                part.push_str(line);
            }
        }
        let mut documents = Vec::new();
        for (lines_before, text) in parts {
            let has_content = |line: &str| {
                let line = line.trim();
                !line.is_empty() && !line.starts_with('#')
            };
            if !text.lines().any(has_content) {
                continue;
            }
            let mut document = Self {
                file: file.to_owned(),
                lines_before,
                text,
                head: Head::default(),
            };
            match document.foreign()? {
                Some(why) => warnings.push(format!(
                    "{}: {why}: the document is left out",
                    document.place()
                )),
                None => documents.push(document),
            }
        }
        Ok(documents)
    }

    /// Reads its head. Comes back: why it is none of Dapr's resources, if so.
    fn foreign(&mut self) -> Result<Option<String>, Error> {
        if matches!(self.decode::<Value>(), Ok(value) if !value.is_object()) {
            return Ok(Some("it is no resource".to_owned()));
        }
        self.head = self.decode()?;
        let Head {
            api_version, kind, ..
        } = &self.head;
        Ok(match (api_version.as_str(), kind.as_str()) {
            (_, "") => Some("it has no kind".to_owned()),
            ("", _) => None,
            (version, _) if version.starts_with(GROUP) => None,
            (version, kind) => Some(format!("it is a {kind} of {version}, and none of Dapr's")),
        })
    }

    /// Whether it is for an application: all are, unless it names some.
    pub(super) fn is_for(&self, app_id: &str) -> bool {
        let scopes = self.head.scopes.as_deref().unwrap_or_default();
        scopes.is_empty() || scopes.iter().any(|scope| scope == app_id)
    }

    /// Applications that it is for; empty: all.
    pub(super) fn scopes(&self) -> Vec<String> {
        self.head.scopes.clone().unwrap_or_default()
    }

    pub(super) fn kind(&self) -> &str {
        &self.head.kind
    }

    pub(super) fn api_version(&self) -> &str {
        &self.head.api_version
    }

    /// Its name.
    pub(super) fn name(&self) -> Result<String, Error> {
        match self.head.metadata.name.as_str() {
            "" => Err(self.error("metadata.name is missing: give the resource a name")),
            name => Ok(name.to_owned()),
        }
    }

    /// File and first line.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.file, self.lines_before + 1)
    }

    /// An error of the whole document.
    pub(super) fn error(&self, why: impl Into<String>) -> Error {
        Error {
            place: self.place(),
            why: why.into(),
        }
    }

    /// The document as a value of its kind.
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let decoded = serde_saphyr::from_str::<Caseless<T>>(&self.text);
        decoded.map(|Caseless(value)| value).map_err(|error| {
            let line = error
                .location()
                .map_or(1, |location| location.line().max(1));
            let why = error.without_snippet().to_string();
            // It counts lines from the document's first one; ours are those of the file.
            let why = why.rfind(" at line ").map_or(&*why, |end| &why[..end]);
            Error {
                place: format!("{}:{}", self.file, self.lines_before + line),
                why: why.to_owned(),
            }
        })
    }

    /// Warns of each field below `path` that is not `known`.
    pub(super) fn warn_unknown(&self, path: &[&str], known: &[&str], warnings: &mut Vec<String>) {
        let Ok(mut value) = self.decode::<Value>() else {
            return;
        };
        for step in path {
            let fields = value.as_object_mut().into_iter().flatten();
            let mut named = fields.filter(|(field, _)| field.eq_ignore_ascii_case(step));
            value = match named.next() {
                Some((_, below)) => below.take(),
                None => return,
            };
        }
        let fields = value.as_object().into_iter().flatten();
        let is_known = |field: &str| known.iter().any(|name| name.eq_ignore_ascii_case(field));
        for (field, _) in fields.filter(|(field, _)| !is_known(field)) {
            let path: String = path.iter().flat_map(|step| [*step, "."]).collect();
            warnings.push(format!(
                "{}: {path}{field} of {} {} has no effect here",
                self.place(),
                self.kind(),
                self.head.metadata.name
            ));
        }
    }
}
