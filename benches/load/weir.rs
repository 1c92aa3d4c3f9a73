//! weir, as it was built for this bench.

use std::process::Command;

use anyhow::Result;

use super::Server;
use super::server::{Addresses, free_address};

/// Starts it with its defaults.
pub(crate) async fn weir() -> Result<Server> {
    weir_with(&[]).await
}

/// Starts it with keys of its configuration set, such as `("edge.fanout.latency", "frame")`.
pub(crate) async fn weir_with(keys: &[(&str, &str)]) -> Result<Server> {
    let folder = tempfile::tempdir()?;
    let (rtmp, http, https, admin) = (free_address()?, free_address()?, free_address()?, free_address()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command
        .current_dir(folder.path())
        .args(["--data", "data", "--log", "warn"])
        .args(["--rtmp", &rtmp.to_string()])
        .args(["--srt", "127.0.0.1:0"])
        .args(["--http", &http.to_string()])
        .args(["--https", &https.to_string()])
        .args(["--admin", &admin.to_string()]);
    // All load comes from one address.
    let limit = ("origin.rtmp.max_connections_per_address", "10000");
    for (key, value) in keys.iter().chain([&limit]) {
        command.env(format!("WEIR_{}", key.to_uppercase().replace('.', "__")), value);
    }
    let [rtmp, http, https, admin] = [rtmp, http, https, admin].map(Some);
    Server::start(command, folder, Addresses { rtmp, http, https, admin }).await
}

/// Whether that key is among those of its configuration.
pub(crate) fn weir_has(table: &str, key: &str) -> Result<bool> {
    let output = Command::new(env!("CARGO_BIN_EXE_weir")).args(["config", "default"]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().skip_while(|line| *line != format!("[{table}]")).skip(1);
    Ok(lines
        .take_while(|line| !line.starts_with('['))
        .any(|line| line.trim_start_matches("# ").split_once(" = ").is_some_and(|(name, _)| name == key)))
}
