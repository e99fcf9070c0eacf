//! Reads an `impl` and says what is wrong with it in the actor author's words.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::Parser;
use syn::spanned::Spanned;
use syn::{
    Attribute, Error, Expr, FnArg, GenericArgument, Ident, ImplItem, ImplItemFn, ItemImpl, LitInt,
    LitStr, Pat, Path, PathArguments, Result, ReturnType, Type,
};

/// The attribute's options.
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: u32,
    pub(crate) upgrade: Option<Path>,
    pub(crate) library: Path,
}

/// What there is to write.
pub(crate) struct Model {
    pub(crate) options: Options,
    pub(crate) actor: Ident,
    pub(crate) type_name: String,
    pub(crate) methods: Vec<Method>,
}

/// One method.
pub(crate) struct Method {
    pub(crate) docs: Vec<Attribute>,
    pub(crate) name: Ident,
    pub(crate) access: Access,
    pub(crate) style: Style,
    pub(crate) context: Context,
    pub(crate) arguments: Vec<(Ident, Type)>,
    pub(crate) reply: Reply,
    pub(crate) events: Vec<Subscribed>,
}

/// One `#[on_event]`.
pub(crate) struct Subscribed {
    pub(crate) topic: LitStr,
    pub(crate) pubsub: Option<LitStr>,
    /// The actor's id, from the method's arguments.
    pub(crate) id: Expr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Style {
    Async,
    Plain,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Context {
    None,
    Turn,
    ReadTurn,
}

/// What a method returns.
pub(crate) enum Reply {
    Value(Box<Type>),
    Result(Box<Type>, Box<Type>),
}

impl Options {
    pub(crate) fn parse(tokens: TokenStream) -> Result<Self> {
        let mut options = Self {
            name: None,
            version: 1,
            upgrade: None,
            library: syn::parse_quote!(::ghostlight),
        };
        let parser = syn::meta::parser(|meta| {
            if meta.path.is_ident("name") {
                options.name = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("version") {
                let version: LitInt = meta.value()?.parse()?;
                options.version = version.base10_parse()?;
                if options.version == 0 {
                    return Err(Error::new(version.span(), "versions count from 1"));
                }
            } else if meta.path.is_ident("upgrade") {
                options.upgrade = Some(meta.value()?.parse()?);
            } else if meta.path.is_ident("crate") {
                options.library = meta.value()?.parse()?;
            } else {
                return Err(meta.error("unknown option: `name`, `version`, `upgrade` or `crate`"));
            }
            Ok(())
        });
        parser.parse2(tokens)?;
        if let Some(name) = &options.name {
            check_type_name(&name.value(), name.span())?;
        }
        Ok(options)
    }
}

/// The rules of actor types, so that a wrong one shows at compile time.
fn check_type_name(name: &str, at: Span) -> Result<()> {
    let forbidden = |c: char| matches!(c, '#' | '?' | '\\') || c.is_control();
    let wrong = name.is_empty() || name == "." || name == ".." || name.len() > 1024;
    if wrong || name.contains(forbidden) {
        let text = "an actor type has 1 to 1024 bytes, without `#`, `?`, a backslash or control \
                    characters, and is not `.` or `..`";
        return Err(Error::new(at, text));
    }
    Ok(())
}

impl Model {
    /// Reads the `impl`, and takes our own attributes off it.
    pub(crate) fn read(options: Options, item: &mut ItemImpl) -> Result<Self> {
        let mut errors: Option<Error> = None;
        let mut note = |error: Error| match &mut errors {
            Some(all) => all.combine(error),
            None => errors = Some(error),
        };
        let actor = match read_actor(item) {
            Ok(actor) => actor,
            Err(error) => {
                note(error);
                Ident::new("Actor", Span::call_site())
            }
        };
        let mut methods = Vec::new();
        for item in &mut item.items {
            let ImplItem::Fn(function) = item else {
                continue;
            };
            let reads = take_read(function);
            let events = take_events(function);
            if function.sig.receiver().is_none() {
                continue;
            }
            let read = |access| Method::read(access, events?, function);
            match reads.and_then(read) {
                Ok(method) => methods.push(method),
                Err(error) => note(error),
            }
        }
        if methods.is_empty() && errors.is_none() {
            let text = "an actor needs at least one method: a function with `&mut self`, or with \
                        `#[read]` and `&self`";
            errors = Some(Error::new(item.span(), text));
        }
        let type_name = options
            .name
            .as_ref()
            .map_or_else(|| actor.to_string(), LitStr::value);
        match errors {
            Some(error) => Err(error),
            None => Ok(Self {
                options,
                actor,
                type_name,
                methods,
            }),
        }
    }
}

fn read_actor(item: &ItemImpl) -> Result<Ident> {
    if let Some((_, of, _)) = &item.trait_ {
        let text = "`#[actor]` goes on the inherent `impl` of the struct, not on a trait's";
        return Err(Error::new(of.span(), text));
    }
    if !item.generics.params.is_empty() {
        let text = "an actor type has no generics: its name in storage stands for one type";
        return Err(Error::new(item.generics.span(), text));
    }
    match &*item.self_ty {
        Type::Path(path) if path.qself.is_none() => path
            .path
            .get_ident()
            .cloned()
            .ok_or_else(|| Error::new(path.span(), "name the struct by its bare name")),
        other => Err(Error::new(other.span(), "an actor is a struct")),
    }
}

/// Takes `#[read]` off a function.
fn take_read(function: &mut ImplItemFn) -> Result<Access> {
    let before = function.attrs.len();
    let mut wrong = None;
    function.attrs.retain(|attribute| {
        let ours = attribute.path().is_ident("read");
        if ours && attribute.meta.require_path_only().is_err() {
            wrong = Some(Error::new(attribute.span(), "`#[read]` takes no options"));
        }
        !ours
    });
    match wrong {
        Some(error) => Err(error),
        None if function.attrs.len() == before => Ok(Access::Write),
        None => Ok(Access::Read),
    }
}

/// Takes every `#[on_event]` off a function.
fn take_events(function: &mut ImplItemFn) -> Result<Vec<Subscribed>> {
    let is_ours = |attribute: &Attribute| attribute.path().is_ident("on_event");
    let (ours, others) = std::mem::take(&mut function.attrs)
        .into_iter()
        .partition(is_ours);
    function.attrs = others;
    let ours: Vec<Attribute> = ours;
    ours.iter().map(Subscribed::read).collect()
}

impl Subscribed {
    fn read(attribute: &Attribute) -> Result<Self> {
        let (mut topic, mut pubsub, mut id) = (None, None, None);
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("topic") {
                topic = Some(filled(meta.value()?.parse()?)?);
            } else if meta.path.is_ident("pubsub") {
                pubsub = Some(filled(meta.value()?.parse()?)?);
            } else if meta.path.is_ident("id") {
                id = Some(meta.value()?.parse()?);
            } else {
                return Err(meta.error("unknown option: `topic`, `id` or `pubsub`"));
            }
            Ok(())
        })?;
        let missing = |text: &str| Error::new(attribute.span(), text);
        Ok(Self {
            topic: topic.ok_or_else(|| missing("name the topic: `topic = \"orders\"`"))?,
            pubsub,
            id: id.ok_or_else(|| {
                missing(
                    "say which actor an event is for, from the method's arguments: \
                     `id = order.customer`",
                )
            })?,
        })
    }
}

fn filled(name: LitStr) -> Result<LitStr> {
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "the name is empty"));
    }
    Ok(name)
}

