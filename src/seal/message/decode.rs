//! Reads messages, sans-IO and piece by piece.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::uri::{Parts as UriParts, PathAndQuery};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, request, response,
};

use super::{
    FIELD_OVERHEAD, INDETERMINATE_REQUEST, INDETERMINATE_RESPONSE, KNOWN_REQUEST, KNOWN_RESPONSE, MAX_HEAD,
    is_hop_by_hop,
};
use crate::seal::error::SealError;
use crate::seal::varint;

/// What a message consists of, in order: a head, content, trailers if there are any.
#[derive(Debug)]
pub(crate) enum Event {
    Request(request::Parts),
    Response(response::Parts),
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Reads one message. Content is handed out as it comes; heads and trailers are held until they are whole.
#[derive(Debug)]
pub(crate) struct Decoder {
    wants: Kind,
    known_length: bool,
    state: State,
    reader: Reader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Request,
    Response,
}

#[derive(Debug)]
enum State {
    Framing,
    Control(Vec<Bytes>),
    Status,
    Fields(Head, Fields),
    /// Before the length of the content, or of a piece of it; true if nothing has come.
    ContentLength(bool),
    Content(u64),
    Trailers(Fields),
    Padding,
}

#[derive(Debug)]
enum Head {
    Request(Box<request::Parts>),
    Informational,
    Response(StatusCode),
}

#[derive(Debug, Default)]
struct Fields {
    map: HeaderMap,
    name: Option<HeaderName>,
}

impl Decoder {
    pub(crate) fn request() -> Self {
        Self::new(Kind::Request)
    }

    pub(crate) fn response() -> Self {
        Self::new(Kind::Response)
    }

    fn new(wants: Kind) -> Self {
        Self { wants, known_length: false, state: State::Framing, reader: Reader::new() }
    }

