//! A recording tap on a proxy's plaintext side: it carries bytes between the proxy and one server, and looks for needles.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a tap has read, both ways.
#[derive(Default)]
pub(crate) struct Tapped {
    pub(crate) bytes: AtomicU64,
    found: Mutex<Vec<String>>,
}

impl Tapped {
    pub(crate) fn found(&self) -> Vec<String> {
        self.found.lock().unwrap().clone()
    }
}

/// What a tap looks for, and what it has found. It outlives the server behind it.
#[derive(Clone)]
pub(crate) struct Tap {
    pub(crate) needles: Arc<Vec<Vec<u8>>>,
    pub(crate) tapped: Arc<Tapped>,
}

/// Carries each connection to `server`'s port, for as long as that server's runtime lives.
pub(crate) fn carry_to(server: u16, listener: TcpListener, tap: Tap) {
    tokio::spawn(async move {
        while let Ok((proxy, _)) = listener.accept().await {
            let Tap { needles, tapped } = tap.clone();
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
                let ((proxy_in, proxy_out), (server_in, server_out)) = (proxy.into_split(), server.into_split());
                tokio::join!(
                    carry(proxy_in, server_out, &needles, &tapped),
                    carry(server_in, proxy_out, &needles, &tapped)
                );
            });
        }
    });
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    needles: &[Vec<u8>],
    tapped: &Tapped,
) {
    let longest = needles.iter().map(Vec::len).max().unwrap_or(1);
    let (mut window, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        tapped.bytes.fetch_add(read as u64, Ordering::Relaxed);
        // A needle may lie across two reads.
        window.extend_from_slice(&buffer[..read]);
        for needle in needles {
            if memchr(&window, needle) {
                tapped.found.lock().unwrap().push(String::from_utf8_lossy(needle).into_owned());
            }
        }
        window.drain(..window.len().saturating_sub(longest - 1));
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Whether `needle` occurs. By its first byte, since a debug build compares windows slowly.
fn memchr(haystack: &[u8], needle: &[u8]) -> bool {
    let mut rest = haystack;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}
