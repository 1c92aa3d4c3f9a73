//! Debian's nginx with its RTMP module, to be compared with.

use std::process::Command;

use anyhow::Result;

use super::Server;
use super::server::free_address;

/// Whether it writes HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hls {
    /// No HLS.
    Off,
    /// Segments of two seconds, as weir's.
    On,
}

/// Starts one process of it.
pub(crate) async fn nginx(hls: Hls) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display();
    let rtmp = free_address()?;
    let hls = match hls {
        Hls::Off => String::new(),
        Hls::On => format!("hls on; hls_path {path}/hls; hls_fragment 2s; hls_playlist_length 30s;"),
    };
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
         user root; daemon off; master_process off; pid {path}/pid; error_log {path}/error.log warn;
         events {{ worker_connections 2048; }}
         rtmp {{ access_log off; server {{ listen {rtmp}; application live {{ live on; {hls} }} }} }}"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(file);
    Server::start(command, folder, rtmp, None).await
}
