//! Reading a component's metadata: names in any case, values as Dapr writes them, and what is left
//! over.
//!
//! Pure. Absent: what a name means; each bus says that where it asks for it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ghostlight_protocol::schedule::{Signed, parse_go};
use percent_encoding::percent_decode_str;

/// Names that the node reads for every pub/sub component, or that Ghostlight's own topics have.
const READ_BY_THE_NODE: [&str; 10] = [
    "ghostlight.builtin",
    "consumerid",
    "publishingscopes",
    "subscriptionscopes",
    "allowedtopics",
    "protectedtopics",
    "maxdeliver",
    "order",
    "startfrom",
    "maxinflight",
];

/// What a bare number in place of a duration counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unit {
    Millisecond,
    Second,
}

/// A part of an address, such as a password, as it was before it was written into one.
///
/// # Errors
/// It is no text: half a sentence, without the part itself, which may be a secret.
pub(crate) fn plain(encoded: &str) -> Result<String, String> {
    let decoded = percent_decode_str(encoded).decode_utf8();
    let decoded = decoded.map_err(|error| format!("cannot be: {error}"))?;
    Ok(decoded.into_owned())
}

/// A boolean, in the words that Go reads and those that Dapr adds.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Some(true),
        "0" | "f" | "false" | "n" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// What metadata beside a publish or of a subscription says by a name in whatever case; `None`:
/// nothing.
///
/// # Errors
/// It is no boolean.
pub(crate) fn truth_beside(
    metadata: &BTreeMap<String, String>,
    name: &str,
) -> Result<Option<bool>, String> {
    let mut all = metadata.iter();
    let found = all.find(|(given, value)| given.eq_ignore_ascii_case(name) && !value.is_empty());
    let Some((_, text)) = found else {
        return Ok(None);
    };
    match truth(text) {
        Some(truth) => Ok(Some(truth)),
        None => Err(format!("{name} is {text:?}. Write true or false")),
    }
}

/// The metadata of one component while it is read.
pub(crate) struct Settings {
    /// By name in lower case, with the name as it was written.
    values: BTreeMap<String, (String, String)>,
    asked: BTreeSet<String>,
    warnings: Vec<String>,
}

impl Settings {
    pub(crate) fn new(metadata: &BTreeMap<String, String>) -> Self {
        let lower = metadata.iter().map(|(name, value)| {
            let written = (name.clone(), value.trim().to_owned());
            (name.to_ascii_lowercase(), written)
        });
        Self {
            values: lower.collect(),
            asked: READ_BY_THE_NODE.map(str::to_owned).into(),
            warnings: Vec::new(),
        }
    }

