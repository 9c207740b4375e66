//! The codec against the crate `bhttp`, and against messages that are none.

use std::io::Cursor;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};

use crate::seal::error::SealError;
use crate::seal::message::{Decoder, Event, MAX_HEAD, encode, request_head, response_head};

/// A whole message: method or status with the target, fields, content, trailers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Whole {
    line: String,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
    trailers: Vec<(String, String)>,
}

impl Whole {
    fn add(&mut self, event: Event) {
        match event {
            Event::Request(parts) => {
                self.line = format!("{} {}", parts.method, parts.uri);
                self.fields = pairs(&parts.headers);
            }
            Event::Response(parts) => {
                self.line = parts.status.as_str().to_owned();
                self.fields = pairs(&parts.headers);
            }
            Event::Data(data) => self.content.extend_from_slice(&data),
            Event::Trailers(trailers) => self.trailers = pairs(&trailers),
        }
    }
}

fn pairs(map: &HeaderMap) -> Vec<(String, String)> {
    // Values may hold bytes that are no text.
    map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().escape_ascii().to_string())).collect()
}

/// Reads a message that comes in pieces of `size` bytes.
fn read(mut decoder: Decoder, message: &[u8], size: usize) -> Result<Whole, SealError> {
    let mut whole = Whole::default();
    for piece in message.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(event) = decoder.next(&mut piece)? {
            whole.add(event);
        }
        assert!(piece.is_empty());
    }
    if let Some(event) = decoder.finish()? {
        whole.add(event);
    }
    Ok(whole)
}

fn read_request(message: &[u8]) -> Result<Whole, SealError> {
    read(Decoder::request(), message, 7)
}

fn read_response(message: &[u8]) -> Result<Whole, SealError> {
    read(Decoder::response(), message, 7)
}

fn message(text: &'static str) -> SealError {
    SealError::Message(text)
}

fn request() -> http::request::Parts {
    let builder = Request::post("https://prover.example:8443/prove?fast=1").header("x-a", "1").header("x-b", "");
    builder.header("x-a", "2").body(()).unwrap().into_parts().0
}

/// As this crate writes it, content in two pieces.
fn written() -> Vec<u8> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let head = request_head(&request()).unwrap();
    [&head[..], &[3], b"abc", &[2], b"de", &encode::end(&trailers).unwrap()].concat()
}

