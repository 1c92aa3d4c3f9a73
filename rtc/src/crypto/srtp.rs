//! SRTP's ciphers: AES-GCM (RFC 7714) by ring, AES in counter mode (RFC 3711 §4.1.1) by RustCrypto.

use aes::cipher::{BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, Algorithm, LessSafeKey, Nonce, Tag, UnboundKey};
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, SrtpProvider,
    SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

/// Bytes of a tag of AES-GCM.
const TAG: usize = 16;

#[derive(Debug)]
pub(super) struct Srtp;

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &CounterMode
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Gcm128
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Gcm256
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = aes::Aes128::new_from_slice(key) {
            block(&cipher, input, output);
        }
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        if let Ok(cipher) = aes::Aes256::new_from_slice(key) {
            block(&cipher, input, output);
        }
    }
}

/// Encrypts the one block that a round of key derivation takes.
fn block(cipher: &impl BlockCipherEncrypt, input: &[u8], output: &mut [u8]) {
    let Some(input) = input.first_chunk::<16>() else { return };
    let mut block = aes::cipher::Array::default();
    block.iter_mut().zip(input).for_each(|(to, from)| *to = *from);
    cipher.encrypt_block(&mut block);
    output.iter_mut().zip(block).for_each(|(to, from)| *to = from);
}

#[derive(Debug)]
struct CounterMode;

impl SupportedAes128CmSha1_80 for CounterMode {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(CounterCipher { key })
    }
}

struct CounterCipher {
    key: [u8; 16],
}

impl std::fmt::Debug for CounterCipher {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AES-128-CM")
    }
}

impl Aes128CmSha1_80Cipher for CounterCipher {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let output = output.get_mut(..input.len()).ok_or_else(short)?;
        output.copy_from_slice(input);
        let mut cipher = ctr::Ctr128BE::<aes::Aes128>::new(&self.key.into(), iv.into());
        cipher.apply_keystream(output);
        Ok(())
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

#[derive(Debug)]
struct Gcm128;

impl SupportedAeadAes128Gcm for Gcm128 {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(GcmCipher::new(&AES_128_GCM, &key))
    }
}

#[derive(Debug)]
struct Gcm256;

impl SupportedAeadAes256Gcm for Gcm256 {
    fn create_cipher(&self, key: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(GcmCipher::new(&AES_256_GCM, &key))
    }
}

struct GcmCipher {
    /// A key of the right length is never refused.
    key: Option<LessSafeKey>,
}

impl std::fmt::Debug for GcmCipher {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AES-GCM")
    }
}

impl GcmCipher {
    fn new(algorithm: &'static Algorithm, key: &[u8]) -> Self {
        Self { key: UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new) }
    }

    fn seal(&self, iv: &[u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let key = self.key.as_ref().ok_or_else(short)?;
        let (text, rest) = output.split_at_mut_checked(input.len()).ok_or_else(short)?;
        let rest = rest.get_mut(..TAG).ok_or_else(short)?;
        text.copy_from_slice(input);
        let nonce = Nonce::assume_unique_for_key(*iv);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
            .map_err(|_| CryptoError::Other("AES-GCM could not encrypt".to_owned()))?;
        rest.copy_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(
        &self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        let key = self.key.as_ref().ok_or_else(short)?;
        let joined;
        let aad = match aads {
            [aad] => *aad,
            aads => {
                joined = aads.concat();
                joined.as_slice()
            }
        };
        let (sealed, tag) = input
            .len()
            .checked_sub(TAG)
            .and_then(|length| input.split_at_checked(length))
            .ok_or_else(short)?;
        let tag = Tag::try_from(tag).map_err(|_| short())?;
        let text = output.get_mut(..sealed.len()).ok_or_else(short)?;
        text.copy_from_slice(sealed);
        let nonce = Nonce::assume_unique_for_key(*iv);
        let text = key
            .open_in_place_separate_tag(nonce, Aad::from(aad), tag, text, 0..)
            .map_err(|_| CryptoError::Other("AES-GCM could not decrypt".to_owned()))?;
        Ok(text.len())
    }
}

impl AeadAes128GcmCipher for GcmCipher {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for GcmCipher {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(iv, aads, input, output)
    }
}

fn short() -> CryptoError {
    CryptoError::Other("a buffer is too short".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    #[test]
    fn the_published_values_come_out() {
        // RFC 7714 §16.1.1: SRTP by AEAD_AES_128_GCM.
        let key: [u8; 16] = hex("000102030405060708090a0b0c0d0e0f").try_into().unwrap();
        let iv: [u8; 12] = hex("51753c6580c2726f20718414").try_into().unwrap();
        let aad = hex("8040f17b8041f8d35501a0b2");
        let text = b"Gallia est omnis divisa in partes tres";
        let mut cipher = Gcm128.create_cipher(key, true);
        let mut sealed = vec![0; text.len() + TAG];
        cipher.encrypt(&iv, &aad, text, &mut sealed).unwrap();
        let expected = "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce";
        assert_eq!(sealed, hex(expected));
        let mut opened = vec![0; text.len()];
        assert_eq!(cipher.decrypt(&iv, &[&aad[..4], &aad[4..]], &sealed, &mut opened).unwrap(), text.len());
        assert_eq!(opened, text);
        sealed[3] ^= 1;
        assert!(cipher.decrypt(&iv, &[&aad], &sealed, &mut opened).is_err());
        assert!(cipher.decrypt(&iv, &[&aad], &sealed[..5], &mut opened).is_err());

        // RFC 3711 §B.2: the first block of the key stream.
        let key: [u8; 16] = hex("2b7e151628aed2a6abf7158809cf4f3c").try_into().unwrap();
        let iv: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000").try_into().unwrap();
        let mut cipher = CounterMode.create_cipher(key, true);
        let mut stream = [0; 16];
        cipher.encrypt(&iv, &[0; 16], &mut stream).unwrap();
        assert_eq!(stream.to_vec(), hex("e03ead0935c95e80e166b16dd92b4eb4"));

        // FIPS 197, appendix C.1.
        let mut round = [0; 32];
        let key = hex("000102030405060708090a0b0c0d0e0f");
        Srtp.srtp_aes_128_ecb_round(&key, &hex("00112233445566778899aabbccddeeff"), &mut round);
        assert_eq!(round[..16].to_vec(), hex("69c4e0d86a7b0430d8cdb78070b4c55a"));
    }
}
