//! Writes the `Actor` implementation and the typed reference.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};

use crate::model::{Access, Context, Method, Model, Reply, Style, Subscribed};

pub(crate) fn expand(model: &Model) -> TokenStream {
    let actor = &model.actor;
    let library = &model.options.library;
    let generated = quote!(#library::sdk::generated);
    let reference = format_ident!("{actor}Ref");
    let summary = format!("Typed reference to an actor of type `{}`.", model.type_name);
    let argument_structs = model
        .methods
        .iter()
        .filter_map(|m| argument_struct(m, &generated));
    let actor_impl = actor_impl(model, &generated);
    let typed_impl = typed_impl(model, &generated);
    quote! {
        #[doc = #summary]
        #[derive(Clone, Debug)]
        #[allow(unreachable_pub, reason = "as visible as the actor lets it be")]
        pub struct #reference<O> {
            outlet: O,
            target: #generated::Target,
        }

        #[allow(
            missing_docs, unused_variables, private_interfaces, private_bounds, unreachable_pub, non_camel_case_types,
            clippy::all,
            reason = "generated: as visible and as documented as the actor's own methods"
        )]
        const _: () = {
            #(#argument_structs)*
            #actor_impl
            #typed_impl
        };
    }
}

/// Several arguments travel as one struct, which serde reads from an object or an array.
fn argument_struct(method: &Method, generated: &TokenStream) -> Option<TokenStream> {
    if method.arguments.len() < 2 {
        return None;
    }
    let name = struct_name(method);
    let (names, types): (Vec<_>, Vec<_>) = method.arguments.iter().map(|(n, t)| (n, t)).unzip();
    let serde_path = format!("{generated}::serde").replace(' ', "");
    Some(quote! {
        #[derive(#generated::serde::Serialize, #generated::serde::Deserialize)]
        #[serde(crate = #serde_path)]
        struct #name { #(#names: #types,)* }
    })
}

fn struct_name(method: &Method) -> syn::Ident {
    format_ident!("__Arguments_{}", method.name)
}

fn actor_impl(model: &Model, generated: &TokenStream) -> TokenStream {
    let actor = &model.actor;
    let type_name = &model.type_name;
    let version = model.options.version;
    let upgrade = match &model.options.upgrade {
        Some(path) => quote!(::core::option::Option::Some(#path)),
        None => quote!(::core::option::Option::None),
    };
    let rows = model.methods.iter().map(|method| {
        let name = method.name.to_string();
        let arguments = method.arguments_text();
        let kind = match method.access {
            Access::Read => quote!(Read),
            Access::Write => quote!(Write),
        };
        quote!(#generated::Method {
            name: #name,
            kind: #generated::MethodKind::#kind,
            arguments: #arguments,
        })
    });
    let arms = model.methods.iter().map(|m| dispatch_arm(m, generated));
    let events = model.methods.iter().flat_map(|method| {
        let events = method.events.iter();
        events.map(|event| event_handler(method, event, generated))
    });
    quote! {
        impl #generated::Actor for #actor {
            const TYPE: &'static str = #type_name;
            const METHODS: &'static [#generated::Method] = &[#(#rows),*];
            const EVENTS: &'static [#generated::EventHandler] = &[#(#events),*];

            fn restore(
                stored: ::core::option::Option<&[u8]>,
            ) -> ::core::result::Result<Self, #generated::StateError> {
                #generated::restore(#version, #upgrade, stored)
            }

            fn encode(
                &self,
            ) -> ::core::result::Result<#generated::Bytes, #generated::StateError> {
                #generated::encode(#version, self)
            }

            async fn dispatch(
                &mut self,
                cx: &#generated::Turn,
                method: &str,
                body: #generated::Bytes,
            ) -> ::core::result::Result<#generated::Bytes, #generated::TurnFailure> {
                match method {
                    #(#arms)*
                    other => ::core::result::Result::Err(#generated::TurnFailure::Refused(
                        #generated::unknown_method::<Self>(other),
                    )),
                }
            }
        }
    }
}

