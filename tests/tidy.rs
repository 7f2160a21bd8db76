//! What a machine can check of how this code is built: who may know whom, what may be called where, how long a file is.
//!
//! A finding names the file and the line and says what to do instead. A rule that stands in the way for a good reason is
//! changed here, with the reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// The most lines a file may have, its tests included: more than that is read by nobody in one go.
const MAX_LINES: usize = 500;

/// A part of the crate and the parts whose names may stand in it. What stands last explains what is not there.
const MAY_KNOW: &[(&str, &[&str], &str)] = &[
    ("asn1", &[], "DER is nobody's"),
    ("time", &[], "the clock is at the bottom"),
    ("audit", &["time"], "whoever acts tells it: it names things by their text and knows none of them"),
    ("ocsp", &["asn1", "time"], "the wire is pure: octets in, octets out"),
    ("x509", &["asn1", "ocsp", "time"], "pure; serial numbers and reasons are those of the wire"),
    ("store", &["ocsp", "time"], "whoever reads a segment need not be who wrote it: no signer, no sources"),
    ("status", &["ocsp", "time", "x509"], "reads sources; knows nothing of what is done with a status"),
    ("signer", &["asn1", "ocsp", "time", "x509"], "keys and their check; knows neither store nor schedule"),
    (
        "presign",
        &["ocsp", "signer", "status", "store", "time", "x509"],
        "signs into the store; knows no endpoint, registry or configuration",
    ),
    ("client", &["asn1", "ocsp", "time", "x509"], "verifies from the outside, by none of what signs"),
    (
        "endpoint",
        &["ocsp", "store", "time"],
        "answers even when everything else is dead: what it needs comes through its own traits",
    ),
    ("config", &["ocsp", "signer"], "text in, checked settings out; starts nothing"),
    ("https", &["signer", "time", "x509"], "one bounded connection at a time; knows no protocol above HTTP"),
    (
        "enrolment",
        &["config", "https", "ocsp", "signer", "time", "x509"],
        "asks a CA once; when to ask, and what becomes of the answer, is for others",
    ),
    (
        "renewal",
        &["config", "ocsp", "registry", "time"],
        "decides when a signer is asked for; a driver does the asking",
    ),
    (
        "agent",
        &["audit", "config", "enrolment", "https", "ocsp", "registry", "renewal", "signer", "time", "x509"],
        "carries out what renewal decides; whoever serves knows nothing of it",
    ),
    (
        "registry",
        &["config", "https", "ocsp", "status", "time", "x509"],
        "says which issuers there are; does nothing with them (of status: which files have changed)",
    ),
    (
        "simulate",
        &["config", "enrolment", "ocsp", "registry", "renewal", "time"],
        "the real renewal core in a world that is all model: nothing that reads a file or a clock (of enrolment: what an answer means)",
    ),
    (
        "responder",
        &["client", "endpoint", "ocsp", "presign", "signer", "status", "store", "time", "x509"],
        "wires the parts; embedders use it without files, so it knows no configuration and no registry",
    ),
    (
        "admin",
        &["agent", "audit", "endpoint", "presign", "registry", "renewal", "responder", "time"],
        "reads reports; nobody but cli imports it",
    ),
    (
        "fuzzing",
        &["asn1", "config", "ocsp", "registry", "renewal", "status", "store", "time", "x509"],
        "bodies of fuzz targets",
    ),
    (
        "cli",
        &[
            "admin",
            "agent",
            "asn1",
            "audit",
            "client",
            "config",
            "endpoint",
            "enrolment",
            "ocsp",
            "presign",
            "registry",
            "renewal",
            "responder",
            "signer",
            "simulate",
            "status",
            "store",
            "time",
            "x509",
        ],
        "the edge: it may use everything, and nothing may use it but main.rs",
    ),
];

