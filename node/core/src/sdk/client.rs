//! Calls from outside a turn: `cluster.actor::<Counter>("home").add(1).await`.

use std::fmt;
use std::future::IntoFuture;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use ghostlight_protocol::actor::{ActorKey, clean_method};
use ghostlight_protocol::code::Code;
use ghostlight_protocol::limits::REQUEST_BODY_BYTES_MAX;
use ghostlight_protocol::outcome::{CallOutcome, NotRun};
use ghostlight_protocol::request::RequestId;

use crate::sdk::actor::Typed;
use crate::sdk::body::Body;
use crate::sdk::call::{Outgoing, Outlet, Target};
use crate::sdk::error::{ActorError, CallError, typed_outcome};

/// Something that can make calls: a node in this process.
pub trait Client: Send + Sync {
    /// Makes a call. Names, request id and size are checked already.
    fn invoke(&self, call: Invocation) -> BoxFuture<'static, CallOutcome>;
}

/// A call from outside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invocation {
    /// The called actor.
    pub actor: ActorKey,
    /// Cleaned method name.
    pub method: String,
    /// The body.
    pub body: Bytes,
    /// What the caller wants beside.
    pub options: CallOptions,
}

/// What a caller may say about a call.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CallOptions {
    /// Makes repeating the call safe: the same id gets the recorded reply.
    pub request_id: Option<Bytes>,
    /// How long the caller waits; `None`: as long as it takes.
    pub timeout: Option<Duration>,
}

/// The actors of a cluster, as seen through one client. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Arc<dyn Client>,
    namespace: Arc<str>,
}

impl Cluster {
    /// The actors of a namespace.
    #[must_use]
    pub fn new(client: Arc<dyn Client>, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.into(),
        }
    }

    /// A typed reference to an actor; it need not exist, actors always do.
    #[must_use]
    pub fn actor<A: Typed>(&self, actor_id: &str) -> A::Ref<Outside> {
        let target = Target::new(&self.namespace, A::TYPE, actor_id);
        A::bind(Outside(Arc::clone(&self.client)), target)
    }

    /// Calls any method of any actor with a body as it is.
    pub async fn call_raw(
        &self,
        actor_type: &str,
        actor_id: &str,
        method: &str,
        body: Bytes,
        options: CallOptions,
    ) -> CallOutcome {
        let target = Target::new(&self.namespace, actor_type, actor_id);
        let actor = match target.key() {
            Ok(actor) => actor,
            Err(refusal) => return CallOutcome::NotRun(refusal),
        };
        let method = match clean_method(method) {
            Ok(method) => method,
            Err(error) => return CallOutcome::NotRun(NotRun::new(error.code, error.to_string())),
        };
        invoke_checked(&*self.client, actor, method, body, options).await
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.namespace)
    }
}

/// Delivers calls from outside a turn.
#[derive(Clone)]
pub struct Outside(Arc<dyn Client>);

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

impl Outlet for Outside {
    type Done<R: Body, E: ActorError> = Call<R, E>;

    fn deliver<R: Body, E: ActorError>(&self, call: Outgoing) -> Call<R, E> {
        Call {
            client: self.clone(),
            call,
            options: CallOptions::default(),
            answer: PhantomData,
        }
    }
}

/// A call from outside; `.await` makes it.
#[derive(Debug)]
#[must_use = "a call is made when it is awaited"]
pub struct Call<R, E> {
    client: Outside,
    call: Outgoing,
    options: CallOptions,
    answer: PhantomData<fn() -> Result<R, E>>,
}

impl<R, E> Call<R, E> {
    /// Makes repeating the call safe: the same id with the same arguments gets the recorded reply.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.options.request_id = Some(Bytes::from(id.into()));
        self
    }

    /// Waits no longer than this.
    pub fn deadline(mut self, timeout: Duration) -> Self {
        self.options.timeout = Some(timeout);
        self
    }
}

impl<R: Body + 'static, E: ActorError + 'static> IntoFuture for Call<R, E> {
    type Output = Result<R, CallError<E>>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self {
            client: Outside(client),
            call,
            options,
            ..
        } = self;
        Box::pin(async move {
            let (actor, method, body) = call.checked().map_err(CallError::NotRun)?;
            let id = options.request_id.clone();
            let outcome = invoke_checked(&*client, actor, method.to_owned(), body, options).await;
            typed_outcome(outcome, method, id)
        })
    }
}

async fn invoke_checked(
    client: &dyn Client,
    actor: ActorKey,
    method: String,
    body: Bytes,
    options: CallOptions,
) -> CallOutcome {
    if let Some(Err(why)) = options.request_id.as_ref().map(|id| RequestId::outside(id)) {
        return CallOutcome::NotRun(NotRun::new(Code::InvalidRequestId, why));
    }
    if body.len() > REQUEST_BODY_BYTES_MAX {
        let text = format!(
            "the body has {} bytes, at most {REQUEST_BODY_BYTES_MAX} are allowed",
            body.len()
        );
        return CallOutcome::NotRun(NotRun::new(Code::BodyTooLarge, text));
    }
    let call = Invocation {
        actor,
        method,
        body,
        options,
    };
    client.invoke(call).await
}
