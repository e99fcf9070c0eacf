//! Two clusters never mix (promise 8.2 of the consensus notes): no frame passes between nodes of
//! two.

use ghostlight_protocol::wire::hello::ClusterDescriptor;

use crate::net::Place;

pub(crate) fn check(
    (from, sender): (Place, Option<&ClusterDescriptor>),
    (to, receiver): (Place, Option<&ClusterDescriptor>),
) -> Result<(), String> {
    match (sender, receiver) {
        (Some(sender), Some(receiver)) if sender.cluster != receiver.cluster => Err(format!(
            "two clusters never mix: node {from} of {:?} speaks to node {to} of {:?}",
            sender.id(),
            receiver.id()
        )),
        _ => Ok(()),
    }
}
