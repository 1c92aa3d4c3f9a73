//! What a command line asks for, whatever the role.

use std::net::SocketAddr;

use super::Role;
use crate::cli::{NodeFlags, ProcessFlags, Serve, ServeControl, ServeEdge, ServeOrigin};

/// The role to run and the flags that were given.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) role: Role,
    pub(crate) process: ProcessFlags,
    pub(crate) node: NodeFlags,
    pub(crate) http: Option<SocketAddr>,
    pub(crate) https: Option<SocketAddr>,
    pub(crate) rtmp: Option<SocketAddr>,
    pub(crate) srt: Option<SocketAddr>,
    /// Of a control plane.
    pub(crate) grpc: Option<SocketAddr>,
    /// Of an edge alone.
    pub(crate) origins: Vec<String>,
    pub(crate) demo: bool,
}

impl Wish {
    /// Without a flag.
    fn of(role: Role) -> Self {
        Self {
            role,
            process: ProcessFlags::default(),
            node: NodeFlags::default(),
            http: None,
            https: None,
            rtmp: None,
            srt: None,
            grpc: None,
            origins: Vec::new(),
            demo: false,
        }
    }
}

impl From<ServeControl> for Wish {
    fn from(flags: ServeControl) -> Self {
        let ServeControl { process, http, grpc } = flags;
        Self { process, http, grpc, ..Self::of(Role::Control) }
    }
}

impl From<Serve> for Wish {
    fn from(flags: Serve) -> Self {
        let Serve { process, http, https, rtmp, srt, demo } = flags;
        Self { process, http, https, rtmp, srt, demo, ..Self::of(Role::All) }
    }
}

impl From<ServeOrigin> for Wish {
    fn from(flags: ServeOrigin) -> Self {
        let ServeOrigin { process, node, http, rtmp, srt } = flags;
        Self { process, node, http, rtmp, srt, ..Self::of(Role::Origin) }
    }
}

impl From<ServeEdge> for Wish {
    fn from(flags: ServeEdge) -> Self {
        let ServeEdge { process, node, origins, http, https, rtmp, srt } = flags;
        Self { process, node, http, https, rtmp, srt, origins, ..Self::of(Role::Edge) }
    }
}
