//! What no type can say of pulls and pushes.

use origin::remote::WishError;
use origin::{pull, push};

use super::semantics::Findings;

/// Whether pulls and pushes say which stream is meant, and where it is or goes.
pub(super) fn check(origin: &origin::Config, findings: &mut Findings) {
    let mut streams = Vec::new();
    for (i, pull) in origin.pulls.iter().enumerate() {
        let twice = streams.contains(&&pull.stream);
        streams.push(&pull.stream);
        let key = |error: &WishError| match error {
            WishError::Url(_) => format!("origin.pulls.{i}.url"),
            _ => format!("origin.pulls.{i}.stream"),
        };
        match pull::check(pull) {
            Err(error) => findings.say(&key(&error), error.to_string()),
            Ok(()) if twice => findings.say(&format!("origin.pulls.{i}.stream"), "it is pulled already"),
            Ok(()) => {}
        }
    }
    for (i, push) in origin.pushes.iter().enumerate() {
        match push::check(push) {
            Err(error @ WishError::Url(_)) => {
                findings.say(&format!("origin.pushes.{i}.url"), error.to_string());
            }
            Err(error) => findings.say(&format!("origin.pushes.{i}.stream"), error.to_string()),
            Ok(()) => {}
        }
    }
    let lists = [
        ("origin.pulls", origin.pulls.len(), origin.remote.max_pulls, "origin.remote.max_pulls"),
        ("origin.pushes", origin.pushes.len(), origin.remote.max_pushes, "origin.remote.max_pushes"),
    ];
    for (list, count, max, limit) in lists {
        if count > max {
            findings.between(&[list, limit], format!("there are {count}, and {max} may be"));
        }
    }
}

#[cfg(test)]
mod tests {
    use control_api::Secret;
    use origin::pull::{PullConfig, Transport};
    use origin::push::PushConfig;

    use super::*;

    #[test]
    fn mistakes_are_named_without_secrets() {
        let pull = |stream: &str, url: &str| PullConfig {
            stream: stream.to_owned(),
            url: Secret::new(url),
            transport: Transport::Tcp,
            on_demand: false,
        };
        let mut origin = origin::Config {
            pulls: vec![
                pull("live/a", "rtsp://u:hunter2@10.0.0.9/a"),
                pull("live/a", "rtsp://10.0.0.9/b"),
                pull("live", "rtsp://10.0.0.9/c"),
                pull("live/d", "ftp://u:hunter2@10.0.0.9/d"),
            ],
            pushes: vec![PushConfig { stream: "api/x".to_owned(), url: Secret::new("srt://10.0.0.7:9000") }],
            ..origin::Config::default()
        };
        let found = |origin: &origin::Config| {
            let mut findings = Findings::default();
            check(origin, &mut findings);
            assert!(!format!("{findings:?}").contains("hunter2"), "{findings:?}");
            findings.0.into_iter().flat_map(|finding| finding.keys).collect::<Vec<_>>()
        };
        assert_eq!(
            found(&origin),
            [
                "origin.pulls.1.stream",
                "origin.pulls.2.stream",
                "origin.pulls.3.url",
                "origin.pushes.0.stream"
            ]
        );
        origin.pulls.truncate(1);
        origin.pushes.clear();
        origin.remote.max_pulls = 0;
        assert_eq!(found(&origin), ["origin.pulls", "origin.remote.max_pulls"]);
    }
}
