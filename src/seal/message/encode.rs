//! Writes heads and trailers, in the framing of indeterminate length.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, request, response};

use super::{FIELD_OVERHEAD, INDETERMINATE_REQUEST, INDETERMINATE_RESPONSE, MAX_HEAD, is_hop_by_hop};
use crate::seal::error::SealError;
use crate::seal::varint;

/// Method, scheme, authority, path and fields of a request. A URI without a scheme counts as `https`.
pub(crate) fn request_head(parts: &request::Parts) -> Result<Bytes, SealError> {
    if parts.method == Method::CONNECT {
        return Err(SealError::Message("CONNECT asks for a tunnel and cannot be sealed"));
    }
    let mut head = BytesMut::with_capacity(512);
    put_varint(&mut head, INDETERMINATE_REQUEST);
    put_vector(&mut head, parts.method.as_str().as_bytes());
    put_vector(&mut head, parts.uri.scheme_str().unwrap_or("https").as_bytes());
    put_vector(&mut head, parts.uri.authority().map_or("", |authority| authority.as_str()).as_bytes());
    put_vector(&mut head, path(&parts.uri).as_bytes());
    put_fields(&mut head, &parts.headers);
    bounded(head, &parts.headers)
}

/// Status and fields of a final response.
pub(crate) fn response_head(parts: &response::Parts) -> Result<Bytes, SealError> {
    if parts.status.is_informational() {
        return Err(SealError::Message("an informational status cannot be a response's own"));
    }
    let mut head = BytesMut::with_capacity(512);
    put_varint(&mut head, INDETERMINATE_RESPONSE);
    put_varint(&mut head, u64::from(parts.status.as_u16()));
    put_fields(&mut head, &parts.headers);
    bounded(head, &parts.headers)
}

/// The end of the content, and the trailers.
pub(super) fn end(trailers: &HeaderMap) -> Result<Bytes, SealError> {
    let mut end = BytesMut::new();
    put_varint(&mut end, 0);
    put_fields(&mut end, trailers);
    bounded(end, trailers)
}

fn path(uri: &Uri) -> &str {
    match uri.path_and_query().map(|path| path.as_str()) {
        None | Some("") => "/",
        Some(path) => path,
    }
}

fn put_fields(buffer: &mut BytesMut, fields: &HeaderMap) {
    for (name, value) in fields {
        if !is_hop_by_hop(fields, name, value) {
            put_vector(buffer, name.as_str().as_bytes());
            put_vector(buffer, value.as_bytes());
        }
    }
    put_varint(buffer, 0);
}

fn put_vector(buffer: &mut BytesMut, bytes: &[u8]) {
    put_varint(buffer, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    buffer.put_slice(bytes);
}

fn put_varint(buffer: &mut BytesMut, value: u64) {
    buffer.put_slice(varint::encode(value).as_ref());
}

fn bounded(buffer: BytesMut, fields: &HeaderMap) -> Result<Bytes, SealError> {
    if fields.len().saturating_mul(FIELD_OVERHEAD).saturating_add(buffer.len()) > MAX_HEAD {
        return Err(SealError::HeadTooLarge(MAX_HEAD));
    }
    Ok(buffer.freeze())
}
