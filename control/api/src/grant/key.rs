//! Keys that grants are signed and verified with.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey};
use ed25519_dalek::{SigningKey, VerifyingKey};
use jsonwebtoken::{DecodingKey, EncodingKey, Header};
use serde::{Deserialize, Serialize};

use super::Claims;

/// Shortest secret of HS256 (RFC 7518 §3.2): as long as the hash.
const MIN_SECRET_BYTES: usize = 32;

/// What a key signs with. No other algorithm is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC with SHA-256 (RFC 7518 §3.2): whoever can verify can sign.
    #[serde(rename = "HS256")]
    Hs256,
    /// Ed25519 (RFC 8037 §3.1): the public key verifies and cannot sign.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    pub(super) const fn jws(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Hs256 => jsonwebtoken::Algorithm::HS256,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Why a key is none. It is not repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadKey {
    /// It could be guessed.
    #[error("a secret of HS256 has at least {MIN_SECRET_BYTES} bytes; `weir grant keygen` makes one")]
    Short,
    /// It is not what the algorithm needs.
    #[error(
        "expected an Ed25519 key in PEM: a public one (SPKI), or a private one (PKCS #8), which can also sign"
    )]
    Pem,
}

/// A key.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    verifies: DecodingKey,
    signs: Option<EncodingKey>,
    public: Option<String>,
}

impl Key {
    /// Of HS256 the secret itself, as text; of EdDSA a public or private key in PEM. Space around it is no part of it.
    pub fn new(algorithm: Algorithm, text: &str) -> Result<Self, BadKey> {
        let text = text.trim();
        match algorithm {
            Algorithm::Hs256 if text.len() < MIN_SECRET_BYTES => Err(BadKey::Short),
            Algorithm::Hs256 => Ok(Self {
                algorithm,
                verifies: DecodingKey::from_secret(text.as_bytes()),
                signs: Some(EncodingKey::from_secret(text.as_bytes())),
                public: None,
            }),
            Algorithm::EdDsa => match SigningKey::from_pkcs8_pem(text) {
                Ok(key) => Self::signing(&key),
                Err(_) => {
                    let public = VerifyingKey::from_public_key_pem(text).map_err(|_| BadKey::Pem)?;
                    let verifies = DecodingKey::from_ed_der(public.as_bytes());
                    let pem = public.to_public_key_pem(LineEnding::LF).map_err(|_| BadKey::Pem)?;
                    Ok(Self { algorithm, verifies, signs: None, public: Some(pem) })
                }
            },
        }
    }

    fn signing(key: &SigningKey) -> Result<Self, BadKey> {
        let private = key.to_pkcs8_der().map_err(|_| BadKey::Pem)?;
        Ok(Self {
            algorithm: Algorithm::EdDsa,
            verifies: DecodingKey::from_ed_der(key.verifying_key().as_bytes()),
            signs: Some(EncodingKey::from_ed_der(private.as_bytes())),
            public: Some(key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| BadKey::Pem)?),
        })
    }

    /// The private and the public key in PEM that follow from 32 random bytes.
    pub fn ed25519_pems(seed: &[u8; 32]) -> Result<(String, String), BadKey> {
        let key = SigningKey::from_bytes(seed);
        let private = key.to_pkcs8_pem(LineEnding::LF).map_err(|_| BadKey::Pem)?;
        let public = key.verifying_key().to_public_key_pem(LineEnding::LF).map_err(|_| BadKey::Pem)?;
        Ok((private.to_string(), public))
    }

    /// Of EdDSA the public key, in PEM.
    pub fn public_pem(&self) -> Option<String> {
        self.public.clone()
    }

    /// Whether it is more than a public key.
    pub fn can_sign(&self) -> bool {
        self.signs.is_some()
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn verifies(&self) -> &DecodingKey {
        &self.verifies
    }
}

impl fmt::Debug for Key {
    /// Without the key itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotSign {
    /// The key is a public one.
    #[error("the key can only verify: it is a public one")]
    PublicKey,
    /// The claims or the key can't be used.
    #[error("the grant cannot be signed")]
    Failed,
}

/// Signs grants with one key.
#[derive(Debug, Clone)]
pub struct Signer {
    kid: String,
    key: Key,
}

impl Signer {
    /// With a key and its name.
    pub fn new(kid: impl Into<String>, key: Key) -> Self {
        Self { kid: kid.into(), key }
    }

    /// The grant.
    pub fn sign(&self, claims: &Claims) -> Result<String, CannotSign> {
        let signs = self.key.signs.as_ref().ok_or(CannotSign::PublicKey)?;
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.key.algorithm.jws()) };
        jsonwebtoken::encode(&header, claims, signs).map_err(|_| CannotSign::Failed)
    }
}
