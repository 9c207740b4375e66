//! The client's side of sealing: [`SealLayer`] encrypts whole requests to a key that verified evidence vouches for.

mod body;
mod future;
mod judge;
mod layer;
mod repeat;
mod service;
mod unsent;

pub use self::body::{CarrierBody, CarrierRequestBody, OpenedBody};
pub use self::future::SealFuture;
pub use self::layer::SealLayer;
pub use self::repeat::Repeatable;
pub use self::service::Seal;
