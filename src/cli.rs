//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use control_api::Network;

use crate::log;

/// A live-media CDN in one binary: RTMP, SRT, WebRTC and RTSP in; LL-HLS, FLV, MPEG-TS, RTMP, SRT and WebRTC out.
#[derive(Debug, Parser)]
#[command(version, about, after_long_help = EXAMPLES, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

const ORIGIN_EXAMPLES: &str = "\
Examples:
  weir origin                              for edges on this machine, which pull from 127.0.0.1:8081
  WEIR_ORIGIN__HTTP__KEY=SECRET weir origin --http 0.0.0.0:8081
                                           for edges on other machines, which need the key

Beyond this machine edges need a key; `openssl rand -hex 24` makes one.";

const EDGE_EXAMPLES: &str = "\
Examples:
  weir edge --origin http://127.0.0.1:8081 --rtmp 0.0.0.0:1936 --srt 0.0.0.0:10081 \\
      --admin 127.0.0.1:9911 --data edge-data
                                           beside an origin on one machine
  WEIR_EDGE__UPSTREAM__KEY=SECRET weir edge --origin http://10.0.0.1:8081 --origin http://10.0.0.2:8081
                                           on a machine of its own, with two origins

An edge takes no streams in: encoders publish to the origin.";

const CONTROL_EXAMPLES: &str = "\
Examples:
  weir control                             for nodes on this machine, which join at 127.0.0.1:8090
  WEIR_CONTROL__CLUSTER__JOIN_TOKEN=SECRET weir control --grpc 0.0.0.0:8090
                                           for nodes on other machines, which need the token

Several replicas share one state in etcd and Redis: `control.cluster.registry` and `control.cluster.cache`.";

const EXAMPLES: &str = "\
Without a command, weir runs every role in this process; `weir origin` and `weir edge` run one.

Examples:
  weir                                     serve; data under ./weir-data
  weir --demo                              the same, with a moving picture at live/demo
  weir --rtmp 0.0.0.0:1936 --log debug     another RTMP port, more to read
  weir publish clip.mp4 rtmp://host/live/a --loop
  weir grant sign --play live/a --for 1h   who may watch, where grants are required
  weir config default > weir.toml          a commented file to start from
  weir config check weir.toml              file, line and key of every mistake
  WEIR_ORIGIN__RTMP__LISTEN=0.0.0.0:1936 weir    any key by environment

Signals: SIGTERM and SIGINT drain and end (a second one ends at once), SIGHUP re-reads the
configuration: `weir config default` marks with [reload] what is taken over without a restart.";

/// Flags of serving, whatever the role. Each wins over the environment, which wins over the file.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ProcessFlags {
    /// Configuration file [default: weir.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
    /// Folder for all that is kept [default: ./weir-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served [default: 127.0.0.1:9910]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) admin: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug, trace, or a filter like info,origin=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log: Option<String>,
    /// How it is logged, on standard error [default: human]
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub(crate) log_format: Option<log::Format>,
}

/// Flags of serving every role.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// Where pages, API, FLV and HLS are served [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Where the same is served over HTTPS (TCP) and HTTP/3 (UDP), such as 0.0.0.0:8443 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) https: Option<SocketAddr>,
    /// Where RTMP is published and played [default: 0.0.0.0:1935]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) rtmp: Option<SocketAddr>,
    /// Where SRT is published and played, by UDP [default: 0.0.0.0:10080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) srt: Option<SocketAddr>,
    /// Also publish a sample clip in a loop to live/demo
    #[arg(long)]
    pub(crate) demo: bool,
}

/// Flags of `weir origin`.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ServeOrigin {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
    /// Where edges pull streams, and where the API is [default: 127.0.0.1:8081]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Where RTMP is published [default: 0.0.0.0:1935]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) rtmp: Option<SocketAddr>,
    /// Where SRT is published, by UDP [default: 0.0.0.0:10080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) srt: Option<SocketAddr>,
}

/// Flags of `weir edge`.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ServeEdge {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    #[command(flatten)]
    pub(crate) node: NodeFlags,
    /// An origin to pull from, or an edge that serves relays, such as http://10.0.0.1:8081; may be repeated
    #[arg(long = "origin", value_name = "URL")]
    pub(crate) origins: Vec<String>,
    /// Where pages, FLV and HLS are served [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Where the same is served over HTTPS (TCP) and HTTP/3 (UDP), such as 0.0.0.0:8443 [default: nowhere]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) https: Option<SocketAddr>,
    /// Where RTMP is played [default: 0.0.0.0:1935]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) rtmp: Option<SocketAddr>,
    /// Where SRT is played, by UDP [default: 0.0.0.0:10080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) srt: Option<SocketAddr>,
}

