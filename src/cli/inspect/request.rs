//! An OCSPRequest, field by field.

use crate::asn1::{Reader, tag};
use crate::cli::show::Show;
use crate::client::{extension_name, extensions};
use crate::ocsp::{CertId, HashAlgorithm, Request};

type Fields = Vec<(&'static str, Show)>;

/// The fields of a request; the error says what is wrong with it.
pub(super) fn show(der: &[u8]) -> Result<Fields, String> {
    let request = Request::parse(der).map_err(|e| format!("malformed request: {e}"))?;
    let parts = Parts::of(der);
    let mut fields = vec![("version", Show::text("v1"))];
    if parts.requestor_name {
        fields.push(("requestorName", Show::text("present")));
    }
    let list = request.cert_ids().map(|id| Show::Fields(cert_id(&id))).collect();
    fields.push(("requestList", Show::List(list)));
    if let Some(nonce) = request.nonce {
        let (octets, form) = match request.nonce_octets() {
            Some(inner) => (inner, "in an OCTET STRING"),
            None => (nonce, "raw"),
        };
        let text = format!("{} ({} octets, {form})", data_encoding::HEXUPPER.encode(octets), octets.len());
        fields.push(("nonce", Show::Text(text)));
    }
    if !parts.extensions.is_empty() {
        fields.push(("requestExtensions", Show::List(parts.extensions)));
    }
    fields.push(("optionalSignature", Show::text(if request.signed { "present, not verified" } else { "absent" })));
    Ok(fields)
}

/// The fields of a CertID.
pub(super) fn cert_id(id: &CertId<'_>) -> Fields {
    vec![
        ("hashAlgorithm", Show::text(id.hash.map_or("unknown", HashAlgorithm::name))),
        ("issuerNameHash", Show::hex(id.name_hash)),
        ("issuerKeyHash", Show::hex(id.key_hash)),
        ("serialNumber", Show::text(id.serial)),
    ]
}

/// What [`Request`] does not keep, since nothing depends on it.
#[derive(Default)]
struct Parts {
    requestor_name: bool,
    extensions: Vec<Show>,
}

impl Parts {
    /// Of a request that has been found well formed; what cannot be read again is left out.
    fn of(der: &[u8]) -> Self {
        let mut parts = Parts::default();
        let outer = Reader::new(der).expect(tag::SEQUENCE).unwrap_or_default();
        let mut tbs = Reader::new(Reader::new(outer).expect(tag::SEQUENCE).unwrap_or_default());
        while let Ok(part) = tbs.any() {
            if part.tag == tag::context(1) {
                parts.requestor_name = true;
            } else if part.tag == tag::context(2) {
                let list = Reader::new(part.content).expect(tag::SEQUENCE).unwrap_or_default();
                parts.extensions = extensions(list).iter().map(extension).collect();
            }
        }
        parts
    }
}

/// One extension on a line.
pub(super) fn extension(e: &crate::client::Extension<'_>) -> Show {
    let critical = if e.critical { ", critical" } else { "" };
    Show::Text(format!("{}{critical}: {}", extension_name(e.oid), data_encoding::HEXUPPER.encode(e.value)))
}
