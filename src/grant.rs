//! The keys of grants as the configuration names them, and `weir grant`, which makes keys and grants.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use control_api::grant::{Audience, Claims, Config, Key, KeyConfig, KeySet, Signer};

use crate::cli::{Algorithm, GrantCommand, GrantFlags, ProcessFlags, Serve, Sign};
use crate::config::{self, may_match};
use crate::console;

/// The keys of a configuration, with those that stand in files.
pub(crate) fn key_set(config: &Config) -> anyhow::Result<KeySet> {
    let keys = config.keys.iter().map(|config| Ok((config.kid.clone(), key(config)?)));
    Ok(KeySet::new(keys.collect::<anyhow::Result<Vec<_>>>()?)?)
}

fn key(config: &KeyConfig) -> anyhow::Result<Key> {
    let about = || format!("key {:?} of `grants.keys`", config.kid);
    if let Some(secret) = &config.secret {
        return Key::new(config.algorithm, secret).with_context(about);
    }
    let file = config.file.as_ref().context("there is neither `secret` nor `file`").with_context(about)?;
    let about = || format!("{}: {}", about(), file.display());
    let text = std::fs::read_to_string(file).with_context(about)?;
    Key::new(config.algorithm, &text).with_context(about)
}

/// Prints a key or a grant.
pub(crate) fn command(command: &GrantCommand) -> ExitCode {
    let made = match command {
        GrantCommand::Keygen { algorithm, kid } => keygen(*algorithm, kid.clone()),
        GrantCommand::Sign(flags) => sign(flags),
    };
    match made {
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

/// A new key as it stands in the configuration.
fn keygen(algorithm: Algorithm, kid: Option<String>) -> anyhow::Result<String> {
    let kid = match kid {
        Some(kid) => kid,
        None => hex(&random::<4>()?),
    };
    let table = |algorithm: &str, secret: &str| {
        format!(
            "[[grants.keys]]\nkid = {}\nalgorithm = \"{algorithm}\"\nsecret = {secret}\n",
            toml::Value::String(kid.clone())
        )
    };
    Ok(match algorithm {
        Algorithm::Hs256 => table("HS256", &format!("\"{}\"", hex(&random::<32>()?))),
        Algorithm::EdDsa => {
            let (private, public) = Key::ed25519_pems(&random()?)?;
            let block = |pem: String| table("EdDSA", &format!("\"\"\"\n{pem}\"\"\""));
            format!(
                "# For origins and edges, which verify:\n{}\n# For `weir grant sign` alone:\n{}",
                block(public),
                block(private)
            )
        }
    })
}

pub(crate) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A grant, alone or in a URL.
fn sign(flags: &Sign) -> anyhow::Result<String> {
    let process = ProcessFlags { config: flags.config.clone(), ..ProcessFlags::default() };
    let config = config::Config::load(&Serve { process, ..Serve::default() }.into())?.grants;
    let signer = signer(&config, flags.kid.as_deref())?;
    let wanted = &flags.grant;
    let (aud, stream) = wanted.what()?;
    anyhow::ensure!(
        may_match(stream),
        "{stream:?} matches no stream; expected app/name, such as live/a or live/*"
    );
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    let claims = Claims {
        exp: now_s.saturating_add(wanted.lasts_s),
        nbf: None,
        aud,
        stream: stream.to_owned(),
        ip: wanted.ip,
        sid: wanted.session.clone(),
    };
    wanted.shown(&signer.sign(&claims)?)
}

impl GrantFlags {
    /// What for, and of which streams.
    pub(crate) fn what(&self) -> anyhow::Result<(Audience, &str)> {
        match (&self.play, &self.publish) {
            (Some(streams), _) => Ok((Audience::Play, streams)),
            (None, Some(streams)) => Ok((Audience::Publish, streams)),
            (None, None) => anyhow::bail!("--play or --publish is needed"),
        }
    }

    /// The grant as it is printed.
    pub(crate) fn shown(&self, grant: &str) -> anyhow::Result<String> {
        let text = match &self.url {
            None => grant.to_owned(),
            Some(url) => {
                with_grant(url, grant).with_context(|| format!("{url}: expected a URL with a path"))?
            }
        };
        Ok(text + "\n")
    }
}

/// Signs with the key of that name, or the last that can sign: new keys are added below.
fn signer(config: &Config, kid: Option<&str>) -> anyhow::Result<Signer> {
    if let Some(kid) = kid {
        let named = config.keys.iter().find(|key| key.kid == kid);
        let named = named.with_context(|| format!("`grants.keys` has no key named {kid:?}"))?;
        return Ok(Signer::new(kid, key(named)?));
    }
    for config in config.keys.iter().rev() {
        let key = key(config)?;
        if key.can_sign() {
            return Ok(Signer::new(&config.kid, key));
        }
    }
    anyhow::bail!("`grants.keys` has no key that can sign; `weir grant keygen` makes one")
}

/// The URL with the grant: before the path of HTTP, which all that a playlist names inherits; in the query of RTMP.
fn with_grant(url: &str, grant: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let (authority, path) = rest.split_once('/')?;
    if scheme.starts_with("rtmp") {
        let joint = if path.contains('?') { '&' } else { '?' };
        return Some(format!("{url}{joint}token={grant}"));
    }
    Some(format!("{scheme}://{authority}/~{grant}/{path}"))
}

#[cfg(test)]
mod tests {
    use control_api::grant::{Asked, Grants, Refused};

    use super::*;

    /// What is printed can be read.
    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.toml");
        std::fs::write(&path, text).unwrap();
        config::Config::check_file(&path).unwrap().grants
    }

    fn claims() -> Claims {
        Claims { exp: u64::MAX, nbf: None, aud: Audience::Play, stream: "live/a".into(), ip: None, sid: None }
    }

    #[test]
    fn keys_that_are_made_sign_and_verify() {
        let asked = Asked { audience: Audience::Play, stream: "live/a", peer: "::1".parse().unwrap() };
        let text = keygen(Algorithm::Hs256, None).unwrap();
        assert_ne!(text, keygen(Algorithm::Hs256, None).unwrap());
        let config_of_both = config(&text);
        let grant = signer(&config_of_both, None).unwrap().sign(&claims()).unwrap();
        let grants = Grants::new(key_set(&config_of_both).unwrap());
        assert!(grants.verify(Some(&grant), asked, SystemTime::now()).is_ok());

        let text = keygen(Algorithm::EdDsa, Some("a \"b\"".into())).unwrap();
        let (public, private) = text.split_once("\n# For `weir grant sign`").unwrap();
        let signing = config(&format!("#{private}"));
        let grant = signer(&signing, None).unwrap().sign(&claims()).unwrap();
        assert_eq!(
            grants.verify(Some(&grant), asked, SystemTime::now()),
            Err(Refused::UnknownKey),
            "of another's key"
        );
        let verifying = config(public);
        assert!(signer(&verifying, None).is_err());
        let grants = Grants::new(key_set(&verifying).unwrap());
        assert!(grants.verify(Some(&grant), asked, SystemTime::now()).is_ok());
    }

    #[test]
    fn keys_in_files_are_read_and_errors_name_the_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("grants.key");
        let config = Config {
            keys: vec![KeyConfig {
                kid: "f".into(),
                algorithm: control_api::grant::Algorithm::Hs256,
                secret: None,
                file: Some(file.clone()),
            }],
            ..Config::default()
        };
        let said = format!("{:#}", key_set(&config).unwrap_err());
        assert!(said.contains("grants.key") && said.contains("\"f\""), "{said}");
        std::fs::write(&file, "s3cret\n").unwrap();
        let said = format!("{:#}", key_set(&config).unwrap_err());
        assert!(said.contains("grants.key") && !said.contains("s3cret"), "{said}");
        std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
        assert!(key_set(&config).is_ok());
    }

    #[test]
    fn urls_carry_the_grant_where_it_is_inherited() {
        for (url, expected) in [
            ("http://h:8080/live/a/index.m3u8", Some("http://h:8080/~G/live/a/index.m3u8")),
            ("ws://h/live/a.flv?latency=low", Some("ws://h/~G/live/a.flv?latency=low")),
            ("rtmp://h/live/a", Some("rtmp://h/live/a?token=G")),
            ("rtmp://h/live/a?latency=low", Some("rtmp://h/live/a?latency=low&token=G")),
            ("http://h", None),
            ("live/a", None),
        ] {
            assert_eq!(with_grant(url, "G").as_deref(), expected, "{url}");
        }
    }
}
