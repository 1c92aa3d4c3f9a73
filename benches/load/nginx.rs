//! Debian's nginx, to be compared with: its RTMP module, and files over HTTP.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::Server;
use super::server::{Addresses, free_address};

/// Whether it writes HLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hls {
    /// No HLS.
    Off,
    /// Segments of two seconds, as weir's.
    On,
}

/// Starts one process of it that takes RTMP.
pub(crate) async fn nginx(hls: Hls) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().display();
    let rtmp = free_address()?;
    let hls = match hls {
        Hls::Off => String::new(),
        Hls::On => format!("hls on; hls_path {path}/hls; hls_fragment 2s; hls_playlist_length 30s;"),
    };
    let more = format!(
        "load_module /usr/lib/nginx/modules/ngx_rtmp_module.so;
         rtmp {{ access_log off; server {{ listen {rtmp}; application live {{ live on; {hls} }} }} }}"
    );
    start(folder, &more, Addresses { rtmp: Some(rtmp), ..Addresses::default() }).await
}

/// Starts one process of it that serves the files of a folder.
pub(crate) async fn nginx_files(files: &Path) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let http = free_address()?;
    // As one would set it up for speed: files stay open, and go out by sendfile.
    let more = format!(
        "http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;
         open_file_cache max=100; types {{ video/mp4 m4s; }}
         server {{ listen {http}; root {}; }} }}",
        files.display()
    );
    start(folder, &more, Addresses { http: Some(http), ..Addresses::default() }).await
}

async fn start(folder: tempfile::TempDir, more: &str, at: Addresses) -> Result<Server> {
    let path = folder.path().display();
    let config = format!(
        "user root; daemon off; master_process off; pid {path}/pid; error_log {path}/error.log warn;
         worker_rlimit_nofile 20000; {more} events {{ worker_connections 15000; }}"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(folder.path()).arg("-c").arg(file);
    Server::start(command, folder, at).await
}
