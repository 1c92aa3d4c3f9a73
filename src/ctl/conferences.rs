//! `weir ctl conferences`.

use anyhow::Context;
use serde_json::{Value, json};

use super::ask::{self, Api};
use super::table::Table;
use super::{list, said, text};
use crate::cli::{ConferencesCommand, Ctl};

const CONFERENCES: &str = "/api/v1/conferences";

pub(super) async fn run(ctl: &Ctl, api: &Api, command: &ConferencesCommand) -> anyhow::Result<String> {
    let of = |conference: &str| Ok::<_, anyhow::Error>(format!("{CONFERENCES}/{}", ask::stream(conference)?));
    let member = |conference: &str, member: &str| {
        Ok::<_, anyhow::Error>(format!("{}/members/{}", of(conference)?, ask::segment(member)))
    };
    match command {
        ConferencesCommand::List => shown(ctl, &api.get(CONFERENCES).await?, all),
        ConferencesCommand::Show { conference } => shown(ctl, &api.get(&of(conference)?).await?, members),
        ConferencesCommand::Create { conference, speakers } => {
            let (app, name) = conference.split_once('/').context("expected app/name")?;
            let wanted = json!({ "app": app, "name": name, "max_speakers": speakers });
            api.post_json(CONFERENCES, &wanted).await?;
            Ok(said(ctl, format!("{conference} is there, for {speakers} who speak")))
        }
        ConferencesCommand::End { conference } => {
            api.delete(&of(conference)?).await?;
            Ok(said(ctl, format!("{conference} is over")))
        }
        ConferencesCommand::Join { conference, member, listener } => {
            let wanted = json!({ "id": member, "role": role(*listener) });
            let welcome = api.post_json(&format!("{}/members", of(conference)?), &wanted).await?;
            shown(ctl, &welcome, needs)
        }
        ConferencesCommand::Leave { conference, member: id } => {
            api.delete(&member(conference, id)?).await?;
            Ok(said(ctl, format!("{id} is no member of {conference} any more")))
        }
        ConferencesCommand::Mute { conference, member: id, undo } => {
            api.patch_json(&member(conference, id)?, &json!({ "muted": !undo })).await?;
            Ok(said(ctl, format!("{id} is {} from now on", if *undo { "heard" } else { "muted" })))
        }
        ConferencesCommand::Role { conference, member: id, listener } => {
            api.patch_json(&member(conference, id)?, &json!({ "role": role(*listener) })).await?;
            Ok(said(ctl, format!("{id} is a {} from now on", role(*listener))))
        }
    }
}

fn role(listener: bool) -> &'static str {
    if listener { "listener" } else { "speaker" }
}

fn shown(ctl: &Ctl, answer: &Value, table: fn(&Value) -> Table) -> anyhow::Result<String> {
    if ctl.json {
        return serde_json::to_string_pretty(answer).map(|text| text + "\n").context("the answer");
    }
    Ok(table(answer).render())
}

fn all(answer: &Value) -> Table {
    let mut table = Table::new(&["CONFERENCE", "MEMBERS", "SPEAKERS", "LIVE", "SINCE (ms)"]);
    for one in list(answer, "conferences") {
        let count = |is: fn(&Value) -> bool| list(one, "members").filter(|member| is(member)).count();
        let speakers = count(|member| text(member, "role") == "speaker");
        table.push(vec![
            format!("{}/{}", text(one, "app"), text(one, "name")),
            count(|_| true).to_string(),
            format!("{speakers} of {}", text(one, "max_speakers")),
            count(|member| text(member, "live") == "true").to_string(),
            text(one, "created_at_ms"),
        ]);
    }
    table
}

fn members(answer: &Value) -> Table {
    let mut table = Table::new(&["MEMBER", "ROLE", "MUTED", "LIVE", "SINCE (ms)"]);
    for member in list(answer, "members") {
        table.push(["id", "role", "muted", "live", "joined_at_ms"].map(|key| text(member, key)).into());
    }
    table
}

fn needs(answer: &Value) -> Table {
    let mut table = Table::new(&["WHAT", "IS"]);
    for key in ["stream", "whip", "publish_grant", "whep", "play_grant", "events", "ttl_s"] {
        table.push(vec![key.to_owned(), text(answer, key)]);
    }
    table
}
