//! A sealed request from its first byte to the end of its head.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::request::Parts;
use http::{Extensions, Method, Request};
use http_body::Body;

use super::body::UnsealedBody;
use super::carried::Carried;
use super::error::report;
use super::layer::is_well_known;
use super::reject::{Refusal, Sealed};
use super::request::SealedRequest;
use crate::error::BoxError;
use crate::protocol::{ATTESTATION_KEYS, ATTESTATION_NONCE, ATTESTATION_REPORT, ATTESTATION_ROUTE, KeysDigest};
use crate::seal::error::SealError;
use crate::seal::framing::{Opener, RequestHeader, ResponseKey};
use crate::seal::message::{Decoder, Event, OpenBody, OpenError};
use crate::server::problem::Wire;
use crate::server::{Attester, Opening as Record};

/// Reads until the request inside can be served or refused.
pub(super) struct Opening<B> {
    keys: KeysDigest,
    extensions: Extensions,
    state: State<B>,
}

enum State<B> {
    Header { body: Carried<B>, header: BytesMut },
    Head(Head<B>),
    Over,
}

struct Head<B> {
    message: Box<OpenBody<Carried<B>>>,
    enc: [u8; 32],
    key: ResponseKey,
}

/// A request that is open, or a refusal that only its client can read.
pub(super) enum Opened<B> {
    Request(Box<Request<UnsealedBody<B>>>, Reply),
    Refused(Sealed, Wire, Reply),
}

/// What it takes to answer.
pub(super) struct Reply {
    pub(super) key: ResponseKey,
    pub(super) method: Method,
}

impl<B> Opening<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// A request sealed to these keys. What the server knows of its connection, in the extensions, goes to the request
    /// inside.
    pub(super) fn new(keys: KeysDigest, extensions: Extensions, body: B) -> Self {
        let state = State::Header { body: Carried::new(body), header: BytesMut::with_capacity(RequestHeader::LEN) };
        Self { keys, extensions, state }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, attester: &Attester) -> Poll<Result<Opened<B>, Refusal>> {
        loop {
            match &mut self.state {
                State::Header { body, header } => {
                    let found = ready!(poll_header(body, header, cx));
                    let state = mem::replace(&mut self.state, State::Over);
                    let (State::Header { body, header: rest }, Some(header)) = (state, found) else {
                        return Poll::Ready(Err(Refusal::NotOpened));
                    };
                    self.state = State::Head(self.decapsulate(&header, body.after(rest.freeze()), attester)?);
                }
                State::Head(head) => {
                    let event = ready!(Pin::new(&mut *head.message).poll_head(cx));
                    let State::Head(head) = mem::replace(&mut self.state, State::Over) else { continue };
                    return Poll::Ready(match event {
                        Ok(Event::Request(parts)) => self.admit(parts, head, attester, cx),
                        // It has authenticated: what is wrong with it is its client's business, and nobody else's.
                        Err(OpenError::Seal(error @ (SealError::Message(_) | SealError::HeadTooLarge(_)))) => {
                            let reply = Reply { key: head.key, method: Method::POST };
                            Ok(Opened::Refused(Sealed::Message(error), Wire::Http, reply))
                        }
                        Ok(_) | Err(_) => Err(Refusal::NotOpened),
                    });
                }
                State::Over => return Poll::Ready(Err(Refusal::NotOpened)),
            }
        }
    }

    fn decapsulate(
        &self,
        header: &[u8; RequestHeader::LEN],
        body: Carried<B>,
        attester: &Attester,
    ) -> Result<Head<B>, Refusal> {
        let header = RequestHeader::parse(header).map_err(|_| Refusal::NotOpened)?;
        let opened = attester.sealing(&self.keys, |sealing| Opener::request(sealing.key(), sealing.id(), &header));
        let (opener, key) = opened.ok_or(Refusal::UnknownKeys)?.map_err(|_| Refusal::NotOpened)?;
        let message = Box::new(OpenBody::new(body, opener, Decoder::request(), report));
        Ok(Head { message, enc: header.enc, key })
    }

    /// The last look at a request before it is served. Only what has authenticated gets here, so that nobody fills the
    /// record with noise.
    fn admit(
        &mut self,
        mut parts: Parts,
        head: Head<B>,
        attester: &Attester,
        cx: &mut Context<'_>,
    ) -> Result<Opened<B>, Refusal> {
        match attester.open(&self.keys, &head.enc) {
            Some(Record::First | Record::Last) => {}
            Some(Record::Repeated) => return Err(Refusal::NotOpened),
            Some(Record::Full) | None => return Err(Refusal::UnknownKeys),
        }
        let reply = Reply { key: head.key, method: parts.method.clone() };
        if is_well_known(parts.uri.path()) {
            return Ok(Opened::Refused(Sealed::Target, Wire::of(&parts.headers), reply));
        }
        let Ok(body) = UnsealedBody::sealed(head.message, &parts.headers, cx) else {
            return Ok(Opened::Refused(Sealed::ContentLength, Wire::of(&parts.headers), reply));
        };
        // The layer outside attests for the request outside. What these fields say in here nobody has checked.
        for field in [ATTESTATION_NONCE, ATTESTATION_REPORT, ATTESTATION_KEYS, ATTESTATION_ROUTE] {
            parts.headers.remove(field);
        }
        parts.extensions = mem::take(&mut self.extensions);
        parts.extensions.insert(SealedRequest::new(self.keys));
        Ok(Opened::Request(Box::new(Request::from_parts(parts, body)), reply))
    }
}

/// The header; what came after it stays in `header`. `None`: the body ends or fails before.
fn poll_header<B>(
    body: &mut Carried<B>,
    header: &mut BytesMut,
    cx: &mut Context<'_>,
) -> Poll<Option<[u8; RequestHeader::LEN]>>
where
    B: Body,
{
    loop {
        if let Some(found) = header.first_chunk().copied() {
            let _ = header.split_to(RequestHeader::LEN);
            return Poll::Ready(Some(found));
        }
        match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => header.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Some(Err(_)) | None => return Poll::Ready(None),
        }
    }
}
