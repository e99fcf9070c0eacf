//! What a Configuration leaves out of the service.

use super::*;
use crate::api::access::Access;
use crate::resources::{ApiRule, Configuration};

#[tokio::test]
async fn groups_that_are_left_out_are_not_implemented() {
    let rule = |name: &str| ApiRule {
        name: name.into(),
        version: "v1".into(),
        protocol: "grpc".into(),
    };
    let configuration = Configuration {
        allowed: vec![rule("actors")],
        ..Configuration::default()
    };
    let access = Access::new(&configuration);
    let mut bed = bed(|context| Context { access, ..context }, &[]).await;
    assert!(bed.client.invoke_actor(invoke("alice")).await.is_ok());
    refused(
        bed.client.get_metadata(pb::GetMetadataRequest {}).await,
        Code::Unimplemented,
        "requested endpoint is not available",
    );
    refused(
        bed.client
            .publish_event(pb::PublishEventRequest::default())
            .await,
        Code::Unimplemented,
        "publish v1 out",
    );
}
