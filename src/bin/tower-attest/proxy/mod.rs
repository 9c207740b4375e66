//! What both sidecars share: one exchange through a proxy, its limits, and what becomes of it when it fails.
//!
//! [`service`] carries an exchange from a client to a [`Backend`](service::Backend), which is an upstream for `serve` and
//! an attested channel for `connect`. [`server`] runs the connections. Neither knows anything of attestation.

pub(crate) mod activity;
pub(crate) mod body;
pub(crate) mod failed;
pub(crate) mod head;
pub(crate) mod lent;
pub(crate) mod limits;
pub(crate) mod meter;
pub(crate) mod opening;
pub(crate) mod problem;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod shutdown;
pub(crate) mod timed;
pub(crate) mod unread;
pub(crate) mod upgrade;
pub(crate) mod weight;
