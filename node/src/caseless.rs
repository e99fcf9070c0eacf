//! Names of fields in whatever case, as Go's decoders read them, and with them Dapr.
//!
//! A layer between a format and what is read from it: the fields of a structure are found without
//! regard to the case of letters, at any depth. Keys of maps are the user's own, and stay as they
//! are written. Absent: the fields of enums without a tag, whose values are read before it is known
//! what they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::CowStrDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A value that is read so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caseless<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Caseless<T> {
    fn deserialize<D: Deserializer<'de>>(format: D) -> Result<Self, D::Error> {
        T::deserialize(Layer(format)).map(Self)
    }
}

/// Around a format.
struct Layer<D>(D);

/// Around a visitor; `fields` are those of a structure, and none for all else.
struct Around<V> {
    visitor: V,
    fields: &'static [&'static str],
}

/// Around what is in a list or a map.
struct Items<A> {
    items: A,
    fields: &'static [&'static str],
}

/// Around the seed of a value.
struct Value<S>(S);

/// Around the seed of a field's name.
struct Name<S> {
    seed: S,
    fields: &'static [&'static str],
}

fn around<V>(visitor: V) -> Around<V> {
    let fields = &[];
    Around { visitor, fields }
}

macro_rules! as_it_is {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Layer<D> {
    type Error = D::Error;

    as_it_is! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_unit deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(around(visitor))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(around(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(around(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Around { visitor, fields };
        self.0.deserialize_struct(name, fields, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, around(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(length, around(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = around(visitor);
        self.0.deserialize_tuple_struct(name, length, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Around<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_some(Layer(format))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        self.visitor.visit_newtype_struct(Layer(format))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let fields = self.fields;
        self.visitor.visit_seq(Items { items, fields })
    }

    fn visit_map<A: MapAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let fields = self.fields;
        self.visitor.visit_map(Items { items, fields })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.items.next_element_seed(Value(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.items.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        match self.fields {
            [] => self.items.next_key_seed(seed),
            fields => self.items.next_key_seed(Name { seed, fields }),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.items.next_value_seed(Value(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.items.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Value<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, format: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Layer(format))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Name<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, format: D) -> Result<S::Value, D::Error> {
        let written = String::deserialize(format)?;
        let exact = self.fields.iter().find(|field| **field == written);
        let near = || {
            let mut fields = self.fields.iter();
            fields.find(|field| field.eq_ignore_ascii_case(&written))
        };
        let name = match exact.or_else(near) {
            Some(field) => Cow::Borrowed(*field),
            None => Cow::Owned(written),
        };
        self.seed.deserialize(CowStrDeserializer::new(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Outer {
        dead_letter: Option<String>,
        #[serde(rename = "a")]
        small: u32,
        #[serde(rename = "A")]
        large: u32,
        rules: Vec<Inner>,
        named: BTreeMap<String, Inner>,
        free: serde_json::Value,
        inner: Option<Inner>,
    }

    #[derive(Deserialize, PartialEq, Debug, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Inner {
        match_path: String,
    }

    fn inner(path: &str) -> Inner {
        Inner {
            match_path: path.to_owned(),
        }
    }

    #[test]
    fn fields_are_found_in_any_case_and_other_names_stay() {
        let json = r#"{"DEADLETTER": "d", "a": 1, "A": 2, "Rules": [{"matchpath": "x"}, {"MatchPath": "y"}],
                       "named": {"MatchPath": {"matchPATH": "z"}}, "free": {"Rules": {"matchpath": 7}},
                       "unknown": {"rules": 7}, "Inner": {"MATCHPATH": "i"}}"#;
        let Caseless(found) = serde_json::from_str::<Caseless<Outer>>(json).unwrap();
        let named = [("MatchPath".to_owned(), inner("z"))];
        let wanted = Outer {
            dead_letter: Some("d".to_owned()),
            small: 1,
            large: 2,
            rules: vec![inner("x"), inner("y")],
            named: named.into(),
            free: serde_json::json!({"Rules": {"matchpath": 7}}),
            inner: Some(inner("i")),
        };
        assert_eq!(found, wanted);
        let yaml = "deadletter: ~\nRULES:\n- MATCHpath: x\n- {}\n";
        let found = serde_saphyr::from_str::<Caseless<Outer>>(yaml);
        let wanted = Outer {
            rules: vec![inner("x"), inner("")],
            ..Outer::default()
        };
        assert_eq!(found.map(|found| found.0).ok(), Some(wanted));
    }

    #[test]
    fn errors_keep_their_place_and_one_field_counts_once() {
        for (json, words) in [
            (r#"{"Rules": 7}"#, "expected a sequence at line 1"),
            (r#"{"rules": [], "Rules": []}"#, "duplicate field `rules`"),
        ] {
            let error = serde_json::from_str::<Caseless<Outer>>(json).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }

    #[test]
    fn values_keep_their_text() {
        #[derive(Deserialize)]
        struct Raw {
            value: Option<Box<RawValue>>,
        }
        let json = r#"{"Value": {"n" : 1.50}}"#;
        let Caseless(found) = serde_json::from_str::<Caseless<Raw>>(json).unwrap();
        let text = found.value.as_ref().map(|value| value.get());
        assert_eq!(text, Some(r#"{"n" : 1.50}"#));
    }
}
