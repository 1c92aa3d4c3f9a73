//! What the origin serves over HTTP, and the bodies it answers with.

mod body;
mod listener;
mod problem;
mod service;

pub use body::{Body, BoxError, empty, full};
pub use listener::{Pages, serve};
pub use problem::{Problem, problem};
pub use service::Service;
