//! One directory of configfs-tsm, from `mkdir` to `rmdir`. Everything here blocks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::{MAX_BLOB, TsmReport};
use crate::crypto;
use crate::platform::worker::Device;
use crate::provider::{ProviderError, ProviderErrorKind};
use crate::report::Hex;

/// `mkdir` answers this where no driver has registered as the kernel's provider.
const ENXIO: i32 = 6;
/// The kernel knows privilege levels 0 to 3 (`TSM_REPORT_PRIVLEVEL_MAX`).
const MAX_PRIVLEVEL: u8 = 3;
/// `provider`, `generation` and `privlevel_floor` are one short line.
const MAX_ATTRIBUTE: usize = 256;

/// The settings of each attempt.
#[derive(Debug)]
pub(super) struct Reports {
    root: PathBuf,
    provider: String,
    privlevel: Option<u8>,
}

impl Reports {
    pub(super) fn new(root: PathBuf, provider: String, privlevel: Option<u8>) -> Self {
        Self { root, provider, privlevel }
    }

    /// Whether reports can be made, without making one.
    pub(super) fn probe(&self) -> Result<(), ProviderError> {
        if let Some(level) = self.privlevel.filter(|level| *level > MAX_PRIVLEVEL) {
            return Err(unsupported(format!("privilege level: expected 0 to {MAX_PRIVLEVEL}, found {level}")));
        }
        let entry = Entry::create(&self.root)?;
        self.check_provider(&entry)?;
        if let Some(level) = self.privlevel {
            let floor = entry.number("privlevel_floor")?;
            if u64::from(level) < floor {
                return Err(unsupported(format!(
                    "privilege level: this guest may ask for {floor} to {MAX_PRIVLEVEL}, found {level}; \
                     set the VMPL to {floor} here and in the verifier's policy"
                )));
            }
        }
        Ok(())
    }

    fn check_provider(&self, entry: &Entry) -> Result<(), ProviderError> {
        let found = entry.text("provider")?;
        if found == self.provider {
            return Ok(());
        }
        Err(unsupported(format!(
            "the kernel's provider in {}: expected {:?}, found {found:?}",
            self.root.display(),
            self.provider
        )))
    }
}

impl Device for Reports {
    type Reply = TsmReport;

    fn call(&mut self, data: &[u8; 64]) -> Result<TsmReport, ProviderError> {
        let entry = Entry::create(&self.root)?;
        self.check_provider(&entry)?;
        let before = entry.number("generation")?;
        let mut writes = 1;
        if let Some(level) = self.privlevel {
            entry.write("privlevel", level.to_string().as_bytes())?;
            writes += 1;
        }
        entry.write("inblob", data)?;
        let outblob = entry.blob("outblob")?.unwrap_or_default();
        let auxblob = entry.blob("auxblob")?.unwrap_or_default();
        let after = entry.number("generation")?;
        // Too high: someone else wrote here, and the blobs may be for his input. Too low: a write was lost, for the kernel
        // tells nobody when it drops an `inblob` at close.
        if after != before.wrapping_add(writes) {
            return Err(ProviderError::new(
                ProviderErrorKind::Busy,
                format!(
                    "generation of {}: expected {before} + {writes} writes, found {after}; another process writes there",
                    entry.path.display()
                ),
            ));
        }
        if outblob.is_empty() {
            return Err(failed("outblob: expected a report, found 0 bytes"));
        }
        Ok(TsmReport { outblob, auxblob })
    }
}

/// The name of the provider that serves `root`.
pub(crate) fn provider_of(root: &Path) -> Result<String, ProviderError> {
    Entry::create(root)?.text("provider")
}

/// A directory of our own. Dropping it removes it, on errors and panics too.
#[derive(Debug)]
struct Entry {
    path: PathBuf,
}

