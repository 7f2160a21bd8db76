//! What is issued here is accepted by `openssl`, and keys that `openssl` makes are loaded, in every format.

#[path = "common/skip.rs"]
mod skip;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use stillgood::ocsp::{Reason, Serial};
use stillgood::signer::{KeyError, KeyKind, RsaPadding, Signer, SigningKey};
use stillgood::time::Timestamp;
use stillgood::x509::issue::{
    Attribute, CertificateSpec, CertificationRequest, CrlEntry, CrlSpec, ExtensionSpec, name, ocsp_signer_request,
};
use stillgood::x509::{Certificate, KeyUsage, pem, verify};

/// A directory, and `openssl` run in it.
struct Shell {
    dir: tempfile::TempDir,
}

impl Shell {
    /// `None`, loudly, where there is no openssl.
    fn new(test: &str) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            skip::skipped(test, "no openssl on this machine");
            return None;
        }
        Some(Shell { dir: tempfile::tempdir().unwrap() })
    }

    fn output(&self, arguments: &str) -> Output {
        Command::new("openssl").args(arguments.split_whitespace()).current_dir(self.dir.path()).output().unwrap()
    }

    /// Runs it, insists on success, returns both outputs.
    fn run(&self, arguments: &str) -> String {
        let output = self.output(arguments);
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "openssl {arguments}: {text}");
        text
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.dir.path()).join(file)
    }

    fn write(&self, file: &str, label: &str, der: &[u8]) {
        std::fs::write(self.path(file), pem::encode(label, der)).unwrap();
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.path(file)).unwrap()
    }
}

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix(NOW + seconds)
}

fn serial(n: u8) -> Serial {
    Serial::from_unsigned(&[0x7f, 1, 2, 3, 4, 5, 6, 7, 8, n]).unwrap()
}

fn subject(common_name: &str) -> Vec<u8> {
    name(&[(Attribute::Country, "SE"), (Attribute::Organization, "Lab"), (Attribute::CommonName, common_name)])
}

/// Keys of every kind that can sign; RSA ones made by openssl.
fn keys(shell: &Shell) -> Vec<(&'static str, SigningKey)> {
    shell.run("genrsa -out rsa.pem 2048");
    let rsa = shell.read("rsa.pem");
    vec![
        ("P-256", SigningKey::generate(KeyKind::EcdsaP256).unwrap().0),
        ("P-384", SigningKey::generate(KeyKind::EcdsaP384).unwrap().0),
        ("Ed25519", SigningKey::generate(KeyKind::Ed25519).unwrap().0),
        ("RSA PKCS#1", SigningKey::load(&rsa, RsaPadding::Pkcs1).unwrap()),
        ("RSA PSS", SigningKey::load(&rsa, RsaPadding::Pss).unwrap()),
    ]
}

#[test]
fn openssl_accepts_the_certificates_requests_and_crls_issued_here() {
    let Some(shell) = Shell::new("certificates, requests and CRLs") else { return };
    for (kind, key) in keys(&shell) {
        let ca = CertificateSpec::ca(subject("Lab CA"), key.spki_der(), serial(1), at(-60), at(86_400 * 3650));
        let ca = ca.issue(&key).unwrap();
        shell.write("ca.pem", "CERTIFICATE", ca.der());

        let signer = CertificateSpec::ocsp_signer(&ca, subject("OCSP"), key.spki_der(), serial(2), at(0), at(86_400));
        shell.write("signer.pem", "CERTIFICATE", &signer.sign(&key).unwrap());
        let url = "http://ocsp.example/";
        let leaf = CertificateSpec::tls_server(&ca, "a.example", url, key.spki_der(), serial(3), at(0), at(86_400));
        shell.write("leaf.pem", "CERTIFICATE", &leaf.sign(&key).unwrap());

        let moment = format!("-attime {}", NOW + 10);
        let strict = format!("verify {moment} -x509_strict -CAfile ca.pem");
        assert!(shell.run(&format!("{strict} ca.pem")).contains("ca.pem: OK"), "{kind}");
        assert!(shell.run(&format!("{strict} -purpose ocsphelper signer.pem")).contains("signer.pem: OK"), "{kind}");
        assert!(shell.run(&format!("{strict} -purpose sslserver leaf.pem")).contains("leaf.pem: OK"), "{kind}");
        let refused = shell.output(&format!("{strict} -purpose sslserver signer.pem"));
        assert!(!refused.status.success(), "{kind}: a responder is no TLS server");

        let text = shell.run("x509 -in signer.pem -noout -text");
        for expected in
            ["OCSP Signing", "OCSP No Check", "Digital Signature\n", "Authority Key Identifier", "CN = OCSP"]
        {
            assert!(text.contains(expected), "{kind}: {expected} in {text}");
        }
        assert!(shell.run("x509 -in leaf.pem -noout -ocsp_uri").contains(url), "{kind}");

        let request = ocsp_signer_request(&subject("OCSP"), &key.spki_der(), &key).unwrap();
        shell.write("request.pem", "CERTIFICATE REQUEST", &request);
        let text = shell.run("req -in request.pem -verify -noout -text");
        assert!(text.contains("verify OK") && text.contains("OCSP Signing"), "{kind}: {text}");

        let crl = CrlSpec {
            issuer: ca.subject_der().to_vec(),
            this_update: at(0),
            next_update: Some(at(86_400)),
            entries: vec![
                CrlEntry { serial: serial(4), revoked_at: at(-5), reason: Some(Reason::KeyCompromise) },
                CrlEntry { serial: serial(5), revoked_at: at(-4), reason: None },
            ],
            extensions: vec![ExtensionSpec::authority_key_id(ca.subject_key_id().unwrap()), CrlSpec::number(300)],
        };
        shell.write("crl.pem", "X509 CRL", &crl.sign(&key).unwrap());
        let text = shell.run("crl -in crl.pem -CAfile ca.pem -noout -text");
        for expected in ["verify OK", "Key Compromise", "7F010203040506070804", "X509v3 CRL Number", "300"] {
            assert!(text.contains(expected), "{kind}: {expected} in {text}");
        }
    }
}

