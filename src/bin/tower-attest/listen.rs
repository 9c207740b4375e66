//! Where a sidecar listens without TLS: a port, or a Unix socket.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::{UnixListener, UnixSocket};

/// `ADDR:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        #[cfg(unix)]
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        text.parse().map(Self::Tcp).map_err(|_| format!("expected ADDR:PORT or unix:PATH, found {text:?}"))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Listen {
    /// Whether only this machine can connect.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
            #[cfg(unix)]
            Self::Unix(_) => true,
        }
    }

    /// Binds it. A Unix socket that another process left behind is replaced, one in use is not; its file can be used by
    /// its owner alone.
    pub(crate) async fn bind(&self) -> io::Result<Listener> {
        match self {
            Self::Tcp(addr) => TcpListener::bind(addr).await.map(Listener::Tcp),
            #[cfg(unix)]
            Self::Unix(path) => {
                use std::os::unix::fs::FileTypeExt;
                if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
                    && std::os::unix::net::UnixStream::connect(path).is_err()
                {
                    std::fs::remove_file(path)?;
                }
                Ok(Listener::Unix(bind_private(path)?, SocketFile(path.clone())))
            }
        }
    }
}

/// How many connections wait in the system's queue.
#[cfg(unix)]
const BACKLOG: u32 = 1024;

/// A socket that its owner alone can connect to. Where its file comes with another mode, that is set before anybody who
/// has connected is served.
#[cfg(unix)]
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let socket = bound(path)?;
    std::fs::set_permissions(path, owner_alone())?;
    socket.listen(BACKLOG)
}

/// Linux gives the file the mode that its socket has, so that there is no moment at which others could connect.
#[cfg(unix)]
fn bound(path: &Path) -> io::Result<UnixSocket> {
    use std::os::fd::AsFd;
    let socket = UnixSocket::new_stream()?;
    if cfg!(target_os = "linux") {
        std::fs::File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(owner_alone())?;
    }
    socket.bind(path)?;
    Ok(socket)
}

#[cfg(unix)]
fn owner_alone() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o600)
}

/// A bound [`Listen`].
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, SocketFile),
}

/// Removes a socket's file when it is dropped.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

#[cfg(unix)]
impl Drop for SocketFile {
    fn drop(&mut self) {
        // That it is gone already is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Where it listens, with the port that the system chose.
    pub(crate) fn address(&self) -> io::Result<Listen> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Listen::Tcp),
            #[cfg(unix)]
            Self::Unix(_, file) => Ok(Listen::Unix(file.0.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_apart() {
        for (text, local) in [
            ("127.0.0.1:80", true),
            ("[::1]:80", true),
            ("[::ffff:127.0.0.1]:80", true),
            ("unix:/a", true),
            ("0.0.0.0:80", false),
            ("10.0.0.1:80", false),
        ] {
            let listen: Listen = text.parse().unwrap();
            assert_eq!((listen.is_local(), listen.to_string().as_str()), (local, text));
        }
        for text in ["", "unix:", "localhost:80", "127.0.0.1"] {
            assert!(text.parse::<Listen>().is_err(), "{text:?}");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_is_never_open_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let _bound = bound(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves it");
        let listen = Listen::Unix(path.clone());
        let listener = listen.bind().await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(listen.bind().await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "a file of the user's").unwrap();
        assert!(listen.bind().await.is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file of the user's");
    }
}
