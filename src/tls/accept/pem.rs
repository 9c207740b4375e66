//! A certificate in PEM files that is read again when they change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::slot::{CertificateSlot, certified_key};
use super::tls::TlsConfigError;

pub(super) struct PemFiles {
    certificates: PathBuf,
    key: PathBuf,
    slot: CertificateSlot,
    seen: Mutex<[Stamp; 2]>,
}

/// What changes when a file does. A secret mounted by Kubernetes changes its inode behind a symlink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

impl PemFiles {
    pub(super) fn open(certificates: PathBuf, key: PathBuf) -> Result<Self, TlsConfigError> {
        let seen = Mutex::new([stamp(&certificates), stamp(&key)]);
        let slot = CertificateSlot::holding(load(&certificates, &key)?);
        Ok(Self { certificates, key, slot, seen })
    }

    /// Where the last good pair is.
    pub(super) fn slot(&self) -> &CertificateSlot {
        &self.slot
    }

    /// Reads the files again if they have changed since the last look. Blocks on the file system.
    pub(super) fn refresh(&self) {
        let found = [stamp(&self.certificates), stamp(&self.key)];
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen == found {
            return;
        }
        *seen = found;
        if let Err(error) = self.load() {
            tracing::warn!(%error, "tls certificate not reloaded");
        }
    }

    /// Reads the files again, changed or not. Blocks on the file system.
    pub(super) fn reload(&self) -> Result<(), TlsConfigError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = [stamp(&self.certificates), stamp(&self.key)];
        self.load()
    }

    fn load(&self) -> Result<(), TlsConfigError> {
        self.slot.put(load(&self.certificates, &self.key)?);
        Ok(())
    }
}

impl fmt::Debug for PemFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PemFiles")
            .field("certificates", &self.certificates)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn load(certificates: &Path, key: &Path) -> Result<CertifiedKey, TlsConfigError> {
    let pem = |path: &Path, expected| {
        let path = path.to_owned();
        move |source| TlsConfigError::Pem { path, expected, source }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(pem(certificates, "a certificate chain"))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key, "a private key"))?;
    certified_key(chain, key)
}

fn stamp(path: &Path) -> Stamp {
    match fs::metadata(path) {
        Ok(metadata) => Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode: inode(&metadata) },
        Err(_) => Stamp { modified: None, length: 0, inode: 0 },
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn write(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
        let (certificates, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(&certificates, pem("CERTIFICATE", made.cert.der())).unwrap();
        fs::write(&key, pem("PRIVATE KEY", &made.signing_key.serialize_der())).unwrap();
        (certificates, key)
    }

    fn pem(label: &str, der: &[u8]) -> String {
        use base64::Engine as _;
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tower-attest-pem-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn changed_files_are_read_again_and_unchanged_ones_are_not() {
        let dir = dir("changed");
        let (certificates, key) = write(&dir, "one.example");
        let files = PemFiles::open(certificates, key).unwrap();
        let first = files.slot.current();
        files.refresh();
        assert!(Arc::ptr_eq(&first, &files.slot.current()));
        write(&dir, "a-longer-name.example");
        files.refresh();
        assert_ne!(first.cert, files.slot.current().cert);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_pair_that_does_not_belong_together_leaves_the_last_good_one_in_place() {
        let dir = dir("pair");
        let (certificates, key) = write(&dir, "one.example");
        let files = PemFiles::open(certificates.clone(), key.clone()).unwrap();
        let first = files.slot.current();
        let old_key = fs::read(&key).unwrap();
        write(&dir, "a-longer-name.example");
        fs::write(&key, old_key).unwrap();
        files.refresh();
        assert!(Arc::ptr_eq(&first, &files.slot.current()));
        assert!(matches!(PemFiles::open(certificates, key), Err(TlsConfigError::Certificate(_))));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_reload_says_whether_the_pair_will_do_and_keeps_the_last_good_one_if_not() {
        let dir = dir("reload");
        let (certificates, key) = write(&dir, "one.example");
        let files = PemFiles::open(certificates, key.clone()).unwrap();
        let first = files.slot.current();
        files.reload().unwrap();
        assert!(!Arc::ptr_eq(&first, &files.slot.current()), "read, though it looks unchanged");
        let second = files.slot.current();
        fs::write(&key, "no key").unwrap();
        assert!(matches!(files.reload(), Err(TlsConfigError::Pem { .. })));
        assert!(Arc::ptr_eq(&second, &files.slot.current()));
        files.refresh();
        assert!(Arc::ptr_eq(&second, &files.slot.current()), "a handshake does not try the same files again");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = PemFiles::open("/nonexistent/cert.pem".into(), "/nonexistent/key.pem".into()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/cert.pem"), "{error}");
    }
}