#[test]
fn a_request_made_by_openssl_is_read_and_verified() {
    let Some(shell) = Shell::new("requests by openssl") else { return };
    shell.run("ecparam -name prime256v1 -genkey -noout -out key.pem");
    shell.run("req -new -key key.pem -subj /CN=x -addext keyUsage=critical,digitalSignature -out request.pem");
    let request = CertificationRequest::from_pem_or_der(&shell.read("request.pem")).unwrap();
    assert_eq!(request.extensions, [ExtensionSpec::key_usage(KeyUsage::DIGITAL_SIGNATURE)]);
    assert_eq!(request.subject, name(&[(Attribute::CommonName, "x")]));
}

/// The key signs, `x509::verify` and openssl both agree with the signature.
fn signs(shell: &Shell, key: &SigningKey, what: &str) {
    let message = b"a message";
    let mut raw = vec![0xee];
    key.sign_raw(message, &mut raw).unwrap();
    assert_eq!(raw.len(), 1 + key.raw_len(), "{what}");
    let mut wire = Vec::new();
    key.algorithm().write_wire(&raw[1..], &mut wire);
    assert_eq!(verify(&key.spki_der(), key.algorithm().identifier_der(), message, &wire), Ok(()), "{what}");
    assert!(verify(&key.spki_der(), key.algorithm().identifier_der(), b"another", &wire).is_err(), "{what}");

    shell.write("public.pem", "PUBLIC KEY", &key.spki_der());
    std::fs::write(shell.path("message"), message).unwrap();
    std::fs::write(shell.path("signature"), &wire).unwrap();
    let options = match key.algorithm().name() {
        "ed25519" => "-rawin",
        "rsa-pss-sha256" => "-rawin -digest sha256 -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:32",
        "ecdsa-p384-sha384" => "-rawin -digest sha384",
        _ => "-rawin -digest sha256",
    };
    let text = shell.run(&format!("pkeyutl -verify -pubin -inkey public.pem -in message -sigfile signature {options}"));
    assert!(text.contains("Verified Successfully"), "{what}: {text}");
}

#[test]
fn keys_made_by_openssl_load_in_every_format() {
    let Some(shell) = Shell::new("key formats") else { return };
    // Each leaves key.pem in its own format.
    let made = [
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem", "ecdsa-p256-sha256"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out key.pem", "ecdsa-p384-sha384"),
        ("genpkey -algorithm ED25519 -out key.pem", "ed25519"),
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out key.pem", "rsa-pkcs1-sha256"),
        ("ecparam -name prime256v1 -genkey -noout -out key.pem", "ecdsa-p256-sha256"),
        ("ecparam -name secp384r1 -genkey -out key.pem", "ecdsa-p384-sha384"),
        ("genrsa -traditional -out key.pem 2048", "rsa-pkcs1-sha256"),
        ("genrsa -out key.pem 4096", "rsa-pkcs1-sha256"),
    ];
    for (command, algorithm) in made {
        shell.run(command);
        let bytes = shell.read("key.pem");
        let key = SigningKey::load(&bytes, RsaPadding::Pkcs1).unwrap();
        assert_eq!(key.algorithm().name(), algorithm, "{command}");
        signs(&shell, &key, command);
        assert_eq!(format!("{key:?}"), format!("SigningKey({algorithm})"));

        let mut forms = vec![
            ("PKCS#8", "pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.der"),
            ("pkey", "pkey -in key.pem -outform DER -out key.der"),
        ];
        match algorithm {
            "rsa-pkcs1-sha256" => forms.push(("PKCS#1", "rsa -traditional -in key.pem -outform DER -out key.der")),
            "ed25519" => {}
            _ => forms.push(("SEC 1", "ec -in key.pem -outform DER -out key.der")),
        }
        for (form, convert) in forms {
            shell.run(convert);
            let der = SigningKey::load(&shell.read("key.der"), RsaPadding::Pss).unwrap();
            assert_eq!(der.public_key_bits(), key.public_key_bits(), "{command}, {form}");
            signs(&shell, &der, form);
        }
    }
}

