//! The `#[actor]` attribute: makes the methods of an inherent `impl` the turns of an actor.
//!
//! It leaves the methods as they are, and adds beside them: the `Actor` implementation (method
//! table, dispatch, state), and a typed reference `<Type>Ref` with one method for each of the
//! actor's. `model` reads and checks the `impl`, `expand` writes; both work on tokens alone and are
//! tested so.

mod expand;
mod model;

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemImpl, parse_macro_input};

/// Makes a struct an actor.
///
/// ```text
/// #[derive(Default, Serialize, Deserialize)]
/// struct Counter { total: i64 }
///
/// #[actor(name = "counter")]
/// impl Counter {
///     async fn add(&mut self, cx: &Turn, by: i64) -> Result<i64, Overflow> { … }
///     #[read]
///     fn get(&self) -> i64 { self.total }
/// }
/// ```
///
/// Every function with a receiver is a method that callers can name; helpers go into another
/// `impl`. `&mut self` writes: `Ok` commits, `Err` rolls back. `#[read]` takes `&self` and changes
/// nothing. After the receiver may come `cx: &Turn` (`cx: &ReadTurn` for a read), then arguments by
/// value.
///
/// `#[on_event(topic = "orders", id = order.customer)]` on a method that writes subscribes all
/// actors of the type to a topic: each event is a message to the actor whose id the expression
/// gives, from the method's arguments, which are the event's data. `pubsub = "…"` names another
/// component than `pubsub`.
///
/// Options: `name = "…"` (default: the struct's name), `version = 2` of the stored struct and
/// `upgrade = path` (`fn(u32, &[u8]) -> Result<Self, String>`) from older ones, `crate = path` when
/// the library has another name.
#[proc_macro_attribute]
pub fn actor(options: TokenStream, item: TokenStream) -> TokenStream {
    let mut item = parse_macro_input!(item as ItemImpl);
    let written = model::Options::parse(options.into())
        .and_then(|options| model::Model::read(options, &mut item))
        .map_or_else(
            |error| error.to_compile_error(),
            |model| expand::expand(&model),
        );
    quote!(#item #written).into()
}
