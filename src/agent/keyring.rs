//! The keys that verify grants: those of the configuration, and those of the cluster.

use std::sync::Arc;

use control_api::grant::{Algorithm, Grants, Key, KeySet};
use control_api::rpc;
use parking_lot::Mutex;

/// Puts both into force whenever one of them changes.
pub(crate) struct Keyring {
    grants: Arc<Grants>,
    state: Mutex<State>,
}

struct State {
    own: KeySet,
    cluster: Vec<rpc::Key>,
}

impl Keyring {
    /// Those of the configuration alone, so far.
    pub(crate) fn new(own: KeySet) -> Self {
        let grants = Arc::new(Grants::new(own.copied()));
        Self { grants, state: Mutex::new(State { own, cluster: Vec::new() }) }
    }

    /// What verifies.
    pub(crate) fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// The configuration has other keys.
    pub(crate) fn set_own(&self, own: KeySet) {
        let mut state = self.state.lock();
        state.own = own;
        self.grants.replace(state.all());
    }

    /// The cluster has others.
    pub(super) fn set_cluster(&self, keys: rpc::KeySet) {
        let mut state = self.state.lock();
        state.cluster = keys.keys;
        self.grants.replace(state.all());
    }
}

impl State {
    fn all(&self) -> KeySet {
        let mut all = self.own.copied();
        for key in &self.cluster {
            let algorithm = match &*key.algorithm {
                "HS256" => Algorithm::Hs256,
                "EdDSA" => Algorithm::EdDsa,
                _ => continue,
            };
            match Key::new(algorithm, &key.text) {
                Ok(made) => all.add(key.kid.clone(), made),
                Err(error) => tracing::error!(kid = key.kid, %error, "a key of the control plane is none"),
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use control_api::grant::{Asked, Audience, Claims, Signer};

    use super::*;

    fn secret(byte: char) -> String {
        byte.to_string().repeat(32)
    }

    fn own(byte: char) -> KeySet {
        KeySet::new([("own".to_owned(), Key::new(Algorithm::Hs256, &secret(byte)).unwrap())]).unwrap()
    }

    #[test]
    fn a_configuration_that_is_read_again_takes_no_key_of_the_cluster_away() {
        let keyring = Keyring::new(own('a'));
        let text = secret('c');
        let key = rpc::Key { kid: "cluster".into(), algorithm: "HS256".into(), text: text.clone() };
        keyring.set_cluster(rpc::KeySet { keys: vec![key] });
        let verifies = |kid: &str, secret: &str| {
            let claims = Claims {
                exp: u64::MAX,
                nbf: None,
                aud: Audience::Play,
                stream: "live/a".into(),
                ip: None,
                sid: None,
            };
            let key = Key::new(Algorithm::Hs256, secret).unwrap();
            let grant = Signer::new(kid, key).sign(&claims).unwrap();
            let asked = Asked { audience: Audience::Play, stream: "live/a", peer: "::1".parse().unwrap() };
            keyring.grants().verify(Some(&grant), asked, SystemTime::now()).is_ok()
        };
        assert!(verifies("own", &secret('a')) && verifies("cluster", &text));
        keyring.set_own(own('b'));
        assert!(
            !verifies("own", &secret('a')) && verifies("own", &secret('b')) && verifies("cluster", &text)
        );
    }
}
