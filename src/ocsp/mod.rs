//! The wire, pure: request bytes in, response bytes out. No clock, no IO, no allocation on the hot path.

mod certid;
mod request;
mod serial;
mod status;

pub use certid::{CertId, HashAlgorithm, HashValue, IssuerHashes};
pub use request::{CertIds, Request, RequestError};
pub use serial::{Serial, SerialError};
pub use status::{CertStatus, ErrorStatus, Reason};