    /// Takes bytes from the front of `input` up to the next event. `None`: all are taken, and more are needed.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Event>, SealError> {
        loop {
            match &mut self.state {
                State::Framing => {
                    let Some(indicator) = self.reader.varint(input)? else { return Ok(None) };
                    let (kind, known_length) = match indicator {
                        KNOWN_REQUEST => (Kind::Request, true),
                        KNOWN_RESPONSE => (Kind::Response, true),
                        INDETERMINATE_REQUEST => (Kind::Request, false),
                        INDETERMINATE_RESPONSE => (Kind::Response, false),
                        _ => return Err(SealError::Message("an unknown framing indicator")),
                    };
                    if kind != self.wants {
                        return Err(SealError::Message("a request in place of a response, or the reverse"));
                    }
                    self.known_length = known_length;
                    self.state = match kind {
                        Kind::Request => State::Control(Vec::with_capacity(4)),
                        Kind::Response => State::Status,
                    };
                }
                State::Control(control) => {
                    let Some(part) = self.reader.vector(input)? else { return Ok(None) };
                    control.push(part);
                    if let [method, scheme, authority, path] = &**control {
                        let head = Head::Request(Box::new(request_line(method, scheme, authority, path)?));
                        self.state = State::Fields(head, Fields::default());
                    }
                }
                State::Status => {
                    let Some(status) = self.reader.varint(input)? else { return Ok(None) };
                    let status = u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok());
                    let head = match status {
                        Some(status) if status.is_informational() => Head::Informational,
                        Some(status) if status.as_u16() < 600 => Head::Response(status),
                        _ => return Err(SealError::Message("a status that is none")),
                    };
                    self.state = State::Fields(head, Fields::default());
                }
                State::Fields(_, fields) => {
                    let Some(fields) = self.reader.fields(input, self.known_length, fields)? else { return Ok(None) };
                    let State::Fields(head, _) = mem::replace(&mut self.state, State::ContentLength(true)) else {
                        continue;
                    };
                    match head {
                        Head::Informational => self.state = State::Status,
                        Head::Request(mut parts) => {
                            parts.headers = fields;
                            return Ok(Some(Event::Request(*parts)));
                        }
                        Head::Response(status) => {
                            return Ok(Some(response(status, fields)));
                        }
                    }
                }
                State::ContentLength(_) => {
                    self.reader.renew_budget();
                    let Some(length) = self.reader.varint(input)? else { return Ok(None) };
                    self.state = match length {
                        0 => self.trailers(),
                        length => State::Content(length),
                    };
                }
                State::Content(remaining) => {
                    if input.is_empty() {
                        return Ok(None);
                    }
                    let piece = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                    let data = input.split_to(piece);
                    *remaining = remaining.saturating_sub(u64::try_from(piece).unwrap_or(u64::MAX));
                    if *remaining == 0 {
                        self.state = if self.known_length { self.trailers() } else { State::ContentLength(false) };
                    }
                    return Ok(Some(Event::Data(data)));
                }
                State::Trailers(fields) => {
                    let Some(fields) = self.reader.fields(input, self.known_length, fields)? else { return Ok(None) };
                    self.state = State::Padding;
                    if !fields.is_empty() {
                        return Ok(Some(Event::Trailers(fields)));
                    }
                }
                State::Padding => {
                    if input.iter().any(|byte| *byte != 0) {
                        return Err(SealError::Message("padding that is not zero"));
                    }
                    input.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// The message ends here. What is empty at its end may have been left out, even a head's fields (RFC 9292 section 3.8):
    /// then the head comes now.
    pub(crate) fn finish(&mut self) -> Result<Option<Event>, SealError> {
        let at_a_border = self.reader.is_empty();
        match mem::replace(&mut self.state, State::Padding) {
            State::Padding => Ok(None),
            State::ContentLength(true) if at_a_border => Ok(None),
            State::Trailers(fields) if at_a_border && fields.is_empty() => Ok(None),
            State::Fields(Head::Request(parts), fields) if at_a_border && fields.is_empty() => {
                Ok(Some(Event::Request(*parts)))
            }
            State::Fields(Head::Response(status), fields) if at_a_border && fields.is_empty() => {
                Ok(Some(response(status, HeaderMap::new())))
            }
            _ => Err(SealError::Message("the message ends before it is whole")),
        }
    }

    fn trailers(&mut self) -> State {
        self.reader.renew_budget();
        State::Trailers(Fields::default())
    }
}

fn request_line(method: &[u8], scheme: &[u8], authority: &[u8], path: &[u8]) -> Result<request::Parts, SealError> {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = Method::from_bytes(method).map_err(|_| SealError::Message("a method that is none"))?;
    if parts.method == Method::CONNECT {
        return Err(SealError::Message("CONNECT asks for a tunnel and cannot be sealed"));
    }
    // What asks for trailers and knows no connection is HTTP/2's idea of a message.
    parts.version = Version::HTTP_2;
    let bad = SealError::Message("a target that is none");
    let asterisk = path == b"*" && parts.method == Method::OPTIONS;
    if !path.starts_with(b"/") && !asterisk {
        return Err(bad);
    }
    // A fragment would be left out in silence.
    let target = PathAndQuery::try_from(path).ok().filter(|target| target.as_str().as_bytes() == path).ok_or(bad)?;
    let mut uri = UriParts::default();
    uri.path_and_query = Some(target);
    if scheme.is_empty() {
        return Err(bad);
    }
    let scheme = http::uri::Scheme::try_from(scheme).map_err(|_| bad)?;
    if !authority.is_empty() {
        uri.scheme = Some(scheme);
        uri.authority = Some(http::uri::Authority::try_from(authority).map_err(|_| bad)?);
    }
    parts.uri = Uri::from_parts(uri).map_err(|_| bad)?;
    Ok(parts)
}

fn response(status: StatusCode, fields: HeaderMap) -> Event {
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, fields);
    Event::Response(parts)
}

/// Collects integers and vectors from pieces, within a budget of bytes.
#[derive(Debug)]
struct Reader {
    partial: BytesMut,
    length: Option<usize>,
    budget: usize,
}

impl Reader {
    fn new() -> Self {
        Self { partial: BytesMut::new(), length: None, budget: MAX_HEAD }
    }

