//! One YAML document of a file: its kind, and where it stands.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;

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
}

#[derive(Clone, Deserialize, Debug, Default)]
struct Named {
    #[serde(default)]
    name: String,
}

impl Document {
    /// Cuts a file at its document markers: at the beginning of a line they are nothing else, also
    /// inside of a block scalar.
    pub(super) fn split(file: &str, text: &str) -> Result<Vec<Self>, Error> {
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
            document.head = document.decode()?;
            if document.head.kind.is_empty() {
                return Err(document.error(
                    "the document has no kind. Write kind: Component, Subscription, Configuration or Resiliency",
                ));
            }
            documents.push(document);
        }
        Ok(documents)
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
        serde_saphyr::from_str(&self.text).map_err(|error| {
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
            value = match value.get_mut(*step) {
                Some(below) => below.take(),
                None => return,
            };
        }
        let fields = value.as_object().into_iter().flatten();
        for (field, _) in fields.filter(|(field, _)| !known.contains(&field.as_str())) {
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
