//! One attempt at a certificate: account, order, challenges, key, certificate.

use std::time::{Duration, SystemTime};

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewAccount, NewOrder, Order,
    OrderStatus, RetryPolicy,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

use super::ca::CaClient;
use super::challenges::{Challenges, OrderChallenges};
use super::error::AttemptError;
use super::flags::{Challenge, Settings};
use super::issued::Issued;
use super::state::{Found, StateDir};

/// One attempt as a whole.
const ATTEMPT: Duration = Duration::from_secs(300);
/// How often the CA is asked whether it has validated, or issued.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).timeout(Duration::from_secs(120));

/// Orders certificates for the same names from one CA.
pub(super) struct Orders {
    pub(super) settings: Settings,
    pub(super) ca: CaClient,
    pub(super) names: Vec<Identifier>,
    pub(super) state: StateDir,
    pub(super) challenges: Challenges,
}

impl Orders {
    /// A certificate for all names, with a key of its own. `replaces` names the one that it takes the place of.
    pub(super) async fn attempt(
        &self,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Issued, AttemptError> {
        // What was said before this attempt is not about it.
        self.ca.take_come_again();
        match tokio::time::timeout(ATTEMPT, self.try_attempt(replaces)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(AttemptError::Timeout(ATTEMPT)),
        }
    }

    /// The account that is kept, or a new one.
    pub(super) async fn account(&self) -> Result<Account, AttemptError> {
        let kept = self.state.account().unwrap_or_else(|error| {
            tracing::warn!(%error, "acme: the account that is kept is not usable; a new one is made");
            None
        });
        match kept {
            Some(credentials) => {
                let builder = Account::builder_with_http(Box::new(self.ca.clone()));
                builder.from_credentials(credentials).await.map_err(AttemptError::during("the CA's directory"))
            }
            None => self.new_account().await,
        }
    }

    async fn new_account(&self) -> Result<Account, AttemptError> {
        let contacts: Vec<_> = self.settings.contacts.iter().map(String::as_str).collect();
        let new = NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        let (account, credentials) = Account::builder_with_http(Box::new(self.ca.clone()))
            .create(&new, self.settings.directory.to_string(), self.settings.external.as_ref())
            .await
            .map_err(AttemptError::during("making an account"))?;
        tracing::info!(id = account.id(), "acme: a new account");
        if let Err(error) = self.state.keep_account(&credentials) {
            // It will do for this order. Giving up here would make an account for each attempt.
            tracing::error!(%error, "acme: the new account cannot be kept in --state-dir");
        }
        Ok(account)
    }

    async fn try_attempt(&self, replaces: Option<CertificateIdentifier<'static>>) -> Result<Issued, AttemptError> {
        let account = self.account().await?;
        let mut order = match self.order(&account, replaces.clone()).await {
            Err(error) if error.is_unknown_account() => {
                tracing::warn!(%error, "acme: the CA does not know the account that is kept; a new one is made");
                self.order(&self.new_account().await?, replaces).await?
            }
            other => other?,
        };
        // Gone at the end of the attempt, however it ends.
        let open = self.challenges.order();
        self.answer(&mut order, &open).await?;
        let status = order.poll_ready(&POLL).await;
        match status {
            Ok(OrderStatus::Ready) => {}
            Ok(_) | Err(Error::Api(_)) => return Err(self.why(&mut order, status).await),
            Err(error) => return Err(AttemptError::during("validation")(error)),
        }
        let (key, csr) = self.key_and_csr().map_err(|error| AttemptError::Key(error.into()))?;
        order.finalize_csr(&csr).await.map_err(AttemptError::during("finalizing"))?;
        let chain = order.poll_certificate(&POLL).await.map_err(AttemptError::during("the certificate"))?;
        Ok(Issued::new(chain.as_bytes(), key)?.check(&self.names, SystemTime::now())?)
    }

    /// With the certificate that it replaces if the CA takes that (RFC 9773, section 5), without if not.
    async fn order(
        &self,
        account: &Account,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Order, AttemptError> {
        let new = || {
            let new = NewOrder::new(&self.names);
            match &self.settings.profile {
                Some(profile) => new.profile(profile),
                None => new,
            }
        };
        let failed = AttemptError::during("ordering");
        // The library says that it checks this, and does not.
        if let Some(asked) = &self.settings.profile
            && !account.profiles().any(|profile| profile.name == asked)
        {
            let offered = listed(account.profiles().map(|profile| profile.name), "no profile");
            return Err(AttemptError::NoProfile { asked: asked.clone(), offered });
        }
        if let Some(replaces) = replaces {
            match account.new_order(&new().replaces(replaces)).await.map_err(&failed) {
                Ok(order) => return Ok(order),
                Err(error) if error.is_unknown_account() => return Err(error),
                Err(error) => tracing::debug!(%error, "acme: ordering without naming what is replaced"),
            }
        }
        account.new_order(&new()).await.map_err(failed)
    }

    /// Prepares each challenge before the CA is told to look.
    async fn answer(&self, order: &mut Order, open: &OrderChallenges) -> Result<(), AttemptError> {
        let asked = self.settings.challenge;
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(AttemptError::during("an authorization"))?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let name = authorization.identifier().to_string();
            let offered = offers(authorization.challenges.iter().map(|challenge| &challenge.r#type));
            let Some(mut challenge) = authorization.challenge(asked.kind()) else {
                return Err(AttemptError::NotOffered { name, asked: asked.name(), offered });
            };
            let key_authorization = challenge.key_authorization();
            match asked {
                Challenge::Http01 => open.put_http(&challenge.token, &key_authorization),
                Challenge::TlsAlpn01 => {
                    open.put_tls(challenge.identifier().identifier, &key_authorization).map_err(AttemptError::Key)?
                }
            }
            challenge.set_ready().await.map_err(AttemptError::during("a challenge"))?;
        }
        Ok(())
    }

    /// What the CA says of the challenges that failed: the order itself often says less.
    async fn why(&self, order: &mut Order, status: Result<OrderStatus, Error>) -> AttemptError {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut authorization)) = authorizations.next().await {
            if authorization.refresh().await.is_err() {
                break;
            }
            let name = authorization.identifier().to_string();
            if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                return AttemptError::NotValidated { name, reason: problem.to_string() };
            }
        }
        match status {
            Err(error) => AttemptError::during("validation")(error),
            Ok(status) => {
                let names: Vec<_> = self.names.iter().map(|name| name.authorized(false).to_string()).collect();
                AttemptError::NotValidated { name: names.join(", "), reason: format!("the order is {status:?}") }
            }
        }
    }

