//! Protocols that streams come in by. Each asks [`crate::Origin::publish`] and pushes frames into the
//! [`crate::Publication`] it gets; none knows what is made of them.

mod permit;
pub mod rtmp;
pub mod whip;
