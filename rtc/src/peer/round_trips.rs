//! Round trips of who only receives: `rrtr` in SDP, receiver reference time reports in RTCP (RFC 3611 §4.4).
//!
//! Who sends nothing gets no reports by which it would know how long a round trip takes, and asks again for what it lacks
//! after a guess: Chromium after 100 ms, so that two losses of one packet are seen. Who offers to send such reports is
//! answered by str0m, which does not say so in its answers.

/// The payload types that an offer has them for.
pub(super) struct RoundTrips<'a>(Vec<&'a str>);

/// `96` of `a=rtcp-fb:96 nack`, if that is the feedback.
fn payload_type<'a>(line: &'a str, feedback: &str) -> Option<&'a str> {
    let (payload_type, is) = line.trim_end().strip_prefix("a=rtcp-fb:")?.split_once(' ')?;
    (is == feedback).then_some(payload_type)
}

impl<'a> RoundTrips<'a> {
    pub(super) fn of(offer: &'a str) -> Self {
        Self(offer.lines().filter_map(|line| payload_type(line, "rrtr")).collect())
    }

    /// The answer which takes them where the offer has them.
    pub(super) fn agreed(&self, answer: &str) -> String {
        let mut out = String::with_capacity(answer.len() + 24 * self.0.len());
        for line in answer.split_inclusive('\n') {
            out += line;
            if let Some(payload_type) = payload_type(line, "nack").filter(|it| self.0.contains(it)) {
                out += &format!("a=rtcp-fb:{payload_type} rrtr\r\n");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_agreed_on_where_they_are_offered() {
        let offer = "a=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 rrtr\r\na=rtcp-fb:97 nack\r\na=rtcp-fb:98 rrtr\r\n";
        let answer = "v=0\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:97 nack\r\na=mid:0\r\n";
        let agreed = RoundTrips::of(offer).agreed(answer);
        assert_eq!(agreed, answer.replacen("96 nack\r\n", "96 nack\r\na=rtcp-fb:96 rrtr\r\n", 1));
        assert_eq!(RoundTrips::of("v=0").agreed(answer), answer);
    }
}
