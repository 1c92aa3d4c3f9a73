//! weir with its defaults, as it was built for this bench.

use std::process::Command;

use anyhow::Result;

use super::Server;
use super::server::free_address;

/// Starts it.
pub(crate) async fn weir() -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let (rtmp, http, admin) = (free_address()?, free_address()?, free_address()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .current_dir(folder.path())
        .args(["--data", "data", "--log", "warn"])
        .args(["--rtmp", &rtmp.to_string()])
        .args(["--http", &http.to_string()])
        .args(["--admin", &admin.to_string()]);
    Server::start(command, folder, rtmp, Some(http)).await
}
