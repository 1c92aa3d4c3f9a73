//! `/api/v1/conferences`: sessions of several who speak and many who listen, their members, and what those need to come in.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, State};
use control_api::grant::Audience;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Context;
use super::nodes::replica;
use super::operator::Operator;
use super::play::{escaped, sign};
use super::problem::Problem;
use crate::conferences::{Conference, MAX_SPEAKERS, Member, Role, SEPARATOR};
use crate::replica::Replica;
use crate::schedule::Labels;

/// A conference that is to be.
#[derive(Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct ConferenceWanted {
    /// The app of its streams, such as `live`.
    app: String,
    /// Its name, without `~`.
    name: String,
    /// Members that may speak, 1 to 32; 32 if absent.
    max_speakers: Option<u16>,
}

/// A conference.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConferenceInfo {
    /// The app of its streams.
    app: String,
    /// Its name.
    name: String,
    /// Members that may speak.
    max_speakers: u16,
    /// In milliseconds since 1970.
    created_at_ms: u64,
    /// The number of its newest event.
    last_event_id: u64,
    /// In the order in which they came.
    members: Vec<Member>,
}

impl ConferenceInfo {
    fn of(conference: &Conference) -> Self {
        Self {
            app: conference.app.clone(),
            name: conference.name.clone(),
            max_speakers: conference.max_speakers,
            created_at_ms: conference.created_at_ms,
            last_event_id: conference.sequence,
            members: conference.members.clone(),
        }
    }
}

/// All conferences, ordered by app and name.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConferenceList {
    conferences: Vec<ConferenceInfo>,
}

/// Somebody who is to come in.
#[derive(Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct MemberWanted {
    /// What the member is called: letters, digits and - _ . @ + =, 64 bytes at most.
    id: String,
    /// `speaker` or `listener`.
    role: Role,
    /// Whether the member begins muted; of who is a member already, nothing.
    #[serde(default)]
    muted: bool,
}

/// What is to change about a member; what is absent stays.
#[derive(Deserialize, ToSchema, FromRequest)]
#[serde(deny_unknown_fields)]
#[from_request(via(Json), rejection(Problem))]
pub(super) struct MemberChange {
    /// Whether its sound is dropped where it comes in.
    muted: Option<bool>,
    /// Who only listens from now on is disconnected as a publisher.
    role: Option<Role>,
}

/// A member, and what it needs. The grants hold for `ttl_s` seconds; the same request again renews them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Welcome {
    /// The member.
    member: Member,
    /// Its stream, as app/name.
    stream: String,
    /// Where a speaker publishes by WHIP (RFC 9725), with `publish_grant` as bearer token; absent while no origin is there.
    whip: Option<String>,
    /// Lets a speaker publish its stream, and nothing else.
    publish_grant: Option<String>,
    /// Where a member's stream is watched by WHEP, with `play_grant` as bearer token: `{member}` stands for its id. Absent
    /// while no edge is there.
    whep: Option<String>,
    /// Lets its bearer play all streams of the conference, and follow its events.
    play_grant: String,
    /// The path of the conference's events, with the grant in its query: what is shown to EventSource, which sends no
    /// headers.
    events: String,
    /// Seconds that the grants hold.
    ttl_s: u64,
}

/// Which conference is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct ConferenceKey {
    /// Its app.
    app: String,
    /// Its name.
    name: String,
}

impl ConferenceKey {
    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }
}

/// Which member is meant.
#[derive(Debug, Deserialize, IntoParams, FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
#[into_params(parameter_in = Path)]
pub(super) struct MemberKey {
    /// The conference's app.
    app: String,
    /// The conference's name.
    name: String,
    /// The member's id.
    id: String,
}

