//! What a message of Binary HTTP says, and what the `bhttp` crate makes of the same bytes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Cursor;
use std::pin::Pin;
use std::task::{Context, Poll};

use bhttp::FieldSection;
use bytes::Bytes;
use http::{HeaderMap, request, response};
use http_body::{Body, Frame};

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Method, scheme (in lower case), authority and path, or the status.
    line: Vec<Vec<u8>>,
    fields: Vec<Field>,
    pub(super) content: Vec<u8>,
    trailers: Vec<Field>,
}

type Field = (String, Vec<u8>);

impl Message {
    /// A request as a service gets it.
    pub(super) fn request(head: &request::Parts, content: Bytes, trailers: Option<&HeaderMap>) -> Self {
        let uri = &head.uri;
        let target = uri.path_and_query().map_or("", |path| path.as_str());
        let (scheme, authority) = (uri.scheme_str(), uri.authority().map_or("", |authority| authority.as_str()));
        let line = [head.method.as_str(), &scheme.unwrap_or_default().to_ascii_lowercase(), authority, target];
        Self::new(line.map(|part| part.as_bytes().to_vec()).to_vec(), &head.headers, content, trailers)
    }

    /// A response as a client gets it.
    pub(super) fn response(head: &response::Parts, content: Bytes, trailers: Option<&HeaderMap>) -> Self {
        Self::new(vec![head.status.as_str().as_bytes().to_vec()], &head.headers, content, trailers)
    }

    fn new(line: Vec<Vec<u8>>, fields: &HeaderMap, content: Bytes, trailers: Option<&HeaderMap>) -> Self {
        let section = |fields: &HeaderMap| {
            section(fields.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect())
        };
        let trailers = trailers.map(section).unwrap_or_default();
        Self { line, fields: section(fields), content: content.into(), trailers }
    }

    /// What `bhttp` reads where this crate has read something. Its reader demands what may be left out at the end, and
    /// padding is zeros.
    pub(super) fn by_bhttp(plaintext: &[u8]) -> Self {
        let padded = [plaintext, &[0; 3]].concat();
        let message = bhttp::Message::read_bhttp(&mut Cursor::new(&padded)).expect("what is accepted is Binary HTTP");
        let control = message.control();
        let line = match control.status() {
            Some(status) => vec![status.code().to_string().into_bytes()],
            None => {
                let part = |part: Option<&[u8]>| part.unwrap_or_default().to_vec();
                let authority = part(control.authority());
                // Where there is no authority, nobody is told the scheme.
                let scheme =
                    if authority.is_empty() { Vec::new() } else { part(control.scheme()).to_ascii_lowercase() };
                vec![part(control.method()), scheme, authority, part(control.path())]
            }
        };
        let (fields, trailers) = (without_hop_by_hop(message.header()), without_hop_by_hop(message.trailer()));
        Self { line, fields: section(fields), content: message.content().to_vec(), trailers: section(trailers) }
    }

    /// Without the fields of attestation itself, which a server removes from a head.
    pub(super) fn without_attestation(mut self) -> Self {
        let own = ["attestation-nonce", "attestation-report", "attestation-keys", "attestation-route"];
        self.fields.retain(|(name, _)| !own.contains(&name.as_str()));
        self
    }
}

/// By name; lines of one name keep their order. `bhttp` joins cookies, as RFC 9113 section 8.2.3 has it.
fn section(mut fields: Vec<Field>) -> Vec<Field> {
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields.dedup_by(|(name, value), (before, joined)| {
        let cookie = *name == "cookie" && *before == "cookie";
        if cookie {
            joined.extend_from_slice(b"; ");
            joined.append(value);
        }
        cookie
    });
    fields
}

/// RFC 9110, section 7.6.1.
fn without_hop_by_hop(fields: &FieldSection) -> Vec<Field> {
    let named: Vec<Vec<u8>> = fields
        .get_all(b"connection")
        .flat_map(|value| value.split(|byte| *byte == b','))
        .map(|option| option.trim_ascii().to_ascii_lowercase())
        .collect();
    let hop_by_hop = |name: &[u8], value: &[u8]| match name {
        b"connection" | b"transfer-encoding" | b"upgrade" | b"keep-alive" | b"proxy-connection" | b"http2-settings" => {
            true
        }
        b"te" => !value.eq_ignore_ascii_case(b"trailers"),
        name => named.iter().any(|option| option == name),
    };
    let kept = fields.iter().filter(|field| !hop_by_hop(field.name(), field.value()));
    kept.map(|field| (String::from_utf8_lossy(field.name()).into_owned(), field.value().to_vec())).collect()
}

/// A body of these frames.
#[derive(Debug, Default)]
pub(super) struct Frames(VecDeque<Frame<Bytes>>);

impl Frames {
    /// `bytes` in pieces of `size`.
    pub(super) fn cut(bytes: impl Into<Bytes>, size: usize) -> Self {
        let mut bytes = bytes.into();
        let mut frames = VecDeque::new();
        while !bytes.is_empty() {
            frames.push_back(Frame::data(bytes.split_to(size.min(bytes.len()))));
        }
        Self(frames)
    }

    /// Content and trailers.
    pub(super) fn with_trailers(content: Bytes, trailers: Option<HeaderMap>) -> Self {
        let mut frames = Self::cut(content, usize::MAX);
        frames.0.extend(trailers.map(Frame::trailers));
        frames
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}
