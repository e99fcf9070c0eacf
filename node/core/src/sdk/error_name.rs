//! The name of an error value: of its variant if it is an enum, else of its struct.
//!
//! A serializer that stops at the first name serde tells it. Errors that are bare text or numbers
//! have no name.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Impossible, Serializer};

/// The name serde knows a value by.
pub(crate) fn error_name<T: Serialize + ?Sized>(value: &T) -> Option<&'static str> {
    match value.serialize(NameOf) {
        Err(Stop::Named(name)) => Some(name),
        Err(Stop::Nameless) => None,
        Ok(never) => match never {},
    }
}

struct NameOf;

#[derive(Debug)]
enum Stop {
    Named(&'static str),
    Nameless,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped at the name")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Nameless
    }
}

type Nothing = Impossible<std::convert::Infallible, Stop>;
type Stopped<T = std::convert::Infallible> = Result<T, Stop>;

macro_rules! nameless {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $argument),*) -> Stopped<$ok> {
            Err(Stop::Nameless)
        }
    )*};
}

impl Serializer for NameOf {
    type Ok = std::convert::Infallible;
    type Error = Stop;
    type SerializeSeq = Nothing;
    type SerializeTuple = Nothing;
    type SerializeTupleStruct = Nothing;
    type SerializeTupleVariant = Nothing;
    type SerializeMap = Nothing;
    type SerializeStruct = Nothing;
    type SerializeStructVariant = Nothing;

    nameless! {
        serialize_bool(bool) -> Self::Ok;
        serialize_i8(i8) -> Self::Ok;
        serialize_i16(i16) -> Self::Ok;
        serialize_i32(i32) -> Self::Ok;
        serialize_i64(i64) -> Self::Ok;
        serialize_i128(i128) -> Self::Ok;
        serialize_u8(u8) -> Self::Ok;
        serialize_u16(u16) -> Self::Ok;
        serialize_u32(u32) -> Self::Ok;
        serialize_u64(u64) -> Self::Ok;
        serialize_u128(u128) -> Self::Ok;
        serialize_f32(f32) -> Self::Ok;
        serialize_f64(f64) -> Self::Ok;
        serialize_char(char) -> Self::Ok;
        serialize_str(&str) -> Self::Ok;
        serialize_bytes(&[u8]) -> Self::Ok;
        serialize_none() -> Self::Ok;
        serialize_unit() -> Self::Ok;
        serialize_seq(Option<usize>) -> Nothing;
        serialize_tuple(usize) -> Nothing;
        serialize_map(Option<usize>) -> Nothing;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Stopped {
        value.serialize(self)
    }

    fn serialize_unit_struct(self, name: &'static str) -> Stopped {
        Err(Stop::Named(name))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Stopped {
        Err(Stop::Named(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, _: &T) -> Stopped {
        Err(Stop::Named(name))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Stopped {
        Err(Stop::Named(variant))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Stopped<Nothing> {
        Err(Stop::Named(name))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Stopped<Nothing> {
        Err(Stop::Named(variant))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Stopped<Nothing> {
        Err(Stop::Named(name))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Stopped<Nothing> {
        Err(Stop::Named(variant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    enum Refusal {
        Short { balance: u64 },
        Closed,
        Other(String),
        Pair(u8, u8),
    }

    #[derive(Serialize)]
    struct Overflow;
    #[derive(Serialize)]
    struct Limit {
        most: u32,
    }
    #[derive(Serialize)]
    struct Text(String);

    #[test]
    fn names() {
        assert_eq!(error_name(&Refusal::Short { balance: 1 }), Some("Short"));
        assert_eq!(error_name(&Refusal::Closed), Some("Closed"));
        assert_eq!(error_name(&Refusal::Other("x".to_owned())), Some("Other"));
        assert_eq!(error_name(&Refusal::Pair(1, 2)), Some("Pair"));
        assert_eq!(error_name(&Overflow), Some("Overflow"));
        assert_eq!(error_name(&Limit { most: 3 }), Some("Limit"));
        assert_eq!(error_name(&Text("x".to_owned())), Some("Text"));
        assert_eq!(error_name("plain"), None);
        assert_eq!(error_name(&7), None);
        assert_eq!(error_name(&vec![1]), None);
    }
}
