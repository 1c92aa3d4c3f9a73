//! `weir ctl pulls` and `weir ctl pushes`.

use anyhow::Context;
use serde_json::{Value, json};

use super::ask::{self, Api};
use super::table::Table;
use super::{list, said, text};
use crate::cli::{Ctl, PullsCommand, PushesCommand};

pub(super) async fn pulls(ctl: &Ctl, api: &Api, command: &PullsCommand) -> anyhow::Result<String> {
    match command {
        PullsCommand::List => shown(ctl, "pulls", &api.get("/api/v1/pulls").await?),
        PullsCommand::Add { stream, url, udp, on_demand } => {
            let transport = if *udp { "udp" } else { "tcp" };
            let order =
                json!({ "stream": stream, "url": url, "transport": transport, "on_demand": on_demand });
            added(
                ctl,
                &api.post_json("/api/v1/pulls", &order).await?,
                format!("{stream} is fetched from now on"),
            )
        }
        PullsCommand::Remove { stream } => {
            api.delete(&format!("/api/v1/pulls/{}", ask::stream(stream)?)).await?;
            Ok(said(ctl, format!("{stream} is fetched no longer")))
        }
    }
}

pub(super) async fn pushes(ctl: &Ctl, api: &Api, command: &PushesCommand) -> anyhow::Result<String> {
    match command {
        PushesCommand::List => shown(ctl, "pushes", &api.get("/api/v1/pushes").await?),
        PushesCommand::Add { stream, url } => {
            let answer = api.post_json("/api/v1/pushes", &json!({ "stream": stream, "url": url })).await?;
            let what = format!("{stream} is sent on from now on, as {}", text(&answer, "id"));
            added(ctl, &answer, what)
        }
        PushesCommand::Remove { id } => {
            api.delete(&format!("/api/v1/pushes/{}", ask::segment(id))).await?;
            Ok(said(ctl, format!("{id} is sent on no longer")))
        }
    }
}

fn json(answer: &Value) -> anyhow::Result<String> {
    serde_json::to_string_pretty(answer).map(|text| text + "\n").context("the answer")
}

fn added(ctl: &Ctl, answer: &Value, what: String) -> anyhow::Result<String> {
    if ctl.json { json(answer) } else { Ok(said(ctl, what)) }
}

fn shown(ctl: &Ctl, key: &str, answer: &Value) -> anyhow::Result<String> {
    if ctl.json {
        return json(answer);
    }
    let mut table = Table::new(&["STREAM", "STATE", "NODE", "BY", "ID", "URL", "WHY"]);
    for remote in list(answer, key) {
        let configured = remote.get("configured").and_then(Value::as_bool).unwrap_or_default();
        let why = ["why", "note"].iter().find_map(|key| remote.get(key)?.as_str()).unwrap_or("-");
        table.push(vec![
            format!("{}/{}", text(remote, "app"), text(remote, "name")),
            text(remote, "state"),
            text(remote, "node"),
            if configured { "configuration" } else { "order" }.to_owned(),
            text(remote, "id"),
            text(remote, "url"),
            why.to_owned(),
        ]);
    }
    Ok(table.render())
}
