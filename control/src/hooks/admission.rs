//! Questions: whether somebody may publish or play. Endpoints are asked at once and answer soon, or `on_error` decides;
//! nothing of it is kept.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use serde::Deserialize;
use tokio::time::Instant;

use super::config::OnError;
use super::metrics::{Admission, Metrics, class};
use super::target::{Answer, Failure, Message, Target};

/// Characters of a reason at most: it is told to the client and stands in the log.
const MAX_REASON_CHARS: usize = 200;

/// Why somebody may not publish or play.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An endpoint says so.
    #[error("{0}")]
    ByHook(String),
    /// An endpoint that has to agree gave no answer.
    #[error("the server that decides this did not answer")]
    Unanswered,
    /// Too many others wait for an answer.
    #[error("too many wait for an answer of the server that decides this")]
    Busy,
    /// What the client sent is too long to ask about.
    #[error("the request is too long")]
    TooLarge,
}

/// What an endpoint's answer says.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Refuse(String),
    /// It says nothing of the matter.
    Nothing,
}

/// The answer's body, where there is one. Other fields are the endpoint's own.
#[derive(Debug, Deserialize)]
struct Said {
    #[serde(default = "agreed")]
    allow: bool,
    #[serde(default)]
    reason: Option<String>,
}

fn agreed() -> bool {
    true
}

/// Asks all targets; the first that refuses decides.
pub(super) async fn ask(
    targets: &[&Arc<Target>],
    message: &Message,
    metrics: &Metrics,
) -> Result<(), Refused> {
    let began = Instant::now();
    let mut asked: FuturesUnordered<_> = targets
        .iter()
        .map(|target| async move { (*target, ask_one(target, message, metrics).await) })
        .collect();
    let mut how = Admission::Allowed;
    let mut decided = Ok(());
    while let Some((target, verdict)) = asked.next().await {
        match (verdict, target.on_error) {
            (Verdict::Allow, _) => {}
            (Verdict::Refuse(reason), _) => {
                how = Admission::Refused;
                decided = Err(Refused::ByHook(reason));
                break;
            }
            (Verdict::Nothing, OnError::Allow) => how = Admission::ErrorAllowed,
            (Verdict::Nothing, OnError::Refuse) => {
                how = Admission::ErrorRefused;
                decided = Err(Refused::Unanswered);
                break;
            }
        }
    }
    metrics.decided(message.kind, how, began.elapsed());
    decided
}

/// What is decided where there is no room to ask.
pub(super) fn busy(targets: &[&Arc<Target>], message: &Message, metrics: &Metrics) -> Result<(), Refused> {
    let must_agree = targets.iter().any(|target| target.on_error == OnError::Refuse);
    let (how, decided) = if must_agree {
        (Admission::BusyRefused, Err(Refused::Busy))
    } else {
        (Admission::BusyAllowed, Ok(()))
    };
    metrics.decided(message.kind, how, Duration::ZERO);
    decided
}

async fn ask_one(target: &Target, message: &Message, metrics: &Metrics) -> Verdict {
    let deadline = Instant::now() + target.admission_timeout;
    let mut answered = target.post(message, deadline).await;
    // A connection that was kept may have been closed in this moment, which says nothing of the endpoint. The event's
    // number tells it that this is the same question.
    if matches!(answered, Err(Failure::Broken)) {
        metrics.attempted(Failure::Broken.label());
        answered = target.post(message, deadline).await;
    }
    metrics
        .attempted(answered.as_ref().map_or_else(|failure| failure.label(), |answer| class(answer.status)));
    let (verdict, what) = match &answered {
        Ok(answer) => (verdict(answer), answer.status.as_str()),
        Err(failure) => (Verdict::Nothing, failure.label()),
    };
    if verdict == Verdict::Nothing
        && let Some(left_out) = target.unanswered.line()
    {
        let event = message.kind.name();
        tracing::warn!(endpoint = target.name, event, what, on_error = ?target.on_error, left_out, "a hook gave no answer");
    }
    verdict
}

fn verdict(answer: &Answer) -> Verdict {
    let refused = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if !refused && !answer.status.is_success() {
        return Verdict::Nothing;
    }
    let body = answer.body.as_deref().map(<[u8]>::trim_ascii);
    // Text that is no object is how some frameworks say "fine"; the status is what counts then.
    let said = match body {
        Some(body) if body.starts_with(b"{") => serde_json::from_slice::<Said>(body).ok(),
        Some(_) => Some(Said { allow: true, reason: None }),
        None => None,
    };
    match said {
        _ if refused => Verdict::Refuse(reason(said.and_then(|said| said.reason))),
        Some(Said { allow: false, reason: why }) => Verdict::Refuse(reason(why)),
        Some(Said { allow: true, .. }) => Verdict::Allow,
        None => Verdict::Nothing,
    }
}

/// An endpoint's reason, as it can be told and logged.
fn reason(said: Option<String>) -> String {
    let said: String =
        said.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_REASON_CHARS).collect();
    let said = said.trim();
    if said.is_empty() { "refused".to_owned() } else { said.to_owned() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn answers_mean_what_the_page_says() {
        let refuse = |reason: &str| Verdict::Refuse(reason.to_owned());
        for (status, body, expected) in [
            (200, Some(""), Verdict::Allow),
            (204, Some(""), Verdict::Allow),
            (200, Some("OK"), Verdict::Allow),
            (200, Some("{}"), Verdict::Allow),
            (200, Some(r#" {"allow": true, "reason": "x", "more": 1}"#), Verdict::Allow),
            (200, Some(r#"{"allow": false}"#), refuse("refused")),
            (201, Some(r#"{"allow": false, "reason": "no\u0007 \n credit"}"#), refuse("no  credit")),
            (200, Some(r#"{"allow": "no"}"#), Verdict::Nothing),
            (200, Some(r#"{"allow": fal"#), Verdict::Nothing),
            (200, None, Verdict::Nothing),
            (403, Some(""), refuse("refused")),
            (401, Some(r#"{"reason": "who?"}"#), refuse("who?")),
            (403, Some(r#"{"allow": true}"#), refuse("refused")),
            (403, Some("<html>"), refuse("refused")),
            (403, None, refuse("refused")),
            (302, Some(""), Verdict::Nothing),
            (404, Some(r#"{"allow": false}"#), Verdict::Nothing),
            (500, Some(r#"{"allow": true}"#), Verdict::Nothing),
        ] {
            let body = body.map(|text| Bytes::from_static(text.as_bytes()));
            let answer = Answer { status: StatusCode::from_u16(status).unwrap(), retry_after: None, body };
            assert_eq!(verdict(&answer), expected, "{answer:?}");
        }
    }

    #[test]
    fn a_reason_is_bounded_whatever_its_characters() {
        assert_eq!(reason(Some("é".repeat(10_000))), "é".repeat(MAX_REASON_CHARS));
        assert_eq!(reason(Some("\u{1b}[2J\u{9b}31m".into())), "[2J31m");
        assert_eq!(reason(Some(" \r\n ".into())), "refused");
        assert_eq!(reason(None), "refused");
    }
}