    fn renew_budget(&mut self) {
        self.budget = MAX_HEAD;
    }

    fn is_empty(&self) -> bool {
        self.partial.is_empty() && self.length.is_none()
    }

    fn varint(&mut self, input: &mut Bytes) -> Result<Option<u64>, SealError> {
        loop {
            if let Some((value, _)) = varint::decode(&self.partial) {
                self.partial.clear();
                return Ok(Some(value));
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.spend(1)?;
            self.partial.extend_from_slice(&input.split_to(1));
        }
    }

    fn vector(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, SealError> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let Some(length) = self.varint(input)? else { return Ok(None) };
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                self.spend(length)?;
                *self.length.insert(length)
            }
        };
        if self.partial.is_empty() && input.len() >= length {
            self.length = None;
            return Ok(Some(input.split_to(length)));
        }
        let wanted = length.saturating_sub(self.partial.len()).min(input.len());
        self.partial.extend_from_slice(&input.split_to(wanted));
        if self.partial.len() < length {
            return Ok(None);
        }
        self.length = None;
        Ok(Some(self.partial.split().freeze()))
    }

    /// Reads a whole field section; what has come so far is in `so_far`.
    fn fields(
        &mut self,
        input: &mut Bytes,
        known_length: bool,
        so_far: &mut Fields,
    ) -> Result<Option<HeaderMap>, SealError> {
        if known_length {
            let Some(mut section) = self.vector(input)? else { return Ok(None) };
            let within = SealError::Message("a field section that ends within a field");
            let mut reader = Self::new();
            while !section.is_empty() {
                so_far.name(&reader.vector(&mut section)?.ok_or(within)?)?;
                so_far.value(&reader.vector(&mut section)?.ok_or(within)?)?;
                reader.spend(FIELD_OVERHEAD)?;
            }
            return Ok(Some(so_far.take()));
        }
        loop {
            if so_far.name.is_none() {
                let Some(name) = self.vector(input)? else { return Ok(None) };
                // A name of no bytes ends the section.
                if name.is_empty() {
                    return Ok(Some(so_far.take()));
                }
                so_far.name(&name)?;
            }
            let Some(value) = self.vector(input)? else { return Ok(None) };
            so_far.value(&value)?;
            self.spend(FIELD_OVERHEAD)?;
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), SealError> {
        self.budget = self.budget.checked_sub(bytes).ok_or(SealError::HeadTooLarge(MAX_HEAD))?;
        Ok(())
    }
}

impl Fields {
    fn is_empty(&self) -> bool {
        self.map.is_empty() && self.name.is_none()
    }

    fn name(&mut self, name: &[u8]) -> Result<(), SealError> {
        let bad = SealError::Message("a field name that is none; names are in lower case and begin with no colon");
        self.name = Some(HeaderName::from_lowercase(name).map_err(|_| bad)?);
        Ok(())
    }

    fn value(&mut self, value: &[u8]) -> Result<(), SealError> {
        let Some(name) = self.name.take() else { return Ok(()) };
        let value = HeaderValue::from_bytes(value).map_err(|_| SealError::Message("a field value that is none"))?;
        let added = self.map.try_append(name, value);
        added.map(|_| ()).map_err(|_| SealError::HeadTooLarge(MAX_HEAD))
    }

    /// The fields, without those that speak of a connection.
    fn take(&mut self) -> HeaderMap {
        let all = mem::take(&mut self.map);
        if !all.iter().any(|(name, value)| is_hop_by_hop(&all, name, value)) {
            return all;
        }
        let mut kept = HeaderMap::with_capacity(all.len());
        for (name, value) in &all {
            if !is_hop_by_hop(&all, name, value) {
                kept.append(name, value.clone());
            }
        }
        kept
    }
}