impl Method {
    fn read(access: Access, events: Vec<Subscribed>, function: &ImplItemFn) -> Result<Self> {
        let signature = &function.sig;
        check_receiver(access, signature)?;
        if !signature.generics.params.is_empty() {
            let text = "a method of an actor has no generics: it is called by name";
            return Err(Error::new(signature.generics.span(), text));
        }
        let mut context = Context::None;
        let mut arguments = Vec::new();
        for (place, input) in signature.inputs.iter().skip(1).enumerate() {
            let FnArg::Typed(input) = input else { continue };
            if let Type::Reference(reference) = &*input.ty {
                if place > 0 {
                    return Err(by_reference(&input.ty));
                }
                context = read_context(access, &reference.elem)
                    .unwrap_or_else(|| Err(by_reference(&input.ty)))?;
                continue;
            }
            let Pat::Ident(name) = &*input.pat else {
                return Err(Error::new(
                    input.pat.span(),
                    "give the argument a plain name",
                ));
            };
            check_type(&input.ty)?;
            arguments.push((name.ident.clone(), (*input.ty).clone()));
        }
        if let Some(event) = events.first() {
            let wrong = |text| Err(Error::new(event.topic.span(), text));
            if access == Access::Read {
                return wrong("an event is taken by a method that writes: leave `#[read]` out");
            }
            if arguments.is_empty() {
                return wrong("a method that takes events has an argument: the event's data");
            }
        }
        Ok(Self {
            events,
            docs: function
                .attrs
                .iter()
                .filter(|a| a.path().is_ident("doc"))
                .cloned()
                .collect(),
            name: signature.ident.clone(),
            access,
            style: if signature.asyncness.is_some() {
                Style::Async
            } else {
                Style::Plain
            },
            context,
            arguments,
            reply: read_reply(&signature.output)?,
        })
    }

