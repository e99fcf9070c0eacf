//! Which path of the application an event goes to: rules in CEL, the first that matches, else the
//! default.
//!
//! This place and `resources::trip` know the crate `cel`; it is pinned, because its interface
//! changes. One environment is shared by all rules. A rule sees one variable, `event`, the envelope
//! with its data as JSON. Rules that compare the type with a text, the usual ones, need no
//! interpreter.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::objects::{Key, Map};
use cel::{Context, Env, Program, Value};

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// Compiled rules.
#[derive(Debug)]
pub struct Routes {
    rules: Vec<Rule>,
    default: Option<String>,
}

#[derive(Debug)]
struct Rule {
    expression: String,
    condition: Condition,
    path: String,
}

enum Condition {
    Always,
    /// `event.type == "…"`.
    TypeIs(String),
    Program(Box<Program>),
}

impl std::fmt::Debug for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("Always"),
            Self::TypeIs(name) => f.debug_tuple("TypeIs").field(name).finish(),
            Self::Program(_) => f.write_str("Program"),
        }
    }
}

/// A rule that is none, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the rule {rule:?} does not compile: {why}")]
pub struct RuleError {
    rule: String,
    why: String,
}

/// A rule that could not be answered for this event.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the rule {rule:?} has no answer for this event: {why}")]
pub struct RouteError {
    rule: String,
    why: String,
}

impl Routes {
    /// Compiles rules (expression and path, in order).
    ///
    /// # Errors
    /// The first that does not compile.
    pub fn compile(rules: &[(String, String)], default: Option<String>) -> Result<Self, RuleError> {
        let rules = rules.iter().map(|(expression, path)| {
            Ok(Rule {
                condition: condition(expression)?,
                expression: expression.clone(),
                path: path.clone(),
            })
        });
        let rules = rules.collect::<Result<_, RuleError>>()?;
        Ok(Self { rules, default })
    }

    /// The path for an event; `None`: no rule matches, and there is no default.
    ///
    /// # Errors
    /// A rule before the first that matches has no answer.
    pub fn path(&self, event: &serde_json::Value) -> Result<Option<&str>, RouteError> {
        let mut scope = None;
        for rule in &self.rules {
            let matches = match &rule.condition {
                Condition::Always => true,
                Condition::TypeIs(name) => match event.get("type") {
                    Some(found) => found == name.as_str(),
                    None => return Err(rule.unanswered("No such key: type")),
                },
                Condition::Program(program) => {
                    let scope = scope.get_or_insert_with(|| context(event));
                    match program.execute(scope) {
                        Ok(Value::Bool(matches)) => matches,
                        Ok(other) => {
                            let kind = other.type_of();
                            return Err(rule.unanswered(format!("it is a {kind}, and no truth")));
                        }
                        Err(error) => return Err(rule.unanswered(error.to_string())),
                    }
                }
            };
            if matches {
                return Ok(Some(&rule.path));
            }
        }
        Ok(self.default.as_deref())
    }
}

impl Rule {
    fn unanswered(&self, why: impl Into<String>) -> RouteError {
        RouteError {
            rule: self.expression.clone(),
            why: why.into(),
        }
    }
}

/// An expression whose value is a text, or a whole number.
pub struct Expression {
    text: String,
    program: Box<Program>,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.text).finish()
    }
}

impl Expression {
    /// Compiles it.
    ///
    /// # Errors
    /// It does not compile.
    pub fn compile(expression: &str) -> Result<Self, RuleError> {
        Ok(Self {
            program: program(expression.trim())?,
            text: expression.to_owned(),
        })
    }

    /// Its value for an event.
    ///
    /// # Errors
    /// It has no answer, or the answer is neither a text nor a whole number.
    pub fn text(&self, event: &serde_json::Value) -> Result<String, RouteError> {
        let unanswered = |why: String| RouteError {
            rule: self.text.clone(),
            why,
        };
        match self.program.execute(&context(event)) {
            Ok(Value::String(text)) => Ok(text.to_string()),
            Ok(Value::Int(number)) => Ok(number.to_string()),
            Ok(Value::UInt(number)) => Ok(number.to_string()),
            Ok(other) => Err(unanswered(format!(
                "it is a {}, and no text",
                other.type_of()
            ))),
            Err(error) => Err(unanswered(error.to_string())),
        }
    }
}

/// The environment of all rules.
pub(crate) fn cel_env() -> Arc<Env> {
    Arc::clone(&ENV)
}

/// Compiles an expression.
pub(crate) fn program(expression: &str) -> Result<Box<Program>, RuleError> {
    let compiled = ENV.compile(expression).map_err(|error| RuleError {
        rule: expression.to_owned(),
        why: error.to_string(),
    })?;
    Ok(Box::new(compiled))
}

