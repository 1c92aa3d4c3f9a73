//! Why a decoder configuration or a frame was refused.

/// Why a decoder configuration or a frame was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes end inside the named structure.
    #[error("{0} ends early")]
    Truncated(&'static str),
    /// A field has a value that the specification or a limit of ours forbids.
    #[error("{field} is {value}, which is not allowed")]
    Invalid {
        /// The field, in the specification's words.
        field: &'static str,
        /// What it was.
        value: u64,
    },
    /// Valid, but not carried by weir.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// The record holds no parameter set of the named kind.
    #[error("no {0} in the decoder configuration")]
    NoParameterSet(&'static str),
    /// A record of AV1 without a sequence header, or of VP8 or VP9, which never says the picture's size: both come with
    /// the first keyframe.
    #[error("the configuration lacks what the first keyframe says")]
    NoSequenceHeader,
    /// The codec has no configuration record.
    #[error("{0} has no decoder configuration")]
    NoConfiguration(&'static str),
}
