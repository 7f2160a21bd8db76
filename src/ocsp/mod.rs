//! The wire, pure: request bytes in, response bytes out. No clock, no IO, no allocation on the hot path.

mod certid;
pub(crate) mod general;
mod get;
mod mount;
mod profile;
mod request;
mod serial;
mod signature;
mod status;
mod template;

pub use certid::{CertId, HashAlgorithm, HashValue, IssuerHashes};
pub use get::{GetError, MAX_PATH_LEN, decode_get_path, strip_mount};
pub use mount::{MAX_MOUNT_LEN, MountPrefixError, mount_prefix};
pub use profile::{Profile, Unissued};
pub use request::{CertIds, Place, Request, RequestError};
pub use serial::{Serial, SerialError};
pub use signature::SignatureAlgorithm;
pub use status::{CertStatus, ErrorStatus, Reason};
pub use template::{
    EXTENDED_REVOKE, ResponderId, Single, SingleCertId, Template, TemplateSpec, archive_cutoff_extension,
    nonce_extension,
};
