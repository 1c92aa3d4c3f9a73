//! The edge against a made-up origin, over real sockets.

pub(crate) mod studio;
