# Sourced by every suite here: a PKI by the openssl command line in a temporary directory, a stillgood that serves it, and
# the three lines a check may print. Nothing of it is committed.
#
# Issuers (directories below $work), each with leaves good, revoked and unissued (.pem, .key), signer ocsp and CA ca:
#   ec      ECDSA P-256   index.txt            profile rfc9919: an unissued serial is unauthorized, nonces are ignored
#   rsa     RSA 2048      index.txt and CRL    profile rfc6960: an unissued serial is unknown, nonces are answered
#   crl     ECDSA P-256   CRL only             rfc9919: whatever is not on the list is good
#   ed      Ed25519       index.txt            rfc9919
#   tls     ECDSA P-256   index.txt            profile cabf
#
# KEEP=1 keeps the directory and says where it is.
set -u -o pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
STILLGOOD=${STILLGOOD:-$here/../../target/release/stillgood}
VENV=${VENV:-$here/../../target/test-venv}
PATH=$PATH:/usr/sbin:/usr/local/go/bin
export LC_ALL=C
issuers=(ec rsa crl ed tls)
work=$(mktemp -d "${TMPDIR:-/tmp}/stillgood-clients.XXXXXX") || exit 2
server=
bad=0

ok() { echo "ok $suite: $1"; }
fail() { # name why
    echo "FAIL $suite: $1: $(echo "$2" | tail -c 600 | tr '\n' '|')"
    bad=1
}
skipped() { echo "SKIPPED $suite: $1"; }

# Holds when every pattern (extended, whole lines are not needed) is in the text and none after "--not" is.
expect() { # name text pattern... [--not pattern...]
    local name=$1 text=$2 wanted=yes pattern
    shift 2
    for pattern; do
        if [ "$pattern" = --not ]; then
            wanted=no
        elif grep -qE -- "$pattern" <<<"$text"; then
            [ $wanted = yes ] || { fail "$name" "found /$pattern/ in: $text" && return; }
        else
            [ $wanted = no ] || { fail "$name" "no /$pattern/ in: $text" && return; }
        fi
    done
    ok "$name"
}

# Ends the suite, skipped, when a command is not there.
need() { # command package
    command -v "$1" >/dev/null && return
    skipped "$1 is not installed (Debian: $2)"
    exit 0
}

finish() {
    local code=$?
    trap - EXIT
    stop_stillgood
    [ -n "${also_stop:-}" ] && kill $also_stop 2>/dev/null
    if [ $bad -ne 0 ] || [ $code -ne 0 ]; then
        echo "---- the end of stillgood's log ----"
        tail -30 "$work/stillgood.log" 2>/dev/null
    fi
    if [ -n "${KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
    [ $bad -ne 0 ] && exit 1
    exit $code
}
trap finish EXIT
trap 'exit 130' INT TERM

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# Runs openssl; its words are shown only when it fails.
quietly() {
    local said
    said=$("$@" 2>&1) && return
    echo "$* failed: $said" >&2
    exit 2
}

key() { # kind file
    case $1 in
        rsa) quietly openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$2" ;;
        ed) quietly openssl genpkey -algorithm ED25519 -out "$2" ;;
        *) quietly openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$2" ;;
    esac
    chmod 600 "$2"
}

# A certificate by `openssl ca`, so that it stands in index.txt; section is leaf or ocsp.
issue() { # issuer name section
    local dir=$work/$1
    key "$1" "$dir/$2.key"
    quietly openssl req -new -key "$dir/$2.key" -subj "/C=NL/O=stillgood test/CN=$2.$1.test" -out "$dir/$2.csr"
    quietly openssl ca -batch -config "$dir/ca.cnf" -extensions "$3" -notext -in "$dir/$2.csr" -out "$dir/$2.pem"
}

revoke() { # issuer name reason
    quietly openssl ca -config "$work/$1/ca.cnf" -revoke "$work/$1/$2.pem" -crl_reason "$3"
}

write_crl() { # issuer
    quietly openssl ca -config "$work/$1/ca.cnf" -gencrl -out "$work/$1/new.crl"
    mv "$work/$1/new.crl" "$work/$1/ca.crl"
}

