"""Asks for every issuer and leaf with every hash, by GET and POST, and checks each field: python.py URL DIRECTORY."""

import base64
import datetime
import os
import sys
import urllib.parse
import urllib.request

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
from cryptography.x509 import ocsp

URL, WORK = sys.argv[1:]
SKEW = datetime.timedelta(seconds=5)
failed = False


def check(name, function):
    """Prints the line that the test runner counts."""
    global failed
    try:
        function()
        print(f"ok python: {name}")
    except Exception as error:  # whatever goes wrong is the finding
        failed = True
        print(f"FAIL python: {name}: {type(error).__name__}: {error}".replace("\n", "|"))


def certificate(issuer, name):
    with open(f"{WORK}/{issuer}/{name}.pem", "rb") as file:
        return x509.load_pem_x509_certificate(file.read())


def ask(request, by_get):
    der = request.public_bytes(serialization.Encoding.DER)
    if by_get:
        asked = urllib.request.Request(URL + "/" + urllib.parse.quote(base64.b64encode(der), safe=""))
    else:
        asked = urllib.request.Request(URL, der, {"Content-Type": "application/ocsp-request"})
    with urllib.request.urlopen(asked, timeout=10) as answer:
        assert answer.headers["Content-Type"] == "application/ocsp-response", answer.headers["Content-Type"]
        return ocsp.load_der_ocsp_response(answer.read())


def verify(key, signature, tbs, algorithm):
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, tbs, ec.ECDSA(algorithm))
    elif isinstance(key, ed25519.Ed25519PublicKey):
        key.verify(signature, tbs)
    else:
        key.verify(signature, tbs, padding.PKCS1v15(), algorithm)


def build(issuer, leaf, algorithm, nonce=None):
    builder = ocsp.OCSPRequestBuilder().add_certificate(certificate(issuer, leaf), certificate(issuer, "ca"), algorithm)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=False)
    return builder.build()


def definitive(issuer, leaf, status, algorithm, by_get, nonce=None, echoed=False):
    request = build(issuer, leaf, algorithm, nonce)
    response = ask(request, by_get)
    now = datetime.datetime.now(datetime.timezone.utc)
    assert response.response_status == ocsp.OCSPResponseStatus.SUCCESSFUL, response.response_status
    assert response.certificate_status == status, response.certificate_status

    # The CertID is the one asked about, in the hash asked in.
    assert isinstance(response.hash_algorithm, type(algorithm)), response.hash_algorithm
    assert response.serial_number == request.serial_number
    assert response.issuer_name_hash == request.issuer_name_hash
    assert response.issuer_key_hash == request.issuer_key_hash

    # Signed by the delegated signer in certs, which the CA signed; named by key.
    (signer,) = response.certificates
    assert signer == certificate(issuer, "ocsp")
    signer.verify_directly_issued_by(certificate(issuer, "ca"))
    verify(signer.public_key(), response.signature, response.tbs_response_bytes, response.signature_hash_algorithm)
    key_hash = x509.SubjectKeyIdentifier.from_public_key(signer.public_key()).digest
    assert response.responder_key_hash == key_hash and response.responder_name is None

    # Dates.
    this_update, next_update = response.this_update_utc, response.next_update_utc
    assert this_update <= response.produced_at_utc <= now + SKEW, (this_update, response.produced_at_utc, now)
    assert now < next_update <= signer.not_valid_after_utc
    # What was not issued may be any moment: that is said for ten minutes, after the five by which it is back-dated.
    life = datetime.timedelta(minutes=15) if status == UNKNOWN else datetime.timedelta(days=4, seconds=-1)
    assert next_update - this_update == life, next_update - this_update
    if status == ocsp.OCSPCertStatus.REVOKED:
        assert response.revocation_time_utc <= this_update
        assert response.revocation_reason == x509.ReasonFlags.key_compromise, response.revocation_reason

    # Extensions: the nonce where it is answered, and nothing else.
    expected = [x509.OCSPNonce(nonce)] if echoed else []
    assert [extension.value for extension in response.extensions] == expected, response.extensions
    assert len(response.single_extensions) == 0, response.single_extensions

    # These checks can fail.
    try:
        verify(signer.public_key(), response.signature, response.tbs_response_bytes + b"x", response.signature_hash_algorithm)
    except InvalidSignature:
        return
    raise AssertionError("a changed response verifies")


def refused(request, by_get, status=ocsp.OCSPResponseStatus.UNAUTHORIZED):
    response = ask(request, by_get)
    assert response.response_status == status, response.response_status


GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN
for issuer in ["ec", "rsa", "crl", "ed", "tls"]:
    for leaf, status in [("good", GOOD), ("revoked", REVOKED)]:
        for algorithm in [hashes.SHA1(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512()]:
            for by_get in [True, False]:
                name = f"{issuer} {leaf}, {algorithm.name}, {'GET' if by_get else 'POST'}"
                check(name, lambda: definitive(issuer, leaf, status, algorithm, by_get))
SHA1, SHA256 = hashes.SHA1(), hashes.SHA256()
for length in [1, 8, 16, 20, 32, 64, 128]:
    nonce = os.urandom(length)
    check(f"a nonce of {length} octets is answered", lambda: definitive("rsa", "good", GOOD, SHA256, True, nonce, True))
    check(f"a nonce of {length} octets is ignored", lambda: definitive("ec", "good", GOOD, SHA1, True, nonce))
check("an unissued serial is unknown", lambda: definitive("rsa", "unissued", UNKNOWN, SHA1, False))
check("an unlisted serial is good", lambda: definitive("crl", "unissued", GOOD, SHA1, True))
for issuer in ["ec", "ed", "tls"]:
    check(f"{issuer} unissued is unauthorized", lambda: refused(build(issuer, "unissued", SHA256), True))
foreign = ocsp.OCSPRequestBuilder().add_certificate(certificate("ec", "good"), certificate("tls", "ca"), SHA1).build()
check("an issuer of another key is refused", lambda: refused(foreign, False))
sys.exit(failed)
