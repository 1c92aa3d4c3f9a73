//! Protocols that streams come in by. Each asks [`crate::Origin::admit`] and pushes frames into the
//! [`crate::Publication`] it gets; none knows what is made of them.

mod admission;
mod limits;
mod publishing;
pub mod rtmp;
pub mod srt;

pub use limits::Slot;