/// Flags of `weir control`.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct ServeControl {
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// Where the pages and the API are [default: 0.0.0.0:8080]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) http: Option<SocketAddr>,
    /// Where nodes join, by gRPC [default: 127.0.0.1:8090]
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) grpc: Option<SocketAddr>,
}

/// Flags of a node of a cluster.
#[derive(Debug, Default, Clone, Args)]
pub(crate) struct NodeFlags {
    /// A replica of the control plane to join, such as http://10.0.0.5:8090; may be repeated
    #[arg(long = "control", value_name = "URL")]
    pub(crate) control: Vec<String>,
    /// The node's name in the cluster [default: of the machine and the HTTP port]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

/// What else weir can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the origin alone: streams come in here, and edges pull them
    #[command(after_help = ORIGIN_EXAMPLES)]
    Origin(ServeOrigin),
    /// Run an edge alone: viewers come here, and it pulls what they watch from origins
    #[command(after_help = EDGE_EXAMPLES)]
    Edge(ServeEdge),
    /// Run a control plane alone: origins and edges join it, and it sends publishers and viewers to them
    #[command(after_help = CONTROL_EXAMPLES)]
    Control(ServeControl),
    /// Send an MP4 (H.264, AAC) or FLV file to an RTMP server in real time
    #[command(after_help = "Ctrl-C says good-bye to the server and ends.\n\n\
                            Exit codes: 0 sent or stopped, 1 the file cannot be sent, 2 wrong use, 3 no connection, \
                            4 refused by the server.")]
    Publish(Publish),
    /// Make keys for grants, and sign grants to play or to publish
    #[command(subcommand)]
    Grant(GrantCommand),
    /// Look at a cluster and operate it, by the API of its control plane
    #[command(after_help = CTL_EXAMPLES)]
    Ctl(Ctl),
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

/// What `weir grant` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum GrantCommand {
    /// Print a new key, as it stands in weir.toml
    #[command(after_help = "Examples:\n  \
        weir grant keygen >> weir.toml\n  \
        weir grant keygen --algorithm EdDSA --kid 2026-1\n\n\
        HS256 has one secret, which signs and verifies. EdDSA has two keys: keep the private one where grants are \
        signed, and give origins and edges the public one.")]
    Keygen {
        /// What the key signs with
        #[arg(long, value_enum, value_name = "NAME", default_value = "HS256", ignore_case = true)]
        algorithm: Algorithm,
        /// Its name, which grants say in their header [default: a random one]
        #[arg(long, value_name = "NAME")]
        kid: Option<String>,
    },
    /// Print a grant, signed with a key of the configuration
    #[command(after_help = "Examples:\n  \
        weir grant sign --play live/a --for 1h\n  \
        weir grant sign --play 'live/*' --for 30m --ip 192.0.2.7 --session order-4711\n  \
        weir grant sign --play live/a --for 2h --url http://host:8080/live/a/index.m3u8\n  \
        weir grant sign --publish live/a --for 12h --url rtmp://host/live/a\n\n\
        Players show it as ?token=…, as /~…/ before the path (HLS: what a playlist names inherits it), or as\n\
        \"Authorization: Bearer …\"; encoders as ?token=… behind the stream name.")]
    Sign(Sign),
}

/// What a key signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Algorithm {
    /// A secret that signs and verifies
    #[value(name = "HS256")]
    Hs256,
    /// A private key that signs, and a public one that verifies (Ed25519)
    #[value(name = "EdDSA")]
    EdDsa,
}

/// What a grant is to allow, and to whom.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["play", "publish"]))]
pub(crate) struct GrantFlags {
    /// Streams that may be watched: app/name, in which `*` stands for any characters
    #[arg(long, value_name = "STREAMS")]
    pub(crate) play: Option<String>,
    /// Streams that may be published
    #[arg(long, value_name = "STREAMS")]
    pub(crate) publish: Option<String>,
    /// How long it holds: 90s, 30m, 12h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = seconds)]
    pub(crate) lasts_s: u64,
    /// Who may use it: an address or a network, such as 192.0.2.0/24 [default: whoever has it]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) ip: Option<Network>,
    /// What the access log calls the session
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<String>,
    /// Print this URL with the grant in it, instead of the grant
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
}

