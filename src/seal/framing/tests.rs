use bytes::Bytes;

use super::*;
use crate::crypto::seal::X25519Key;
use crate::protocol;
use crate::seal::config::{KeyConfig, Suite};
use crate::seal::hpke::{KeyPair, setup_sender_with};

fn bytes32(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn chunk(sealer: &mut Sealer, text: &[u8], last: bool) -> Vec<u8> {
    let mut plaintext = sealer.plaintext(text.len());
    plaintext.put(&mut &*text);
    assert_eq!(plaintext.len(), text.len());
    sealer.seal(plaintext, last).unwrap().to_vec()
}

/// Opens a whole stream that comes in pieces of `size` bytes.
fn open(opener: &mut Opener, stream: &[u8], size: usize) -> Result<Vec<Vec<u8>>, SealError> {
    let mut chunks = vec![];
    for piece in stream.chunks(size) {
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(chunk) = opener.next(&mut piece)? {
            chunks.push(chunk.to_vec());
        }
        assert!(piece.is_empty());
    }
    chunks.push(opener.finish()?.to_vec());
    Ok(chunks)
}

fn config(id: u8, pair: &KeyPair) -> KeyConfig {
    let suites = [AeadAlgorithm::Aes128Gcm, AeadAlgorithm::ChaCha20Poly1305].map(|aead| Suite { aead });
    KeyConfig { id, public: *pair.public(), suites: suites.to_vec() }
}

struct Server {
    pair: KeyPair,
    config: KeyConfig,
}

impl Server {
    fn new() -> Self {
        let pair = KeyPair::generate();
        Self { config: config(7, &pair), pair }
    }

    fn with(aead: AeadAlgorithm) -> Self {
        let mut server = Self::new();
        server.config.suites = vec![Suite { aead }];
        server
    }

    fn opener(&self, stream: &[u8]) -> Result<(Opener, ResponseKey), SealError> {
        let header = RequestHeader::parse(stream.first_chunk().ok_or(SealError::Truncated)?)?;
        Opener::request(&self.pair, self.config.id, &header)
    }

    fn open(&self, stream: &[u8]) -> Result<Vec<Vec<u8>>, SealError> {
        open(&mut self.opener(stream)?.0, &stream[RequestHeader::LEN..], 1000)
    }
}

/// Three chunks to `server`, each apart; the first begins with the header.
fn sealed(server: &Server) -> [Vec<u8>; 3] {
    let (mut sealer, _) = Sealer::request(&server.config).unwrap();
    [chunk(&mut sealer, b"one", false), chunk(&mut sealer, b"two", false), chunk(&mut sealer, b"three", true)]
}

#[test]
fn the_example_of_the_chunked_draft_is_read_and_written() {
    let pair = KeyPair::from_bytes(&bytes32("1c190d72acdbe4dbc69e680503bb781a932c70a12c8f3754434c67d8640d8698"));
    let suites = vec![protocol::Suite::AES_128_GCM, protocol::Suite::CHACHA20_POLY1305];
    let written = protocol::KeyConfig { id: 1, public: *pair.public(), suites };
    assert_eq!(
        hex::encode(written.encode()),
        "010020668eb21aace159803974a4c67f08b4152d29bed10735fd08f98ccdd6fe09570800080001000100010003"
    );
    let ephemeral = X25519Key::from_bytes(&bytes32("b26d565f3f875ed480d1abced3d665159650c99174fd0b124ac4bda0c64ae324"));
    let aead = AeadAlgorithm::Aes128Gcm;
    let (enc, cipher, exporter) = setup_sender_with(&ephemeral, pair.public(), aead, &info(1, aead)).unwrap();
    let (mut sealer, client_key) = Sealer::from_context(RequestHeader { key_id: 1, aead, enc }, cipher, &exporter);

    let request = hex::decode("00034745540568747470730b6578616d706c652e636f6d012f").unwrap();
    let stream = [
        chunk(&mut sealer, &request[..12], false),
        chunk(&mut sealer, &request[12..], false),
        chunk(&mut sealer, b"", true),
    ]
    .concat();
    assert_eq!(
        hex::encode(&stream),
        "010020000100018811eb457e100811c40a0aa71340a1b81d804bb986f736f2f566a7199761a032\
         1c2ad24942d4d692563012f2980c8fef437a336b9b2fc938ef77a5834f\
         1d2e33d8fd25577afe31bd1c79d094f76b6250ae6549b473ecd950501311\
         001c6c1395d0ef7c1022297966307b8a7f"
    );
    let header = RequestHeader::parse(stream.first_chunk().unwrap()).unwrap();
    let (mut opener, server_key) = Opener::request(&pair, 1, &header).unwrap();
    let chunks = open(&mut opener, &stream[RequestHeader::LEN..], 1).unwrap();
    assert_eq!(chunks, [&request[..12], &request[12..], b""]);

    let mut random = [0; 32];
    random[..16].copy_from_slice(&hex::decode("bcce7f4cb921309ba5d62edf1769ef09").unwrap());
    let mut sealer = Sealer::response_with(&server_key, random).unwrap();
    let stream =
        [chunk(&mut sealer, &[1], false), chunk(&mut sealer, &[0x40, 0xc8], false), chunk(&mut sealer, b"", true)]
            .concat();
    assert_eq!(
        hex::encode(&stream),
        "bcce7f4cb921309ba5d62edf1769ef091179bf1cc87fa0e2c02de4546945aa3d1e48\
         12b348b5bd4c594c16b6170b07b475845d1f3200ed9d8a796617a5b27265f4d73247f639"
    );
    let chunks = open(&mut Opener::response(client_key), &stream, 1).unwrap();
    assert_eq!(chunks.concat(), [1, 0x40, 0xc8]);
}

/// The same derivations with the labels of RFC 9458, which has no chunks.
#[test]
fn the_example_of_rfc_9458_is_read_and_written() {
    let pair = KeyPair::from_bytes(&bytes32("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a"));
    let ephemeral = X25519Key::from_bytes(&bytes32("bc51d5e930bda26589890ac7032f70ad12e4ecb37abb1b65b1256c9c48999c73"));
    let aead = AeadAlgorithm::Aes128Gcm;
    let info = [b"message/bhttp request\0", &prefix_of(1, aead)[..]].concat();
    let (enc, mut cipher, exporter) = setup_sender_with(&ephemeral, pair.public(), aead, &info).unwrap();
    let mut request = hex::decode("00034745540568747470730b6578616d706c652e636f6d012f").unwrap();
    let tag = cipher.seal(b"", &mut request).unwrap();
    let header = RequestHeader { key_id: 1, aead, enc }.encode();
    assert_eq!(
        hex::encode([&header[..], &request, &tag].concat()),
        "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b472\
         6374e469135906992e1268c594d2a10c695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525"
    );

    let secret = exporter.export(b"message/bhttp response", 16);
    assert_eq!(hex::encode(&secret[..16]), "62d87a6ba569ee81014c2641f52bea36");
    let key = ResponseKey { secret: Secret(secret), enc, aead };
    let mut cipher = key.cipher(&hex::decode("c789e7151fcba46158ca84b04464910d").unwrap()).unwrap();
    let mut response = vec![1, 0x40, 0xc8];
    let tag = cipher.seal(b"", &mut response).unwrap();
    assert_eq!(hex::encode([&response[..], &tag].concat()), "86f9013e404feea014e7be4a441f234f857fbd");
}

#[test]
fn streams_open_whatever_pieces_they_come_in() {
    for aead in [AeadAlgorithm::Aes128Gcm, AeadAlgorithm::ChaCha20Poly1305] {
        let server = Server::with(aead);
        let (mut sealer, client_key) = Sealer::request(&server.config).unwrap();
        let texts: [&[u8]; 6] = [b"", b"a", &[1; 47], &[2; 48], &[3; MAX_CHUNK - TAG - 4], b"end"];
        let stream: Vec<u8> =
            texts.iter().enumerate().flat_map(|(at, text)| chunk(&mut sealer, text, at == 5)).collect();
        for size in [1, 2, 39, 16_383, 40_000] {
            let (mut opener, _) = server.opener(&stream).unwrap();
            assert_eq!(open(&mut opener, &stream[RequestHeader::LEN..], size).unwrap(), texts);
        }
        let (_, server_key) = server.opener(&stream).unwrap();
        let mut sealer = Sealer::response(&server_key).unwrap();
        let response = [chunk(&mut sealer, b"proof", false), chunk(&mut sealer, b"", true)].concat();
        assert_eq!(open(&mut Opener::response(client_key), &response, 3).unwrap().concat(), b"proof");
    }
}

#[test]
fn every_truncation_is_an_error() {
    let server = Server::new();
    let stream = sealed(&server).concat();
    assert!(server.open(&stream).is_ok());
    for length in 0..stream.len() {
        let error = server.open(&stream[..length]).unwrap_err();
        assert!(matches!(error, SealError::Truncated | SealError::Broken), "{length}: {error}");
    }
}

#[test]
fn an_end_between_two_chunks_is_a_truncation() {
    let server = Server::new();
    let [one, two, _] = sealed(&server);
    assert_eq!(server.open(&[one, two].concat()), Err(SealError::Truncated));
}

#[test]
fn every_altered_bit_is_an_error() {
    let server = Server::new();
    let stream = sealed(&server).concat();
    for at in 0..stream.len() {
        for bit in 0..8 {
            let mut altered = stream.clone();
            altered[at] ^= 1 << bit;
            assert!(server.open(&altered).is_err(), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn chunks_that_are_moved_repeated_dropped_or_taken_from_elsewhere_do_not_open() {
    let server = Server::new();
    let [one, two, three] = sealed(&server);
    let [other, ..] = sealed(&server);
    let other = other[RequestHeader::LEN..].to_vec();
    for (what, stream) in [
        ("moved", [&one[..], &three, &two].concat()),
        ("repeated", [&one[..], &two, &two, &three].concat()),
        ("dropped", [&one[..], &three].concat()),
        ("another stream's", [&one[..], &other, &three].concat()),
        ("bytes after the end", [&one[..], &two, &three, &[0]].concat()),
    ] {
        assert_eq!(server.open(&stream), Err(SealError::Broken), "{what}");
    }
}

#[test]
fn a_chunk_in_the_middle_cannot_become_the_final_one() {
    let server = Server::new();
    let [one, two, _] = sealed(&server);
    let cut = [&one[..], &[0], &two[1..]].concat();
    assert_eq!(server.open(&cut), Err(SealError::Broken));
}

#[test]
fn the_final_chunk_cannot_become_one_in_the_middle() {
    let server = Server::new();
    let [one, two, three] = sealed(&server);
    let length = u8::try_from(three.len() - 1).unwrap();
    let stream = [&one[..], &two, &[length], &three[1..], &three].concat();
    assert_eq!(server.open(&stream), Err(SealError::Broken));
}

#[test]
fn a_chunk_over_the_limit_is_refused_before_it_is_read() {
    let server = Server::new();
    let [one, ..] = sealed(&server);
    for length in [MAX_SEALED_CHUNK + 1, 1 << 40] {
        let announced = crate::seal::varint::encode(length as u64);
        let stream = [&one[..], announced.as_ref()].concat();
        let expected = SealError::ChunkTooLarge { found: length as u64, limit: MAX_SEALED_CHUNK };
        assert_eq!(server.open(&stream), Err(expected));
    }
    // The largest chunks are read, and only then found to be none.
    let filling = vec![0; MAX_SEALED_CHUNK];
    let announced = crate::seal::varint::encode(MAX_SEALED_CHUNK as u64);
    for largest in [[&one[..], announced.as_ref(), &filling].concat(), [&one[..], &[0], &filling].concat()] {
        assert_eq!(server.open(&largest), Err(SealError::Broken));
    }
    let endless = [&one[..], &[0], &vec![0; MAX_SEALED_CHUNK + 1]].concat();
    assert!(matches!(server.open(&endless), Err(SealError::ChunkTooLarge { .. })));
}

#[test]
fn what_has_failed_once_fails_for_ever() {
    let server = Server::new();
    let [one, two, three] = sealed(&server);
    let (mut opener, _) = server.opener(&one).unwrap();
    assert_eq!(opener.next(&mut Bytes::from(two)), Err(SealError::Broken));
    let mut right = Bytes::from([&one[RequestHeader::LEN..], &three].concat());
    assert_eq!(opener.next(&mut right), Err(SealError::Broken));
    assert_eq!(opener.finish(), Err(SealError::Broken));
}

#[test]
fn another_key_id_or_unknown_algorithms_are_refused() {
    let server = Server::new();
    let stream = sealed(&server).concat();
    let with = |at: usize, value: u8| {
        let mut altered = stream.clone();
        altered[at] = value;
        server.open(&altered).unwrap_err()
    };
    assert_eq!(with(0, 8), SealError::KeyId { expected: 7, found: 8 });
    assert_eq!(with(2, 0x10), SealError::Algorithms);
    assert_eq!(with(4, 2), SealError::Algorithms);
    assert_eq!(with(6, 2), SealError::Algorithms);
    assert_eq!(with(6, 3), SealError::Broken, "another AEAD than it was sealed with");
}

#[test]
fn the_response_to_another_request_does_not_open() {
    let server = Server::new();
    let key_of = || {
        let (mut sealer, client) = Sealer::request(&server.config).unwrap();
        let stream = chunk(&mut sealer, b"", true);
        (client, server.opener(&stream).unwrap().1)
    };
    let ((client, _), (_, other)) = (key_of(), key_of());
    let swapped = chunk(&mut Sealer::response(&other).unwrap(), b"proof", true);
    assert_eq!(open(&mut Opener::response(client), &swapped, 10), Err(SealError::Broken));
}

#[test]
fn two_requests_never_look_alike() {
    let server = Server::new();
    assert_ne!(sealed(&server)[0][7..], sealed(&server)[0][7..]);
}

proptest::proptest! {
    /// Whatever comes after a header, in whatever pieces: nothing opens that was not sealed, and nothing panics.
    #[test]
    fn no_bytes_open_that_were_not_sealed(
        noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
        size in 1_usize..50,
    ) {
        let server = Server::new();
        let [one, ..] = sealed(&server);
        let (mut opener, _) = server.opener(&one).unwrap();
        proptest::prop_assert!(open(&mut opener, &noise, size).is_err());
        let (mut opener, _) = server.opener(&one).unwrap();
        let rest = [&one[RequestHeader::LEN..], &noise].concat();
        proptest::prop_assert!(open(&mut opener, &rest, size).is_err());
    }
}
