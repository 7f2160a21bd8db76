use super::*;
use crate::ocsp::Unissued;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../deploy/stillgood.example.toml");

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse(text, Path::new("/etc/sg/x.toml"))
}

fn faults(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(|f| f.to_string().replacen("/etc/sg/x.toml:", "", 1)).collect(),
    }
}

/// The example with its commented-out settings put in.
fn uncommented() -> String {
    let is_setting = |rest: &str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
    EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if is_setting(rest) => rest,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn the_example_has_the_defaults() {
    assert_eq!(parse(EXAMPLE).map(|c| c.effective_toml()), parse("").map(|c| c.effective_toml()));
    let empty = parse("").unwrap();
    assert_eq!(empty.warnings, []);
    assert_eq!(empty.response, Response::default());
    assert_eq!(empty.state_dir, Path::new("/etc/sg/state"));
    assert_eq!(empty.admin.socket, Path::new("/etc/sg/state/admin.sock"));
}

#[test]
fn every_key_is_in_the_example_and_has_a_comment() {
    let full = parse(&uncommented()).unwrap();
    assert_eq!(
        full.enrolment.values().map(|e| e.protocol.name()).collect::<Vec<_>>(),
        ["cfssl", "local", "est", "command"]
    );
    // effective_toml writes every key there is (the round trips below would fail otherwise).
    for line in full.effective_toml().lines() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        let written = EXAMPLE.lines().position(|l| l.trim_start_matches('#').starts_with(&format!("{key} = ")));
        let above = written.and_then(|n| n.checked_sub(1)).and_then(|n| EXAMPLE.lines().nth(n));
        let explained = above.is_some_and(|l| l.starts_with("# ") || l.starts_with('#') || l.starts_with('['));
        assert!(explained, "{key} is not explained in deploy/stillgood.example.toml");
    }
}

#[test]
fn the_effective_configuration_reads_back_as_the_same() {
    let written = r#"
        state_dir = "/var/lib/sg"
        [endpoint]
        listen = ["0.0.0.0:80", "[::]:80"]
        workers = 3
        mounts = ["/a", "/b/c"]
        header_timeout = "1s"
        body_timeout = "2s"
        idle_timeout = "3s"
        write_timeout = "1500ms"
        max_connections = 7
        max_requests_per_connection = 8
        max_connections_per_client = 9
        [admin]
        listen = "off"
        socket = "s"
        socket_mode = "0660"
        audit_size = "1MiB"
        audit_keep = 3
        [registry]
        source = "r \"x\".json"
        refresh = "5s"
        max_age = "1h"
        max_change = 0.5
        small_change = 0
        base = "/pki"
        connect_timeout = "3s"
        timeout = "4s"
        [signer]
        key = "rsa-3072"
        rsa_padding = "pss"
        [response]
        profile = "rfc6960"
        validity = "10m"
        refresh = "2m"
        backdate = "1m"
        certid_hashes = ["sha256", "sha1"]
        responder_id = "name"
        nonce = "answer"
        unissued = "revoked"
        archive_cutoff = "issuer"
        [on_demand]
        rate = "5/min"
        queue = 9
        cache = "65KiB"
        timeout = "3s"
        [log]
        format = "json"
        requests = 1000
        [presign]
        workers = 4
        background_nice = 19
        [renewal]
        window = [0.25, 0.3]
        margin = "2h"
        approval = "required"
        nocheck = "optional"
        submissions_per_day = 24
        issuances_per_day = 2
        activation_skew = "0s"
        ramp = "5m"
        backoff = ["2m", "1h"]
        node = "ocsp-1"
    "#;
    for text in [written.to_owned(), uncommented(), String::new()] {
        let mut first = parse(&text).unwrap();
        let mut second = parse(&first.effective_toml()).unwrap();
        // The defaults are keys as written, and the second text writes them all.
        (first.issuer_defaults, second.issuer_defaults) = Default::default();
        (first.written, second.written) = Default::default();
        assert_eq!(first, second);
    }
    let (odd, plain) = (parse(written).unwrap().effective_toml(), parse("").unwrap().effective_toml());
    for (a, b) in odd.lines().zip(plain.lines()).filter(|(a, _)| a.contains(" = ")) {
        assert_ne!(a, b, "this key is not read, or the test gives its default");
    }
}