#[test]
fn keys_generated_here_are_read_by_openssl() {
    let Some(shell) = Shell::new("generated keys") else { return };
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384, KeyKind::Ed25519] {
        let (key, pkcs8) = SigningKey::generate(kind).unwrap();
        shell.write("key.pem", "PRIVATE KEY", &pkcs8);
        shell.run("pkey -in key.pem -pubout -outform DER -out public.der");
        assert_eq!(shell.read("public.der"), key.spki_der(), "{kind:?}");
    }
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let Some(shell) = Shell::new("refused keys") else { return };
    let refused = |command: &str| {
        shell.run(command);
        SigningKey::load(&shell.read("key.pem"), RsaPadding::Pkcs1).map(|_| ()).unwrap_err()
    };
    let p256 = "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem";
    assert_eq!(refused(&format!("{p256} -aes256 -pass pass:secret")), KeyError::Encrypted);
    assert_eq!(refused("genrsa -traditional -aes128 -passout pass:secret -out key.pem 2048"), KeyError::Encrypted);
    assert_eq!(refused("genrsa -out key.pem 1024"), KeyError::RsaSize(1024));
    for unsupported in [
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out key.pem",
        "genpkey -algorithm ED448 -out key.pem",
        "ecparam -name secp256k1 -genkey -noout -out key.pem",
        "ecparam -name prime256v1 -param_enc explicit -genkey -noout -out key.pem",
        "genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048 -out key.pem",
    ] {
        assert!(matches!(refused(unsupported), KeyError::Unsupported(_)), "{unsupported}");
    }
    shell.run("genpkey -algorithm ED25519 -out other.pem");
    shell.run("genpkey -algorithm ED25519 -out key.pem");
    let both = [shell.read("key.pem"), shell.read("other.pem")].concat();
    assert_eq!(SigningKey::load(&both, RsaPadding::Pkcs1).map(|_| ()), Err(KeyError::SeveralKeys));
    shell.run("pkey -in key.pem -pubout -out public.pem");
    assert_eq!(SigningKey::load(&shell.read("public.pem"), RsaPadding::Pkcs1).map(|_| ()), Err(KeyError::NoKey));
}

#[test]
fn an_ec_key_without_its_public_key_loads_beside_its_certificate() {
    let Some(shell) = Shell::new("EC keys without public key") else { return };
    shell.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem");
    shell.run("req -x509 -new -key key.pem -subj /CN=x -out cert.pem");
    shell.run("ec -in key.pem -no_public -out bare.pem");
    let certificate = Certificate::from_pem_or_der(&shell.read("cert.pem")).unwrap();
    let bare = shell.read("bare.pem");
    assert_eq!(SigningKey::load(&bare, RsaPadding::Pkcs1).map(|_| ()), Err(KeyError::NoPublicKey));
    let key = SigningKey::load_for(&bare, RsaPadding::Pkcs1, Some(&certificate)).unwrap();
    assert!(key.matches(&certificate));
    // The advice in the message works.
    shell.run("ec -in bare.pem -out whole.pem -conv_form uncompressed");
    assert!(SigningKey::load(&shell.read("whole.pem"), RsaPadding::Pkcs1).unwrap().matches(&certificate));
}

#[test]
fn openssl_finds_nothing_wrong_with_rsa_keys_that_are_made_here() {
    let Some(shell) = Shell::new("openssl_finds_nothing_wrong_with_rsa_keys_that_are_made_here") else { return };
    for (kind, bits) in [(KeyKind::Rsa2048, 2048), (KeyKind::Rsa3072, 3072)] {
        let (_, pkcs8) = SigningKey::generate(kind).unwrap();
        shell.write("rsa.key", "PRIVATE KEY", &pkcs8);
        let said = shell.run("pkey -in rsa.key -check -noout -text");
        assert!(said.contains("Key is valid") && said.contains(&format!("({bits} bit, 2 primes)")), "{said}");
    }
}
