//! Attested TLS over real sockets: what leaves, what is refused, what is renewed.

mod adversaries;
mod channel;
mod deployed;
mod grpc;
mod hyper_client;
mod layers;
mod listener;
mod renewal;
mod setup;
mod support;
mod wire;
