//! The bus of a component that nobody serves: every request is refused, with the reason.

use ghostlight_protocol::code::Code;
use ghostlight_protocol::outcome::NotRun;

use crate::topics::{
    BulkPublish, Bus, BusFuture, Feature, Publish, PublishOutcome, Standing, Subscribe,
    SubscribeError, Subscription,
};

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    why: String,
}

impl Absent {
    /// A bus that is not there; `why` says what to do.
    #[must_use]
    pub fn new(why: impl Into<String>) -> Self {
        Self { why: why.into() }
    }

    fn refusal(&self) -> PublishOutcome {
        PublishOutcome::NotRun(NotRun::new(Code::BusNotServed, self.why.clone()))
    }
}

impl Bus for Absent {
    fn publish(&self, _publish: Publish) -> BusFuture<'_, PublishOutcome> {
        Box::pin(async { self.refusal() })
    }

    fn bulk_publish(&self, bulk: BulkPublish) -> BusFuture<'_, Vec<PublishOutcome>> {
        Box::pin(async move { bulk.entries.iter().map(|_| self.refusal()).collect() })
    }

    fn subscribe(
        &self,
        _subscribe: Subscribe,
    ) -> BusFuture<'_, Result<Subscription, SubscribeError>> {
        let (code, detail) = (Code::BusNotServed, self.why.clone());
        Box::pin(async move { Err(SubscribeError { code, detail }) })
    }

    fn features(&self) -> &'static [Feature] {
        &[]
    }

    fn standing(&self) -> Standing {
        Standing::Unreachable(self.why.clone())
    }
}
