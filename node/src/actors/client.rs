//! Typed calls through a node of this process.

use futures::future::BoxFuture;
use ghostlight_core::sdk::{Client, Invocation};
use ghostlight_protocol::outcome::CallOutcome;

use crate::handle::{Invoke, NodeHandle};

impl Client for NodeHandle {
    fn invoke(&self, call: Invocation) -> BoxFuture<'static, CallOutcome> {
        let node = self.clone();
        let call = Invoke {
            metadata: Vec::new(),
            actor: call.actor,
            method: call.method,
            body: call.body,
            request_id: call.options.request_id,
            timeout: call.options.timeout,
        };
        Box::pin(async move { Self::invoke(&node, call).await })
    }
}
