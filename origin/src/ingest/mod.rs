//! Protocols that streams come in by. Each asks [`crate::Origin::admit`] and pushes frames into the
//! [`crate::Publication`] it gets; none knows what is made of them.

mod admission;
mod limits;
pub(crate) mod publishing;
pub mod rtmp;
pub mod srt;
pub mod whip;

pub use limits::Slot;