fn by_bhttp(mode: bhttp::Mode) -> Vec<u8> {
    let mut message = bhttp::Message::request(
        b"POST".to_vec(),
        b"https".to_vec(),
        b"prover.example:8443".to_vec(),
        b"/prove?fast=1".to_vec(),
    );
    for (name, value) in [("x-a", "1"), ("x-b", ""), ("x-a", "2")] {
        message.put_header(name, value);
    }
    message.write_content(b"abcde");
    message.put_trailer("grpc-status", "0");
    let mut bytes = vec![];
    message.write_bhttp(mode, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_is_written_is_what_bhttp_reads() {
    let read = bhttp::Message::read_bhttp(&mut Cursor::new(written())).unwrap();
    let control = read.control();
    assert_eq!(control.method(), Some(&b"POST"[..]));
    assert_eq!(control.scheme(), Some(&b"https"[..]));
    assert_eq!(control.authority(), Some(&b"prover.example:8443"[..]));
    assert_eq!(control.path(), Some(&b"/prove?fast=1"[..]));
    let all: Vec<_> = read.header().get_all(b"x-a").collect();
    assert_eq!(all, [b"1", b"2"]);
    assert_eq!(read.header().get(b"x-b"), Some(&b""[..]));
    assert_eq!(read.content(), b"abcde");
    assert_eq!(read.trailer().get(b"grpc-status"), Some(&b"0"[..]));
}

#[test]
fn both_framings_of_bhttp_are_read_in_pieces_of_any_size() {
    for mode in [bhttp::Mode::KnownLength, bhttp::Mode::IndeterminateLength] {
        let bytes = by_bhttp(mode);
        for size in [1, 2, 3, 50, 1000] {
            let whole = read(Decoder::request(), &bytes, size).unwrap();
            assert_eq!(whole.line, "POST https://prover.example:8443/prove?fast=1");
            let mut fields = whole.fields;
            fields.sort();
            assert_eq!(fields, [("x-a", "1"), ("x-a", "2"), ("x-b", "")].map(|(n, v)| (n.into(), v.into())));
            assert_eq!(whole.content, b"abcde");
            assert_eq!(whole.trailers, [("grpc-status".into(), "0".into())]);
        }
    }
}

#[test]
fn a_message_ends_after_its_line_its_head_its_content_or_its_trailers_and_nowhere_else() {
    for bytes in [written(), by_bhttp(bhttp::Mode::KnownLength), by_bhttp(bhttp::Mode::IndeterminateLength)] {
        let ends: Vec<_> = (0..=bytes.len()).filter(|length| read_request(&bytes[..*length]).is_ok()).collect();
        let content = |length: &usize| read_request(&bytes[..*length]).unwrap().content;
        let contents: Vec<_> = ends.iter().map(content).collect();
        assert_eq!(contents, [&b""[..], b"", b"abcde", b"abcde"], "{ends:?}");
        // The reader of bhttp's that is not for streams demands what may be left out.
        for length in 0..=bytes.len() {
            let theirs = bhttp::Message::read_bhttp(&mut Cursor::new(&bytes[..length]));
            assert!(theirs.is_err() || ends.contains(&length), "{length}");
        }
    }
}

#[test]
fn a_response_that_is_cut_within_its_fields_or_a_length_is_refused() {
    let field = [1, b'a', 1, b'b'];
    let content = [&[0x40, 100][..], &[7; 100]].concat();
    let known = [&[1, 0x40, 0xc8, 4][..], &field, &content].concat();
    let indeterminate = [&[3, 0x40, 0xc8][..], &field, &[0], &content].concat();
    for bytes in [known, indeterminate] {
        let ends: Vec<_> = (0..=bytes.len()).filter(|length| read_response(&bytes[..*length]).is_ok()).collect();
        assert_eq!(ends[..2], [3, 8], "after the status, and after the fields");
        assert!(ends[2..].iter().all(|end| *end == bytes.len()), "{ends:?}");
    }
}

#[test]
fn the_examples_of_rfc_9458_leave_out_all_that_is_empty() {
    let request = hex::decode("00034745540568747470730b6578616d706c652e636f6d012f").unwrap();
    assert_eq!(read_request(&request).unwrap().line, "GET https://example.com/");
    assert_eq!(read_response(&[1, 0x40, 0xc8]).unwrap().line, "200");
    assert!(read_response(&[1, 0x40, 103]).is_err(), "an informational response is not the end");
}

#[test]
fn a_message_may_leave_out_what_is_empty_and_be_padded() {
    let head = request_head(&request()).unwrap();
    for ending in [&b""[..], b"\0", b"\0\0", b"\0\0\0\0\0"] {
        assert!(read_request(&[&head[..], ending].concat()).is_ok(), "{ending:?}");
    }
    let padded = [&head[..], b"\0\0\0\x01"].concat();
    assert_eq!(read_request(&padded), Err(message("padding that is not zero")));
}

#[test]
fn informational_responses_are_skipped() {
    // The example of RFC 9292 section 5.2, shortened: 102, 103 with a field, then 200.
    let bytes = [&[3, 0x40, 102, 0, 0x40, 103, 4][..], b"link", &[1, b'x', 0, 0x40, 200, 1, b'a', 1, b'b', 0]].concat();
    let whole = read_response(&bytes).unwrap();
    assert_eq!(whole.line, "200");
    assert_eq!(whole.fields, [("a".to_owned(), "b".to_owned())]);
}

#[test]
fn responses_are_written_and_read() {
    let (parts, ()) = Response::builder().status(418).header("x", "y").body(()).unwrap().into_parts();
    let whole = read_response(&response_head(&parts).unwrap()).unwrap();
    assert_eq!((whole.line.as_str(), whole.fields.len()), ("418", 1));
    let (informational, ()) = Response::builder().status(103).body(()).unwrap().into_parts();
    assert!(response_head(&informational).is_err());
}

#[test]
fn fields_of_a_connection_are_neither_written_nor_read() {
    let request = || {
        Request::get("https://a/")
            .header("connection", "close, X-Hop")
            .header("x-hop", "1")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "h2c")
            .header("keep-alive", "1")
            .header("proxy-connection", "1")
            .header("http2-settings", "1")
            .header("te", "trailers")
            .header("x-end", "1")
    };
    let (parts, ()) = request().body(()).unwrap().into_parts();
    let whole = read_request(&request_head(&parts).unwrap()).unwrap();
    let names: Vec<_> = whole.fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["te", "x-end"]);
    let bytes = [request_head(&parts).unwrap(), encode::end(&HeaderMap::new()).unwrap()].concat();
    let written = bhttp::Message::read_bhttp(&mut Cursor::new(bytes)).unwrap();
    assert_eq!(written.header().len(), 2, "they are not even written");

    let mut foreign = bhttp::Message::request(b"GET".to_vec(), b"https".to_vec(), b"a".to_vec(), b"/".to_vec());
    for (name, value) in &parts.headers {
        foreign.put_header(name.as_str(), value.as_bytes());
    }
    foreign.put_header("te", "gzip");
    let mut bytes = vec![];
    foreign.write_bhttp(bhttp::Mode::IndeterminateLength, &mut bytes).unwrap();
    assert_eq!(read_request(&bytes).unwrap().fields, whole.fields);
}

