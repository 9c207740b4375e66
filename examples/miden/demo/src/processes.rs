//! Programs that run beside this one: the commands are shown as they are given, and all end when this one does.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use wallet::{BoxError, Result};

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A program that listens. Killed on drop.
pub struct Process {
    _child: Child,
    pub address: SocketAddr,
}

/// An address on loopback that nothing listens on now.
pub async fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?.local_addr()?)
}

/// How a program shows that it is ready.
pub enum Ready {
    /// It accepts connections there.
    Accepts(SocketAddr),
    /// It says where it listens, as `serve` and `connect` do.
    Says,
}

impl Ready {
    async fn address(&self, log: &Path) -> Result<Option<SocketAddr>> {
        match *self {
            Self::Accepts(address) => Ok(TcpStream::connect(address).await.is_ok().then_some(address)),
            Self::Says => {
                let said = std::fs::read_to_string(log)?;
                let line = said.lines().find_map(|line| line.strip_prefix("listening "));
                Ok(line.and_then(|address| address.trim().parse().ok()))
            }
        }
    }
}

impl Process {
    /// Starts `program`, whose output goes to a file in `files`, and waits until it is ready.
    pub async fn start<A: AsRef<OsStr>>(program: &Path, arguments: &[A], ready: Ready, files: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let shown: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_string_lossy()).collect();
        println!("$ {name} {}", shown.join(" "));
        let (output, log) = tempfile::NamedTempFile::new_in(files)?.keep()?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{}: {error}", program.display()))?;
        let address = async {
            loop {
                if let Some(status) = child.try_wait()? {
                    return Err::<_, BoxError>(format!("{name} ended with {status}").into());
                }
                match ready.address(&log).await? {
                    Some(address) => return Ok(address),
                    None => sleep(Duration::from_millis(50)).await,
                }
            }
        };
        let outcome = timeout(START_TIMEOUT, address).await;
        match outcome.unwrap_or_else(|_| Err(format!("{name} is not ready after {START_TIMEOUT:?}").into())) {
            Ok(address) => Ok(Self { _child: child, address }),
            Err(error) => Err(format!("{error}; its output:\n{}", std::fs::read_to_string(&log)?).into()),
        }
    }
}
