//! Signatures that `openssl` makes: those of algorithms we know are verified, the others refused by name.

#[path = "common/skip.rs"]
mod skip;

use std::process::Command;
use stillgood::x509::{Certificate, VerifyError};

/// A self-signed certificate by `openssl`, from the options for its key and those for its signature.
fn certificate(key: &str, signature: &str) -> Certificate {
    let dir = tempfile::tempdir().unwrap();
    let openssl = |arguments: &str| {
        let output =
            Command::new("openssl").args(arguments.split_whitespace()).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&format!("genpkey -out key.pem -algorithm {key}"));
    openssl(&format!("req -x509 -new -key key.pem -subj /CN=x -out cert.pem {signature}"));
    Certificate::from_pem_or_der(&std::fs::read(dir.path().join("cert.pem")).unwrap()).unwrap()
}

fn no_openssl(test: &str) -> bool {
    let absent = Command::new("openssl").arg("version").output().is_err();
    if absent {
        skip::skipped(test, "no openssl on this machine");
    }
    absent
}

const RSA: &str = "RSA -pkeyopt rsa_keygen_bits:2048";
const P256: &str = "EC -pkeyopt ec_paramgen_curve:P-256";
const P384: &str = "EC -pkeyopt ec_paramgen_curve:P-384";

#[test]
fn signatures_of_every_known_algorithm_are_verified() {
    if no_openssl("known algorithms") {
        return;
    }
    let pss = |hash: &str| format!("-{hash} -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest");
    for (key, signature) in [
        (RSA, "-sha256".to_owned()),
        (RSA, "-sha384".to_owned()),
        (RSA, "-sha512".to_owned()),
        (RSA, pss("sha256")),
        (RSA, pss("sha384")),
        (RSA, pss("sha512")),
        ("RSA-PSS -pkeyopt rsa_keygen_bits:2048", pss("sha256")),
        (P256, "-sha256".to_owned()),
        (P256, "-sha384".to_owned()),
        (P384, "-sha256".to_owned()),
        (P384, "-sha384".to_owned()),
        ("ED25519", String::new()),
    ] {
        let made = certificate(key, &signature);
        assert_eq!(made.verify_signed_by(&made), Ok(()), "{key} {signature}");
        let other = certificate(key, &signature);
        assert_eq!(made.verify_signed_by(&other), Err(VerifyError::BadSignature), "{key} {signature}");
    }
}

#[test]
fn signatures_of_other_algorithms_are_refused_by_name() {
    if no_openssl("other algorithms") {
        return;
    }
    let unsupported = |oid: &str| VerifyError::UnsupportedSignature(oid.to_owned());
    let other_salt = "RSASSA-PSS whose mask hash or salt length differs from its hash";
    for (key, signature, error) in [
        (RSA, "-sha1", VerifyError::Sha1),
        (RSA, "-sha1 -sigopt rsa_padding_mode:pss", VerifyError::Sha1),
        (RSA, "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:20", unsupported(other_salt)),
        (RSA, "-sha224", unsupported("1.2.840.113549.1.1.14")),
        (RSA, "-md5", unsupported("md5WithRSAEncryption")),
        ("RSA -pkeyopt rsa_keygen_bits:1024", "-sha256", VerifyError::RsaSize(1024)),
        (P256, "-sha1", VerifyError::Sha1),
        (P256, "-sha512", unsupported("1.2.840.10045.4.3.4")),
        ("EC -pkeyopt ec_paramgen_curve:P-521", "-sha256", VerifyError::UnsupportedKey("ECDSA P-521".to_owned())),
        ("EC -pkeyopt ec_paramgen_curve:secp256k1", "-sha256", VerifyError::UnsupportedKey("1.3.132.0.10".to_owned())),
        ("ED448", "", unsupported("1.3.101.113")),
    ] {
        let made = certificate(key, signature);
        assert_eq!(made.verify_signed_by(&made), Err(error), "{key} {signature}");
    }
    let (rsa, ec) = (certificate(RSA, "-sha256"), certificate(P256, "-sha256"));
    assert!(matches!(rsa.verify_signed_by(&ec), Err(VerifyError::Mismatch { .. })));
}
