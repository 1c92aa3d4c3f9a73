//! `weir ctl`: an operator's hand on a cluster, by the API of its control plane.

mod ask;
mod conferences;
mod remotes;
mod table;

use std::process::ExitCode;

use anyhow::Context;
use serde_json::{Value, json};

use crate::cli::{Ctl, CtlCommand, GrantFlags, KeysCommand};
use crate::console;
use ask::Api;
use table::Table;

/// Does it, and prints what there is to see.
pub(crate) async fn command(ctl: &Ctl) -> ExitCode {
    match run(ctl).await {
        Ok(text) => {
            console::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            console::error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(ctl: &Ctl) -> anyhow::Result<String> {
    let api = Api::new(ctl)?;
    let (answer, table): (Value, fn(&Value) -> Table) = match &ctl.command {
        CtlCommand::Nodes => (api.get("/api/v1/nodes").await?, nodes),
        CtlCommand::Streams => (api.all_streams().await?, streams),
        CtlCommand::Play { stream, region, isp } => {
            let query = ask::query(&[("region", region.as_deref()), ("isp", isp.as_deref())]);
            (api.get(&format!("/api/v1/play/{}{query}", ask::stream(stream)?)).await?, play)
        }
        CtlCommand::Publish { stream, backup, region, isp } => {
            let backup = backup.then_some("true");
            let query =
                ask::query(&[("backup", backup), ("region", region.as_deref()), ("isp", isp.as_deref())]);
            (api.get(&format!("/api/v1/publish/{}{query}", ask::stream(stream)?)).await?, publish)
        }
        CtlCommand::Sessions { stream, node, limit } => {
            let limit = limit.to_string();
            let query = ask::query(&[
                ("stream", stream.as_deref()),
                ("node", node.as_deref()),
                ("limit", Some(&limit)),
            ]);
            (api.get(&format!("/api/v1/sessions{query}")).await?, sessions)
        }
        CtlCommand::Grant(wanted) => return grant(ctl, &api, wanted).await,
        CtlCommand::Drain { node, undo } => {
            let query = if *undo { "?undo=true" } else { "" };
            api.post(&format!("/api/v1/nodes/{}/drain{query}", ask::segment(node))).await?;
            let what = if *undo { "takes people again" } else { "takes nobody new from now on" };
            return Ok(said(ctl, format!("{node} {what}")));
        }
        CtlCommand::Reload { node } => {
            api.post(&format!("/api/v1/nodes/{}/reload", ask::segment(node))).await?;
            return Ok(said(ctl, format!("{node} reads its configuration again")));
        }
        CtlCommand::Kick { stream } => {
            api.delete(&format!("/api/v1/streams/{}", ask::stream(stream)?)).await?;
            return Ok(said(ctl, format!("{stream} is ended")));
        }
        CtlCommand::Pulls(command) => return remotes::pulls(ctl, &api, command).await,
        CtlCommand::Pushes(command) => return remotes::pushes(ctl, &api, command).await,
        CtlCommand::Conferences(command) => return conferences::run(ctl, &api, command).await,
        CtlCommand::Keys(KeysCommand::List) => (api.get("/api/v1/keys").await?, keys),
        CtlCommand::Keys(KeysCommand::Rotate) => (api.post("/api/v1/keys/rotate").await?, keys),
    };
    if ctl.json {
        return serde_json::to_string_pretty(&answer).map(|text| text + "\n").context("the answer");
    }
    Ok(table(&answer).render())
}

/// What was done, for people; programs have the exit code.
fn said(ctl: &Ctl, what: String) -> String {
    if ctl.json { String::new() } else { what + "\n" }
}

fn list<'a>(answer: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    answer.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn text(row: &Value, key: &str) -> String {
    match row.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn number(row: &Value, key: &str) -> f64 {
    row.get(key).and_then(Value::as_f64).unwrap_or_default()
}

fn mbps(row: &Value, key: &str) -> String {
    format!("{:.1}", number(row, key) / 1e6)
}

fn nodes(answer: &Value) -> Table {
    let head = [
        "NODE",
        "ROLE",
        "STATE",
        "REGION",
        "VIEWERS",
        "STREAMS",
        "IN Mbit/s",
        "OUT Mbit/s",
        "CPU",
        "VERSION",
        "WHERE",
    ];
    let mut table = Table::new(&head);
    for node in list(answer, "nodes") {
        let at = node.get("addresses").unwrap_or(&Value::Null);
        let at = ["http", "relay", "https"].iter().find_map(|key| at.get(key)?.as_str()).unwrap_or("-");
        table.push(vec![
            text(node, "name"),
            text(node, "role"),
            text(node, "state"),
            text(node, "region"),
            text(node, "connections"),
            text(node, "streams"),
            mbps(node, "in_bps"),
            mbps(node, "out_bps"),
            format!("{:.0} %", number(node, "cpu") * 100.0),
            text(node, "version"),
            at.to_owned(),
        ]);
    }
    table
}

fn streams(answer: &Value) -> Table {
    let mut table = Table::new(&[
        "STREAM",
        "STATE",
        "EPOCH",
        "Mbit/s",
        "FPS",
        "FLV",
        "WS",
        "TS",
        "RTMP",
        "SRT",
        "RTC",
        "HLS",
        "PUBLISHER",
    ]);
    for stream in list(answer, "streams") {
        let viewers = stream.get("viewers").unwrap_or(&Value::Null);
        let publisher = stream.get("publisher").unwrap_or(&Value::Null);
        table.push(vec![
            format!("{}/{}", text(stream, "app"), text(stream, "name")),
            text(stream, "state"),
            text(stream, "epoch"),
            mbps(stream, "bitrate_bps"),
            format!("{:.0}", number(stream, "frame_rate")),
            text(viewers, "flv"),
            text(viewers, "ws_flv"),
            text(viewers, "ts"),
            text(viewers, "rtmp"),
            text(viewers, "srt"),
            text(viewers, "webrtc"),
            text(viewers, "hls"),
            format!("{} {}", text(publisher, "protocol"), text(publisher, "remote_addr")),
        ]);
    }
    table
}

/// A grant, alone or in a URL.
async fn grant(ctl: &Ctl, api: &Api, wanted: &GrantFlags) -> anyhow::Result<String> {
    let (audience, stream) = wanted.what()?;
    let body = json!({
        "audience": audience,
        "stream": stream,
        "lasts_s": wanted.lasts_s,
        "ip": wanted.ip,
        "session": wanted.session,
    });
    let answer = api.post_json("/api/v1/grants", &body).await?;
    if ctl.json {
        return serde_json::to_string_pretty(&answer).map(|text| text + "\n").context("the answer");
    }
    wanted.shown(&text(&answer, "grant"))
}

fn sessions(answer: &Value) -> Table {
    let mut table = Table::new(&["SESSION", "STREAM", "PROTOCOL", "ADDRESS", "EDGE", "NAME", "SINCE (ms)"]);
    for session in list(answer, "sessions") {
        table.push(vec![
            text(session, "id"),
            text(session, "stream"),
            text(session, "protocol"),
            text(session, "remote_addr"),
            text(session, "node"),
            text(session, "session"),
            text(session, "began_at_ms"),
        ]);
    }
    for silent in list(answer, "silent") {
        let edge = silent.as_str().unwrap_or_default().to_owned();
        let row =
            ["(no answer)".to_owned(), "-".into(), "-".into(), "-".into(), edge, "-".into(), "-".into()];
        table.push(row.into());
    }
    table
}

fn play(answer: &Value) -> Table {
    let mut table = Table::new(&["EDGE", "FLV", "TS", "HLS", "RTMP"]);
    for edge in list(answer, "edges") {
        table.push(["node", "flv", "ts", "hls", "rtmp"].map(|key| text(edge, key)).into());
    }
    table
}

fn publish(answer: &Value) -> Table {
    let mut table = Table::new(&["ORIGIN", "URL"]);
    table.push(vec![text(answer, "node"), text(answer, "rtmp")]);
    table
}

fn keys(answer: &Value) -> Table {
    let mut table = Table::new(&["KEY", "ALGORITHM", "STATE", "SIGNS FROM (ms)", "VERIFIES UNTIL (ms)"]);
    for key in list(answer, "keys") {
        table.push(vec![
            text(key, "kid"),
            text(key, "algorithm"),
            text(key, "state"),
            text(key, "signs_at_ms"),
            text(key, "retires_at_ms"),
        ]);
    }
    table
}
