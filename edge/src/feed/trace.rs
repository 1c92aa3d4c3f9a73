//! The span of a pull: from asking the upstream to the first keyframe of it, or to why there is none.

use std::fmt;

use control_api::trace::{Beginning, Context, Span, Tracer, What};
use http::Response;
use media_core::hub::{Epoch, StreamKey};
use media_core::relay::{Mark, Tag};

use crate::upstream::GivenBy;

/// What an upstream is called that is in this process.
const HERE: &str = "this process";

/// How far a pull is that is traced.
pub(super) enum Relay {
    /// It is not, or no longer.
    Off,
    /// Whose child it is will be known with the answer.
    Asked(Beginning),
    /// Its first keyframe is waited for.
    Answered(Span, Epoch),
}

impl Relay {
    pub(super) fn new(tracer: &Tracer) -> Self {
        tracer.begin(What::Relay).map_or(Self::Off, Self::Asked)
    }

    /// The upstream has the stream, and names the span in which it got it. How those who watch it here refer to this one.
    pub(super) fn answered<B>(&mut self, key: &StreamKey, answer: &Response<B>) -> Option<Context> {
        let Self::Asked(beginning) = std::mem::replace(self, Self::Off) else { return None };
        let mut span = beginning.under(Context::of(answer.headers()).as_ref());
        span.say("stream", key.as_str());
        span.say("upstream", answer.extensions().get().map_or(HERE, |GivenBy(name)| name));
        let context = span.context();
        *self = Self::Answered(span, Epoch::default());
        Some(context)
    }

    pub(super) fn mark(&mut self, mark: &Mark) {
        if let Self::Answered(_, epoch) = self {
            *epoch = mark.epoch;
        }
    }

    pub(super) fn tag(&mut self, tag: &Tag) {
        if tag.is_keyframe
            && let Self::Answered(span, Epoch(epoch)) = self
        {
            span.set("epoch", i64::try_from(*epoch).unwrap_or(i64::MAX));
            *self = Self::Off;
        }
    }

    /// The pull is over. Of one that was never answered and that nobody who watches waits for, a share is enough:
    /// viewers can make up names as they like.
    pub(super) fn failed(self, key: &StreamKey, wanted: bool, why: &dyn fmt::Display) {
        let mut span = match self {
            Self::Off => return,
            Self::Asked(beginning) if wanted || beginning.is_of_the_share() => {
                let mut span = beginning.under(None);
                span.say("stream", key.as_str());
                span
            }
            Self::Asked(_) => return,
            Self::Answered(span, _) => span,
        };
        span.fail(&why.to_string());
    }
}
