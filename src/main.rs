//! weir: a live-media CDN in one binary. Streams come in over RTMP and go out as LL-HLS, HTTP-FLV,
//! WebSocket-FLV and RTMP.

#![forbid(unsafe_code)]

mod admin;
mod agent;
mod banner;
mod certificate;
mod cli;
mod cluster;
mod config;
mod console;
mod coordinate;
mod ctl;
mod data;
mod demo;
mod grant;
mod lifecycle;
mod listen;
mod log;
mod process;
mod publish;
mod reload;
mod roles;
mod serve;
mod signals;
mod traces;
mod turn;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, ConfigCommand};
use config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Before anything else: whoever speaks TLS asks for it. It fails where there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match cli.command {
        None => run(serve::command(&cli.serve.into())),
        Some(Command::Origin(origin)) => run(serve::command(&origin.into())),
        Some(Command::Edge(edge)) => run(serve::command(&edge.into())),
        Some(Command::Control(control)) => run(coordinate::command(&control.into())),
        Some(Command::Ctl(ctl)) => run(async move { ctl::command(&ctl).await }),
        Some(Command::Publish(publish)) => run(publish::command(&publish)),
        Some(Command::Grant(command)) => grant::command(&command),
        Some(Command::Config(ConfigCommand::Default)) => {
            console::print(config::DEFAULT);
            ExitCode::SUCCESS
        }
        Some(Command::Config(ConfigCommand::Check { file })) => match Config::check_file(&file) {
            Ok(_) => {
                console::print(&format!("{}: ok\n", file.display()));
                ExitCode::SUCCESS
            }
            Err(mistakes) => {
                console::error(&mistakes.to_string());
                ExitCode::FAILURE
            }
        },
    }
}

/// Runs a command to its end on all cores.
fn run(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // A task that will not end must not keep the process.
            runtime.shutdown_background();
            srt::end();
            code
        }
        Err(error) => {
            console::error(&format!("cannot start: {error}"));
            ExitCode::FAILURE
        }
    }
}
