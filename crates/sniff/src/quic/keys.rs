//! The keys of a client's Initial packets, which anybody can derive from the first connection id.

use std::fmt;

use aes::Aes128;
use aes::cipher::{Block, BlockCipherEncrypt};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes128Gcm, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;

use super::header::Kind;

/// Bytes of ciphertext that mask the header, which begin four after the packet number does.
pub(super) const SAMPLE: usize = 16;

/// Bytes at the end of a packet that prove it.
pub(super) const TAG: usize = 16;

/// Bytes of a nonce.
const NONCE: usize = 12;

/// A version of QUIC whose Initial packets are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

impl Version {
    pub(super) const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::V1),
            0x6b33_43cf => Some(Self::V2),
            _ => None,
        }
    }

    /// What the packet with this first byte is for.
    pub(super) const fn kind(self, first: u8) -> Kind {
        let number = first >> 4 & 3;
        // Version 2 has the same kinds, each numbered one higher.
        let number = match self {
            Self::V1 => number,
            Self::V2 => (number + 3) % 4,
        };
        match number {
            0 => Kind::Initial,
            1 => Kind::ZeroRtt,
            2 => Kind::Handshake,
            _ => Kind::Retry,
        }
    }

    const fn salt(self) -> [u8; 20] {
        match self {
            Self::V1 => *b"\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a",
            Self::V2 => *b"\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9",
        }
    }

    /// The labels of the packet key, its nonce and the header key.
    const fn labels(self) -> [&'static str; 3] {
        match self {
            Self::V1 => ["quic key", "quic iv", "quic hp"],
            Self::V2 => ["quicv2 key", "quicv2 iv", "quicv2 hp"],
        }
    }
}

/// Opens the Initial packets of one client.
pub(super) struct Keys {
    pub(super) version: Version,
    packet: Aes128Gcm,
    nonce: [u8; NONCE],
    header: Aes128,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Derives the keys from the destination of the client's first packet.
    pub(super) fn of_client(version: Version, destination: &[u8]) -> Self {
        let secret: [u8; 32] = expand(&Hkdf::new(Some(&version.salt()), destination), "client in");
        let secret = Hkdf::from_prk(&secret).expect("a secret of 32 bytes is one of SHA-256");
        let [packet, nonce, header] = version.labels();
        Self {
            version,
            packet: Aes128Gcm::new(&expand::<16>(&secret, packet).into()),
            nonce: expand(&secret, nonce),
            header: Aes128::new(&expand::<16>(&secret, header).into()),
        }
    }

    /// What to exclusive-or a packet's first byte and its packet number with.
    pub(super) fn mask(&self, sample: [u8; SAMPLE]) -> [u8; 5] {
        let mut block: Block<Aes128> = sample.into();
        self.header.encrypt_block(&mut block);
        [block[0], block[1], block[2], block[3], block[4]]
    }

    /// Decrypts `sealed`, which ends in its tag, in place; `None` when it was not sealed with these keys, this number and this header.
    pub(super) fn open<'a>(&self, number: u64, header: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (content, tag) = sealed.split_last_chunk_mut::<TAG>()?;
        let nonce = self.nonce(number).into();
        self.packet
            .decrypt_inout_detached(&nonce, header, (&mut *content).into(), (&*tag).into())
            .ok()?;
        Some(content)
    }

    /// Encrypts `content` as the client does; the result ends in its tag.
    #[cfg(test)]
    pub(super) fn seal(&self, number: u64, header: &[u8], content: &[u8]) -> Vec<u8> {
        let mut sealed = content.to_vec();
        let nonce = self.nonce(number).into();
        let tag = self
            .packet
            .encrypt_inout_detached(&nonce, header, sealed.as_mut_slice().into())
            .expect("no packet is too long for the cipher");
        sealed.extend_from_slice(&tag);
        sealed
    }

    fn nonce(&self, number: u64) -> [u8; NONCE] {
        let mut nonce = self.nonce;
        for (byte, mask) in nonce[NONCE - size_of::<u64>()..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= mask;
        }
        nonce
    }
}

/// TLS 1.3's HKDF-Expand-Label, with an empty context.
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &str) -> [u8; N] {
    const PREFIX: &str = "tls13 ";
    let mut out = [0; N];
    let size = (N as u16).to_be_bytes();
    let label_size = [(PREFIX.len() + label.len()) as u8];
    secret
        .expand_multi_info(
            &[&size, &label_size, PREFIX.as_bytes(), label.as_bytes(), &[0]],
            &mut out,
        )
        .expect("HKDF fills far more bytes than any key has");
    out
}