/// Flags of `weir grant sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    pub(crate) grant: GrantFlags,
    /// The key's name [default: the last of the configuration that can sign]
    #[arg(long, value_name = "NAME")]
    pub(crate) kid: Option<String>,
    /// Configuration file [default: weir.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

/// Reads `90s`, `30m`, `12h`, `7d`.
fn seconds(text: &str) -> Result<u64, String> {
    let expected = || "expected a time such as 90s, 30m, 12h or 7d".to_owned();
    let mut number = text.chars();
    let unit_s = match number.next_back() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(expected()),
    };
    let count = number.as_str().parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(expected)?;
    Ok(u64::from(count) * unit_s)
}

const CTL_EXAMPLES: &str = "\
Examples:
  weir ctl --token-file weir-data/operator.token nodes
  weir ctl --api http://10.0.0.5:8080 streams --json
  weir ctl play live/a --region eu-west    where to watch it
  weir ctl drain edge-1                    nobody new is sent there";

/// Flags of `weir ctl`.
#[derive(Debug, Args)]
pub(crate) struct Ctl {
    /// The API of a control plane
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "WEIR_API",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) api: String,
    /// File with the operator's token: `operator.token` in the data folder of the control plane
    #[arg(long, global = true, value_name = "FILE", env = "WEIR_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The token itself; --token-file keeps it out of the list of processes
    #[arg(long, global = true, value_name = "TOKEN", env = "WEIR_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Print what the API answers, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: CtlCommand,
}

/// What `weir ctl` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum CtlCommand {
    /// Who is in the cluster, and what each carries
    Nodes,
    /// What is live, and who watches
    Streams,
    /// Where to watch a stream
    Play {
        /// app/name
        #[arg(value_name = "STREAM")]
        stream: String,
        /// Where the viewer is
        #[arg(long)]
        region: Option<String>,
        /// Whose network the viewer has
        #[arg(long)]
        isp: Option<String>,
    },
    /// Where to publish a stream, with a grant where one is needed
    Publish {
        /// app/name
        #[arg(value_name = "STREAM")]
        stream: String,
        /// For a second encoder of the same stream, which goes on with it when the first is lost
        #[arg(long)]
        backup: bool,
        /// Where the encoder is
        #[arg(long)]
        region: Option<String>,
        /// Whose network the encoder has
        #[arg(long)]
        isp: Option<String>,
    },
    /// Sign a grant to play or to publish
    #[command(after_help = "Examples:\n  \
        weir ctl grant --play live/a --for 1h\n  \
        weir ctl grant --publish 'live/*' --for 12h --ip 192.0.2.7\n  \
        weir ctl grant --play live/a --for 2h --url http://edge:8080/live/a/index.m3u8")]
    Grant(GrantFlags),
    /// Who watches: the edges are asked
    Sessions {
        /// Of this stream alone: app/name
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
        /// At this edge alone
        #[arg(long)]
        node: Option<String>,
        /// So many at most, up to 1000
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Send nobody new to a node; a process that is started anew takes people again
    Drain {
        /// Its name
        node: String,
        /// Let it take people again
        #[arg(long)]
        undo: bool,
    },
    /// Have a node read its configuration again
    Reload {
        /// Its name
        node: String,
    },
    /// End a stream: its publisher is told and disconnected
    Kick {
        /// app/name
        #[arg(value_name = "STREAM")]
        stream: String,
    },
    /// Streams that are fetched from where they are
    #[command(subcommand)]
    Pulls(PullsCommand),
    /// Streams that are sent on
    #[command(subcommand)]
    Pushes(PushesCommand),
    /// Sessions of several who speak
    #[command(subcommand)]
    Conferences(ConferencesCommand),
    /// The keys that grants are signed with
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// What `weir ctl pulls` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum PullsCommand {
    /// Which there are, and how they do
    List,
    /// Have a stream fetched
    Add {
        /// What it is called here: app/name
        #[arg(value_name = "STREAM")]
        stream: String,
        /// Where it is: rtsp://… or srt://…
        url: String,
        /// RTP comes by UDP, of RTSP
        #[arg(long)]
        udp: bool,
        /// Only while somebody watches
        #[arg(long)]
        on_demand: bool,
    },
    /// Have it fetched no longer
    Remove {
        /// app/name
        #[arg(value_name = "STREAM")]
        stream: String,
    },
}