fn event_handler(method: &Method, event: &Subscribed, generated: &TokenStream) -> TokenStream {
    let wire = method.name.to_string();
    let topic = &event.topic;
    let pubsub = match &event.pubsub {
        Some(pubsub) => quote!(#pubsub),
        None => quote!(#generated::PUBSUB_DEFAULT),
    };
    let id = &event.id;
    let (names, types): (Vec<_>, Vec<_>) = method.arguments.iter().map(|(n, t)| (n, t)).unzip();
    let decode = match (&names[..], &types[..]) {
        ([name], [ty]) => quote!(let #name = <#ty as #generated::Body>::from_body(body)?;),
        _ => {
            let holder = struct_name(method);
            quote!(let #holder { #(#names),* } = #generated::from_fields::<#holder>(body)?;)
        }
    };
    quote! {
        #generated::EventHandler {
            method: #wire,
            pubsub: #pubsub,
            topic: #topic,
            actor_id: |body| {
                #decode
                ::core::result::Result::Ok(::std::string::ToString::to_string(&(#id)))
            },
        }
    }
}

fn dispatch_arm(method: &Method, generated: &TokenStream) -> TokenStream {
    let name = &method.name;
    let wire = name.to_string();
    let text = method.arguments_text();
    let (decode, pass) = match &method.arguments[..] {
        [] => (quote!(#generated::void(#wire, &body)?;), quote!()),
        [(_, ty)] => (
            quote!(let argument = #generated::argument::<#ty>(#wire, #text, &body)?;),
            quote!(argument),
        ),
        several => {
            let holder = struct_name(method);
            let names = several.iter().map(|(name, _)| name);
            (
                quote!(let arguments = #generated::fields::<#holder>(#wire, #text, &body)?;),
                quote!(#(arguments.#names),*),
            )
        }
    };
    let receiver = match method.access {
        Access::Read => quote!(&*self),
        Access::Write => quote!(self),
    };
    let context = match method.context {
        Context::None => quote!(),
        Context::Turn | Context::ReadTurn => quote!(cx,),
    };
    let wait = match method.style {
        Style::Async => quote!(.await),
        Style::Plain => quote!(),
    };
    let answer = match &method.reply {
        Reply::Value(_) => quote!(#generated::reply(&answer)),
        Reply::Result(..) => quote!(#generated::settle(answer)),
    };
    quote! {
        #wire => {
            #decode
            let answer = Self::#name(#receiver, #context #pass)#wait;
            #answer
        }
    }
}

fn typed_impl(model: &Model, generated: &TokenStream) -> TokenStream {
    let actor = &model.actor;
    let reference = format_ident!("{actor}Ref");
    let methods = model.methods.iter().map(|m| reference_method(m, generated));
    quote! {
        impl #generated::Typed for #actor {
            type Ref<O: #generated::Outlet> = #reference<O>;

            fn bind<O: #generated::Outlet>(
                outlet: O,
                target: #generated::Target,
            ) -> #reference<O> {
                #reference { outlet, target }
            }
        }

        impl<O: #generated::Outlet> #reference<O> {
            #(#methods)*
        }
    }
}

fn reference_method(method: &Method, generated: &TokenStream) -> TokenStream {
    let name = &method.name;
    let wire = name.to_string();
    let docs = &method.docs;
    let (names, types): (Vec<_>, Vec<_>) = method.arguments.iter().map(|(n, t)| (n, t)).unzip();
    let argument = match &names[..] {
        [] => quote!(()),
        [one] => quote!(#one),
        several => {
            let holder = struct_name(method);
            quote!(#holder { #(#several),* })
        }
    };
    let (reply, error) = match &method.reply {
        Reply::Value(reply) => (quote!(#reply), quote!(#generated::Never)),
        Reply::Result(reply, error) => (quote!(#reply), quote!(#error)),
    };
    quote! {
        #(#docs)*
        pub fn #name(&self, #(#names: #types),*) -> O::Done<#reply, #error> {
            self.outlet.invoke(&self.target, #wire, &#argument)
        }
    }
}
