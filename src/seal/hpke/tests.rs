use super::*;

/// RFC 9180 appendices A.1.1 and A.2.1: the private keys, what follows from them, and messages by sequence number.
struct Vector {
    aead: AeadAlgorithm,
    ephemeral: &'static str,
    recipient: &'static str,
    enc: &'static str,
    recipient_public: &'static str,
    sealed: &'static [(u64, &'static str)],
    exported: [&'static str; 3],
}

const INFO: &[u8] = b"Ode on a Grecian Urn";
const PLAINTEXT: &[u8] = b"Beauty is truth, truth beauty";

const VECTORS: [Vector; 2] = [
    Vector {
        aead: AeadAlgorithm::Aes128Gcm,
        ephemeral: "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
        recipient: "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
        enc: "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
        recipient_public: "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
        sealed: &[
            (0, "f938558b5d72f1a23810b4be2ab4f84331acc02fc97babc53a52ae8218a355a96d8770ac83d07bea87e13c512a"),
            (1, "af2d7e9ac9ae7e270f46ba1f975be53c09f8d875bdc8535458c2494e8a6eab251c03d0c22a56b8ca42c2063b84"),
        ],
        exported: [
            "3853fe2b4035195a573ffc53856e77058e15d9ea064de3e59f4961d0095250ee",
            "2e8f0b54673c7029649d4eb9d5e33bf1872cf76d623ff164ac185da9e88c21a5",
            "e9e43065102c3836401bed8c3c3c75ae46be1639869391d62c61f1ec7af54931",
        ],
    },
    Vector {
        aead: AeadAlgorithm::ChaCha20Poly1305,
        ephemeral: "f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600",
        recipient: "8057991eef8f1f1af18f4a9491d16a1ce333f695d4db8e38da75975c4478e0fb",
        enc: "1afa08d3dec047a643885163f1180476fa7ddb54c6a8029ea33f95796bf2ac4a",
        recipient_public: "4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a",
        sealed: &[
            (0, "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"),
            (1, "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c"),
            (2, "71146bd6795ccc9c49ce25dda112a48f202ad220559502cef1f34271e0cb4b02b4f10ecac6f48c32f878fae86b"),
            (255, "18ab939d63ddec9f6ac2b60d61d36a7375d2070c9b683861110757062c52b8880a5f6b3936da9cd6c23ef2a95c"),
            (256, "7a4a13e9ef23978e2c520fd4d2e757514ae160cd0cd05e556ef692370ca53076214c0c40d4c728d6ed9e727a5b"),
        ],
        exported: [
            "4bbd6243b8bb54cec311fac9df81841b6fd61f56538a775e7c80a9f40160606e",
            "8c1df14732580e5501b00f82b10a1647b40713191b7c1240ac80e2b68808ba69",
            "5acb09211139c43b3090489a9da433e8a30ee7188ba8b0a9a1ccf0c229283e53",
        ],
    },
];