#[test]
fn faults_name_place_key_and_remedy() {
    let table: &[(&str, &[&str])] = &[
        ("[endpoint]\nlisen = []", &["2:1: endpoint.lisen is not a known key; did you mean \"listen\"?"]),
        ("[reponse]\n", &["1:2: reponse is not a known key; did you mean \"response\"?"]),
        (
            "colour = 1",
            &[
                "1:1: colour is not a known key; known here: state_dir, endpoint, admin, registry, signer, response, on_demand, presign, log, renewal, enrolment",
            ],
        ),
        ("state_dir = 7", &["1:13: state_dir: expected a string in quotes, found an integer"]),
        ("state_dir = \"\"", &["1:13: state_dir: the path is empty"]),
        ("endpoint = 3", &["1:12: endpoint: expected a table, found an integer"]),
        (
            "[endpoint]\nlisten = [\"localhost\"]\nworkers = -1\nmounts = [\"ocsp/\"]",
            &[
                "2:10: endpoint.listen: \"localhost\" is not an address and port; write \"127.0.0.1:8080\", \"0.0.0.0:80\" or \"[::]:80\"",
                "3:11: endpoint.workers: expected a whole number from 0 to 1024, found -1",
                "4:10: endpoint.mounts: \"ocsp/\" is not a path prefix; write \"/ocsp\" (the root needs no entry)",
            ],
        ),
        (
            "[endpoint]\nmounts = [\"/a:b\"]",
            &[
                "2:10: endpoint.mounts: mount prefix \"/a:b\" may hold only letters, digits and -._~/ ; write it as in the AIA URL, without host or query",
            ],
        ),
        ("[endpoint]\nlisten = []", &["2:10: endpoint.listen: expected 1 to 64 addresses, found 0"]),
        (
            "[endpoint]\nidle_timeout = 60",
            &["2:16: endpoint.idle_timeout: expected a string in quotes, found an integer"],
        ),
        (
            "[endpoint]\nidle_timeout = \"60\"",
            &[
                "2:16: endpoint.idle_timeout: \"60\" is not a duration; write a number and a unit (ms, s, m, h, d, w), as in \"90s\", \"4h\" or \"1h30m\"",
            ],
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            &[
                "2:10: admin.listen: 127.0.0.1:8080 is also in endpoint.listen; the admin pages are never on the public listener",
            ],
        ),
        (
            "[registry]\nmax_age = \"40s\"",
            &["2:11: registry.max_age: 40s is less than twice refresh 30s: one missed look would stop all renewal"],
        ),
        (
            "[registry]\nsource = \"http://x/y\"",
            &["2:10: registry.source: \"http://x/y\" is neither a path nor an https:// URL"],
        ),
        (
            "[registry]\nsource = \"https://h/i.json\"\nclient_key = \"k\"\nmax_change = 20\ntimeout = \"1s\"",
            &[
                "1:1: registry.connect_timeout: it is longer than timeout, of which it is a part",
                "2:10: registry.source: trust is missing beside it; write trust = \"registry-roots.pem\", the roots the server chains to",
                "3:14: registry.client_key: client_certificate is missing beside it",
                "4:14: registry.max_change: expected a share of the issuers from 0.0 to 1.0, as in 0.2",
            ],
        ),
        (
            "[registry]\nsource = \"https://u@h/?q\"\ntrust = \"t\"",
            &[
                "2:10: registry.source: \"https://u@h/?q\" is not a URL this can use; write https://host:port, without user, query or fragment",
            ],
        ),
        (
            "[response]\nprofile = \"rfc5019\"",
            &[
                "2:11: response.profile: \"rfc5019\" is not one of \"rfc6960\", \"rfc9919\", \"cabf\"; did you mean \"rfc9919\"?",
            ],
        ),
        (
            "[response]\nrefresh = \"80h\"",
            &[
                "2:11: response.refresh: refresh 80h leaves less than a quarter of validity 4d for signing again; refresh must be at most 3d (profile rfc9919)",
            ],
        ),
        (
            "[response]\nvalidity = \"10m\"\nrefresh = \"5m\"",
            &[
                "1:1: response.backdate: backdate 5m makes a response due for signing again as soon as it is signed: it must be at least 10s shorter than refresh 5m (profile rfc9919)",
            ],
        ),
        (
            "[response]\nresponder_id = \"name\"",
            &[
                "2:16: response.responder_id: RFC 9919 §3.2.2 requires byKey of new responders; write \"key\", or use profile \"rfc6960\" (profile rfc9919)",
            ],
        ),
        (
            "[response]\ncertid_hashes = [\"sha1\", \"md5\"]",
            &["2:17: response.certid_hashes: \"md5\" is not one of \"sha1\", \"sha256\", \"sha384\", \"sha512\""],
        ),
        (
            "[on_demand]\nrate = \"0/s\"",
            &[
                "2:8: on_demand.rate: \"0/s\" is not a rate; write a number from 1 and an interval (s, min, h, d), as in \"1000/s\" or \"30/min\"",
            ],
        ),
        (
            "[on_demand]\ncache = \"1KiB\"",
            &["2:9: on_demand.cache: 1KiB is out of bounds; it must be from 64KiB to 1024GiB"],
        ),
        (
            "[presign]\nbackground_nice = 20",
            &["2:19: presign.background_nice: expected a whole number from 0 to 19, found 20"],
        ),
        (
            "[renewal]\nwindow = [0.8, 0.7]",
            &[
                "2:10: renewal.window: expected two fractions of a signer's life, as in [0.50, 0.75], with 0 < first < second <= 0.95",
            ],
        ),
        (
            "[renewal]\nbackoff = [\"2m\", \"1m\"]\nissuances_per_day = 49\napproval = \"yes\"",
            &[
                "2:11: renewal.backoff: the first wait, 2m, is longer than the longest, 1m",
                "3:21: renewal.issuances_per_day: issuances_per_day is more than submissions_per_day, so it would bound nothing",
                "4:12: renewal.approval: \"yes\" is not one of \"automatic\", \"required\"",
            ],
        ),
        (
            concat!(
                "[enrolment.a]\nprotocol = \"est\"\nurl = \"https://h\"\ntrust = \"t\"\nclient_certificate = \"c\"\nclient_key = \"k\"\nclient_profile = \"p\"\n",
                "[enrolment.b]\nprotocol = \"est\"\nurl = \"https://h\"\ntrust = \"t\"\nclient_certificate = \"c\"\nclient_key = \"k\"\nclient_profile = \"p\"\n",
                "[enrolment.c]\nprotocol = \"est\"\nurl = \"https://h\"\ntrust = \"t\"\nclient_certificate = \"c\"\nclient_key = \"k\"",
            ),
            &[
                "8:12: enrolment.b.client_profile: enrolment.a renews the same client_certificate; leave client_profile to one of them, and the other uses what that gets",
            ],
        ),
        (
            "[enrolment.x]\nprotocol = \"est\"\nurl = \"http://ca\"",
            &[
                "1:1: enrolment.x.trust is missing; write trust = \"ca-roots.pem\"",
                "3:7: enrolment.x.url: \"http://ca\" is not a URL this can use; write https://host:port, without user, query or fragment",
            ],
        ),
        (
            "[enrolment.x]\nca_keys = \"k\"",
            &["1:1: enrolment.x.protocol is missing; write protocol = \"est\" (or \"command\", \"local\", \"cfssl\")"],
        ),
        (
            "[enrolment.x]\nprotocol = \"local\"\nca_keys = \"k\"\nurl = \"https://h\"",
            &[
                "4:1: enrolment.x.url is not a known key; known here: protocol, connect_timeout, timeout, max_in_flight, rate, daily_requests, ca_keys, validity",
            ],
        ),
        (
            "[enrolment.\"../x\"]\nprotocol = \"local\"\nca_keys = \"k\"",
            &[
                "1:12: enrolment.../x: \"../x\" is not a usable name: 1 to 128 letters, digits, '.', '_' or '-', not beginning with '.'",
            ],
        ),
        (
            "[enrolment.x]\nprotocol = \"est\"\nurl = \"https://h\"\ntrust = \"t\"\nhttp_user = \"a:b\"\nhttp_password_file = \"p\"",
            &[
                "5:13: enrolment.x.http_user: a user's name is not empty and has no colon (RFC 7617 §2)",
                "6:22: enrolment.x.http_password_file: http_user is missing beside it",
            ],
        ),
        (
            "[enrolment.x]\nprotocol = \"est\"\nurl = \"https://h\"\ntrust = \"t\"\nclient_key = \"k\"\nconnect_timeout = \"31s\"",
            &[
                "5:14: enrolment.x.client_key: client_certificate is missing beside it",
                "6:19: enrolment.x.connect_timeout: it is longer than timeout, of which it is a part",
            ],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(faults(text), *expected, "{text}");
    }
}

#[test]
fn syntax_errors_name_their_line() {
    let found = faults("state_dir = \"x\"\n[endpoint\nworkers = = 2\n");
    assert!(found.first().is_some_and(|f| f.starts_with("2:") && f.contains("not TOML: ")), "{found:?}");
}

#[test]
fn cabf_refuses_what_the_clauses_forbid() {
    let table: &[(&str, &str, &str)] = &[
        ("", "", ""),
        ("validity = \"7d\"\nrefresh = \"84h\"", "", ""),
        ("validity = \"8h\"\nrefresh = \"4h\"", "", ""),
        ("unissued = \"unknown\"", "", ""),
        ("validity = \"7h\"\nrefresh = \"2h\"", "response.validity", "under the 8h of BR §4.9.9"),
        ("validity = \"169h\"", "response.validity", "over the 7d of the Microsoft Trusted Root Program §3.2.2"),
        ("validity = \"241h\"", "response.validity", "and the 10d of BR §4.9.9"),
        ("validity = \"15h\"\nrefresh = \"8h\"", "response.refresh", "BR §4.9.9 for validities under 16h"),
        (
            "validity = \"96h\"\nrefresh = \"49h\"",
            "response.refresh",
            "against the Microsoft Trusted Root Program §3.2.2",
        ),
        ("validity = \"7d\"\nrefresh = \"97h\"", "response.refresh", "over the 4d of BR §4.9.9"),
        ("unissued = \"good\"", "response.unissued", "BR §4.9.9 forbids"),
        ("unissued = \"revoked\"", "response.unissued", "BR §7.3 and §7.2.2"),
        ("[signer]\nkey = \"ed25519\"", "signer.key", "BR §6.1.5"),
    ];
    for (keys, key, clause) in table {
        let found = faults(&format!("[response]\nprofile = \"cabf\"\n{keys}"));
        match key.is_empty() {
            true => assert_eq!(found, [""; 0], "{keys}"),
            false => assert!(found.iter().any(|f| f.contains(key) && f.contains(clause)), "{keys}: {found:?}"),
        }
        if !key.is_empty() && !keys.contains("241h") {
            assert_eq!(found.len(), 1, "{keys}: {found:?}");
        }
    }
}

#[test]
fn unissued_follows_the_profile_unless_it_is_written() {
    let unissued = |text: &str| parse(text).unwrap().response.unissued;
    assert_eq!(unissued("response.profile = \"rfc6960\""), Unissued::Unknown);
    assert_eq!(unissued("response.profile = \"rfc9919\""), Unissued::Unauthorized);
    assert_eq!(unissued("response.profile = \"cabf\""), Unissued::Unauthorized);
    assert_eq!(unissued("response.profile = \"rfc6960\"\nresponse.unissued = \"good\""), Unissued::Good);
}

#[test]
fn what_is_allowed_and_seldom_meant_is_a_warning() {
    let config =
        parse("[response]\nunissued = \"good\"\nrefresh = \"50h\"\n[admin]\nlisten = \"0.0.0.0:8081\"").unwrap();
    let texts: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(texts.iter().any(|t| t.contains(":2:12: response.unissued")), "{texts:?}");
    assert!(texts.iter().any(|t| t.contains(":3:11: response.refresh")), "{texts:?}");
    assert!(texts.iter().any(|t| t.contains("admin.listen: 0.0.0.0:8081")), "{texts:?}");
}

#[test]
fn a_registry_behind_a_url_needs_roots_and_no_more() {
    let registry = parse("[registry]\nsource = \"https://h/i.json\"\ntrust = \"t\"").unwrap().registry;
    assert_eq!(registry.source, RegistrySource::Https("https://h/i.json".into()));
    assert_eq!((registry.trust, registry.base), (Some("/etc/sg/t".into()), "/etc/sg".into()));
    let here = Config::parse("", Path::new("x.toml")).unwrap();
    assert_eq!(here.registry.base, Path::new("."));
}

#[test]
fn a_demo_with_minutes_of_validity_is_allowed() {
    assert_eq!(faults("[response]\nvalidity = \"10m\"\nrefresh = \"3m\"\nbackdate = \"30s\""), [""; 0]);
}

#[test]
fn a_file_that_is_not_there_is_one_clear_fault() {
    let error = Config::load(Path::new("/nonexistent/x.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/x.toml: the configuration cannot be read: "), "{error}");
}

proptest! {
    #[test]
    fn damaged_text_is_refused_or_read_and_never_a_panic(at in 0_usize..8000, with in "\\PC{0,4}", cut in 0_usize..20) {
        let full = uncommented();
        let text: String = full.chars().take(at).chain(with.chars()).chain(full.chars().skip(at + cut)).collect();
        if let Err(faults) = parse(&text) {
            prop_assert!(!faults.0.is_empty());
        }
    }
}

#[test]
fn more_requests_at_a_time_than_there_are_threads_for_are_refused_in_words() {
    let service = |n: usize, max: u32| {
        format!("[enrolment.s{n}]\nprotocol = \"local\"\nca_keys = \"k\"\nmax_in_flight = {max}\n")
    };
    let all = |count: usize, max: u32| (0..count).map(|n| service(n, max)).collect::<String>();
    assert_eq!((faults(&all(2, 1000)), faults(&all(1000, 2))), (vec![], vec![]));
    let refused = faults(&(all(2, 1000) + &service(2, 1)));
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].contains("is 2001, and no more than 2000"), "{refused:?}");
}
