//! Turns addresses that come and go into services that tower's `Balance` chooses among.

use std::collections::HashMap;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use http::Uri;
use tower::discover::Change;
use tower::load::{CompleteOnResponse, PendingRequests};
use tower::reconnect::Reconnect;

use super::make::MakeConnection;
use super::settings::Settings;
use super::status::{Registry, Report};

/// One server behind a channel: connects when it is first needed, and again whenever its connection has ended.
pub(super) type Endpoint = PendingRequests<Reconnect<MakeConnection, Uri>>;

pub(super) fn endpoint(reconnect: Reconnect<MakeConnection, Uri>) -> Endpoint {
    PendingRequests::new(reconnect, CompleteOnResponse::default())
}

/// What [`Balance`](tower::balance::p2c::Balance) discovers.
pub(super) struct Endpoints<K, A> {
    addresses: A,
    settings: Arc<Settings>,
    registry: Registry,
    known: HashMap<K, Arc<Report>>,
}

impl<K, A> Endpoints<K, A> {
    pub(super) fn new(addresses: A, settings: Arc<Settings>, registry: Registry) -> Self {
        Self { addresses, settings, registry, known: HashMap::new() }
    }
}

impl<K, A> Stream for Endpoints<K, A>
where
    K: Hash + Eq + Clone + Unpin,
    A: Stream<Item = Change<K, Uri>> + Unpin,
{
    type Item = Result<Change<K, Endpoint>, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        Pin::new(&mut this.addresses).poll_next(cx).map(|change| {
            change.map(|change| {
                Ok(match change {
                    Change::Insert(key, address) => {
                        let report = this.registry.enter(address.clone());
                        if let Some(replaced) = this.known.insert(key.clone(), Arc::clone(&report)) {
                            this.registry.remove(&replaced);
                        }
                        let make = MakeConnection::new(Arc::clone(&this.settings), report);
                        Change::Insert(key, endpoint(Reconnect::new(make, address)))
                    }
                    Change::Remove(key) => {
                        if let Some(removed) = this.known.remove(&key) {
                            this.registry.remove(&removed);
                        }
                        Change::Remove(key)
                    }
                })
            })
        })
    }
}
