//! The directory where the account and the certificate are kept between starts, with their private keys.
//!
//! For each CA one folder, named after its directory's URL, with two files of mode 0600: `account.json` and `certificate.pem`,
//! the key first, then the chain. A file is replaced as a whole, so that a key and its certificate never part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use http::Uri;
use instant_acme::AccountCredentials;
use zeroize::Zeroizing;

use super::issued::{Issued, NotUsable};
use crate::failure::Failure;

const ACCOUNT: &str = "account.json";
const CERTIFICATE: &str = "certificate.pem";
/// A chain, a key or an account has a few KiB.
const MAX_FILE: u64 = 1 << 20;

/// One CA's folder.
#[derive(Debug, Clone)]
pub(super) struct StateDir {
    dir: PathBuf,
    directory: String,
}

/// Why a file is not what it should be. What cannot be read at all is an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Found {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("expected a file that its owner alone can read, found mode {0:03o}")]
    Mode(u32),
    #[error("expected at most {MAX_FILE} bytes")]
    TooLong,
    #[error("expected an account of {expected}, found one of {found}")]
    OtherCa { expected: String, found: String },
    #[error("expected an account, found {0}")]
    Account(serde_json::Error),
    #[error("{0}")]
    Certificate(#[from] NotUsable),
}

impl StateDir {
    /// The folder of this CA, made if it is not there. Says at the start what a renewal would find out in two months: that
    /// nothing can be written there.
    pub(super) fn open(root: &Path, directory: &Uri) -> Result<Self, Failure> {
        let dir = root.join(folder(directory));
        let failed =
            |path: &Path, error: &io::Error| Failure::during(format_args!("--state-dir {}", path.display()), error);
        for path in [root, &dir] {
            make(path).map_err(|error| failed(path, &error))?;
            private(path)?;
        }
        let state = Self { dir, directory: directory.to_string() };
        state.write("probe", b"").map_err(|error| failed(&state.dir, &error))?;
        match fs::remove_file(state.dir.join("probe")) {
            // Another server that starts at the same time may have been quicker.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&state.dir, &error)),
            _ => Ok(state),
        }
    }

    /// The account at this CA, if there is one.
    pub(super) fn account(&self) -> Result<Option<AccountCredentials>, Found> {
        let Some(bytes) = self.read(ACCOUNT)? else { return Ok(None) };
        let of: AccountOf = serde_json::from_slice(&bytes).map_err(Found::Account)?;
        if of.directory != self.directory {
            return Err(Found::OtherCa { expected: self.directory.clone(), found: of.directory });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(Found::Account)
    }

    pub(super) fn keep_account(&self, account: &AccountCredentials) -> io::Result<()> {
        self.write(ACCOUNT, &Zeroizing::new(serde_json::to_vec(account)?))
    }

    /// The last certificate, if there is one, whatever it is for.
    pub(super) fn certificate(&self) -> Result<Option<Issued>, Found> {
        Ok(self.read(CERTIFICATE)?.map(|pem| Issued::from_pem(&pem)).transpose()?)
    }

    pub(super) fn keep_certificate(&self, issued: &Issued) -> io::Result<()> {
        self.write(CERTIFICATE, issued.to_pem().as_bytes())
    }

    /// `None` if there is no such file.
    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Found> {
        let mut file = match File::open(self.dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if let Some(mode) = open_to_others(&file)? {
            return Err(Found::Mode(mode));
        }
        let mut bytes = Zeroizing::new(Vec::new());
        Read::by_ref(&mut file).take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        match u64::try_from(bytes.len()) {
            Ok(0..=MAX_FILE) => Ok(Some(bytes)),
            _ => Err(Found::TooLong),
        }
    }

    /// Beside the file first, then in its place: whoever reads it finds the old or the new one, and after a crash too.
    fn write(&self, name: &str, contents: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = new_file().open(&temporary)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&temporary, self.dir.join(name))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Refuses a directory in which others write.
pub(super) fn private(dir: &Path) -> Result<(), Failure> {
    match writable_by_others(dir).map_err(|error| failed(dir, &error))? {
        Some(mode) => Err(Failure::undecided(format_args!(
            "--state-dir {}: expected a directory in which its owner alone writes, found mode {mode:03o}; others could put \
             keys of theirs in place of this server's",
            dir.display()
        ))),
        None => Ok(()),
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::during(format_args!("--state-dir {}", path.display()), error)
}

/// The one member of [`AccountCredentials`] that says whose account it is.
#[derive(serde::Deserialize)]
struct AccountOf {
    directory: String,
}

/// `acme-v02.api.letsencrypt.org_directory`: a name that an operator knows again.
fn folder(directory: &Uri) -> String {
    let host = directory.authority().map_or("", |authority| authority.as_str());
    let path = directory.path().trim_end_matches('/');
    let known = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let name: String = host.chars().chain(path.chars()).map(known).take(200).collect();
    name.trim_start_matches('.').to_owned()
}

#[cfg(unix)]
fn make(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

#[cfg(not(unix))]
fn make(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)
}

/// Options for a new file of mode 0600.
fn new_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// The mode of a directory in which another user may write.
#[cfg(unix)]
fn writable_by_others(dir: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(dir)?.permissions().mode() & 0o777;
    Ok((mode & 0o022 != 0).then_some(mode))
}

/// The mode of a file that another user may read or write.
#[cfg(unix)]
fn open_to_others(file: &File) -> io::Result<Option<u32>> {
    use std::os::unix::fs::PermissionsExt;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    Ok((mode & 0o077 != 0).then_some(mode))
}

#[cfg(not(unix))]
fn writable_by_others(_: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(not(unix))]
fn open_to_others(_: &File) -> io::Result<Option<u32>> {
    Ok(None)
}

#[cfg(test)]
mod tests;
