//! Bodies: how arguments, replies and errors travel.
//!
//! JSON, so that `curl` and every Dapr SDK can call a native actor:
//!
//! | method | body |
//! |---|---|
//! | no argument | empty (`null` is taken too) |
//! | one argument | its JSON value: `add(by: i64)` takes `1` |
//! | several | an object by parameter name: `{"to":"bob","amount":5}`; an array in order is taken too |
//! | one argument of type [`Raw`] | the bytes as they are |
//!
//! A reply is the JSON of the value; `()` is an empty body. Parameter names are therefore part of
//! an actor's contract, as method names are.

use bytes::Bytes;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sdk::actor::TurnFailure;
use crate::sdk::error::{ActorError, app_error};

/// Bytes as they are, in place of JSON: for bodies that are not ours to read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Raw(pub Bytes);

/// A value that travels as the body of a call or a reply.
pub trait Body: Sized {
    /// The body.
    ///
    /// # Errors
    /// A text saying why the value has no such form.
    fn to_body(&self) -> Result<Bytes, String>;

    /// Reads a body.
    ///
    /// # Errors
    /// A text saying what is wrong with it.
    fn from_body(body: &Bytes) -> Result<Self, String>;
}

impl<T: Serialize + DeserializeOwned> Body for T {
    fn to_body(&self) -> Result<Bytes, String> {
        let json = serde_json::to_vec(self).map_err(|e| e.to_string())?;
        // `()` and its like say nothing. `None` is a value, and says `null`.
        let says_nothing = size_of::<T>() == 0 && json == b"null";
        Ok(if says_nothing {
            Bytes::new()
        } else {
            json.into()
        })
    }

    fn from_body(body: &Bytes) -> Result<Self, String> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return serde_json::from_slice(b"null").map_err(|_| "the body is empty".to_owned());
        }
        serde_json::from_slice(body).map_err(|e| e.to_string())
    }
}

impl Body for Raw {
    fn to_body(&self) -> Result<Bytes, String> {
        Ok(self.0.clone())
    }

    fn from_body(body: &Bytes) -> Result<Self, String> {
        Ok(Self(body.clone()))
    }
}

/// Reads the argument of a method; `expected` is as written in its signature.
///
/// # Errors
/// The refusal that names what was expected.
pub fn argument<T: Body>(method: &str, expected: &str, body: &Bytes) -> Result<T, TurnFailure> {
    T::from_body(body)
        .map_err(|why| refuse_argument(method, &format!("`{expected}` as JSON"), &why))
}

/// Several arguments of an event.
///
/// # Errors
/// A text saying what is wrong with it.
pub fn from_fields<T: DeserializeOwned>(body: &Bytes) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|why| why.to_string())
}

/// Reads several arguments, as an object by name or an array in order.
///
/// # Errors
/// The refusal that names what was expected.
pub fn fields<T: DeserializeOwned>(
    method: &str,
    expected: &str,
    body: &Bytes,
) -> Result<T, TurnFailure> {
    serde_json::from_slice(body).map_err(|why| {
        let why = if body.is_empty() {
            "the body is empty".to_owned()
        } else {
            why.to_string()
        };
        refuse_argument(method, &format!("a JSON object with `{expected}`"), &why)
    })
}

/// Checks the body of a method without arguments.
///
/// # Errors
/// The refusal of a body that says something.
pub fn void(method: &str, body: &Bytes) -> Result<(), TurnFailure> {
    let text = body.trim_ascii();
    if text.is_empty() || text == b"null" {
        return Ok(());
    }
    Err(refuse_argument(
        method,
        "no argument",
        "the body is not empty",
    ))
}

/// The refusal of a malformed argument.
#[must_use]
pub fn refuse_argument(method: &str, expected: &str, why: &str) -> TurnFailure {
    TurnFailure::Refused(NotRun::new(
        Code::InvalidArgument,
        format!("method `{method}` expects {expected}: {why}"),
    ))
}

/// The reply of a method that cannot fail.
///
/// # Errors
/// The reply cannot be encoded: a bug of the actor.
pub fn reply<T: Body>(value: &T) -> Result<Bytes, TurnFailure> {
    value
        .to_body()
        .map_err(|why| TurnFailure::Broken(format!("its reply cannot be encoded: {why}")))
}

/// The reply of a method that returns a `Result`.
///
/// # Errors
/// The method's own error, or a reply that cannot be encoded.
pub fn settle<T: Body, E: ActorError>(result: Result<T, E>) -> Result<Bytes, TurnFailure> {
    match result {
        Ok(value) => reply(&value),
        Err(error) => Err(app_error(&error).map_or_else(TurnFailure::Broken, TurnFailure::App)),
    }
}