make_issuer() { # issuer
    local dir=$work/$1 digest=sha256 usage=digitalSignature
    [ "$1" = ed ] && digest=default
    # NSS wants it of an RSA server.
    [ "$1" = rsa ] && usage="digitalSignature, keyEncipherment"
    mkdir -p "$dir/newcerts"
    : >"$dir/index.txt"
    echo 01 >"$dir/crlnumber"
    cat >"$dir/ca.cnf" <<CNF
[ca]
default_ca = ca
[ca]
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/ca.pem
private_key = $dir/ca.key
crlnumber = $dir/crlnumber
rand_serial = yes
unique_subject = no
default_md = $digest
default_days = 90
default_crl_days = 7
policy = policy
x509_extensions = leaf
crl_extensions = list
[policy]
countryName = supplied
organizationName = supplied
commonName = supplied
[list]
authorityKeyIdentifier = keyid
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, $usage
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
authorityInfoAccess = OCSP;URI:$url
[ocsp]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = OCSPSigning
noCheck = ignored
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CNF
    key "$1" "$dir/ca.key"
    quietly openssl req -x509 -new -key "$dir/ca.key" -config "$dir/ca.cnf" -extensions authority -days 365 \
        -subj "/C=NL/O=stillgood test/CN=$1 CA" -out "$dir/ca.pem"
    issue "$1" ocsp ocsp
    issue "$1" good leaf
    issue "$1" revoked leaf
    revoke "$1" revoked keyCompromise
    write_crl "$1"
    # Issued in truth, but not into the index that stillgood reads: that of another moment.
    cp "$dir/index.txt" "$dir/index.kept"
    issue "$1" unissued leaf
    mv "$dir/index.kept" "$dir/index.txt"
    openssl x509 -in "$dir/good.pem" -noout -serial | cut -d= -f2 >"$dir/good.serial"
}

# A registry record; what comes after the sources is spliced in.
record() { # issuer sources more
    cat <<JSON
  { "id": "$1", "state": "active", "certificate": "$1/ca.pem", "status": { $2 },
    "signer": { "certificate": "$1/ocsp.pem", "key": "$1/ocsp.key" }${3:-} }
JSON
}

# The registry with a generation, of the five issuers and of what else is given.
write_registry() { # generation [more records]
    {
        echo "{ \"generation\": $1, \"issuers\": ["
        record ec '"index": "ec/index.txt"' && echo ,
        record rsa '"index": "rsa/index.txt", "crl": "rsa/ca.crl"' \
            ', "response": { "profile": "rfc6960", "nonce": "answer" }' && echo ,
        record crl '"crl": "crl/ca.crl"' && echo ,
        record ed '"index": "ed/index.txt"' && echo ,
        record tls '"index": "tls/index.txt"' ', "response": { "profile": "cabf" }'
        [ -n "${2:-}" ] && echo ", $2"
        echo "] }"
    } >"$work/issuers.new"
    mv "$work/issuers.new" "$work/issuers.json"
}

write_config() {
    cat >"$work/stillgood.new" <<TOML
state_dir = "state"
[endpoint]
listen = ["127.0.0.1:$port"]
workers = 2
[admin]
listen = "127.0.0.1:$admin_port"
socket = "admin.sock"
[registry]
source = "issuers.json"
refresh = "5s"
TOML
    mv "$work/stillgood.new" "$work/stillgood.toml"
}

start_stillgood() {
    "$STILLGOOD" serve --config "$work/stillgood.toml" >>"$work/stillgood.log" 2>&1 </dev/null &
    server=$!
    local tries
    for tries in $(seq 200); do
        if ! kill -0 "$server" 2>/dev/null; then
            fail start "stillgood serve ended: $(tail -5 "$work/stillgood.log")"
            exit 1
        fi
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && is_ready && return
        sleep 0.1
    done
    fail start "not ready after 20 s: $(http "http://127.0.0.1:$admin_port/readyz"; tail -5 "$work/stillgood.log")"
    exit 1
}

http() { # url
    if command -v curl >/dev/null; then curl -s -m 5 "$@"; else python3 -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[-1], timeout=5).read().decode())' "$@"; fi
}

is_ready() { http -f "http://127.0.0.1:$admin_port/readyz" >/dev/null 2>&1; }

stop_stillgood() {
    [ -n "$server" ] || return 0
    kill "$server" 2>/dev/null
    wait "$server" 2>/dev/null
    server=
}

# Whether there is a loopback of IPv6.
has_ipv6() { grep -q '^0\{31\}1 ' /proc/net/if_inet6 2>/dev/null; }

# Listens on [::1] too from now on, at the same port.
listen_on_ipv6() {
    sed -i "s/^listen = \[\"127.0.0.1:$port\"\]/listen = [\"127.0.0.1:$port\", \"[::1]:$port\"]/" "$work/stillgood.toml"
    kill -HUP "$server"
    local tries
    for tries in $(seq 100); do
        (exec 3<>"/dev/tcp/::1/$port") 2>/dev/null && return
        sleep 0.1
    done
    fail "it listens on [::1]" "$(tail -5 "$work/stillgood.log")"
}

# Everything a suite needs: $work, $port, $url, five issuers, a running server.
setup() {
    need openssl openssl
    port=$(free_port) admin_port=$(free_port)
    url=http://127.0.0.1:$port
    local issuer
    for issuer in "${issuers[@]}"; do make_issuer "$issuer"; done
    write_config
    write_registry 1
    start_stillgood
}
