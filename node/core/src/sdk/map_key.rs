//! Keys of maps as bytes whose order is the keys' order, so that a scan comes in key order.
//!
//! Integers are big endian, signed ones with the sign bit flipped. Text and bytes end with `00 00`,
//! and a zero inside becomes `00 ff`: a prefix sorts first, and a pair is simply one key after the
//! other.

/// A key of a [`crate::sdk::StateMap`].
pub trait MapKey: Sized {
    /// Appends the key.
    fn put(&self, out: &mut Vec<u8>);

    /// Takes the key off the front; `None` if there is none.
    fn take(rest: &mut &[u8]) -> Option<Self>;
}

macro_rules! unsigned {
    ($($int:ty),*) => {$(
        impl MapKey for $int {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn take(rest: &mut &[u8]) -> Option<Self> {
                let (bytes, after) = rest.split_first_chunk()?;
                *rest = after;
                Some(Self::from_be_bytes(*bytes))
            }
        }
    )*};
}

macro_rules! signed {
    ($($int:ty as $unsigned:ty),*) => {$(
        impl MapKey for $int {
            fn put(&self, out: &mut Vec<u8>) {
                (self.cast_unsigned() ^ (1 << (<$unsigned>::BITS - 1))).put(out);
            }

            fn take(rest: &mut &[u8]) -> Option<Self> {
                let bits = <$unsigned>::take(rest)?;
                Some((bits ^ (1 << (<$unsigned>::BITS - 1))).cast_signed())
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, u128);
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

impl MapKey for Vec<u8> {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self, out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        let mut bytes = Self::new();
        loop {
            let (&byte, after) = rest.split_first()?;
            *rest = after;
            if byte != 0 {
                bytes.push(byte);
                continue;
            }
            let (&mark, after) = rest.split_first()?;
            *rest = after;
            match mark {
                0 => return Some(bytes),
                0xff => bytes.push(0),
                _ => return None,
            }
        }
    }
}

impl MapKey for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(self.as_bytes(), out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Self::from_utf8(Vec::take(rest)?).ok()
    }
}

impl<A: MapKey, B: MapKey> MapKey for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(rest: &mut &[u8]) -> Option<Self> {
        Some((A::take(rest)?, B::take(rest)?))
    }
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    fn bytes_of<K: MapKey>(key: &K) -> Vec<u8> {
        let mut out = Vec::new();
        key.put(&mut out);
        out
    }

    fn check<K: MapKey + Ord + Debug>(a: &K, b: &K) {
        let (x, y) = (bytes_of(a), bytes_of(b));
        assert_eq!(a.cmp(b), x.cmp(&y), "{a:?} {b:?}");
        let mut rest = &x[..];
        assert_eq!(K::take(&mut rest).as_ref(), Some(a));
        assert!(rest.is_empty(), "{a:?} leaves {rest:?}");
    }

    proptest! {
        #[test]
        fn order_and_round_trip(
            a: (i64, i64), b: (u64, u16), s in ".{0,4}", t in ".{0,4}",
            v in proptest::collection::vec(0u8..3, 0..5), w in proptest::collection::vec(0u8..3, 0..5),
        ) {
            check(&a.0, &a.1);
            check(&b.0, &u64::from(b.1));
            check(&(s.clone(), a.0), &(t.clone(), a.1));
            check(&s, &t);
            check(&(v.clone(), b.1), &(w.clone(), 7));
            check(&v, &w);
        }
    }

    #[test]
    fn edges() {
        check(&i8::MIN, &i8::MAX);
        check(&-1i32, &0i32);
        check(&String::new(), &"\0".to_owned());
        for wrong in [&b""[..], b"a", b"a\0", b"a\0\x01", b"\xff\0\0"] {
            assert_eq!(String::take(&mut &wrong[..]), None, "{wrong:?}");
        }
        assert_eq!(u32::take(&mut &[1u8, 2, 3][..]), None);
    }
}