fn condition(expression: &str) -> Result<Condition, RuleError> {
    let expression = expression.trim();
    if expression.is_empty() {
        return Ok(Condition::Always);
    }
    if let Some(name) = type_is(expression) {
        return Ok(Condition::TypeIs(name.to_owned()));
    }
    program(expression).map(Condition::Program)
}

/// The text of `event.type == "text"`, if it is nothing but that, without escapes.
fn type_is(expression: &str) -> Option<&str> {
    let text = expression.strip_prefix("event.type")?.trim_start();
    let text = text.strip_prefix("==")?.trim_start();
    let quote = text.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let text = text.strip_prefix(quote)?.strip_suffix(quote)?;
    let plain = !text.contains([quote, '\\', '\n']);
    plain.then_some(text)
}

fn context(event: &serde_json::Value) -> Context<'static, 'static> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    context.add_variable_from_value("event", value(event));
    context
}

/// JSON as CEL knows it: whole numbers are integers.
fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::Int(whole),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(all) => Value::List(Arc::new(all.iter().map(value).collect())),
        Json::Object(fields) => {
            let fields = fields.iter();
            let map: HashMap<Key, Value> = fields
                .map(|(name, json)| (Key::String(Arc::new(name.clone())), value(json)))
                .collect();
            Value::Map(Map { map: Arc::new(map) })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> serde_json::Value {
        json!({
            "id": "1", "type": "order.v2", "source": "shop/eu", "subject": "a",
            "data": {"amount": 12, "price": 2.5, "items": [{"sku": "x"}, {"sku": "y"}], "note": null,
                     "big": 18446744073709551615_u64},
        })
    }

    fn routes(rules: &[&str], default: Option<&str>) -> Routes {
        let rules = rules.iter();
        let rules: Vec<_> = rules
            .map(|rule| ((*rule).to_owned(), format!("/{rule}")))
            .collect();
        Routes::compile(&rules, default.map(str::to_owned)).unwrap()
    }

    /// Dapr's documented expressions, and some more.
    #[test]
    fn expressions() {
        for (expression, wanted) in [
            ("event.type == \"order.v2\"", true),
            ("event.type == 'order.v2'", true),
            ("event.type=='order.v1'", false),
            ("event.type != 'order.v1'", true),
            ("", true),
            ("true", true),
            ("has(event.data.amount) && event.data.amount > 10", true),
            ("has(event.data.nothing) && event.data.nothing > 10", false),
            ("event.data.amount >= 12", true),
            ("event.data.price < 3.0", true),
            ("event.data.items.exists(i, i.sku == 'y')", true),
            ("event.data.items.all(i, i.sku == 'y')", false),
            ("size(event.data.items) == 2", true),
            ("event.data.note == null", true),
            ("event.type.startsWith('order.')", true),
            ("event.type.matches('^order[.]v[0-9]$')", true),
            (
                "event.source.contains('/') && event.subject in ['a', 'b']",
                true,
            ),
            ("!(event.type == 'order.v2')", false),
            ("event['type'] == 'order.v2'", true),
            ("event.data.big > 1.0", true),
        ] {
            let routes = routes(&[expression], None);
            let found = routes.path(&event()).unwrap();
            assert_eq!(found.is_some(), wanted, "{expression}");
        }
    }

    #[test]
    fn the_first_match_wins_and_then_the_default() {
        let rules = ["event.subject == 'b'", "event.subject == 'a'", "true"];
        let found = routes(&rules, Some("/d"));
        assert_eq!(found.path(&event()), Ok(Some("/event.subject == 'a'")));
        assert_eq!(
            routes(&rules[..1], Some("/d")).path(&event()),
            Ok(Some("/d"))
        );
        assert_eq!(routes(&rules[..1], None).path(&event()), Ok(None));
    }

    #[test]
    fn what_has_no_answer_is_an_error() {
        for (expression, words) in [
            ("event.data.nothing > 1", "nothing"),
            ("event.nothing.deeper == 1", "nothing"),
            ("event.data.amount", "no truth"),
            ("other == 1", "other"),
        ] {
            let error = routes(&[expression], Some("/d"))
                .path(&event())
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.to_string().contains(expression), "{error}");
        }
        // The short way says the same.
        assert!(
            routes(&["event.type == 'x'"], None)
                .path(&json!({}))
                .is_err()
        );
    }

    #[test]
    fn what_does_not_compile_is_named() {
        for expression in [
            "event.type ==",
            "event.type == 'a' b",
            "(",
            "event.type = 'a'",
        ] {
            let rules = [(expression.to_owned(), "/x".to_owned())];
            let error = Routes::compile(&rules, None).unwrap_err();
            assert!(error.to_string().contains(expression), "{error}");
        }
    }
}