    /// The arguments as written, for people.
    pub(crate) fn arguments_text(&self) -> String {
        let texts: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, ty)| format!("{name}: {}", type_text(ty)))
            .collect();
        texts.join(", ")
    }
}

fn check_receiver(access: Access, signature: &syn::Signature) -> Result<()> {
    let receiver = signature
        .receiver()
        .expect("only functions with a receiver are read");
    let wrong = |text: &str| Err(Error::new(receiver.span(), text));
    if receiver.reference.is_none() || receiver.colon_token.is_some() {
        return wrong("a method of an actor takes `&mut self`, or `&self` with `#[read]`");
    }
    match (access, receiver.mutability.is_some()) {
        (Access::Write, false) => {
            wrong("mark this method `#[read]`, or take `&mut self` if it changes the actor")
        }
        (Access::Read, true) => wrong("a `#[read]` method takes `&self`: it changes nothing"),
        (Access::Write, true) | (Access::Read, false) => Ok(()),
    }
}

/// `None`: a reference to something else.
fn read_context(access: Access, referred: &Type) -> Option<Result<Context>> {
    let Type::Path(path) = referred else {
        return None;
    };
    let last = path.path.segments.last()?;
    if last.ident == "ReadTurn" {
        return Some(Ok(Context::ReadTurn));
    }
    if last.ident != "Turn" {
        return None;
    }
    Some(match access {
        Access::Write => Ok(Context::Turn),
        Access::Read => {
            let text = "a `#[read]` method takes `cx: &ReadTurn`: it cannot write or send";
            Err(Error::new(referred.span(), text))
        }
    })
}

fn by_reference(ty: &Type) -> Error {
    let text = "arguments arrive by value (`String`, not `&str`); only the context is a reference: \
                `cx: &Turn` right after the receiver";
    Error::new(ty.span(), text)
}

fn check_type(ty: &Type) -> Result<()> {
    if let Type::ImplTrait(_) = ty {
        return Err(Error::new(
            ty.span(),
            "name the type: it travels between nodes",
        ));
    }
    if mentions_self(ty.to_token_stream()) {
        let text = "write the type's name instead of `Self`: the reference has the same signature";
        return Err(Error::new(ty.span(), text));
    }
    Ok(())
}

fn mentions_self(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Ident(ident) => ident == "Self",
        TokenTree::Group(group) => mentions_self(group.stream()),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

fn read_reply(output: &ReturnType) -> Result<Reply> {
    let ReturnType::Type(_, ty) = output else {
        return Ok(Reply::Value(Box::new(syn::parse_quote!(()))));
    };
    check_type(ty)?;
    if let Type::Reference(_) = &**ty {
        return Err(Error::new(ty.span(), "a reply leaves by value"));
    }
    let Type::Path(path) = &**ty else {
        return Ok(Reply::Value(ty.clone()));
    };
    let Some(last) = path.path.segments.last().filter(|s| s.ident == "Result") else {
        return Ok(Reply::Value(ty.clone()));
    };
    let types: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(list) => list
            .args
            .iter()
            .filter_map(|a| match a {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        PathArguments::None | PathArguments::Parenthesized(_) => Vec::new(),
    };
    match types[..] {
        [reply, error] => Ok(Reply::Result(
            Box::new(reply.clone()),
            Box::new(error.clone()),
        )),
        _ => Err(Error::new(
            ty.span(),
            "write `Result<Reply, Error>` in full: callers get both types",
        )),
    }
}

/// A type as a person writes it.
fn type_text(ty: &Type) -> String {
    let mut text = ty.to_token_stream().to_string();
    for (spaced, tight) in [
        (" :: ", "::"),
        (" < ", "<"),
        ("< ", "<"),
        (" >", ">"),
        (" ,", ","),
    ] {
        text = text.replace(spaced, tight);
    }
    text
}

#[cfg(test)]
mod tests;
