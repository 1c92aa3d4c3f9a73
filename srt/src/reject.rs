//! Why a caller is refused, as SRT numbers it.

/// A reason of refusal: 1000 and an HTTP status (access control guidelines of SRT, "Rejection reasons"). Callers print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject(pub(crate) i32);

impl Reject {
    /// The stream id cannot be read.
    pub const BAD_REQUEST: Self = Self(1400);
    /// A key, a grant or a passphrase is missing or wrong.
    pub const UNAUTHORIZED: Self = Self(1401);
    /// As many connections as there may be.
    pub const OVERLOAD: Self = Self(1402);
    /// This is not allowed, whoever asks.
    pub const FORBIDDEN: Self = Self(1403);
    /// There is no such stream.
    pub const NOT_FOUND: Self = Self(1404);
    /// What is wanted with the stream is not possible here.
    pub const BAD_MODE: Self = Self(1405);
    /// Somebody publishes the stream already.
    pub const CONFLICT: Self = Self(1409);
    /// The server is shutting down.
    pub const DOWN: Self = Self(1503);
    /// A mistake of this program.
    pub const INTERNAL: Self = Self(1500);

    /// The number.
    pub const fn code(self) -> i32 {
        self.0
    }
}
