//! What roles say to each other by gRPC: the messages and services of `proto/weir/v1`.
//!
//! A client is generic over the service it calls: one in the same process is called without a socket.

#![allow(missing_docs, reason = "the .proto files have them")]
#![allow(unreachable_pub, clippy::all, clippy::pedantic, reason = "generated")]

tonic::include_proto!("weir.v1");

/// The `.proto` files, as reflection tells them.
pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("weir.v1");

impl StreamKey {
    /// `app/name`.
    pub fn path(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }
}
