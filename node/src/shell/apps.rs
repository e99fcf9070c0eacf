//! The core's way to the applications beside this node, and theirs to the core.
//!
//! Two bounded queues: what applications are to be asked, and what they say. Absent: how
//! applications are spoken to; whoever holds the other end of the queues does that.

use ghostlight_core::hosts::words::{
    AppAnswer, AppEffect, AppInput, AppInstance, AppRequest, Exchange, Sent,
};
use tokio::sync::mpsc;

/// Requests to applications that wait to be sent; beyond it they count as not sent.
pub(crate) const APP_ASKS_MAX: usize = 16_384;
/// What applications say that waits for the core.
pub(crate) const APP_INPUTS_MAX: usize = 16_384;

/// One request to an application.
#[derive(Debug)]
pub(crate) struct AppAsk {
    /// The answer repeats it.
    pub exchange: Exchange,
    /// Which process.
    pub instance: AppInstance,
    /// What.
    pub request: AppRequest,
}

/// The core's end.
#[derive(Debug)]
pub(crate) struct AppPort {
    asks: mpsc::Sender<AppAsk>,
    pub(crate) inputs: mpsc::Receiver<AppInput>,
}

/// The applications' end.
#[derive(Debug)]
pub(crate) struct AppQueues {
    /// What is to be asked, in order.
    pub asks: mpsc::Receiver<AppAsk>,
    /// What is to be told.
    pub inputs: mpsc::Sender<AppInput>,
}

/// Both ends.
pub(crate) fn queues() -> (AppPort, AppQueues) {
    let (asks, to_apps) = mpsc::channel(APP_ASKS_MAX);
    let (from_apps, inputs) = mpsc::channel(APP_INPUTS_MAX);
    let port = AppPort { asks, inputs };
    let queues = AppQueues {
        asks: to_apps,
        inputs: from_apps,
    };
    (port, queues)
}

impl AppPort {
    /// Sends a request on its way; `Some`: what the core is to hear because it could not be.
    pub(crate) fn ask(&self, effect: AppEffect) -> Option<AppInput> {
        let AppEffect::Ask {
            exchange,
            instance,
            request,
        } = effect
        else {
            return None;
        };
        let ask = AppAsk {
            exchange,
            instance,
            request,
        };
        let error = self.asks.try_send(ask).err()?;
        let why = match error {
            mpsc::error::TrySendError::Full(_) => {
                "too many requests wait for the applications here"
            }
            mpsc::error::TrySendError::Closed(_) => "this node has no applications",
        };
        let answer = AppAnswer::NoAnswer {
            why: why.to_owned(),
            sent: Sent::CertainlyNot,
        };
        Some(AppInput::Answered { exchange, answer })
    }
}