/// What must not be called, and what is instead.
struct Ban {
    what: &'static [&'static str],
    /// Paths that may all the same; each has its reason beside it.
    but_in: &'static [&'static str],
    instead: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        what: &["SystemTime::now", "Instant::now", "Zoned::now", "Timestamp::now", "SystemTime::UNIX_EPOCH.elapsed"],
        but_in: &["src/time/"],
        instead: "take `now` as an argument, or a `time::Clock`; measure with `time::monotonic`",
    },
    Ban {
        what: &[".unwrap()", ".unwrap_err()", ".expect(\"", ".expect(&format", "panic!(", "unreachable!("],
        but_in: &["src/fuzzing/"], // a panic is the verdict of a fuzz target
        instead: "return an error, or write it so that the compiler sees it cannot happen",
    },
    Ban {
        what: &["todo!(", "unimplemented!(", "dbg!(", "TODO", "FIXME", "XXX"],
        but_in: &[],
        instead: "finish it, or open an issue",
    },
    Ban {
        what: &["println!(", "print!(", "eprintln!(", "eprint!("],
        but_in: &["src/cli/"], // verbs talk to people
        instead: "use tracing; a library does not write to the terminal",
    },
    Ban {
        what: &["unsafe {", "unsafe fn", "unsafe impl", "unsafe trait", "allow(unsafe_code"],
        but_in: &["src/store/map.rs"], // maps a file and prefetches, and argues why that is sound
        instead: "there are two unsafe lines in this crate, in one module, and they stay the only ones",
    },
    Ban {
        what: &["unbounded_channel", "mpsc::channel()", "channel::unbounded"],
        but_in: &[],
        instead: "a queue without a bound is a fault: give it a named limit",
    },
    Ban {
        what: &["process::exit", "process::abort"],
        but_in: &["src/cli/"], // a verb has an exit code
        instead: "return an error to whoever can decide",
    },
    Ban {
        what: &["env::var(", "env::vars(", "env::set_var("],
        but_in: &["src/cli/"], // the level of the log
        instead: "settings come from the configuration file, so that `check` sees them all",
    },
];

/// The parts that do no input or output: the core that is tested with any clock and any input.
const PURE: &[&str] = &[
    "src/asn1.rs",
    "src/ocsp/",
    "src/x509/",
    "src/client/",
    "src/store/hash.rs",
    "src/store/keys.rs",
    "src/store/segment.rs",
    "src/store/snapshot.rs",
    "src/store/wave.rs",
    "src/presign/budget.rs",
    "src/presign/decide.rs",
    "src/presign/queue.rs",
    "src/presign/schedule.rs",
    "src/presign/table.rs",
    "src/presign/urgent.rs",
    "src/presign/waiting.rs",
    "src/status/entries.rs",
    "src/status/index.rs",
    "src/config/document.rs",
    "src/config/quantity.rs",
    "src/registry/impact.rs",
    "src/registry/pace.rs",
    "src/registry/record.rs",
    "src/renewal/",
    "src/simulate/",
    "src/enrolment/accept.rs",
    "src/enrolment/answer.rs",
    "src/enrolment/body.rs",
    "src/enrolment/failure.rs",
];

/// What makes a part impure.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "tokio::",
    "rustix::",
    "SystemRandom",
    "SystemClock",
    "monotonic(",
    "File::",
    "TcpStream",
    "thread::",
];

