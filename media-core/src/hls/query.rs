//! Delivery directives: the `_HLS_` parameters of a playlist request (RFC 8216bis §6.2.5).

/// What a playlist request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Query {
    /// `_HLS_msn`: wait until this segment (or, with `part`, that part of it) is there.
    pub msn: Option<u64>,
    /// `_HLS_part`; never without `msn`.
    pub part: Option<u32>,
    /// `_HLS_skip`: leave out older segments.
    pub skip: bool,
}

/// Why a query is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The value must be a decimal integer (RFC 8216bis §4.2).
    #[error("{0} must be a decimal integer")]
    NotANumber(&'static str),
    /// A directive that comes twice says two things.
    #[error("{0} is given more than once")]
    Repeated(&'static str),
    /// A part belongs to a segment (§6.2.5.2).
    #[error("_HLS_part needs _HLS_msn")]
    PartWithoutMsn,
    /// `YES` and `v2` are the values there are (§6.2.5.1).
    #[error("_HLS_skip must be YES or v2")]
    BadSkip,
}

impl Query {
    /// Reads the query of a request, without its `?`. Parameters that are no directives are ignored, and so are
    /// directives of later protocol versions: players send `_HLS_primary_id` and the like to every server.
    pub fn parse(query: &str) -> Result<Self, QueryError> {
        let mut out = Self::default();
        let mut skip_seen = false;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "_HLS_msn" => set(&mut out.msn, "_HLS_msn", value)?,
                "_HLS_part" => set(&mut out.part, "_HLS_part", value)?,
                "_HLS_skip" => {
                    if skip_seen {
                        return Err(QueryError::Repeated("_HLS_skip"));
                    }
                    if !matches!(value, "YES" | "v2") {
                        return Err(QueryError::BadSkip);
                    }
                    skip_seen = true;
                }
                _ => {}
            }
        }
        if out.part.is_some() && out.msn.is_none() {
            return Err(QueryError::PartWithoutMsn);
        }
        out.skip = skip_seen;
        Ok(out)
    }

    /// Whether it asks to be answered only when something is there.
    pub fn blocks(&self) -> bool {
        self.msn.is_some()
    }
}

impl std::fmt::Display for Query {
    /// As a query, without its `?`, in one spelling: equal questions read alike. Nothing for the default.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        if let Some(msn) = self.msn {
            write!(f, "_HLS_msn={msn}")?;
            separator = "&";
        }
        if let Some(part) = self.part {
            write!(f, "{separator}_HLS_part={part}")?;
            separator = "&";
        }
        if self.skip {
            write!(f, "{separator}_HLS_skip=YES")?;
        }
        Ok(())
    }
}

fn set<T: std::str::FromStr>(
    slot: &mut Option<T>,
    name: &'static str,
    value: &str,
) -> Result<(), QueryError> {
    if slot.is_some() {
        return Err(QueryError::Repeated(name));
    }
    // `FromStr` of integers accepts a sign, the grammar does not.
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(QueryError::NotANumber(name));
    }
    *slot = Some(value.parse().map_err(|_| QueryError::NotANumber(name))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn directives_are_read_among_other_parameters() {
        let q = Query::parse("grant=a%26b&_HLS_msn=12&_HLS_part=3&_HLS_skip=YES&x").unwrap();
        assert_eq!(q, Query { msn: Some(12), part: Some(3), skip: true });
        assert_eq!(Query::parse("").unwrap(), Query::default());
        assert!(Query::parse("_HLS_skip=v2").unwrap().skip);
    }

    #[test]
    fn equal_questions_are_spelled_alike() {
        let spelled = |query| Query::parse(query).unwrap().to_string();
        assert_eq!(spelled(""), "");
        assert_eq!(spelled("token=abc"), "");
        assert_eq!(
            spelled("_HLS_part=02&x=1&_HLS_skip=YES&_HLS_msn=7"),
            "_HLS_msn=7&_HLS_part=2&_HLS_skip=YES"
        );
        assert_eq!(spelled("_HLS_skip=v2"), "_HLS_skip=YES");
    }

    #[test]
    fn directives_of_later_versions_are_ignored() {
        assert_eq!(Query::parse("_HLS_primary_id=1&_HLS_start_offset=x").unwrap(), Query::default());
    }

    #[test]
    fn bad_directives_are_refused() {
        use QueryError::*;
        for (query, error) in [
            ("_HLS_part=1", PartWithoutMsn),
            ("_HLS_msn=", NotANumber("_HLS_msn")),
            ("_HLS_msn", NotANumber("_HLS_msn")),
            ("_HLS_msn=+1", NotANumber("_HLS_msn")),
            ("_HLS_msn=-1", NotANumber("_HLS_msn")),
            ("_HLS_msn=1.0", NotANumber("_HLS_msn")),
            ("_HLS_msn=%31", NotANumber("_HLS_msn")),
            ("_HLS_msn=١", NotANumber("_HLS_msn")),
            ("_HLS_msn=18446744073709551616", NotANumber("_HLS_msn")),
            ("_HLS_msn=1&_HLS_part=4294967296", NotANumber("_HLS_part")),
            ("_HLS_msn=1&_HLS_part=x", NotANumber("_HLS_part")),
            ("_HLS_msn=1&_HLS_msn=1", Repeated("_HLS_msn")),
            ("_HLS_skip=YES&_HLS_skip=YES", Repeated("_HLS_skip")),
            ("_HLS_skip=NO", BadSkip),
            ("_HLS_skip", BadSkip),
        ] {
            assert_eq!(Query::parse(query), Err(error), "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}") {
            let _ = Query::parse(&text);
        }

        #[test]
        fn what_is_accepted_says_the_same_when_written_again(
            msn in any::<Option<u64>>(),
            part in any::<Option<u32>>(),
            skip in any::<bool>(),
        ) {
            let query = Query { msn, part: msn.and(part), skip };
            prop_assert_eq!(Query::parse(&query.to_string()), Ok(query));
        }
    }
}
