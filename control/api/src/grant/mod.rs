//! Grants: signed permissions to publish or to play, verified without asking anybody.
//!
//! A grant is a compact JWS (RFC 7515 §3.1) over [`Claims`]. Its header names a key (`kid`), and the key alone decides
//! the algorithm: a header that says another is refused. Whoever has the keys can sign; origins and edges verify.

mod claims;
mod config;
mod key;
mod query;
mod verify;

pub use claims::{Audience, Claims};
pub use config::{Config, KeyConfig, Play};
pub use key::{Algorithm, BadKey, CannotSign, Key, Signer};
pub use query::without_secrets;
pub use verify::{Asked, Grants, KeySet, Refused, SameKid};

/// Longest grant, in bytes. Those that are signed here have some 250.
pub const MAX_GRANT_BYTES: usize = 2_048;
