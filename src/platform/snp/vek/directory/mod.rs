//! Endorsements kept as files, for machines without network and across restarts.

use std::error::Error as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;

use super::{CrlRequest, CrlSource, EndorsementError, EndorsementErrorKind, VekId, VekRequest, VekSource};
use crate::crypto;
use crate::platform::snp::{MAX_CERTIFICATE, MAX_CRL, Product};
use crate::report::Hex;

/// A directory of certificates and revocation lists, in front of another source or alone.
///
/// File names are made from numbers and hexadecimal digits alone, in lower case, so that no report can name a file
/// elsewhere. One VCEK (DER, at most 16 KiB) is `vcek-{product}-{hwid}-{tcb}.der`, where `hwid` is the chip id as in
/// AMD's URLs (128 digits, on Turin 16) and `tcb` the components in the order of AMD's URLs, two digits each:
///
/// ```text
/// vcek-milan-7c68…4d01-03000873.der                  bl 3, tee 0, snp 8, ucode 115
/// vcek-turin-4dc7f01200a61e4b-0102030405.der         fmc 1, bl 2, tee 3, snp 4, ucode 5
/// ```
///
/// A revocation list (DER, at most 1 MiB) is `crl-milan.der`, `crl-genoa.der` or `crl-turin.der`. With a next source the
/// list is taken from there, and from the file only where that fails.
///
/// A file that is too large, is no regular file or fails the verifier's check is passed over, with a warning. Files are
/// read on tokio's blocking threads.
///
/// ```
/// # tokio_test::block_on(async {
/// use tower_attest::platform::snp::vek::{MemoryVeks, EndorsementDirectory};
///
/// // Files only. `.then(kds)` would ask AMD for what is not there, and `.write_back()` keep the answer.
/// let source = MemoryVeks::new(EndorsementDirectory::new("/var/lib/prover/endorsements"));
/// # let _ = source;
/// # });
/// ```
#[derive(Debug)]
pub struct EndorsementDirectory<S = NoSource> {
    path: PathBuf,
    next: S,
    write_back: bool,
    capacity: usize,
}

/// How many files a directory may have before nothing more is kept in it, unless set: 16 384, some 64 MiB.
const CAPACITY: usize = 16 * 1024;

/// The end of a chain of sources: finds nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSource;

#[async_trait]
impl VekSource for NoSource {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        Err(EndorsementError::new(
            EndorsementErrorKind::NotFound,
            format!("{} is in none of the sources", request.id()),
        ))
    }
}

#[async_trait]
impl CrlSource for NoSource {
    async fn crl(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        let message = format!("the CRL of {} is in none of the sources", request.product());
        Err(EndorsementError::new(EndorsementErrorKind::NotFound, message))
    }
}

impl EndorsementDirectory {
    /// Reads files below `path`. The directory need not exist before something is written back.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), next: NoSource, write_back: false, capacity: CAPACITY }
    }
}

impl<S> EndorsementDirectory<S> {
    /// Asks `source` for what is not in the directory.
    pub fn then<T>(self, source: T) -> EndorsementDirectory<T> {
        let Self { path, write_back, capacity, .. } = self;
        EndorsementDirectory { path, next: source, write_back, capacity }
    }

    /// Keeps in the directory what the next source finds and the verifier's check accepts. A file appears whole or not
    /// at all, with mode 0644 on Unix. Where it cannot be written there is a warning, and the certificate is still used.
    ///
    /// AMD issues a certificate for every TCB that a report of a real chip names, a forged one too, so that there is a
    /// [limit](Self::with_capacity).
    #[must_use]
    pub fn write_back(mut self) -> Self {
        self.write_back = true;
        self
    }

    /// How many files the directory may have before none is added to it; those that are there are still replaced. 16 384
    /// unless set.
    #[must_use]
    pub fn with_capacity(mut self, files: NonZeroUsize) -> Self {
        self.capacity = files.get();
        self
    }

    /// Where the certificate of `id` is kept.
    pub fn file_of(&self, id: &VekId) -> PathBuf {
        self.path.join(file_name(id))
    }

    /// Where the revocation list of `product` is kept.
    pub fn crl_file_of(&self, product: Product) -> PathBuf {
        self.path.join(format!("crl-{}.der", product.name().to_ascii_lowercase()))
    }

