//! An OCSPResponse, field by field.

use super::request::extension;
use crate::cli::show::{Show, relative, roughly};
use crate::client::{Basic, Body, CertStatusWords, ResponderName, Response, Single, algorithm_name};
use crate::ocsp::HashAlgorithm;
use crate::time::Timestamp;
use crate::x509::{Certificate, KeyUsage};

type Fields = Vec<(&'static str, Show)>;

/// The fields of a response; the error says what is wrong and where.
pub(super) fn show(der: &[u8], now: Timestamp) -> Result<Fields, String> {
    let response = Response::parse(der).map_err(|e| e.to_string())?;
    Ok(match response.body {
        Body::Error(status) => vec![("responseStatus", Show::text(format!("{} ({})", status.name(), status as u8)))],
        Body::UnknownStatus(status) => {
            vec![("responseStatus", Show::text(format!("{status}, which does not exist")))]
        }
        Body::OtherType(oid) => {
            vec![("responseStatus", Show::text("successful (0)")), ("responseType", Show::Text(oid))]
        }
        Body::Basic(b) => basic(&b, now),
    })
}

fn basic(b: &Basic<'_>, now: Timestamp) -> Fields {
    let certificates: Vec<_> = b.certificates.iter().map(|der| Certificate::from_der(der)).collect();
    let signer = certificates.iter().flatten().find(|c| match b.responder {
        ResponderName::Key(hash) => c.responder_key_hash() == hash,
        ResponderName::Name(name) => c.subject_der() == name,
    });
    let responder = match b.responder {
        ResponderName::Key(hash) => format!("byKey {}", data_encoding::HEXUPPER.encode(hash)),
        ResponderName::Name(name) => match signer {
            Some(signer) => format!("byName {}", signer.subject()),
            None => format!("byName {}", data_encoding::HEXUPPER.encode(name)),
        },
    };
    let mut fields = vec![
        ("responseStatus", Show::text("successful (0)")),
        ("responseType", Show::text("id-pkix-ocsp-basic")),
        ("version", Show::text("v1")),
        ("responderID", Show::Text(responder)),
        ("producedAt", Show::Text(format!("{} ({})", b.produced_at, relative(b.produced_at, now)))),
        ("responses", Show::List(b.singles.iter().map(|s| Show::Fields(single(s, now))).collect())),
    ];
    if !b.extensions.is_empty() {
        fields.push(("responseExtensions", Show::List(b.extensions.iter().map(extension).collect())));
    }
    fields.push(("signatureAlgorithm", Show::Text(algorithm_name(b.signature_algorithm))));
    fields.push(("signatureOctets", Show::Number(b.signature.len() as u64)));
    fields.push((
        "signer",
        Show::Text(match signer {
            Some(signer) => signer.subject(),
            None if b.certificates.is_empty() => {
                "not in the response: the CA itself, or a responder known to the client".into()
            }
            None => "none of the certificates in the response".into(),
        }),
    ));
    if !certificates.is_empty() {
        let shown = certificates.iter().map(|c| match c {
            Ok(c) => Show::Fields(certificate(c, now)),
            Err(e) => Show::Text(format!("cannot be read: {e}")),
        });
        fields.push(("certs", Show::List(shown.collect())));
    }
    fields
}

fn single(s: &Single<'_>, now: Timestamp) -> Fields {
    let mut fields = vec![
        ("hashAlgorithm", Show::text(s.hash.map_or("unknown", HashAlgorithm::name))),
        ("issuerNameHash", Show::hex(s.name_hash)),
        ("issuerKeyHash", Show::hex(s.key_hash)),
        ("serialNumber", Show::text(s.serial)),
        ("certStatus", Show::text(CertStatusWords(s.status))),
        ("thisUpdate", Show::Text(format!("{} ({})", s.this_update, relative(s.this_update, now)))),
    ];
    match s.next_update {
        Some(next) => {
            // Both ends count (BR §4.9.9).
            let validity = u64::try_from(next.seconds_since(s.this_update).saturating_add(1)).unwrap_or(0);
            fields.push(("nextUpdate", Show::Text(format!("{next} ({})", relative(next, now)))));
            fields.push(("validity", Show::Text(roughly(validity))));
        }
        None => fields.push(("nextUpdate", Show::text("absent: newer information is always available"))),
    }
    if !s.extensions.is_empty() {
        fields.push(("singleExtensions", Show::List(s.extensions.iter().map(extension).collect())));
    }
    fields
}

fn certificate(c: &Certificate, now: Timestamp) -> Fields {
    let yes = |is: bool| Show::text(if is { "yes" } else { "no" });
    vec![
        ("subject", Show::Text(c.subject())),
        ("issuer", Show::Text(c.issuer())),
        ("serialNumber", Show::text(c.serial())),
        ("notBefore", Show::text(c.not_before())),
        ("notAfter", Show::Text(format!("{} ({})", c.not_after(), relative(c.not_after(), now)))),
        ("key", Show::text(c.key_kind())),
        ("digitalSignature", yes(c.key_usage().is_none_or(|u| u.contains(KeyUsage::DIGITAL_SIGNATURE)))),
        ("OCSPSigning", yes(c.is_ocsp_signer())),
        ("nocheck", yes(c.nocheck().is_some())),
    ]
}
