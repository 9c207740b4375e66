//! The trust cache: whatever the order of events, no verdict is used past its age, past a change of the policy, or past the
//! keys it was given for.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::support::{ModelClock, Transport, in_every_order, request, server};
use http::{Request, Response};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Notify;
use tower::{Layer, ServiceExt};
use tower_attest::mock::{MockTee, MockVerifier};
use tower_attest::protocol::WELL_KNOWN_PATH;
use tower_attest::time::Clock;
use tower_attest::{
    Attest, AttestError, AttestLayer, Attester, Claims, ErrorKind, Platform, Report, ReportVerifier, VerifiedReport,
    VerifyError, VerifyErrorKind, async_trait,
};

const SECOND: Duration = Duration::from_secs(1);
const MAX_AGE: Duration = Duration::from_secs(4);

#[test]
fn no_verdict_is_used_past_its_age() {
    in_every_order(|| async {
        let (tee, clock) = (MockTee::from_seed([1; 32]), ModelClock::new());
        let attester = Attester::builder(tee.provider())
            .name("prover.example")
            .clock(ModelClock::new())
            .start()
            .await
            .expect("healthy hardware");
        let (transport, asked) = server(attester);
        // Nobody waits longer than a verdict lives, or an old one would be allowed once.
        let layer =
            AttestLayer::new(tee.verifier()).accept_presence().max_evidence_age(MAX_AGE).verification_timeout(MAX_AGE);
        let client = layer.clock(clock.clone()).layer(transport);
        let requests: Vec<_> = (0..3)
            .map(|_| {
                let (client, clock) = (client.clone(), clock.clone());
                tokio::spawn(async move {
                    let mut ages = Vec::new();
                    for _ in 0..3 {
                        let before = clock.now();
                        match client.clone().oneshot(request()).await {
                            Ok(response) => {
                                let report = VerifiedReport::of(&response).expect("Mode::Required").clone();
                                assert!(report.age() < MAX_AGE, "{:?} old", report.age());
                                let least = before.wall.duration_since(report.drawn_at()).unwrap_or_default();
                                assert!(least < MAX_AGE, "drawn {least:?} before the request began");
                                ages.push(report.age());
                            }
                            Err(error) => {
                                let kind = error.downcast_ref::<AttestError>().expect("the layer's own error").kind();
                                assert!(matches!(kind, ErrorKind::Timeout | ErrorKind::Unavailable), "{kind:?}");
                            }
                        }
                    }
                    ages
                })
            })
            .collect();
        let time = clock.clone();
        let pass = tokio::spawn(async move {
            for _ in 0..8 {
                time.advance(SECOND);
                tokio::task::yield_now().await;
            }
        });
        for task in requests {
            task.await.expect("no panic");
        }
        pass.await.expect("no panic");
        clock.advance(MAX_AGE + SECOND);
        let before = asked.load(std::sync::atomic::Ordering::SeqCst);
        client.oneshot(request()).await.expect("verified");
        assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), before + 1, "nothing old was left to believe");
    });
}

/// A policy that can be withdrawn.
#[derive(Debug)]
struct Withdrawable {
    verifier: MockVerifier,
    withdrawn: AtomicBool,
    revision: AtomicU64,
    /// Tells that it has begun to judge.
    judging: Notify,
    /// Whether it accepted a report and was withdrawn before it could say so.
    overtaken: AtomicBool,
    /// Whether a request left after that.
    sent_on: AtomicBool,
}

impl Withdrawable {
    fn of(tee: &MockTee) -> Arc<Self> {
        Arc::new(Self {
            verifier: tee.verifier(),
            withdrawn: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            judging: Notify::new(),
            overtaken: AtomicBool::new(false),
            sent_on: AtomicBool::new(false),
        })
    }

