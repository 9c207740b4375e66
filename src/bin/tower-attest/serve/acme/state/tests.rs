use std::os::unix::fs::PermissionsExt;

use super::super::issued::tests::issued;
use super::*;

const DIRECTORY: &str = "https://ca.example:14000/dir";

fn credentials(directory: &str) -> AccountCredentials {
    // A P-256 key of this test alone.
    let key = rcgen::KeyPair::generate().unwrap().serialize_der();
    let key = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, key);
    let account = serde_json::json!({ "id": "https://ca.example/1", "key_pkcs8": key, "directory": directory });
    serde_json::from_value(account).unwrap()
}

fn open(root: &Path) -> StateDir {
    StateDir::open(root, &DIRECTORY.parse().unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn what_is_kept_is_found_again_and_is_its_owners_alone() {
    let root = tempfile::tempdir().unwrap();
    let nested = root.path().join("new/state");
    let state = open(&nested);
    assert!(state.account().unwrap().is_none() && state.certificate().unwrap().is_none());
    state.keep_account(&credentials(DIRECTORY)).unwrap();
    state.keep_certificate(&issued(&["a.example"], 10, 20)).unwrap();
    let state = open(&nested);
    assert!(state.account().unwrap().is_some());
    assert_eq!(*state.certificate().unwrap().unwrap().to_pem(), *state.certificate().unwrap().unwrap().to_pem());
    let dir = nested.join("ca.example_14000_dir");
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(files.iter().all(|file| mode(file) == 0o600));
    assert_eq!((mode(&nested), mode(&dir)), (0o700, 0o700));
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    let root = tempfile::tempdir().unwrap();
    let state = open(root.path());
    // A crash has left half a file behind.
    fs::write(state.dir.join("certificate.pem.new"), "half").unwrap();
    for to in [20, 30] {
        state.keep_certificate(&issued(&["a.example"], 10, to)).unwrap();
        let end = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(to);
        assert_eq!(state.certificate().unwrap().unwrap().not_after(), end);
    }
}

#[test]
fn files_that_others_may_read_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let state = open(root.path());
    state.keep_account(&credentials(DIRECTORY)).unwrap();
    state.keep_certificate(&issued(&["a.example"], 10, 20)).unwrap();
    for other in [0o640, 0o604, 0o620] {
        set_mode(&state.dir.join(ACCOUNT), other);
        set_mode(&state.dir.join(CERTIFICATE), other);
        assert!(matches!(state.account(), Err(Found::Mode(found)) if found == other));
        assert!(matches!(state.certificate(), Err(Found::Mode(found)) if found == other));
    }
}

#[test]
fn a_directory_in_which_others_write_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for other in [0o720, 0o702, 0o1777] {
        set_mode(root.path(), other);
        let error = format!("{:?}", StateDir::open(root.path(), &DIRECTORY.parse().unwrap()).unwrap_err());
        assert!(error.contains("its owner alone writes"), "{error}");
    }
    set_mode(root.path(), 0o755);
    open(root.path());
}

#[test]
fn what_cannot_be_written_is_said_at_the_start() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "").unwrap();
    let error = format!("{:?}", StateDir::open(&file, &DIRECTORY.parse().unwrap()).unwrap_err());
    assert!(error.contains("--state-dir") && error.contains("file"), "{error}");
    let error = format!("{:?}", StateDir::open(Path::new("/proc/nothing"), &DIRECTORY.parse().unwrap()).unwrap_err());
    assert!(error.contains("/proc/nothing"), "{error}");
}

#[test]
fn files_that_hold_something_else_say_what() {
    let root = tempfile::tempdir().unwrap();
    let state = open(root.path());
    let put = |name: &str, contents: &[u8]| state.write(name, contents).unwrap();
    for contents in ["", "{", "{}", "[]", r#"{"directory":"https://ca.example:14000/dir"}"#] {
        put(ACCOUNT, contents.as_bytes());
        assert!(matches!(state.account(), Err(Found::Account(_))), "{contents}");
    }
    state.keep_account(&credentials("https://other.example/dir")).unwrap();
    assert!(matches!(state.account(), Err(Found::OtherCa { found, .. }) if found == "https://other.example/dir"));
    for contents in ["", "-----BEGIN PRIVATE KEY-----\n", "text"] {
        put(CERTIFICATE, contents.as_bytes());
        assert!(matches!(state.certificate(), Err(Found::Certificate(_))), "{contents}");
    }
    put(CERTIFICATE, &vec![b'a'; 1 + (1 << 20)]);
    assert!(matches!(state.certificate(), Err(Found::TooLong)));
}

#[test]
fn each_ca_has_a_folder_that_is_no_way_out() {
    for (url, expected) in [
        ("https://acme-v02.api.letsencrypt.org/directory", "acme-v02.api.letsencrypt.org_directory"),
        ("https://ca.example/../../etc", "ca.example_.._.._etc"),
        ("https://[::1]:1/", "___1__1"),
        ("https://..../a", "_a"),
    ] {
        assert_eq!(folder(&url.parse().unwrap()), expected, "{url}");
    }
    assert!(folder(&format!("https://a/{}", "b".repeat(1_000)).parse().unwrap()).len() <= 200);
}
