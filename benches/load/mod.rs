//! Load for the benches: servers to be measured, publishers and viewers. Everything on the loopback
//! interface, and bounded in number and time.

mod nginx;
mod publisher;
mod server;
mod viewer;
mod weir;

pub(crate) use nginx::{Hls, nginx};
pub(crate) use publisher::{Publishers, Send};
pub(crate) use server::Server;
pub(crate) use viewer::Viewers;
pub(crate) use weir::weir;