/// A source file: its path from the root of the crate, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The lines that are compiled without tests, with their numbers, comments left out.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test =
            self.path.starts_with("tests/") || self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        let end = if is_test { "" } else { self.text.split("#[cfg(test)]").next().unwrap_or_default() };
        end.lines().enumerate().map(|(n, line)| (n + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The part of the crate it belongs to; none for `lib.rs` and `main.rs`.
    fn part(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let part = inside.split('/').next()?.trim_end_matches(".rs");
        (part != "lib" && part != "main").then_some(part)
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(directory: &str, keep: &dyn Fn(&str) -> bool) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open = vec![root().join(directory)];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display())) {
            let file: PathBuf = entry.unwrap().path();
            let path = file.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            if file.is_dir() {
                let is_ours = !path.split('/').any(|part| matches!(part, "target" | ".git" | "corpus" | "found"));
                if is_ours {
                    open.push(file);
                }
            } else if keep(&path) {
                found.push(Source { path, text: fs::read_to_string(&file).unwrap_or_default() });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn rust(directory: &str) -> Vec<Source> {
    let found = files(directory, &|path| path.ends_with(".rs"));
    assert!(!found.is_empty(), "no source files in {directory}");
    found
}

fn assert_clean(findings: &str) {
    assert!(findings.is_empty(), "\n{findings}");
}

#[test]
fn no_file_is_longer_than_can_be_read() {
    let mut findings = String::new();
    for source in rust("src").into_iter().chain(rust("tests")) {
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            writeln!(findings, "{}: {lines} lines, at most {MAX_LINES}; split it by what it is about", source.path)
                .unwrap();
        }
    }
    assert_clean(&findings);
}

/// Every name behind `crate::`, also in a group: the parts that this line knows.
fn known(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).flat_map(|rest| {
        let group = rest.strip_prefix('{').map(|rest| rest.split('}').next().unwrap_or_default());
        let names: Vec<&str> = match group {
            Some(group) => group.split(',').collect(),
            None => vec![rest],
        };
        names.into_iter().map(|name| {
            let name = name.trim_start();
            name.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
        })
    })
}

#[test]
fn every_part_knows_only_whom_it_may() {
    let allowed: BTreeMap<&str, (&[&str], &str)> =
        MAY_KNOW.iter().map(|(part, may, why)| (*part, (*may, *why))).collect();
    let (mut findings, mut seen) = (String::new(), BTreeSet::new());
    for source in rust("src") {
        let Some(part) = source.part() else { continue };
        seen.insert(part.to_owned());
        let Some((may, why)) = allowed.get(part) else {
            writeln!(
                findings,
                "{}: the part {part} is not in MAY_KNOW; say there whom it may know, and why",
                source.path
            )
            .unwrap();
            continue;
        };
        for (number, line) in source.code() {
            // A group over several lines would hide what it names.
            if line.trim_end().ends_with("crate::{") {
                writeln!(findings, "{}:{number}: write one `use crate::part` a line", source.path).unwrap();
            }
            for other in known(line).filter(|other| *other != part && !may.contains(other)) {
                writeln!(findings, "{}:{number}: {part} may not know {other} ({why})", source.path).unwrap();
            }
        }
    }
    for (part, _, _) in MAY_KNOW {
        if !seen.contains(*part) {
            writeln!(findings, "MAY_KNOW speaks of {part}, which does not exist").unwrap();
        }
    }
    assert_clean(&findings);
}

#[test]
fn no_parts_know_each_other_in_a_circle() {
    // Parts are taken away whose acquaintances are all gone; what cannot be taken away is in a circle.
    let mut left: BTreeMap<&str, &[&str]> = MAY_KNOW.iter().map(|(part, may, _)| (*part, *may)).collect();
    while let Some(free) =
        left.iter().find(|(_, may)| may.iter().all(|other| !left.contains_key(other))).map(|(p, _)| *p)
    {
        left.remove(free);
    }
    assert!(left.is_empty(), "a circle among {:?}", left.keys());
}

#[test]
fn what_is_banned_is_not_called() {
    let mut findings = String::new();
    for source in rust("src") {
        for ban in BANS.iter().filter(|ban| !ban.but_in.iter().any(|path| source.path.starts_with(path))) {
            for (number, line) in source.code() {
                for what in ban.what.iter().filter(|what| contains_call(line, what)) {
                    writeln!(findings, "{}:{number}: `{what}`: {}", source.path, ban.instead).unwrap();
                }
            }
        }
    }
    assert_clean(&findings);
}

/// Whether `what` stands in the line and is not the tail of a longer name (`eprintln!` is not `println!`).
fn contains_call(line: &str, what: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins_a_name = what.starts_with(is_name);
    line.match_indices(what)
        .any(|(at, _)| !(begins_a_name && line.get(..at).is_some_and(|before| before.ends_with(is_name))))
}

#[test]
fn the_core_is_pure() {
    let mut findings = String::new();
    let sources = rust("src");
    for pure in PURE {
        let mut own = sources.iter().filter(|source| source.path.starts_with(pure)).peekable();
        if own.peek().is_none() {
            writeln!(findings, "PURE speaks of {pure}, which does not exist").unwrap();
        }
        for source in own {
            for (number, line) in source.code() {
                for what in IMPURE.iter().filter(|what| contains_call(line, what)) {
                    writeln!(findings, "{}:{number}: `{what}`: {pure} is pure; let the caller do it", source.path)
                        .unwrap();
                }
            }
        }
    }
    assert_clean(&findings);
}

#[test]
fn unit_tests_stand_last() {
    // The other rules look at what stands before them.
    let mut findings = String::new();
    for source in rust("src") {
        let mut parts = source.text.split("#[cfg(test)]");
        parts.next();
        for (index, rest) in parts.enumerate() {
            let is_last = index == 0 && rest.trim_start().lines().next().is_some_and(|line| line.contains("mod tests"));
            let behind = rest.split("\n}\n").nth(1).or_else(|| rest.split_once("mod tests;").map(|(_, behind)| behind));
            if !is_last || behind.is_some_and(|behind| !behind.trim().is_empty()) {
                writeln!(findings, "{}: one `mod tests`, and nothing behind it", source.path).unwrap();
            }
        }
    }
    assert_clean(&findings);
}

#[test]
fn main_only_delegates() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert!(main.lines().count() <= 20, "src/main.rs only calls stillgood::cli");
}