impl Entry {
    fn create(root: &Path) -> Result<Self, ProviderError> {
        let name = format!("tower-attest-{}-{}", std::process::id(), Hex(&crypto::random::<8>()));
        let path = root.join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self { path }),
            Err(error) => Err(create_error(root, error)),
        }
    }

    /// Writes all of `value` in one call and closes the file, which is when the kernel takes an `inblob`.
    fn write(&self, name: &str, value: &[u8]) -> Result<(), ProviderError> {
        let mut file = OpenOptions::new()
            .write(true)
            .open(self.path.join(name))
            .map_err(|error| self.fault("open", name, error))?;
        // Not `write_all`: the kernel would take the pieces of a split write for several values.
        let written = file.write(value).map_err(|error| self.fault("write", name, error))?;
        if written == value.len() {
            Ok(())
        } else {
            Err(failed(format!("{name}: expected to write {} bytes, wrote {written}", value.len())))
        }
    }

    fn text(&self, name: &str) -> Result<String, ProviderError> {
        let bytes = self
            .read(name, MAX_ATTRIBUTE)?
            .ok_or_else(|| failed(format!("{} does not exist", self.path.join(name).display())))?;
        match String::from_utf8(bytes) {
            Ok(text) => Ok(text.trim_end_matches('\n').to_owned()),
            Err(_) => Err(failed(format!("{name}: expected text, found other bytes"))),
        }
    }

    fn number(&self, name: &str) -> Result<u64, ProviderError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| failed(format!("{name}: expected a number, found {text:?}")))
    }

    /// A blob of at most 32 KiB; `None` if this provider has no such file.
    fn blob(&self, name: &str) -> Result<Option<Vec<u8>>, ProviderError> {
        self.read(name, MAX_BLOB)
    }

    /// Reads to the end: what `stat` says of these files' size is not true.
    fn read(&self, name: &str, limit: usize) -> Result<Option<Vec<u8>>, ProviderError> {
        let mut file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.fault("open", name, error)),
        };
        let mut value = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            // Not `read_to_end`: it repeats an interrupted read for ever.
            let length = file.read(&mut chunk).map_err(|error| self.fault("read", name, error))?;
            let Some(part) = chunk.get(..length).filter(|part| !part.is_empty()) else {
                return Ok(Some(value));
            };
            if value.len() + part.len() > limit {
                return Err(failed(format!("{name}: expected at most {limit} bytes, found more")));
            }
            value.extend_from_slice(part);
        }
    }

    fn fault(&self, action: &str, name: &str, error: io::Error) -> ProviderError {
        let kind = match error.kind() {
            ErrorKind::ResourceBusy | ErrorKind::Interrupted | ErrorKind::WouldBlock => ProviderErrorKind::Busy,
            ErrorKind::TimedOut => ProviderErrorKind::Timeout,
            ErrorKind::PermissionDenied => ProviderErrorKind::Unsupported,
            _ => ProviderErrorKind::Failed,
        };
        let path = self.path.join(name);
        ProviderError::with_source(kind, format!("{action} {}: {error}", path.display()), error)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a configfs-tsm directory could not be removed");
        }
    }
}

fn create_error(root: &Path, error: io::Error) -> ProviderError {
    let root = root.display();
    let (kind, message) = match (error.kind(), error.raw_os_error()) {
        (_, Some(ENXIO)) => (
            ProviderErrorKind::Unsupported,
            format!("{root} has no provider: load the kernel module sev-guest or tdx_guest, or this is no TEE guest"),
        ),
        (ErrorKind::NotFound, _) => (
            ProviderErrorKind::Unsupported,
            format!(
                "{root} does not exist: it needs Linux 6.7 with CONFIG_TSM_REPORTS and \
                 `mount -t configfs none /sys/kernel/config`"
            ),
        ),
        (ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem, _) => {
            (ProviderErrorKind::Unsupported, format!("{root} may not be written by this process: {error}"))
        }
        (ErrorKind::Interrupted | ErrorKind::ResourceBusy, _) => {
            (ProviderErrorKind::Busy, format!("mkdir in {root}: {error}"))
        }
        _ => (ProviderErrorKind::Failed, format!("mkdir in {root}: {error}")),
    };
    ProviderError::with_source(kind, message, error)
}

fn unsupported(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Unsupported, message)
}

fn failed(message: impl Into<String>) -> ProviderError {
    ProviderError::new(ProviderErrorKind::Failed, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("tower-attest-test-{}", Hex(&crypto::random::<8>())));
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn entries(&self) -> usize {
            fs::read_dir(&self.0).unwrap().count()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_directory_goes_when_a_panic_unwinds() {
        let root = Root::new();
        let path = root.0.clone();
        let outcome = std::panic::catch_unwind(move || {
            let _entry = Entry::create(&path).unwrap();
            assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
            panic!("in the middle");
        });
        assert!(outcome.is_err());
        assert_eq!(root.entries(), 0);
    }

    #[test]
    fn two_entries_never_share_a_name() {
        let root = Root::new();
        let (a, b) = (Entry::create(&root.0).unwrap(), Entry::create(&root.0).unwrap());
        assert_ne!(a.path, b.path);
        drop((a, b));
        assert_eq!(root.entries(), 0);
    }

    #[test]
    fn a_root_that_does_not_exist_is_unsupported_and_says_what_to_do() {
        let error = provider_of(Path::new("/nonexistent/tsm/report")).unwrap_err();
        assert_eq!(error.kind(), ProviderErrorKind::Unsupported);
        assert!(error.to_string().contains("mount -t configfs"), "{error}");
    }

    #[test]
    fn the_kernels_error_numbers_are_sorted_into_kinds() {
        let root = Root::new();
        let entry = Entry::create(&root.0).unwrap();
        let kind = |errno| entry.fault("read", "outblob", io::Error::from_raw_os_error(errno)).kind();
        let (eintr, eio, eagain, eacces, ebusy, einval, efbig, etimedout) = (4, 5, 11, 13, 16, 22, 27, 110);
        assert_eq!([eintr, eagain, ebusy].map(kind), [ProviderErrorKind::Busy; 3]);
        assert_eq!(kind(etimedout), ProviderErrorKind::Timeout);
        assert_eq!(kind(eacces), ProviderErrorKind::Unsupported);
        assert_eq!([eio, einval, efbig].map(kind), [ProviderErrorKind::Failed; 3]);
        let refused = |errno| create_error(&root.0, io::Error::from_raw_os_error(errno)).kind();
        let (enxio, erofs) = (6, 30);
        assert_eq!([enxio, eacces, erofs].map(refused), [ProviderErrorKind::Unsupported; 3]);
        assert_eq!(refused(eio), ProviderErrorKind::Failed);
    }
}
