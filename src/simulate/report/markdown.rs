//! The page of all scenarios, for the documentation.

use super::super::scenario::{Report, Scenario};
use super::figures;
use std::fmt::Write;

const HEAD: &str = "\
# The incidents, replayed

Made by `stillgood simulate --all --markdown docs`; not by hand.

Five outages of PKI services are why the renewal of stillgood is as it is. Each is replayed here in virtual time: the same
world (nodes, a CA service with queues and a back-off, a registry, customers who share the queue) is run once under the policy
that the field uses (renewal at a fixed share of a certificate's life, a fixed retry, a new request after a time-out, no
registry, everything at once after a restart), and once under the renewal core that `stillgood serve` runs, itself and not a
copy. A replay in which the first run does not show the outage would prove nothing, so that is checked as well.

The sources say what happened and seldom how large everything was. Where the model departs from a text or fills a gap is said
with each scenario. The numbers of the field's policy are not in the texts either and differ from scenario to scenario: they
stand under each. Its share of life puts the renewal at the moment of the text, and its retry was chosen, between half a minute
and ten, so that the outage comes out as the text tells it: the replay shows that such a policy can do this, not that every fleet
of the field would have. The driver around the core (files, TLS, processes) is modelled here and tested elsewhere; what an answer of
the CA means is the real drivers' own table. Rows that the model cannot show (C2, D2, the latency of A9) are not in the tables. The rows (A1 to E3)
are the behaviours that the incidents ask for; `outage` is what the field must show; `steps` is what is checked at each step:

* no request for an issuer but on fresh evidence that it is active, looked at again just before;
* the rate, the requests at a time and per day are kept, and the ramp after a start, a reload, a pause, new issuers and a
  service that is back;
* one open order for a signer, one key for an order, both on disk before anything is sent;
* what the CA has refused, what came and did not pass, and what the ledger calls parked for any reason, is asked at most once a day
  until a certificate, the registry or an operator lifts that; no signer gets more certificates or requests a day than it may, whatever the registry does;
* where the CA asks for time (Retry-After), nothing is sent before, as far as that outlives no signer;
* nothing is sent by a client certificate that has expired by the node's own clock;
* no certificate is used before it is valid, or of an order that was not open, or when its responses would outlive it, or
  unapproved where an operator is to approve it.

`progress` is what is checked in the end: within a bound after the last fault, everything that was due or ordered is renewed.
It is asked of every world drawn at random as well, also of those in which issuers are answered by silence and the CA's own
servers rest for everybody after failures. What is left out is what nothing could be done for: issuers for which the CA cannot
issue, and, where no operator acts, what waits for one.

`stillgood simulate --list` names the scenarios, `simulate NAME --seed N` runs one again, `simulate --worlds 1000` draws worlds
at random and checks the rules in them, and `simulate --config F --registry R --ca-down 10d` runs your own issuers and limits.
What happens when a line of the core is broken on purpose is in [incidents/mutants.md](incidents/mutants.md).

";

/// The whole page; pictures lie in `incidents/` beside it.
pub fn page(reports: &[(Scenario, Report)]) -> String {
    let mut out = HEAD.to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "| scenario | failed calls of customers | requests wasted | signers expired |\n|---|---|---|---|"
    );
    for (scenario, report) in reports {
        let (field, ours) = (&report.field.totals, &report.ours.totals);
        let both = |a: u64, b: u64| format!("{} → **{}**", super::thousands(a), super::thousands(b));
        let _ = writeln!(
            out,
            "| [{0}](#{0}) | {1} | {2} | {3} |",
            scenario.name,
            both(field.hurt + field.limited, ours.hurt + ours.limited),
            both(field.wasted, ours.wasted),
            both(field.expired, ours.expired)
        );
    }
    let _ = writeln!(out, "\nFrom the field's policy to ours, in the same world.\n");
    for (scenario, report) in reports {
        out.push_str(&section(scenario, report));
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The part of one scenario.
pub fn section(scenario: &Scenario, report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "## {}\n\n{}\n", scenario.name, scenario.text);
    let _ = writeln!(out, "![{0}: both policies over time](incidents/{0}.svg)\n", scenario.name);
    let _ = writeln!(out, "The field here: {}.\n", report.field_policy);
    let _ = writeln!(out, "| seed {} | the field | stillgood |\n|---|---:|---:|", report.seed);
    for (name, field, ours) in figures(report) {
        let _ = writeln!(out, "| {name} | {field} | {ours} |");
    }
    let _ = writeln!(out, "\n| row | seen | holds |\n|---|---|---|");
    for verdict in &report.verdicts {
        let _ =
            writeln!(out, "| {} | {} | {} |", verdict.row, verdict.text, if verdict.holds { "yes" } else { "**no**" });
    }
    if !matches!(scenario.departures, [] | ["No incident."]) {
        let _ = writeln!(out, "\nWhere the model departs from the text:\n");
        for text in scenario.departures {
            let _ = writeln!(out, "* {text}");
        }
    }
    out.push('\n');
    out
}