/// What `weir ctl pushes` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum PushesCommand {
    /// Which there are, and how they do
    List,
    /// Have a stream sent on
    Add {
        /// Which one: app/name
        #[arg(value_name = "STREAM")]
        stream: String,
        /// Where to: srt://…
        url: String,
    },
    /// Have it sent on no longer
    Remove {
        /// As `list` shows it
        id: String,
    },
}

/// What `weir ctl conferences` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum ConferencesCommand {
    /// Which there are
    List,
    /// Who is in one
    Show {
        /// app/name
        conference: String,
    },
    /// Create one
    Create {
        /// app/name
        conference: String,
        /// How many may speak
        #[arg(long, value_name = "NUMBER", default_value_t = 32)]
        speakers: u16,
    },
    /// End one, and the streams of its members
    End {
        /// app/name
        conference: String,
    },
    /// Let somebody in, and print what that needs; again, for new grants
    Join {
        /// app/name
        conference: String,
        /// What the member is called
        member: String,
        /// It only listens
        #[arg(long)]
        listener: bool,
    },
    /// Let a member go, and end its stream
    Leave {
        /// app/name
        conference: String,
        /// What the member is called
        member: String,
    },
    /// Drop a member's sound
    Mute {
        /// app/name
        conference: String,
        /// What the member is called
        member: String,
        /// Let it be heard again
        #[arg(long)]
        undo: bool,
    },
    /// Let a member speak, or only listen
    Role {
        /// app/name
        conference: String,
        /// What the member is called
        member: String,
        /// It only listens
        #[arg(long)]
        listener: bool,
    },
}

/// What `weir ctl keys` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Which there are
    List,
    /// Make a new one, which signs once all nodes have it
    Rotate,
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
        assert_eq!(cli.serve.process.log.as_deref(), Some("debug"));
        assert_eq!(cli.serve.process.log_format, Some(log::Format::Json));
        assert!(cli.serve.demo);
    }

    #[test]
    fn roles_have_flags_of_their_own() {
        let cli = parse(&["origin", "--http", "127.0.0.1:0", "--data", "d"]).unwrap();
        let Some(Command::Origin(origin)) = cli.command else { panic!("origin") };
        assert_eq!((origin.http, origin.process.data), ("127.0.0.1:0".parse().ok(), Some("d".into())));
        let cli = parse(&["edge", "--origin", "http://a:1", "--origin", "http://b:1"]).unwrap();
        let Some(Command::Edge(edge)) = cli.command else { panic!("edge") };
        assert_eq!(edge.origins, ["http://a:1", "http://b:1"]);
        for args in [&["origin", "--demo"][..], &["origin", "--origin", "http://a:1"], &["edge", "--demo"]] {
            assert!(parse(args).is_err(), "{args:?}");
        }
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
    fn grants_are_signed_for_a_time() {
        let sign = |args: &[&str]| match parse(&[&["grant", "sign"], args].concat()) {
            Ok(Cli { command: Some(Command::Grant(GrantCommand::Sign(sign))), .. }) => Ok(sign),
            Ok(cli) => panic!("{cli:?}"),
            Err(error) => Err(error),
        };
        let signed = sign(&["--play", "live/a", "--for", "90m", "--ip", "192.0.2.0/24"]).unwrap();
        assert_eq!((signed.grant.play.as_deref(), signed.grant.lasts_s), (Some("live/a"), 5_400));
        for (text, expected) in [("1s", 1), ("7d", 604_800), ("2h", 7_200)] {
            assert_eq!(sign(&["--publish", "live/a", "--for", text]).unwrap().grant.lasts_s, expected);
        }
        for wrong in ["", "h", "1", "0s", "-1h", "1w", "1.5h", "99999999999d"] {
            assert!(sign(&["--play", "live/a", "--for", wrong]).is_err(), "{wrong}");
        }
        assert!(sign(&["--for", "1h"]).is_err());
        assert!(sign(&["--play", "a/b", "--publish", "a/b", "--for", "1h"]).is_err());
        assert!(sign(&["--play", "a/b", "--for", "1h", "--ip", "somewhere"]).is_err());
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
