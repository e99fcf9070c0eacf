//! `SubscribeActorEventsAlpha1`: an application hosts its actors by a stream that it opens to us.
//!
//! Dapr's rules for the stream are in `app::stream`; here are gRPC's words for them.

use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::api::{Context, metrics};
use crate::app::stream::messages::{AppMessage, NodeMessage};
use crate::app::stream::{StreamPeer, StreamRefusal};

/// What the node says over a stream.
pub(super) type Said = BoxStream<'static, Result<NodeMessage, Status>>;

pub(super) async fn subscribe(
    context: &Context,
    request: Request<Streaming<AppMessage>>,
) -> Result<Response<Said>, Status> {
    let peer = request.extensions().get::<StreamPeer>().copied();
    let refused = |refusal: StreamRefusal| {
        metrics::refused("invalid");
        let text = refusal.to_string();
        match refusal {
            StreamRefusal::NoGrpcChannel => Status::failed_precondition(text),
            StreamRefusal::NotInitial => Status::invalid_argument(text),
            StreamRefusal::Ended(_) => Status::cancelled(text),
        }
    };
    // A node without applications.
    let (Some(channel), Some(app)) = (context.hosts.get(), &context.app) else {
        return Err(refused(StreamRefusal::NoGrpcChannel));
    };
    let incoming = request.into_inner();
    let incoming = incoming.map(|word| word.map_err(|status| status.message().to_owned()));
    let said = channel.host_stream(app, peer, incoming.boxed()).await;
    Ok(Response::new(said.map_err(refused)?.map(Ok).boxed()))
}
