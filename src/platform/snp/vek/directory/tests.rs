use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use super::*;
use crate::platform::snp::{Product, RawTcb};
use crate::verifier::{VerifyError, VerifyErrorKind};

#[derive(Debug)]
struct Next {
    answer: &'static [u8],
    asked: AtomicUsize,
}

impl Next {
    fn with(answer: &'static [u8]) -> Self {
        Self { answer, asked: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl VekSource for Next {
    async fn vek(&self, _: &VekRequest<'_>) -> Result<Bytes, EndorsementError> {
        self.asked.fetch_add(1, SeqCst);
        Ok(Bytes::from_static(self.answer))
    }
}

fn good(der: &[u8]) -> Result<(), VerifyError> {
    if der == b"good" { Ok(()) } else { Err(VerifyError::new(VerifyErrorKind::Mismatch, "another chip")) }
}

fn id(product: Product, chip: [u8; 64], tcb: [u8; 8]) -> VekId {
    VekId::new(product, chip, RawTcb::new(tcb)).unwrap()
}

fn request() -> VekRequest<'static> {
    VekRequest::of(id(Product::Milan, [0xab; 64], [3, 0, 0, 0, 0, 0, 8, 115]), &good)
}

fn any_length(_: &[u8]) -> Result<(), VerifyError> {
    Ok(())
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn names(place: &tempfile::TempDir) -> Vec<String> {
    fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn file_names_are_those_that_the_documentation_promises() {
    let expected = format!("vcek-milan-{}-03000873.der", "ab".repeat(64));
    assert_eq!(file_name(&request().id()), expected);
    let mut chip = [0; 64];
    chip[..8].copy_from_slice(&[0x4d, 0xc7, 0xf0, 0x12, 0, 0xa6, 0x1e, 0x4b]);
    let turin = id(Product::Turin, chip, [1, 2, 3, 4, 0, 0, 0, 5]);
    assert_eq!(file_name(&turin), "vcek-turin-4dc7f01200a61e4b-0102030405.der");
}

#[test]
fn file_names_stay_in_the_directory_whatever_the_report_says() {
    for (product, chip) in [
        (Product::Milan, *b"../../../../../../../../../../../../../../../../../../etc/passwd"),
        (Product::Genoa, [b'/'; 64]),
    ] {
        let id = id(product, chip, [b'/', b'.', 0, 0, 0, 0, b'\\', b'/']);
        let name = file_name(&id);
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.'), "{name}");
        assert_eq!(name.matches('.').count(), 1);
        assert_eq!(EndorsementDirectory::new("/place").file_of(&id).parent(), Some(Path::new("/place")));
    }
}

#[tokio::test]
async fn a_file_is_used_and_the_next_source_is_not_asked() {
    let place = place();
    let source = EndorsementDirectory::new(place.path()).then(Next::with(b"good"));
    fs::write(source.file_of(&request().id()), b"good").unwrap();
    assert_eq!(source.vek(&request()).await.unwrap(), &b"good"[..]);
    assert_eq!(source.get_ref().asked.load(SeqCst), 0);
}

#[tokio::test]
async fn a_directory_without_the_file_says_not_found() {
    let place = place();
    for path in [place.path().to_owned(), place.path().join("missing")] {
        let error = EndorsementDirectory::new(path).vek(&request()).await.unwrap_err();
        assert_eq!(error.kind(), EndorsementErrorKind::NotFound);
    }
}

#[tokio::test]
async fn a_file_that_fails_the_check_is_passed_over_and_replaced() {
    let place = place();
    let source = EndorsementDirectory::new(place.path()).then(Next::with(b"good")).write_back();
    let file = source.file_of(&request().id());
    fs::write(&file, b"evil").unwrap();
    assert_eq!(source.vek(&request()).await.unwrap(), &b"good"[..]);
    assert_eq!(fs::read(&file).unwrap(), b"good");
}

/// A forged report of a real chip may name any TCB, and AMD has a certificate for each.
#[tokio::test]
async fn a_directory_that_is_full_takes_nothing_new_and_what_is_found_is_used() {
    let place = place();
    let two = NonZeroUsize::new(2).unwrap();
    let source = EndorsementDirectory::new(place.path()).with_capacity(two).then(Next::with(b"good")).write_back();
    let request = |snp| VekRequest::of(id(Product::Milan, [0xab; 64], [3, 0, 0, 0, 0, 0, snp, 115]), &good);
    for snp in 0..5 {
        assert_eq!(source.vek(&request(snp)).await.unwrap(), &b"good"[..]);
    }
    assert_eq!(names(&place).len(), 2);
    fs::write(source.file_of(&request(0).id()), b"evil").unwrap();
    source.vek(&request(0)).await.unwrap();
    assert_eq!(fs::read(source.file_of(&request(0).id())).unwrap(), b"good", "what is there is still replaced");
}

#[tokio::test]
async fn a_file_larger_than_a_certificate_is_passed_over() {
    let place = place();
    let source = EndorsementDirectory::new(place.path());
    let request = VekRequest::of(id(Product::Milan, [0xab; 64], [0; 8]), &any_length);
    let file = source.file_of(&request.id());
    fs::write(&file, vec![0; MAX_CERTIFICATE]).unwrap();
    assert_eq!(source.vek(&request).await.unwrap().len(), MAX_CERTIFICATE);
    fs::write(&file, vec![0; MAX_CERTIFICATE + 1]).unwrap();
    assert_eq!(source.vek(&request).await.unwrap_err().kind(), EndorsementErrorKind::NotFound);
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_no_regular_file_is_passed_over() {
    let place = place();
    let source = EndorsementDirectory::new(place.path());
    let file = source.file_of(&request().id());
    std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
    let error = read_blocking(&file, 4).unwrap_err();
    assert!(error.to_string().contains("regular"), "{error}");
    assert_eq!(source.vek(&request()).await.unwrap_err().kind(), EndorsementErrorKind::NotFound);
}

#[tokio::test]
async fn write_back_keeps_what_was_found_in_one_whole_file() {
    let place = place();
    let source = EndorsementDirectory::new(place.path().join("made")).then(Next::with(b"good")).write_back();
    source.vek(&request()).await.unwrap();
    source.vek(&request()).await.unwrap();
    assert_eq!(source.get_ref().asked.load(SeqCst), 1);
    let made = fs::read_dir(place.path().join("made")).unwrap().count();
    assert_eq!(made, 1, "no temporary file is left");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(source.file_of(&request().id())).unwrap().permissions().mode();
        assert_eq!(mode & 0o444, 0o444, "others may read it: {mode:o}");
    }
}

#[tokio::test]
async fn a_fetched_certificate_that_fails_the_check_is_not_written() {
    let place = place();
    let source = EndorsementDirectory::new(place.path()).then(Next::with(b"evil")).write_back();
    let error = source.vek(&request()).await.unwrap_err();
    assert_eq!(VerifyError::from(error).kind(), VerifyErrorKind::Mismatch);
    assert_eq!(names(&place), Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_written_unless_asked_for() {
    let place = place();
    EndorsementDirectory::new(place.path()).then(Next::with(b"good")).vek(&request()).await.unwrap();
    assert_eq!(names(&place), Vec::<String>::new());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_does_not_hide_the_certificate() {
    let place = place();
    let occupied = place.path().join("file");
    fs::write(&occupied, b"").unwrap();
    let source = EndorsementDirectory::new(occupied).then(Next::with(b"good")).write_back();
    assert_eq!(source.vek(&request()).await.unwrap(), &b"good"[..]);
}

#[test]
fn a_write_that_fails_half_way_leaves_no_file() {
    let place = place();
    let target = place.path().join("vcek.der");
    fs::create_dir(&target).unwrap();
    write_blocking(&target, b"good", CAPACITY).unwrap_err();
    assert_eq!(names(&place), ["vcek.der"]);
}

#[test]
fn what_cannot_take_its_place_leaves_nothing_behind() {
    let place = place();
    let occupied = place.path().join("crl-milan.der");
    fs::create_dir_all(occupied.join("full")).unwrap();
    write_blocking(&occupied, b"content", CAPACITY).unwrap_err();
    assert_eq!(names(&place), ["crl-milan.der"]);
}
