//! Load for the benches: servers to be measured, publishers and viewers. Everything on the loopback
//! interface, and bounded in number and time.

mod arrival;
pub(crate) mod clock;
mod crowd;
mod floor;
mod janus;
mod multiplexed;
mod nginx;
mod packets;
mod players;
mod publisher;
mod server;
mod srtp;
pub(crate) mod statistics;
mod trust;
mod viewer;
mod weir;
mod whep;
mod wire;

pub(crate) use crowd::{Crowd, Plan};
pub(crate) use floor::{floor, serve as serve_floor};
pub(crate) use janus::{PAYLOAD_TYPE as JANUS_PAYLOAD_TYPE, janus, watch as watch_janus};
pub(crate) use nginx::{Hls, nginx, nginx_files};
pub(crate) use packets::Feeder;
pub(crate) use players::{Players, Task, end_of};
pub(crate) use publisher::{PartClock, Publishers, Send, Sent};
pub(crate) use server::Server;
pub(crate) use srtp::{serve as serve_srtp_floor, srtp_floor};
pub(crate) use trust::trusting_tls;
pub(crate) use viewer::Viewers;
pub(crate) use weir::{weir, weir_has, weir_with};
pub(crate) use whep::Watchers;
pub(crate) use wire::Wire;

/// Lets this process open as many sockets as it may.
pub(crate) fn raise_open_files() -> anyhow::Result<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// The machine that measures.
pub(crate) fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpus = read("/proc/cpuinfo");
    let model =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, m)| m);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores ({}), Linux {}, load {}",
        model.unwrap_or("?"),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?")
    )
}
