//! The origin-to-edge feed: an FLV stream with marks.
//!
//! A feed is one byte stream that any FLV player can read: the file header, then tags. Among them are
//! *marks*, script tags that say which (epoch, sequence) the next frame has; the frames after a mark count up
//! by one. There is a mark before the first frame, before each frame that reading can start at (in a
//! stream without video: one a second), wherever frames are missing, and where the tracks change. In the
//! last case, and at the beginning, `onMetaData` and the sequence headers of all tracks follow the mark.
//!
//! So whoever lost a feed can join another one of the same stream, from the same origin or not, and drop what it
//! has already, and whoever finds another epoch knows that it was published anew. Who says what it has ([`Place`])
//! is sent what follows, as long as that is kept.

mod decoder;
mod encoder;
mod mark;
mod place;

pub use decoder::{Decoder, Error, Event, Tag};
pub use encoder::{Encoded, Encoder};
pub use mark::Mark;
pub use place::{BadPlace, Place};

#[cfg(test)]
mod tests;
