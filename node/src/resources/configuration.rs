//! Configurations: features, and which APIs are allowed. Everything else is tolerated.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Error;
use super::document::Document;

/// What configurations say, laid over each other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Configuration {
    /// Features that are named, and whether they are switched on.
    pub features: BTreeMap<String, bool>,
    /// APIs that are allowed; empty: all.
    pub allowed: Vec<ApiRule>,
    /// APIs that are denied.
    pub denied: Vec<ApiRule>,
}

/// A group of the API.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct ApiRule {
    /// Such as `actors`.
    pub name: String,
    /// Such as `v1`.
    #[serde(default)]
    pub version: String,
    /// `http` or `grpc`, in lower case. A rule without one has no effect, as in Dapr.
    #[serde(default)]
    pub protocol: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    #[serde(default)]
    features: Option<Vec<Feature>>,
    #[serde(default)]
    api: Option<Api>,
}

#[derive(Deserialize)]
struct Feature {
    name: String,
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
struct Api {
    #[serde(default)]
    allowed: Option<Vec<ApiRule>>,
    #[serde(default)]
    denied: Option<Vec<ApiRule>>,
}

impl Configuration {
    pub(super) fn read(document: &Document, warnings: &mut Vec<String>) -> Result<Self, Error> {
        let file: File = document.decode()?;
        document.warn_unknown(&["spec"], &["features", "api"], warnings);
        let Some(spec) = file.spec else {
            return Ok(Self::default());
        };
        let features = spec.features.unwrap_or_default().into_iter();
        let (mut allowed, mut denied) = match spec.api {
            Some(api) => (
                api.allowed.unwrap_or_default(),
                api.denied.unwrap_or_default(),
            ),
            None => (Vec::new(), Vec::new()),
        };
        for rule in allowed.iter_mut().chain(&mut denied) {
            rule.protocol.make_ascii_lowercase();
            if !["http", "grpc"].contains(&rule.protocol.as_str()) {
                warnings.push(format!(
                    "{}: the rule of spec.api for {} {} has no effect: protocol is {:?}. Write http or grpc",
                    document.place(),
                    rule.name,
                    rule.version,
                    rule.protocol
                ));
            }
        }
        Ok(Self {
            features: features.map(|f| (f.name, f.enabled)).collect(),
            allowed,
            denied,
        })
    }

    /// A later one wins where it says something.
    pub(super) fn overlay(&mut self, later: Self) {
        self.features.extend(later.features);
        if !later.allowed.is_empty() || !later.denied.is_empty() {
            self.allowed = later.allowed;
            self.denied = later.denied;
        }
    }

    /// Names of the features that are switched on, in order.
    #[must_use]
    pub fn enabled_features(&self) -> Vec<String> {
        let on = self.features.iter().filter(|(_, on)| **on);
        on.map(|(name, _)| name.clone()).collect()
    }
}