fn bytes32(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

#[test]
fn both_suites_agree_with_the_vectors_of_rfc_9180() {
    for vector in VECTORS {
        let pair = KeyPair::from_bytes(&bytes32(vector.recipient));
        assert_eq!(hex::encode(pair.public()), vector.recipient_public);
        let ephemeral = X25519Key::from_bytes(&bytes32(vector.ephemeral));
        let (enc, mut sender, exporter) = setup_sender_with(&ephemeral, pair.public(), vector.aead, INFO).unwrap();
        assert_eq!(hex::encode(enc), vector.enc);
        let (mut receiver, received) = setup_receiver(&pair, &enc, vector.aead, INFO).unwrap();

        for (sequence, expected) in vector.sealed {
            (sender.sequence, receiver.sequence) = (*sequence, *sequence);
            let aad = format!("Count-{sequence}");
            let mut message = PLAINTEXT.to_vec();
            let tag = sender.seal(aad.as_bytes(), &mut message).unwrap();
            message.extend_from_slice(&tag);
            assert_eq!(hex::encode(&message), *expected);
            let length = receiver.open(aad.as_bytes(), &mut message).unwrap();
            assert_eq!(&message[..length], PLAINTEXT);
        }
        for (context, expected) in [&b""[..], b"\0", b"TestContext"].into_iter().zip(vector.exported) {
            assert_eq!(hex::encode(*exporter.export(context, 32)), expected);
            assert_eq!(hex::encode(*received.export(context, 32)), expected);
        }
    }
}

#[test]
fn another_message_than_the_next_does_not_open_and_the_next_still_does() {
    let pair = KeyPair::generate();
    let (enc, mut sender, _) = setup_sender(pair.public(), AeadAlgorithm::Aes128Gcm, INFO).unwrap();
    let (mut receiver, _) = setup_receiver(&pair, &enc, AeadAlgorithm::Aes128Gcm, INFO).unwrap();
    let mut seal = |text: &[u8]| {
        let mut message = text.to_vec();
        let tag = sender.seal(b"", &mut message).unwrap();
        message.extend_from_slice(&tag);
        message
    };
    let (first, second) = (seal(b"first"), seal(b"second"));
    assert_eq!(receiver.open(b"", &mut second.clone()), Err(SealError::Broken), "the second before the first");
    assert_eq!(receiver.open(b"final", &mut first.clone()), Err(SealError::Broken), "another purpose");
    let mut altered = first.clone();
    altered[0] ^= 1;
    assert_eq!(receiver.open(b"", &mut altered), Err(SealError::Broken), "altered");
    assert_eq!(receiver.open(b"", &mut first[..10].to_vec()), Err(SealError::Broken), "shorter than a tag");
    assert_eq!(receiver.open(b"", &mut first.clone()), Ok(5));
    assert_eq!(receiver.open(b"", &mut first.clone()), Err(SealError::Broken), "repeated");
    assert_eq!(receiver.open(b"", &mut second.clone()), Ok(6));
}

#[test]
fn another_info_key_or_encapsulation_gives_another_context() {
    let (pair, other) = (KeyPair::generate(), KeyPair::generate());
    let aead = AeadAlgorithm::ChaCha20Poly1305;
    let (enc, mut sender, exporter) = setup_sender(pair.public(), aead, INFO).unwrap();
    let mut message = vec![7; 40];
    let tag = sender.seal(b"", &mut message).unwrap();
    message.extend_from_slice(&tag);
    let opens = |setup: Result<(Cipher, Exporter), SealError>| {
        let (mut cipher, exported) = setup.unwrap();
        let opened = cipher.open(b"", &mut message.clone()).is_ok();
        assert_eq!(opened, exported.export(b"x", 32) == exporter.export(b"x", 32));
        opened
    };
    assert!(opens(setup_receiver(&pair, &enc, aead, INFO)));
    assert!(!opens(setup_receiver(&other, &enc, aead, INFO)));
    assert!(!opens(setup_receiver(&pair, other.public(), aead, INFO)));
    assert!(!opens(setup_receiver(&pair, &enc, aead, b"another info")));
    assert!(!opens(setup_receiver(&pair, &enc, AeadAlgorithm::Aes128Gcm, INFO)));
}

#[test]
fn a_weak_key_is_refused_on_both_sides() {
    let pair = KeyPair::generate();
    let weak = [0; 32];
    assert_eq!(setup_sender(&weak, AeadAlgorithm::Aes128Gcm, INFO).unwrap_err(), SealError::WeakKey);
    assert_eq!(setup_receiver(&pair, &weak, AeadAlgorithm::Aes128Gcm, INFO).unwrap_err(), SealError::WeakKey);
}

#[test]
fn a_key_is_not_used_past_its_limit() {
    let mut cipher = Cipher::new(AeadAlgorithm::Aes128Gcm, &[0; 16], [0; NONCE]).unwrap();
    cipher.bytes = MAX_BYTES - 20;
    assert!(cipher.seal(b"", &mut [0; 4]).is_ok());
    assert_eq!(cipher.seal(b"", &mut [0; 4]), Err(SealError::Exhausted(MAX_BYTES)));
}

#[test]
fn nothing_secret_is_shown() {
    let pair = KeyPair::generate();
    let (_, cipher, exporter) = setup_sender(pair.public(), AeadAlgorithm::Aes128Gcm, INFO).unwrap();
    assert_eq!(format!("{pair:?} {cipher:?} {exporter:?}"), "X25519Key(secret) Cipher(secret) Exporter(secret)");
}