    /// The source that is asked next.
    pub fn get_ref(&self) -> &S {
        &self.next
    }
}

#[async_trait]
impl<S: VekSource> VekSource for EndorsementDirectory<S> {
    async fn vek(&self, request: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        let file = self.file_of(&request.id());
        if let Some(der) = read(&file, MAX_CERTIFICATE).await {
            match request.check(&der) {
                Ok(()) => return Ok(der),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, cause = error.source(), "snp.endorsement_file.refused");
                }
            }
        }
        let der = self.next.vek(request).await?;
        request.check(&der)?;
        if self.write_back {
            write(file, der.clone(), self.capacity).await;
        }
        Ok(der)
    }
}

/// The next source is asked first: a list from the network is newer. Its failure is told only where the directory has no
/// list that the check accepts.
#[async_trait]
impl<S: CrlSource> CrlSource for EndorsementDirectory<S> {
    async fn crl(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        let file = self.crl_file_of(request.product());
        let failure = match self.checked(request).await {
            Ok(der) => {
                if self.write_back {
                    write(file, der.clone(), self.capacity).await;
                }
                return Ok(der);
            }
            Err(failure) => failure,
        };
        let Some(der) = read(&file, MAX_CRL).await else { return Err(failure) };
        match request.check(&der) {
            Ok(_) => Ok(der),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, cause = error.source(), "snp.endorsement_file.refused");
                // Without a next source, what is wrong with the file is what there is to say.
                Err(if failure.kind() == EndorsementErrorKind::NotFound { error } else { failure })
            }
        }
    }
}

impl<S: CrlSource> EndorsementDirectory<S> {
    async fn checked(&self, request: &CrlRequest<'_>) -> Result<Bytes, EndorsementError> {
        let der = self.next.crl(request).await?;
        request.check(&der)?;
        Ok(der)
    }
}

fn file_name(id: &VekId) -> String {
    let tcb: Vec<u8> = id.spls().map(|(_, spl)| spl).collect();
    format!("vcek-{}-{}-{}.der", id.product().name().to_ascii_lowercase(), Hex(id.hwid()), Hex(&tcb))
}

/// The content of `file`, or `None` where there is none that could be used.
pub(super) async fn read(file: &Path, limit: usize) -> Option<Bytes> {
    let path = file.to_owned();
    let outcome = tokio::task::spawn_blocking(move || read_blocking(&path, limit)).await.map_err(io::Error::other);
    match outcome.and_then(|read| read) {
        Ok(content) => Some(content),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "snp.endorsement_file.unreadable");
            None
        }
    }
}

fn read_blocking(file: &Path, limit: usize) -> io::Result<Bytes> {
    // Before it is opened: opening a FIFO would wait for its writer.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("expected a regular file"));
    }
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut content = Vec::new();
    File::open(file)?.take(bound).read_to_end(&mut content)?;
    if content.len() > limit {
        return Err(io::Error::other(format!("expected at most {limit} bytes, found more")));
    }
    Ok(content.into())
}

/// Puts `content` into `file`, whole or not at all; not if it is new and its directory has `capacity` files.
async fn write(file: PathBuf, content: Bytes, capacity: usize) {
    let path = file.clone();
    let written = tokio::task::spawn_blocking(move || write_blocking(&path, &content, capacity)).await;
    let outcome = written.map_err(io::Error::other);
    if let Err(error) = outcome.and_then(|written| written) {
        tracing::warn!(file = %file.display(), %error, "snp.endorsement_file.not_written");
    }
}

fn write_blocking(file: &Path, content: &[u8], capacity: usize) -> io::Result<()> {
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    if !fs::exists(file)? && fs::read_dir(directory)?.take(capacity).count() >= capacity {
        return Err(io::Error::other(format!(
            "expected less than {capacity} files in the directory, found as many or more: remove those of chips and TCBs \
             that are gone"
        )));
    }
    // Beside the file, because a rename works only within one file system. The name is nobody's: 16 random bytes.
    let temporary = directory.join(format!(".endorsement-{}", Hex(&crypto::random::<16>())));
    let written = create(&temporary).and_then(|mut new| {
        new.write_all(content)?;
        new.sync_all()?;
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        // What cannot be written can perhaps not be removed either; the error that counts is the first.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options.open(path)
}

#[cfg(test)]
mod tests;