/// What somebody needs who comes in.
fn welcome(
    context: &Context,
    replica: &Replica,
    conference: &Conference,
    id: &str,
) -> Result<Welcome, Problem> {
    let member = conference.member(id).cloned().ok_or_else(|| Problem::no_such_member(id))?;
    let (path, stream) = (conference.path(), conference.stream(id));
    let play_grant = sign(context, replica, Audience::Play, &format!("{path}{SEPARATOR}*"))?;
    let (mut whip, mut publish_grant) = (None, None);
    if member.role == Role::Speaker {
        publish_grant = Some(sign(context, replica, Audience::Publish, &stream)?);
        let origins = replica.streams().origins_for(&stream, &Labels::default(), false);
        let at = origins.into_iter().next().map(|origin| origin.record.addresses);
        let at = at.and_then(|at| at.https.or(at.http).or(at.relay));
        whip = at.map(|base| format!("{base}/{}/whip", escaped(&stream)));
    }
    let edge = replica.nodes().edges_for(&path, &Labels::default(), 1).into_iter().next();
    let edge = edge.and_then(|edge| edge.record.addresses.https.or(edge.record.addresses.http));
    Ok(Welcome {
        whep: edge.map(|base| format!("{base}/{}{SEPARATOR}{{member}}/whep", escaped(&path))),
        events: format!("/api/v1/conferences/{}/events?token={play_grant}", escaped(&path)),
        member,
        stream,
        whip,
        publish_grant,
        play_grant,
        ttl_s: context.config.grant_ttl_s,
    })
}

/// Why anything about conferences may be refused.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "it only describes; Problem is what is answered")]
enum Refused {
    /// The operator's token is missing or wrong
    #[response(status = 401, content_type = "application/problem+json")]
    Token(Problem),
    /// There is no such conference or member, or this process coordinates no cluster
    #[response(status = 404, content_type = "application/problem+json")]
    Absent(Problem),
    /// The path does not have this method
    #[response(status = 405, content_type = "application/problem+json")]
    Method(Problem),
    /// The server failed
    #[response(status = 500, content_type = "application/problem+json")]
    Failed(Problem),
}

/// Why a change may be.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "it only describes; Problem is what is answered")]
enum NotChanged {
    /// A malformed path or body
    #[response(status = 400, content_type = "application/problem+json")]
    Malformed(Problem),
    /// It is there already, or there are as many as may be
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(Problem),
    /// Not application/json
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(Problem),
    /// Not what is described here
    #[response(status = 422, content_type = "application/problem+json")]
    Invalid(Problem),
    /// The registry, or a node that is needed, cannot be reached
    #[response(status = 503, content_type = "application/problem+json")]
    Unreachable(Problem),
}

/// All conferences
#[utoipa::path(
    get,
    path = "/api/v1/conferences",
    tag = "conferences",
    security(("operator" = [])),
    responses(
        (status = 200, description = "All conferences, ordered by app and name", body = ConferenceList),
        Refused,
    ),
)]
pub(super) async fn list(
    State(context): State<Arc<Context>>,
    _: Operator,
) -> Result<Json<ConferenceList>, Problem> {
    let all = replica(&context)?.conferences().all();
    Ok(Json(ConferenceList { conferences: all.iter().map(|one| ConferenceInfo::of(one)).collect() }))
}

/// Create a conference
///
/// From now on the streams app/name~member are published by its speakers alone.
#[utoipa::path(
    post,
    path = "/api/v1/conferences",
    tag = "conferences",
    security(("operator" = [])),
    request_body = ConferenceWanted,
    responses(
        (status = 201, description = "It is there", body = ConferenceInfo),
        NotChanged,
        Refused,
    ),
)]
pub(super) async fn create(
    State(context): State<Arc<Context>>,
    _: Operator,
    wanted: ConferenceWanted,
) -> Result<(StatusCode, Json<ConferenceInfo>), Problem> {
    let ConferenceWanted { app, name, max_speakers } = wanted;
    let conferences = replica(&context)?.conferences();
    let created = conferences.create(&app, &name, max_speakers.unwrap_or(MAX_SPEAKERS)).await?;
    Ok((StatusCode::CREATED, Json(ConferenceInfo::of(&created))))
}

/// One conference
#[utoipa::path(
    get,
    path = "/api/v1/conferences/{app}/{name}",
    tag = "conferences",
    params(ConferenceKey),
    security(("operator" = [])),
    responses(
        (status = 200, description = "The conference", body = ConferenceInfo),
        (status = 400, description = "A malformed path or body", body = Problem, content_type = "application/problem+json"),
        Refused,
    ),
)]
pub(super) async fn one(
    State(context): State<Arc<Context>>,
    _: Operator,
    key: ConferenceKey,
) -> Result<Json<ConferenceInfo>, Problem> {
    let found = replica(&context)?.conferences().get(&key.path());
    let conference = found.ok_or_else(|| Problem::no_such_conference(&key.path()))?;
    Ok(Json(ConferenceInfo::of(&conference)))
}

