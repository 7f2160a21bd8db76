//! What of a changed configuration a running service takes over. Pure.

use crate::config::Config;
use crate::registry::Generation;
use std::net::SocketAddr;

/// What a running service goes by: its loss is more likely a file that was cut short than a wish, and by the defaults it would
/// listen elsewhere, or have other issuers.
const HELD_FAST: [&str; 6] = ["state_dir", "admin", "presign", "on_demand", "endpoint.listen", "registry.source"];
/// Those of them that take a restart.
const BY_RESTART: &[&str] = HELD_FAST.split_at(4).0;

/// Why `next` is not taken over in place of `before`, if it is not.
pub(super) fn refusal(before: &Config, next: &Config) -> Option<String> {
    let file = next.file.display();
    if next.written.is_empty() && !before.written.is_empty() {
        return Some(format!("{file} has no key at all; write the whole file, aside, and rename it over this one"));
    }
    let gone: Vec<_> =
        HELD_FAST.into_iter().filter(|key| before.written.contains(*key) && !next.written.contains(*key)).collect();
    (!gone.is_empty()).then(|| {
        format!(
            "{file} lacks {}, which the one in use has: cut short while it was written? Write the whole file, aside, and rename it \
            over this one; what is to have its default can be written so, or takes a restart",
            gone.join(", ")
        )
    })
}

/// What has changed and does not apply before a restart.
pub(super) fn takes_a_restart(before: &Config, next: &Config) -> Vec<&'static str> {
    let all = [
        ("state_dir", next.state_dir != before.state_dir),
        ("[admin]", next.admin != before.admin),
        ("[presign]", next.presign != before.presign),
        ("[on_demand]", next.on_demand != before.on_demand),
        ("[log] format", next.log.format != before.log.format),
        ("[renewal] node", has_node(before) && next.renewal.node != before.renewal.node),
    ];
    all.into_iter().filter(|(_, changed)| *changed).map(|(what, _)| what).collect()
}

/// `next` with what takes a restart as it was before.
pub(super) fn without_those(before: &Config, mut next: Config) -> Config {
    next.state_dir.clone_from(&before.state_dir);
    next.admin.clone_from(&before.admin);
    next.presign.clone_from(&before.presign);
    next.on_demand.clone_from(&before.on_demand);
    next.log.format = before.log.format;
    for key in BY_RESTART {
        // What was never in use is not missed when it is taken back.
        match before.written.contains(*key) {
            true => next.written.insert((*key).to_owned()),
            false => next.written.remove(*key),
        };
    }
    if has_node(before) {
        next.renewal.node.clone_from(&before.renewal.node);
    }
    next
}

/// Whether there is an agent, which was given its name at its start.
fn has_node(before: &Config) -> bool {
    !before.enrolment.is_empty()
}

/// CA services that are gone from the configuration though issuers are renewed there, with how many.
pub(super) fn orphaned<'a>(before: &'a Config, next: &Config, registry: &Generation) -> Vec<(&'a str, usize)> {
    let gone = before.enrolment.keys().filter(|name| !next.enrolment.contains_key(*name));
    let renewed_there = |name: &str| {
        registry
            .issuers
            .iter()
            .filter(|issuer| issuer.signer_source.enrolled().is_some_and(|(there, _)| there == name))
            .count()
    };
    gone.map(|name| (name.as_str(), renewed_there(name))).filter(|(_, issuers)| *issuers > 0).collect()
}

