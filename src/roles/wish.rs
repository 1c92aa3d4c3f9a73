//! What a command line asks for, whatever the role.

use std::net::SocketAddr;

use super::Role;
use crate::cli::{ProcessFlags, Serve, ServeEdge, ServeOrigin};

/// The role to run and the flags that were given.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) role: Role,
    pub(crate) process: ProcessFlags,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) rtmp: Option<SocketAddr>,
    /// Of an edge alone.
    pub(crate) origins: Vec<String>,
    pub(crate) demo: bool,
}

impl From<Serve> for Wish {
    fn from(flags: Serve) -> Self {
        let Serve { process, http, https, rtmp, demo } = flags;
        Self { role: Role::All, process, http, https, rtmp, origins: Vec::new(), demo }
    }
}

impl From<ServeOrigin> for Wish {
    fn from(flags: ServeOrigin) -> Self {
        let ServeOrigin { process, http, rtmp } = flags;
        Self { role: Role::Origin, process, http, https: None, rtmp, origins: Vec::new(), demo: false }
    }
}

impl From<ServeEdge> for Wish {
    fn from(flags: ServeEdge) -> Self {
        let ServeEdge { process, origins, http, https, rtmp } = flags;
        Self { role: Role::Edge, process, http, https, rtmp, origins, demo: false }
    }
}