    /// A value; one that is empty is none.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        let (_, value) = self.values.get(&name).cloned().unzip();
        self.asked.insert(name);
        value.filter(|value| !value.is_empty())
    }

    /// A value that must be there.
    ///
    /// # Errors
    /// It is not.
    pub(crate) fn needed(&mut self, name: &str) -> Result<String, String> {
        self.text(name)
            .ok_or_else(|| format!("{name} is missing. Write it into the component's metadata"))
    }

    /// A whole number.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        self.text(name)
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{name} is {text:?}. Write a whole number"))
            })
            .transpose()
    }

    /// A whole number that counts things this process holds: at least one, and at most `most`.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn count(&mut self, name: &str, default: u32, most: u32) -> Result<u32, String> {
        match self.number(name)? {
            None => Ok(default),
            Some(0) => Err(format!("{name} is 0. Write a number from 1 to {most}")),
            Some(number) => Ok(u32::try_from(number).unwrap_or(most).min(most)),
        }
    }

    /// A boolean, in the words that Go reads and those that Dapr adds.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn truth(&mut self, name: &str) -> Result<Option<bool>, String> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match truth(&text) {
            Some(truth) => Ok(Some(truth)),
            None => Err(format!("{name} is {text:?}. Write true or false")),
        }
    }

    /// A Go duration.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn duration(&mut self, name: &str, bare: Unit) -> Result<Option<Duration>, String> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        if let Ok(number) = text.parse::<u64>() {
            return Ok(Some(match bare {
                Unit::Millisecond => Duration::from_millis(number),
                Unit::Second => Duration::from_secs(number),
            }));
        }
        match parse_go(&text) {
            Some(Signed::Forward(time)) => Ok(Some(time)),
            Some(Signed::Backward(_)) | None => Err(format!(
                "{name} is {text:?}. Write a duration such as 500ms or 15s"
            )),
        }
    }

    /// Refuses what cannot be served: a component that would do less than it says must not start.
    ///
    /// # Errors
    /// One of the names has a value other than the harmless one.
    pub(crate) fn refuse(&mut self, names: &[&str], what: &str) -> Result<(), String> {
        for name in names {
            if let Some(value) = self.text(name)
                && !value.eq_ignore_ascii_case("false")
            {
                return Err(format!(
                    "{name} asks for {what}, which is not supported yet"
                ));
            }
        }
        Ok(())
    }

    /// Something that an operator should know.
    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    /// All warnings, one about names that mean nothing among them.
    pub(crate) fn into_warnings(mut self) -> Vec<String> {
        let unknown = self
            .values
            .iter()
            .filter(|(name, _)| !self.asked.contains(*name));
        let unknown: Vec<_> = unknown.map(|(_, (written, _))| written.as_str()).collect();
        if !unknown.is_empty() {
            let warning = format!("metadata that means nothing here: {}", unknown.join(", "));
            self.warnings.push(warning);
        }
        self.warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Settings {
        let owned = pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Settings::new(&owned.collect())
    }

    #[test]
    fn values_are_read_as_dapr_writes_them() {
        let mut settings = of(&[
            ("RedisHost", " here:1 "),
            ("empty", ""),
            ("wait", "250"),
            ("pause", "1m30s"),
            ("yes", "True"),
            ("no", "0"),
            ("many", "70000"),
        ]);
        assert_eq!(settings.text("redisHost").as_deref(), Some("here:1"));
        assert_eq!(settings.text("empty"), None);
        let time = |millis| Ok(Some(Duration::from_millis(millis)));
        assert_eq!(settings.duration("wait", Unit::Millisecond), time(250));
        assert_eq!(settings.duration("wait", Unit::Second), time(250_000));
        assert_eq!(settings.duration("pause", Unit::Second), time(90_000));
        assert_eq!(settings.truth("yes"), Ok(Some(true)));
        assert_eq!(settings.truth("no"), Ok(Some(false)));
        assert_eq!(settings.truth("absent"), Ok(None));
        assert_eq!(settings.count("many", 1, 500), Ok(500));
        assert_eq!(settings.into_warnings(), Vec::<String>::new());
    }

    #[test]
    fn errors_name_the_field_and_leftovers_make_one_warning() {
        let mut settings = of(&[
            ("a", "soon"),
            ("b", "-5s"),
            ("c", "maybe"),
            ("useEntraID", "true"),
            ("useOther", "false"),
            ("Zeta", "1"),
            ("eta", "1"),
            ("consumerID", "x"),
            ("d", "0"),
        ]);
        for (error, field) in [
            (settings.number("a").unwrap_err(), "a is \"soon\""),
            (
                settings.duration("b", Unit::Second).unwrap_err(),
                "b is \"-5s\"",
            ),
            (settings.truth("c").unwrap_err(), "c is \"maybe\""),
            (settings.needed("gone").unwrap_err(), "gone is missing"),
            (settings.count("d", 1, 5).unwrap_err(), "d is 0"),
            (
                settings
                    .refuse(&["useOther", "useEntraID"], "Entra ID")
                    .unwrap_err(),
                "useEntraID asks for Entra ID",
            ),
        ] {
            assert!(error.starts_with(field), "{error}");
        }
        settings.warn("beware");
        let warnings = settings.into_warnings();
        assert_eq!(
            warnings,
            ["beware", "metadata that means nothing here: eta, Zeta"]
        );
    }
}
