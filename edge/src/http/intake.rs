//! The body of a request to the pages, which clients may neither send without end nor without haste.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use tokio::time::Sleep;

use crate::upstream::{Body, BoxError};

/// The longest body. What the API takes is some hundred bytes.
const MAX_BODY_BYTES: usize = 1 << 20;

/// It did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("the request's body did not come in time")]
struct TooSlow;

/// The body, which must be whole within `limit` and not too long.
pub(super) fn limited(body: Body, limit: Duration) -> Body {
    if body.is_end_stream() {
        return body;
    }
    Intake { body: Limited::new(body, MAX_BODY_BYTES), deadline: Box::pin(tokio::time::sleep(limit)) }
        .boxed_unsync()
}

struct Intake {
    body: Limited<Body>,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for Intake {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(TooSlow.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;
    use crate::http::problem::full;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_body_has_its_time_and_its_length() {
        let whole = limited(full(Bytes::from(vec![7; MAX_BODY_BYTES])), LIMIT).collect().await.unwrap();
        assert_eq!(whole.to_bytes().len(), MAX_BODY_BYTES);
        assert!(limited(full(Bytes::from(vec![7; MAX_BODY_BYTES + 1])), LIMIT).collect().await.is_err());
        assert!(limited(full(Bytes::new()), LIMIT).collect().await.unwrap().to_bytes().is_empty());
        // A byte a second.
        let slow = futures_util::stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"x"))), sent + 1))
        });
        let mut body = limited(StreamBody::new(slow).boxed_unsync(), LIMIT);
        let mut came = 0;
        let error = loop {
            match body.frame().await.unwrap() {
                Ok(_) => came += 1,
                Err(error) => break error,
            }
        };
        assert!((9..=10).contains(&came) && error.is::<TooSlow>(), "{came} {error}");
    }
}