    /// In the order in which a verifier must do it: the rule first, then the number that drops trust.
    fn withdraw(&self) {
        self.withdrawn.store(true, Ordering::SeqCst);
        self.revision.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl ReportVerifier for Withdrawable {
    fn platforms(&self) -> Vec<Platform> {
        self.verifier.platforms()
    }

    async fn verify(&self, report: &Report, now: SystemTime) -> Result<Claims, VerifyError> {
        if self.withdrawn.load(Ordering::SeqCst) {
            return Err(VerifyError::new(VerifyErrorKind::Policy, "withdrawn"));
        }
        self.judging.notify_one();
        let verified = self.verifier.verify(report, now).await;
        tokio::task::yield_now().await;
        self.overtaken.store(self.revision() > 0, Ordering::SeqCst);
        verified
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::SeqCst)
    }
}

/// In a response's extensions: the policy had been withdrawn when the response came.
#[derive(Clone)]
struct Late(bool);

async fn client_under(policy: &Arc<Withdrawable>, tee: &MockTee) -> Attest<Transport> {
    let builder = Attester::builder(tee.provider()).name("prover.example").clock(ModelClock::new());
    let (transport, _) = server(builder.start().await.expect("healthy hardware"));
    let (before, after) = (Arc::clone(policy), Arc::clone(policy));
    let transport = transport
        .map_request(move |request: Request<_>| {
            if request.uri().path() != WELL_KNOWN_PATH && before.overtaken.load(Ordering::SeqCst) {
                before.sent_on.store(true, Ordering::SeqCst);
            }
            request
        })
        .map_response(move |mut response: Response<_>| {
            let late = Late(after.revision() > 0);
            response.extensions_mut().insert(late);
            response
        });
    let layer = AttestLayer::new(Arc::clone(policy)).accept_presence().clock(ModelClock::new());
    layer.layer(Transport::new(transport))
}

#[test]
fn a_policy_that_is_withdrawn_takes_its_verdicts_with_it() {
    in_every_order(|| async {
        let tee = MockTee::from_seed([1; 32]);
        let policy = Withdrawable::of(&tee);
        let client = client_under(&policy, &tee).await;
        client.clone().oneshot(request()).await.expect("verified");
        let requests: Vec<_> = (0..3)
            .map(|_| {
                let (client, policy) = (client.clone(), Arc::clone(&policy));
                tokio::spawn(async move {
                    for _ in 0..2 {
                        let withdrawn = policy.revision() > 0;
                        if let Ok(response) = client.clone().oneshot(request()).await {
                            assert!(!withdrawn, "sent under a policy that no longer was");
                            let Late(late) = response.extensions().get().expect("from the transport");
                            assert!(!late, "accepted by a policy that no longer was");
                        }
                    }
                })
            })
            .collect();
        policy.withdraw();
        for task in requests {
            task.await.expect("no panic");
        }
        assert!(client.oneshot(request()).await.is_err());
    });
}

#[test]
fn a_verdict_that_the_withdrawal_of_its_policy_overtakes_counts_for_nothing() {
    in_every_order(|| async {
        let tee = MockTee::from_seed([1; 32]);
        let policy = Withdrawable::of(&tee);
        let client = client_under(&policy, &tee).await;
        let request = tokio::spawn(async move { client.oneshot(request()).await.is_ok() });
        policy.judging.notified().await;
        policy.withdraw();
        let accepted = request.await.expect("no panic");
        assert!(!policy.sent_on.load(Ordering::SeqCst), "sent on the word of a policy that no longer was");
        assert!(!(accepted && policy.overtaken.load(Ordering::SeqCst)));
    });
}

#[test]
fn while_keys_rotate_each_response_is_judged_by_the_keys_that_signed_it() {
    in_every_order(|| async {
        let (tee, clock) = (MockTee::from_seed([1; 32]), ModelClock::new());
        let builder = Attester::builder(tee.provider()).name("prover.example").epoch(4 * SECOND).grace(2 * SECOND);
        let attester = builder.clock(clock.clone()).start().await.expect("healthy hardware");
        let (transport, _) = server(attester.clone());
        // The client's clock stands still: it would believe for ever.
        let client = AttestLayer::new(tee.verifier()).accept_presence().clock(ModelClock::new()).layer(transport);
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move {
                    for _ in 0..3 {
                        client.clone().oneshot(request()).await.expect("verified");
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            clock.advance(SECOND);
            tokio::task::yield_now().await;
        }
        for task in requests {
            task.await.expect("no panic");
        }
        // The epoch is over by now, or with this; the first request after that rotates.
        clock.advance(4 * SECOND);
        client.clone().oneshot(request()).await.expect("verified");
        clock.advance(2 * SECOND);
        let response = client.oneshot(request()).await.expect("verified");
        let report = VerifiedReport::of(&response).expect("Mode::Required");
        assert_eq!(report.keys_digest(), attester.key_document().digest(), "keys whose grace is over sign nothing");
    });
}
