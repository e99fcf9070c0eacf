//! Flags in the form of Go's programs: one dash or two, `=` or the next word, booleans alone.
//!
//! Tables say which flags there are and what becomes of them; nothing is read twice. Errors say
//! what failed and what to do.

use std::collections::BTreeMap;

/// What a flag takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Takes {
    /// Nothing, or `=true` and `=false`.
    Switch,
    /// One value; a later one wins.
    Value,
    /// Any number of values.
    Values,
}

/// What becomes of a flag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Use {
    /// It does what Dapr's does.
    Read,
    /// It is taken, and there is nothing to do for it here.
    Ignored,
    /// It is taken and has no effect; a start says so once.
    NoEffect,
}

/// A flag that is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) used: Use,
}

pub(super) const fn switch(name: &'static str, used: Use) -> Flag {
    let takes = Takes::Switch;
    Flag { name, takes, used }
}

pub(super) const fn value(name: &'static str, used: Use) -> Flag {
    let takes = Takes::Value;
    Flag { name, takes, used }
}

pub(super) const fn values(name: &'static str, used: Use) -> Flag {
    let takes = Takes::Values;
    Flag { name, takes, used }
}

/// What was typed.
#[derive(Debug, Default)]
pub(super) struct Typed {
    given: BTreeMap<&'static str, Vec<String>>,
    /// Names of flags that have no effect, in order.
    pub(super) no_effect: Vec<&'static str>,
}

impl Typed {
    /// Reads arguments by a table.
    pub(super) fn parse(
        program: &str,
        known: &[Flag],
        arguments: &[String],
    ) -> Result<Self, String> {
        let mut typed = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let Some(body) = argument
                .strip_prefix("--")
                .or_else(|| argument.strip_prefix('-'))
                .filter(|body| !body.is_empty())
            else {
                return Err(format!(
                    "{program} takes flags alone, {argument:?} is none. See \"{program} --help\""
                ));
            };
            let (name, attached) = match body.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (body, None),
            };
            let flag = find(program, known, name)?;
            let value = match (flag.takes, attached) {
                (_, Some(value)) => value,
                (Takes::Switch, None) => "true".to_owned(),
                (Takes::Value | Takes::Values, None) => match rest.next() {
                    Some(value) => value.clone(),
                    None => return Err(format!("flag --{name} needs a value")),
                },
            };
            if flag.takes == Takes::Switch && boolean(&value).is_none() {
                return Err(format!("flag --{name} is true or false, not {value:?}"));
            }
            typed.note(*flag, value);
        }
        Ok(typed)
    }

    fn note(&mut self, flag: Flag, value: String) {
        if flag.used == Use::NoEffect && !self.no_effect.contains(&flag.name) {
            self.no_effect.push(flag.name);
        }
        let values = self.given.entry(flag.name).or_default();
        if flag.takes != Takes::Values {
            values.clear();
        }
        values.push(value);
    }

    /// The value of a flag; empty ones were not given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let last = self.given.get(name)?.last()?;
        (!last.is_empty()).then_some(last.as_str())
    }

    /// All values of a flag, also those that commas divide.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        let given = self.given.get(name).into_iter().flatten();
        given
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.text(name).and_then(boolean).unwrap_or(false)
    }

    /// Whether a switch was turned off by name.
    pub(super) fn is_off(&self, name: &str) -> bool {
        self.text(name).and_then(boolean) == Some(false)
    }

    /// A port; `-1`, `0` and nothing are none.
    pub(super) fn port(&self, name: &str) -> Result<Option<u16>, String> {
        match self.text(name) {
            None | Some("-1" | "0") => Ok(None),
            Some(text) => match text.parse() {
                Ok(port) => Ok(Some(port)),
                Err(_) => Err(format!(
                    "flag --{name} is a port from 1 to 65535, or -1 for none, not {text:?}"
                )),
            },
        }
    }

    /// A number; negative ones and nothing are none.
    pub(super) fn count(&self, name: &str) -> Result<Option<u32>, String> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(number) => Ok(u32::try_from(number).ok()),
                Err(_) => Err(format!("flag --{name} is a number, not {text:?}")),
            },
        }
    }
}

fn find<'a>(program: &str, known: &'a [Flag], name: &str) -> Result<&'a Flag, String> {
    if let Some(flag) = known.iter().find(|flag| flag.name == name) {
        return Ok(flag);
    }
    let names: Vec<&str> = known.iter().map(|flag| flag.name).collect();
    let advice = match crate::config::nearest(name, &names) {
        Some(near) => format!("Did you mean --{near}?"),
        None => format!("See \"{program} --help\""),
    };
    Err(format!("unknown flag: --{name}. {advice}"))
}

/// As Go reads booleans.
fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A size such as `4Mi`, `4MB`, `512Ki`, or bytes.
pub(super) fn size(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "k" | "K" | "KB" | "kB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[Flag] = &[
        value("app-id", Use::Read),
        value("app-port", Use::Read),
        values("resources-path", Use::Read),
        switch("app-ssl", Use::Read),
        switch("enable-metrics", Use::Read),
        value("profile-port", Use::NoEffect),
    ];

    fn parse(line: &str) -> Result<Typed, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Typed::parse("daprd", KNOWN, &words)
    }

    #[test]
    fn every_spelling() {
        for line in [
            "--app-id shop --app-port 80 --app-ssl --enable-metrics=false --resources-path a,b --resources-path c",
            "-app-id shop -app-port 80 -app-ssl -enable-metrics=false -resources-path a,b -resources-path c",
            "-app-id=shop --app-port=80 --app-ssl=T --enable-metrics=0 --resources-path=a --resources-path=b,c",
        ] {
            let typed = parse(line).unwrap();
            assert_eq!(typed.text("app-id"), Some("shop"), "{line}");
            assert_eq!(typed.port("app-port"), Ok(Some(80)));
            assert!(typed.is_on("app-ssl") && typed.is_off("enable-metrics"));
            assert_eq!(typed.all("resources-path"), ["a", "b", "c"]);
        }
        let typed =
            parse("--app-id a --app-id b --app-port -1 --profile-port 1 --profile-port 2").unwrap();
        assert_eq!(typed.text("app-id"), Some("b"));
        assert_eq!(typed.port("app-port"), Ok(None));
        assert_eq!(typed.no_effect, ["profile-port"]);
        assert!(!typed.is_on("app-ssl") && !typed.is_off("app-ssl"));
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, words) in [
            (
                "--app-idd x",
                "unknown flag: --app-idd. Did you mean --app-id?",
            ),
            ("--zzz", "See \"daprd --help\""),
            ("serve", "takes flags alone"),
            ("--app-id", "flag --app-id needs a value"),
            ("--app-ssl=maybe", "is true or false"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(words), "{words} is not in {error}");
        }
        let typed = parse("--app-port http").unwrap();
        assert!(typed.port("app-port").unwrap_err().contains("1 to 65535"));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4Mi", Some(4 << 20)),
            ("4", Some(4)),
            ("2MB", Some(2_000_000)),
            ("64Ki", Some(64 << 10)),
            ("1G", Some(1_000_000_000)),
            ("Mi", None),
            ("4Xi", None),
            ("", None),
            ("99999999999999999999Gi", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