#[test]
fn an_option_of_other_bytes_hides_no_field_of_the_connection() {
    let options = http::HeaderValue::from_bytes(b"cl\x88se, x-hop").unwrap();
    let request = Request::get("https://a/").header("connection", options).header("x-hop", "1").header("x-end", "1");
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let whole = read_request(&request_head(&parts).unwrap()).unwrap();
    assert_eq!(whole.fields, [("x-end".to_owned(), "1".to_owned())]);
}

#[test]
fn a_relative_target_stays_one() {
    let (parts, ()) = Request::get("/only/path").header("host", "h").body(()).unwrap().into_parts();
    assert_eq!(read_request(&request_head(&parts).unwrap()).unwrap().line, "GET /only/path");
    let (parts, ()) = Request::options("*").body(()).unwrap().into_parts();
    assert_eq!(read_request(&request_head(&parts).unwrap()).unwrap().line, "OPTIONS *");
}

#[test]
fn connect_is_neither_written_nor_read() {
    let (parts, ()) = Request::connect("a:443").body(()).unwrap().into_parts();
    assert!(request_head(&parts).is_err());
    assert!(read_request(&raw("CONNECT", "https", "a", "/")).is_err());
}

fn raw(method: &str, scheme: &str, authority: &str, path: &str) -> Vec<u8> {
    let mut bytes = vec![2];
    for part in [method, scheme, authority, path] {
        bytes.push(u8::try_from(part.len()).unwrap());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes.push(0);
    bytes
}

#[test]
fn a_request_line_that_is_none_is_refused() {
    assert!(read_request(&raw("GET", "https", "a", "/x?y")).is_ok());
    for (method, scheme, authority, path) in [
        ("", "https", "a", "/"),
        ("G T", "https", "a", "/"),
        ("GET", "ht tp", "a", "/"),
        ("GET", "", "a", "/"),
        ("GET", "https", "a b", "/"),
        ("GET", "https", "a", ""),
        ("GET", "https", "a", "x"),
        ("GET", "https", "a", "*"),
        ("GET", "https", "a", "/a b"),
        ("GET", "https", "a", "/a#b"),
        ("GET", "https", "a", "https://b/"),
    ] {
        assert!(read_request(&raw(method, scheme, authority, path)).is_err(), "{method} {scheme} {authority} {path}");
    }
}

#[test]
fn a_field_that_is_none_is_refused() {
    let with = |name: &[u8], value: &[u8]| {
        let head = raw("GET", "https", "a", "/");
        let length = |bytes: &[u8]| [u8::try_from(bytes.len()).unwrap()];
        let field = [&head[..head.len() - 1], &length(name), name, &length(value), value, &[0]].concat();
        read_request(&field)
    };
    assert!(with(b"x-a", b"z").is_ok());
    for (name, value) in
        [(&b"X-A"[..], &b"z"[..]), (b":path", b"/"), (b"x a", b"z"), (b"x-a", b"a\r\nb: c"), (b"x-a", b"a\0")]
    {
        assert!(with(name, value).is_err(), "{name:?}");
    }
}

#[test]
fn another_kind_of_message_is_refused() {
    let expected = message("a request in place of a response, or the reverse");
    assert_eq!(read_response(&written()), Err(expected));
    assert_eq!(read_request(&[3, 0x40, 200, 0]), Err(expected));
    assert_eq!(read_request(&[4]), Err(message("an unknown framing indicator")));
}

#[test]
fn a_status_that_is_none_is_refused() {
    for status in [[0x40, 99], [0x42, 0x58], [0x7f, 0xff]] {
        assert!(read_response(&[&[3][..], &status, &[0]].concat()).is_err(), "{status:?}");
    }
}

#[test]
fn a_section_that_ends_within_a_field_is_refused() {
    let line = [&[0][..], &raw("GET", "https", "a", "/")[1..]].concat();
    let line = &line[..line.len() - 1];
    assert!(read_request(&[line, &[4, 1, b'a', 1, b'b']].concat()).is_ok());
    for section in [&[2, 1, b'a'][..], &[3, 1, b'a', 1], &[1, 4]] {
        assert!(read_request(&[line, section].concat()).is_err(), "{section:?}");
    }
}

#[test]
fn a_head_over_the_limit_is_refused_before_it_is_held() {
    let too_large = Err(SealError::HeadTooLarge(MAX_HEAD));
    let announced = [&[2][..], crate::seal::varint::encode(1 << 40).as_ref()].concat();
    assert_eq!(read_request(&announced), too_large);

    let field = [&[1, b'a', 0x40, 100][..], &[b'x'; 100]].concat();
    let head = raw("GET", "https", "a", "/");
    let many = [&head[..head.len() - 1], &field.repeat(MAX_HEAD / 100)].concat();
    assert_eq!(read_request(&many), too_large);
    let informational = [&[3][..], &[0x40, 103, 0].repeat(MAX_HEAD / 3 + 1)].concat();
    assert_eq!(read_response(&informational), too_large);
    let trailers = [&head[..], &[0], &field.repeat(MAX_HEAD / 100)].concat();
    assert_eq!(read_request(&trailers), too_large);
    let section = field.repeat(MAX_HEAD / 200);
    let both = [&head[..head.len() - 1], &section, &[0, 0], &section, &[0]].concat();
    assert_eq!(read_request(&both).unwrap().trailers.len(), MAX_HEAD / 200, "trailers have a limit of their own");

    let (mut parts, ()) = Request::get("https://a/").body(()).unwrap().into_parts();
    parts.headers.insert("x", "y".repeat(MAX_HEAD).parse().unwrap());
    assert_eq!(request_head(&parts), Err(SealError::HeadTooLarge(MAX_HEAD)));
    let mut of = |length: usize| {
        parts.headers.insert("x", "y".repeat(length).parse().unwrap());
        request_head(&parts)
    };
    let fits = (MAX_HEAD - 200) + (MAX_HEAD - 32 - of(MAX_HEAD - 200).unwrap().len());
    assert!(of(fits).is_ok() && of(fits + 1).is_err(), "the limit itself fits");
}

#[test]
fn small_fields_count_for_the_memory_that_they_take() {
    let head = raw("GET", "https", "a", "/");
    // Three bytes and the overhead each.
    let fit = MAX_HEAD / 35 - 1;
    for (fields, fits) in [(fit, true), (fit + 2, false)] {
        let message = [&head[..head.len() - 1], &[1, b'a', 0].repeat(fields), &[0]].concat();
        assert_eq!(read_request(&message).is_ok(), fits, "{fields}");
        let section = [1, b'a', 0].repeat(fields);
        let length = crate::seal::varint::encode(section.len() as u64);
        let known = [&[0][..], &head[1..head.len() - 1], length.as_ref(), &section].concat();
        assert_eq!(read_request(&known).is_ok(), fits, "{fields}, of known length");
        let (mut parts, ()) = Request::get("https://a/").body(()).unwrap().into_parts();
        for _ in 0..fields {
            parts.headers.append("a", http::HeaderValue::from_static(""));
        }
        assert_eq!(request_head(&parts).is_ok(), fits, "{fields}, written");
    }
}

#[test]
fn content_is_not_held_to_the_limit_of_a_head() {
    let head = raw("GET", "https", "a", "/");
    let piece = [crate::seal::varint::encode(16_000).as_ref(), &[7; 16_000]].concat();
    let long = [&head[..], &piece.repeat(20), &[0, 0]].concat();
    assert_eq!(read(Decoder::request(), &long, 16_384).unwrap().content.len(), 320_000);
}

proptest::proptest! {
    /// Nothing panics, and pieces make no difference: neither to what is read nor to whether it is.
    #[test]
    fn any_bytes_are_read_alike_in_any_pieces(
        start in 0_usize..3,
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
        at in 0_usize..100,
        size in 1_usize..50,
    ) {
        let mut bytes = vec![vec![], written(), by_bhttp(bhttp::Mode::KnownLength)].swap_remove(start);
        let at = at.min(bytes.len());
        let end = bytes.len().min(at + noise.len() / 8);
        bytes.splice(at..end, noise);
        for decoder in [Decoder::request, Decoder::response] {
            let (whole, pieces) = (read(decoder(), &bytes, bytes.len().max(1)), read(decoder(), &bytes, size));
            proptest::prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
                proptest::prop_assert_eq!(whole, pieces);
            }
        }
    }
}