/// End a conference
///
/// The streams of its members end, and its grants let nobody publish any more.
#[utoipa::path(
    delete,
    path = "/api/v1/conferences/{app}/{name}",
    tag = "conferences",
    params(ConferenceKey),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is over"),
        (status = 400, description = "A malformed path or body", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry, or a node that is needed, cannot be reached", body = Problem, content_type = "application/problem+json"),
        Refused,
    ),
)]
pub(super) async fn end(
    State(context): State<Arc<Context>>,
    _: Operator,
    key: ConferenceKey,
) -> Result<StatusCode, Problem> {
    replica(&context)?.conferences().end(&key.path()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let somebody in
///
/// Who only listens need not be a member: a grant to play `app/name~*` does, for the events, too.
#[utoipa::path(
    post,
    path = "/api/v1/conferences/{app}/{name}/members",
    tag = "conferences",
    params(ConferenceKey),
    security(("operator" = [])),
    request_body = MemberWanted,
    responses(
        (status = 201, description = "A new member, and what it needs", body = Welcome),
        (status = 200, description = "It was a member in that role: new grants", body = Welcome),
        NotChanged,
        Refused,
    ),
)]
pub(super) async fn join(
    State(context): State<Arc<Context>>,
    _: Operator,
    key: ConferenceKey,
    wanted: MemberWanted,
) -> Result<(StatusCode, Json<Welcome>), Problem> {
    let MemberWanted { id, role, muted } = wanted;
    let replica = replica(&context)?;
    let path = key.path();
    let joined = replica.conferences().change(&path, |one, now_ms| one.join(&id, role, muted, now_ms));
    let (conference, is_new) = joined.await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(welcome(&context, replica, &conference, &id)?)))
}

/// Change a member
///
/// Mute it, unmute it, let it speak or only listen.
#[utoipa::path(
    patch,
    path = "/api/v1/conferences/{app}/{name}/members/{id}",
    tag = "conferences",
    params(MemberKey),
    security(("operator" = [])),
    request_body = MemberChange,
    responses(
        (status = 200, description = "The member as it is now, and what it needs", body = Welcome),
        NotChanged,
        Refused,
    ),
)]
pub(super) async fn change(
    State(context): State<Arc<Context>>,
    _: Operator,
    MemberKey { app, name, id }: MemberKey,
    wanted: MemberChange,
) -> Result<Json<Welcome>, Problem> {
    let replica = replica(&context)?;
    let MemberChange { muted, role } = wanted;
    let path = format!("{app}/{name}");
    let changed = replica.conferences().change(&path, |one, now_ms| {
        if let Some(muted) = muted {
            one.mute(&id, muted, now_ms)?;
        }
        if let Some(role) = role {
            one.take_role(&id, role, now_ms)?;
        }
        Ok(())
    });
    let (conference, ()) = changed.await?;
    if role == Some(Role::Listener) {
        replica.conferences().silence(&conference, &id).await?;
    }
    Ok(Json(welcome(&context, replica, &conference, &id)?))
}

/// Let a member go
///
/// Its stream ends, and its grant to publish is worth nothing any more. It may still play until its grant for that expires.
#[utoipa::path(
    delete,
    path = "/api/v1/conferences/{app}/{name}/members/{id}",
    tag = "conferences",
    params(MemberKey),
    security(("operator" = [])),
    responses(
        (status = 204, description = "It is no member any more"),
        (status = 400, description = "A malformed path or body", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The registry, or a node that is needed, cannot be reached", body = Problem, content_type = "application/problem+json"),
        Refused,
    ),
)]
pub(super) async fn leave(
    State(context): State<Arc<Context>>,
    _: Operator,
    MemberKey { app, name, id }: MemberKey,
) -> Result<StatusCode, Problem> {
    let conferences = replica(&context)?.conferences();
    let (conference, ()) =
        conferences.change(&format!("{app}/{name}"), |one, now_ms| one.leave(&id, now_ms)).await?;
    conferences.silence(&conference, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
