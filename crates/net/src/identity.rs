//! The relay's own identity: a self-signed certificate, made once and kept.
//!
//! Invites pin this certificate, so it must never change by itself: it is written before it is used, and a restart only reads it.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use spawnpoint_proto::CertificateHash;

/// A certificate chain and its private key.
#[derive(Debug)]
pub struct Identity {
    /// The chain, the relay's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// What can be wrong with certificate files.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read {what} {path}")]
    Read {
        /// `certificate` or `private key`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate file without a certificate.
    #[error("{path} holds no certificate: it must be PEM with at least one CERTIFICATE block")]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("cannot write {path}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Only one of the two files of the identity is there.
    #[error(
        "{present} is there but {missing} is not: restore it from a backup, or remove both and invite every host anew"
    )]
    Half {
        /// The file that exists.
        present: PathBuf,
        /// The file that does not.
        missing: PathBuf,
    },
    /// The key and the certificate could not be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
}

impl Identity {
    /// Reads a PEM certificate chain and a PEM private key.
    ///
    /// # Errors
    /// [`IdentityError::Read`] or [`IdentityError::Empty`].
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let read = |what, path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Read { what, path, source }
        };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
            .map_err(read("certificate", certificate))?
            .collect();
        let chain = chain.map_err(read("certificate", certificate))?;
        if chain.is_empty() {
            return Err(IdentityError::Empty {
                path: certificate.to_owned(),
            });
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(read("private key", key))?;
        Ok(Self { chain, key })
    }

    /// Reads the relay's own identity in `dir`, or makes it if there is none.
    ///
    /// # Errors
    /// As [`Identity::load`]; [`IdentityError::Half`] when a file was lost; [`IdentityError::Write`].
    pub fn load_or_make(dir: &Path) -> Result<Self, IdentityError> {
        let (certificate, key) = (dir.join("certificate.pem"), dir.join("key.pem"));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (true, false) => {
                return Err(IdentityError::Half {
                    present: certificate,
                    missing: key,
                });
            }
            (false, true) => {
                return Err(IdentityError::Half {
                    present: key,
                    missing: certificate,
                });
            }
            (false, false) => {
                let made =
                    rcgen::generate_simple_self_signed(vec!["spawnpoint".into()]).map_err(IdentityError::Make)?;
                write_secret(&key, made.signing_key.serialize_pem().as_bytes())?;
                write_secret(&certificate, made.cert.pem().as_bytes())?;
            }
        }
        Self::load(&certificate, &key)
    }

    /// The hash by which an invite pins this certificate.
    pub fn hash(&self) -> CertificateHash {
        certificate_hash(&self.chain[0])
    }
}

/// The hash by which an invite pins a certificate.
pub fn certificate_hash(certificate: &CertificateDer<'_>) -> CertificateHash {
    CertificateHash(Sha256::digest(certificate).into())
}

/// Reads the secret kept in `path`, or makes and keeps a random one.
///
/// # Errors
/// [`IdentityError::Write`] when it can be neither read nor written.
pub fn load_or_make_secret(path: &Path) -> Result<[u8; 64], IdentityError> {
    if let Ok(bytes) = fs::read(path)
        && let Ok(secret) = <[u8; 64]>::try_from(bytes)
    {
        return Ok(secret);
    }
    let secret = crate::random_bytes();
    write_secret(path, &secret)?;
    Ok(secret)
}

/// Writes a file that only its owner may read, whole or not at all.
///
/// # Errors
/// [`IdentityError::Write`].
pub fn write_secret(path: &Path, content: &[u8]) -> Result<(), IdentityError> {
    let write = || -> io::Result<()> {
        let part = path.with_extension("part");
        match fs::remove_file(&part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // On Windows the file inherits the permissions of the data directory, which lies in the user's profile.
        let mut file = options.open(&part)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|source| IdentityError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_restart_keeps_the_identity() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::load_or_make(dir.path()).unwrap();
        let second = Identity::load_or_make(dir.path()).unwrap();
        assert_eq!(first.hash(), second.hash());
    }

    #[test]
    fn a_lost_key_is_told_and_nothing_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_make(dir.path()).unwrap();
        let certificate = fs::read(dir.path().join("certificate.pem")).unwrap();
        fs::remove_file(dir.path().join("key.pem")).unwrap();
        let error = Identity::load_or_make(dir.path()).unwrap_err().to_string();
        assert!(error.contains("key.pem is not") && error.contains("restore"), "{error}");
        assert_eq!(fs::read(dir.path().join("certificate.pem")).unwrap(), certificate);
    }

    #[test]
    fn a_file_without_a_certificate_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty.pem");
        fs::write(&path, "hello").unwrap();
        let error = Identity::load(&path, &path).unwrap_err().to_string();
        assert!(error.contains("empty.pem") && error.contains("CERTIFICATE"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn the_private_key_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        Identity::load_or_make(dir.path()).unwrap();
        let mode = fs::metadata(dir.path().join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