    /// A key that has served for nothing else, and the request that it signs.
    fn key_and_csr(&self) -> Result<(PrivatePkcs8KeyDer<'static>, Vec<u8>), rcgen::Error> {
        let names: Vec<_> = self.names.iter().map(|name| name.authorized(false).to_string()).collect();
        let mut params = rcgen::CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        let key = rcgen::KeyPair::generate()?;
        let csr = params.serialize_request(&key)?;
        Ok((PrivatePkcs8KeyDer::from(key.serialize_der()), csr.der().to_vec()))
    }
}

impl Orders {
    /// The certificate that is kept, if it is usable for at least one of the names.
    pub(super) fn kept(&self) -> Result<Option<Issued>, std::io::Error> {
        let unusable = |error: &dyn std::fmt::Display| {
            tracing::warn!(%error, "acme: the certificate that is kept is not usable; a new one is ordered");
        };
        match self.state.certificate() {
            Ok(Some(issued)) if self.names.iter().any(|name| issued.is_for(name)) => Ok(Some(issued)),
            Ok(Some(_)) => {
                unusable(&"it is for other names");
                Ok(None)
            }
            Ok(None) => Ok(None),
            Err(Found::Io(error)) => Err(error),
            Err(error) => {
                unusable(&error);
                Ok(None)
            }
        }
    }
}

fn offers<'a>(kinds: impl Iterator<Item = &'a ChallengeType>) -> String {
    let names = kinds.map(|kind| match kind {
        ChallengeType::Http01 => "http-01",
        ChallengeType::Dns01 => "dns-01",
        ChallengeType::TlsAlpn01 => "tls-alpn-01",
        ChallengeType::Unknown(name) => name,
        _ => "others",
    });
    listed(names, "no challenge")
}

fn listed<'a>(names: impl Iterator<Item = &'a str>, none: &str) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}
