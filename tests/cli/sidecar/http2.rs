//! HTTP/2 by the frame: oversized frames, rapid resets, floods, and clients that stop reading.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{PATIENCE, Serve, Sidecar, client, eventually, get};
use super::upstream::Upstream;

pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `GET` of a path without Huffman coding (RFC 7541): indexed method and scheme, literal path and authority.
pub(super) fn get_block(path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 9]);
    block.extend(b"localhost");
    block
}

pub(super) fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// Sends bytes and reads frames until the other end closes or says goodbye: the kinds, and GOAWAY's error code.
pub(super) async fn exchange(io: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Option<u32> {
    tokio::time::timeout(PATIENCE, exchange_forever(io, bytes)).await.expect("the connection is ended")
}

async fn exchange_forever(mut io: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> Option<u32> {
    let _ = io.write_all(bytes).await;
    let mut goodbye = None;
    while let Ok(word) = io.read_u64().await {
        let (length, kind) = (word >> 40, (word >> 32) as u8);
        let _ = io.read_u8().await;
        let mut payload = vec![0; length as usize];
        if io.read_exact(&mut payload).await.is_err() {
            break;
        }
        if kind == GOAWAY {
            let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            goodbye = Some(code);
            if code != 0 {
                break;
            }
        }
    }
    goodbye
}

async fn sidecars(flags: &[&str]) -> (Upstream, Serve, Sidecar) {
    let upstream = Upstream::start().await;
    let serve = Serve::start(&upstream.url(), flags);
    let connect = serve.connect(flags);
    (upstream, serve, connect)
}

async fn both(serve: &Serve, connect: &Sidecar, bytes: &[u8]) -> [Option<u32>; 2] {
    let tcp = TcpStream::connect(connect.addr()).await.unwrap();
    let ends = [exchange(serve.tls("h2").await, bytes).await, exchange(tcp, bytes).await];
    assert_eq!(get(&client(), connect.addr(), "/version").await.status(), 200, "others are served");
    ends
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_larger_than_allowed_ends_the_connection() {
    let (_upstream, serve, connect) = sidecars(&[]).await;
    let bytes = [opening(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 100_000])].concat();
    const FRAME_SIZE_ERROR: u32 = 6;
    assert_eq!(both(&serve, &connect, &bytes).await, [Some(FRAME_SIZE_ERROR); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_and_reach_the_upstream_bounded() {
    let (upstream, serve, connect) = sidecars(&[]).await;
    let mut bytes = opening();
    for request in 0..5_000 {
        bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, request * 2 + 1, &get_block("/hang")));
        bytes.extend(frame(RST_STREAM, 0, request * 2 + 1, &8u32.to_be_bytes()));
    }
    const ENHANCE_YOUR_CALM: u32 = 11;
    assert_eq!(both(&serve, &connect, &bytes).await, [Some(ENHANCE_YOUR_CALM); 2]);
    assert!(upstream.seen.paths().len() < 1_000, "{}", upstream.seen.paths().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_header_block_ends_the_connection() {
    let (upstream, serve, connect) = sidecars(&["--max-header-bytes", "16KiB"]).await;
    let mut bytes = [opening(), frame(HEADERS, END_STREAM, 1, &get_block("/flood"))].concat();
    // Fields without indexing: name `x` and a value of 100 bytes, which take nothing from the table.
    let field = [&[0x00, 1, b'x', 100][..], &[b'v'; 100]].concat();
    for _ in 0..2_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &field.repeat(100)));
    }
    for end in both(&serve, &connect, &bytes).await {
        assert_ne!(end, Some(0), "it did not end in peace");
    }
    assert!(!upstream.seen.paths().contains(&"/flood".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preface_that_does_not_come_is_not_waited_for() {
    let (_upstream, serve, connect) = sidecars(&["--header-timeout", "2s"]).await;
    for bytes in [&b""[..], b"PRI * HTT", b"PRI * HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        both(&serve, &connect, bytes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_client_gives_no_window_is_given_up() {
    let (upstream, serve, connect) = sidecars(&["--idle-timeout", "2s"]).await;
    let bytes = [opening(), frame(HEADERS, END_HEADERS | END_STREAM, 1, &get_block("/endless"))].concat();
    // The window of 64 KiB is never widened; `both` reads on, so that TCP is not what stops.
    both(&serve, &connect, &bytes).await;
    eventually("the upstream is rid of them", || upstream.seen.running() == 0).await;
}
