//! What became of each request, and which outcomes nobody may see.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tower_attest::{AttestError, ErrorKind, GrpcCode};

/// How one exchange ended for a client.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Verified, and the answer is what the server computes.
    Verified,
    /// No answer: a connection broke, hardware or collateral could not be had. Faults explain it.
    NoAnswer,
    /// Signed by keys that are not known: the server has made new ones. Another try must settle it.
    NewKeys,
    /// An answer was refused.
    Refused(String),
    /// An answer was accepted that is not the server's.
    Wrong(String),
}

impl Outcome {
    /// What an error says.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let Some(attest) = AttestError::of(error) else { return Self::NoAnswer };
        match (attest.kind(), attest.grpc_code()) {
            (ErrorKind::UnknownKeys, _) => Self::NewKeys,
            // Data loss: a connection broke under a sealed response.
            (_, GrpcCode::Unavailable | GrpcCode::DataLoss) => Self::NoAnswer,
            _ => Self::Refused(attest.to_string()),
        }
    }
}

/// Counts of one kind of client.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) verified: AtomicU64,
    pub(crate) no_answer: AtomicU64,
    pub(crate) new_keys: AtomicU64,
    pub(crate) refused: AtomicU64,
}

/// All counts, by kind of client, and the first of what must not be.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    kinds: BTreeMap<&'static str, Counts>,
    faults: Mutex<Vec<String>>,
}

impl Tally {
    pub(crate) fn new(kinds: impl IntoIterator<Item = &'static str>) -> Self {
        Self { kinds: kinds.into_iter().map(|kind| (kind, Counts::default())).collect(), faults: Mutex::default() }
    }

    fn of(&self, kind: &str) -> &Counts {
        self.kinds.get(kind).expect("each kind of client is known from the start")
    }

    /// Notes how a request to a genuine server ended; `again` says that it was the second try.
    pub(crate) fn genuine(&self, kind: &str, outcome: &Outcome, again: bool) {
        let counts = self.of(kind);
        match outcome {
            Outcome::Verified => count(&counts.verified),
            Outcome::NoAnswer => count(&counts.no_answer),
            Outcome::NewKeys if !again => count(&counts.new_keys),
            // Rotated or restarted once more in between.
            Outcome::NewKeys => count(&counts.no_answer),
            Outcome::Refused(why) => {
                count(&counts.refused);
                self.fault(format!("{kind}: a genuine server was refused: {why}"));
            }
            Outcome::Wrong(what) => self.fault(format!("{kind}: accepted what no server said: {what}")),
        }
    }

    /// Notes how a request to an impostor ended.
    pub(crate) fn impostor(&self, kind: &str, outcome: &Outcome) {
        let counts = self.of(kind);
        match outcome {
            Outcome::Verified | Outcome::Wrong(_) => self.fault(format!("{kind}: an impostor was believed")),
            Outcome::NoAnswer => count(&counts.no_answer),
            Outcome::NewKeys | Outcome::Refused(_) => count(&counts.refused),
        }
    }

    pub(crate) fn fault(&self, what: String) {
        eprintln!("FAULT {what}");
        self.faults.lock().expect("no panic while it is held").push(what);
    }

    pub(crate) fn faults(&self) -> usize {
        self.faults.lock().expect("no panic while it is held").len()
    }

    /// Verified exchanges and refused impostors: requests that came to their proper end.
    pub(crate) fn settled(&self) -> u64 {
        self.kinds.values().map(|counts| read(&counts.verified) + read(&counts.refused)).sum()
    }

    /// Requests that faults left without an answer.
    pub(crate) fn no_answer(&self) -> u64 {
        self.kinds.values().map(|counts| read(&counts.no_answer)).sum()
    }

    /// The same of some kinds of clients.
    pub(crate) fn no_answer_of(&self, kinds: &[&str]) -> u64 {
        kinds.iter().map(|kind| read(&self.of(kind).no_answer)).sum()
    }

    pub(crate) fn print(&self) {
        println!("\n| clients | verified | no answer | keys were over, asked again | refused |\n|---|---|---|---|---|");
        for (kind, counts) in &self.kinds {
            let [verified, no_answer, new_keys, refused] =
                [&counts.verified, &counts.no_answer, &counts.new_keys, &counts.refused].map(read);
            println!("| {kind} | {verified} | {no_answer} | {new_keys} | {refused} |");
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
