//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::log;

/// A live-media CDN in one binary: RTMP in; LL-HLS, HTTP-FLV, WebSocket-FLV and RTMP out.
#[derive(Debug, Parser)]
#[command(version, about, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

const EXAMPLES: &str = "\
Without a command, weir runs every role in this process.

Examples:
  weir                                     serve; data under ./weir-data
  weir --demo                              the same, with a moving picture at live/demo
  weir --rtmp 0.0.0.0:1936 --log debug     another RTMP port, more to read
  weir publish clip.mp4 rtmp://host/live/a --loop
  weir config default > weir.toml          a commented file to start from
  weir config check weir.toml              file, line and key of every mistake
  WEIR_ORIGIN__RTMP__LISTEN=0.0.0.0:1936 weir    any key by environment

Signals: SIGTERM and SIGINT drain and end (a second one ends at once), SIGHUP re-reads the
configuration: `weir config default` marks with [reload] what is taken over without a restart.";

/// Flags of serving. Each wins over the environment, which wins over the file.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Serve {
    /// Configuration file [default: weir.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Folder for all that is kept [default: ./weir-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where pages, API, FLV and HLS are served [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Where the same is served over HTTPS (TCP) and HTTP/3 (UDP), such as 0.0.0.0:8443 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) https: Option<SocketAddr>,
    /// Where RTMP is published and played [default: 0.0.0.0:1935]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) rtmp: Option<SocketAddr>,
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:9910]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug, trace, or a filter like info,origin=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// How it is logged, on standard error [default: human]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) log_format: Option<log::Format>,
    /// Also publish a sample clip in a loop to live/demo
    #[arg(long)]
    pub(crate) demo: bool,
}

/// What else weir can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send an MP4 (H.264, AAC) or FLV file to an RTMP server in real time
    #[command(after_help = "Ctrl-C says good-bye to the server and ends.\n\n\
                            Exit codes: 0 sent or stopped, 1 the file cannot be sent, 2 wrong use, 3 no connection, \
                            4 refused by the server.")]
    Publish(Publish),
    /// Print or check the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Flags of `weir publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// MP4 (H.264, AAC) or FLV file
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// rtmp://host[:port]/app/name[?key=…]
    #[arg(value_name = "RTMP_URL")]
    pub(crate) url: String,
    /// Begin again at the end, without a gap in time; reconnect when the connection breaks
    #[arg(long = "loop")]
    pub(crate) repeat: bool,
    /// Show nothing but errors
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// What `weir config` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the default configuration, every key with a comment
    Default,
    /// Name file, line and key of every mistake in a file; exit code 1 if there is one
    ///
    /// Looks at the file alone: what flags and environment variables would set is not checked.
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"weir").chain(args))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_means_serve() {
        let cli =
            parse(&["--http", "127.0.0.1:0", "--log", "debug", "--log-format", "json", "--demo"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.serve.http, Some("127.0.0.1:0".parse().unwrap()));
        assert_eq!(cli.serve.log.as_deref(), Some("debug"));
        assert_eq!(cli.serve.log_format, Some(log::Format::Json));
        assert!(cli.serve.demo);
    }

    #[test]
    fn publish_takes_a_file_and_a_url() {
        let cli = parse(&["publish", "a.mp4", "rtmp://h/live/a", "--loop"]).unwrap();
        let Some(Command::Publish(publish)) = cli.command else { panic!("publish") };
        assert!(publish.repeat && !publish.quiet);
        assert_eq!(publish.url, "rtmp://h/live/a");
        assert!(parse(&["publish", "a.mp4"]).is_err());
    }

    #[test]
    fn config_has_two_commands() {
        assert!(matches!(
            parse(&["config", "default"]).unwrap().command,
            Some(Command::Config(ConfigCommand::Default))
        ));
        assert!(parse(&["config", "check"]).is_err());
        assert!(parse(&["config"]).is_err());
    }

    #[test]
    fn nonsense_is_refused() {
        for args in
            [&["--http", "8080"][..], &["--log-format", "xml"], &["serve"], &["--demo", "config", "default"]]
        {
            assert!(parse(args).is_err(), "{args:?}");
        }
    }
}