#[test]
fn unsafe_code_is_denied() {
    let library = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    assert!(library.contains("#![deny(unsafe_code)]"), "src/lib.rs denies unsafe_code");
}

#[test]
fn an_ignored_test_says_why() {
    let mut findings = String::new();
    for source in rust("src").into_iter().chain(rust("tests")) {
        for (number, line) in source.text.lines().enumerate() {
            if line.trim() == concat!("#[", "ignore]") {
                writeln!(findings, "{}:{}: #[ignore = \"why\"]", source.path, number + 1).unwrap();
            }
        }
    }
    assert_clean(&findings);
}

#[test]
fn every_metric_is_documented() {
    let documents: String =
        files("docs", &|path| path.ends_with(".md")).into_iter().map(|source| source.text).collect();
    let mut metrics = BTreeSet::new();
    for source in rust("src/admin") {
        for (_, line) in source.code() {
            let names = line.split("\"stillgood_").skip(1).filter_map(|rest| rest.split('"').next());
            metrics.extend(names.map(|name| format!("stillgood_{name}")));
        }
    }
    assert!(metrics.len() > 10, "the names of metrics are no longer found: {metrics:?}");
    metrics.retain(|metric| !documents.contains(metric.as_str()));
    assert!(metrics.is_empty(), "say in docs/OPERATIONS.md what these are: {metrics:?}");
}

#[test]
fn every_suite_of_clients_is_run() {
    let run = fs::read_to_string(root().join("tests/run")).unwrap();
    let list = run.lines().find_map(|line| line.strip_prefix("clients=(")).expect("tests/run has a line clients=(…)");
    let listed: BTreeSet<&str> = list.trim_end_matches(')').split_whitespace().collect();
    let there = files("tests/clients", &|path| !path.contains('.') && path.matches('/').count() == 2);
    let there: BTreeSet<&str> = there.iter().filter_map(|source| source.path.rsplit('/').next()).collect();
    assert_eq!(listed, there, "suites in tests/run, and files in tests/clients");
}

#[test]
fn no_path_of_a_machine_is_written_down() {
    let homes = ["root", "home", "Users", "work"].map(|directory| format!("/{directory}/"));
    let mut findings = String::new();
    let is_text = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or_default();
        let endings = [".rs", ".toml", ".md", ".sh", ".py", ".go", ".java", ".json", ".yml", ".svg"];
        endings.iter().any(|ending| name.ends_with(ending)) || !name.contains('.') || path.starts_with(".ci/")
    };
    for source in files("", &is_text) {
        for (number, line) in source.text.lines().enumerate() {
            for home in
                homes.iter().filter(|home| line.contains(&format!(" {home}")) || line.contains(&format!("\"{home}")))
            {
                writeln!(findings, "{}:{}: {home} is of one machine", source.path, number + 1).unwrap();
            }
        }
    }
    assert_clean(&findings);
}

#[test]
fn these_rules_find_what_they_look_for() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let names = |line| known(line).collect::<Vec<_>>();
    assert_eq!(names("use crate::store::Store;"), ["store"]);
    assert_eq!(names("use crate::{ocsp::Request, time};"), ["ocsp", "time"]);
    assert_eq!(names("fn f(a: crate::admin::X) -> crate::cli::Y"), ["admin", "cli"]);
    assert!(contains_call("let now = std::time::Instant::now();", "Instant::now"));
    assert!(contains_call("x.unwrap();", ".unwrap()"));
    assert!(!contains_call("eprintln!(1)", "println!("));
    assert!(contains_call("    println!(1)", "println!("));
    let file = source("src/a/b.rs", "fn f() {}\n// x.unwrap()\n#[cfg(test)]\nmod tests { x.unwrap() }\n");
    assert_eq!(file.code().collect::<Vec<_>>(), [(1, "fn f() {}")]);
    assert_eq!((file.part(), source("src/lib.rs", "").part()), (Some("a"), None));
    assert_eq!(source("src/a/tests.rs", "x").code().count(), 0);
}