/// The addresses that are new, and those that are gone.
pub(super) fn moved(before: &[SocketAddr], after: &[SocketAddr]) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
    let only = |of: &[SocketAddr], not: &[SocketAddr]| of.iter().filter(|a| !not.contains(a)).copied().collect();
    (only(after, before), only(before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Document, RecordRules};
    use std::path::Path;

    const WHOLE: &str = "state_dir = \"s\"\n[endpoint]\nlisten = [\"127.0.0.1:1234\"]\n[registry]\nsource = \"i.json\"\n\
        [admin]\nlisten = \"off\"\n[presign]\nworkers = 2\n[on_demand]\nqueue = 7\n[log]\nrequests = 9\n";

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("stillgood.toml")).unwrap()
    }

    #[test]
    fn a_configuration_that_is_cut_short_is_refused_wherever_it_still_is_one() {
        let whole = parse(WHOLE);
        let mut refused = 0;
        for end in 0..=WHOLE.find("[on_demand]").unwrap() {
            let Ok(cut) = Config::parse(&WHOLE[..end], Path::new("stillgood.toml")) else { continue };
            assert!(refusal(&whole, &cut).is_some(), "{:?}", &WHOLE[..end]);
            refused += 1;
        }
        assert!(refused > 10, "{refused}");
        let text = refusal(&whole, &parse("# nothing\n")).unwrap();
        assert!(text.starts_with("stillgood.toml has no key at all; "), "{text}");
        let text = refusal(&whole, &parse("state_dir = \"s\"\n[endpoint]\n[registry]\nsource = \"x\"\n")).unwrap();
        assert!(text.contains("lacks admin, presign, on_demand, endpoint.listen, which"), "{text}");
    }

    #[test]
    fn other_values_and_fewer_of_other_keys_are_no_reason_to_refuse() {
        let whole = parse(WHOLE);
        assert_eq!(refusal(&whole, &whole), None);
        assert_eq!(refusal(&whole, &parse(WHOLE.split("[log]").next().unwrap())), None);
        assert_eq!(refusal(&whole, &parse(&WHOLE.replace("1234", "4321").replace("i.json", "j.json"))), None);
        // What was not written before is not missed: whoever runs on the defaults may go on.
        assert_eq!(refusal(&parse(""), &parse("")), None);
        assert_eq!(refusal(&parse("[log]\nrequests = 1"), &parse("[endpoint]\nworkers = 2")), None);
    }

    #[test]
    fn what_takes_a_restart_is_told_and_stays_as_it_was() {
        let whole = parse(WHOLE);
        let text = WHOLE
            .replace("\"s\"", "\"t\"")
            .replace("workers = 2", "workers = 3")
            .replace("requests = 9", "requests = 8");
        let next = parse(&text);
        // The socket lies in state_dir.
        assert_eq!(takes_a_restart(&whole, &next), ["state_dir", "[admin]", "[presign]"]);
        let taken = without_those(&whole, next);
        assert_eq!((&taken.state_dir, &taken.presign, taken.log.requests), (&whole.state_dir, &whole.presign, 8));
        // Nor does it count as there before it is in use.
        let less = parse("[log]\nrequests = 1");
        let taken = without_those(&less, parse("[presign]\nworkers = 2"));
        assert_eq!(refusal(&taken, &less), None);
        // The agent was given its node's name at its start, where there is one.
        let node = |name: &str, more: &str| parse(&format!("[renewal]\nnode = \"{name}\"\n{more}"));
        let lab = "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"k\"\n";
        assert_eq!(takes_a_restart(&node("a", lab), &node("b", lab)), ["[renewal] node"]);
        assert_eq!(without_those(&node("a", lab), node("b", lab)).renewal.node.as_deref(), Some("a"));
        assert!(takes_a_restart(&node("a", ""), &node("b", lab)).is_empty());
        assert_eq!(without_those(&node("a", ""), node("b", lab)).renewal.node.as_deref(), Some("b"));
    }

    #[test]
    fn a_ca_service_that_is_gone_is_missed_by_the_issuers_that_are_renewed_there() {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().into_bytes();
        let [lab, other] =
            ["lab", "other"].map(|name| format!("[enrolment.{name}]\nprotocol = \"local\"\nca_keys = \"k\"\n"));
        let both = parse(&(lab.clone() + &other));
        let text = r#"{"generation":1,"issuers":[{"id":"a","state":"active","certificate":"a.pem","enrolment":"lab","profile":"p","status":{"crl":"x"}}]}"#;
        let document = Document::parse(text.as_bytes(), Path::new("r"), &RecordRules::of(&both)).unwrap();
        let registry = document.resolve(&mut |_| Ok(pem.clone()));
        assert_eq!(orphaned(&both, &parse(&other), &registry), [("lab", 1)]);
        assert!(orphaned(&both, &parse(&lab), &registry).is_empty(), "nobody is renewed there");
        assert!(orphaned(&both, &both, &registry).is_empty());
    }

    #[test]
    fn addresses_that_stay_are_neither_new_nor_gone() {
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        assert_eq!(moved(&[a, b], &[b, c]), (vec![c], vec![a]));
        assert_eq!(moved(&[a], &[a]), (vec![], vec![]));
    }
}
