//! The client's end: [`AttestedChannel`] connects, verifies, and only then sends.
//!
//! Below it stand tower's `Buffer` and `Reconnect`, and `Balance` where there is more than one connection.

mod attest;
mod balance;
mod body;
mod builder;
mod channel;
mod connection;
mod connector;
mod error;
mod establish;
mod fail_fast;
mod make;
mod observe;
mod roots;
mod sender;
mod settings;
mod status;
mod task;

pub use self::body::ChannelBody;
pub use self::builder::ChannelBuilder;
pub use self::channel::{AttestedChannel, ChannelFuture};
pub use self::error::{ChannelError, Stage};
pub use self::observe::Attestation;
pub(super) use self::roots::{Roots, client_config};
pub use self::status::{EndpointState, EndpointStatus};
