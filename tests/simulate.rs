//! The incidents, replayed: the policy of the field shows the outage, ours passes.

use stillgood::simulate::{Report, Scenario};

/// Runs a scenario, with so many nodes at the most, and tells everything if it does not pass.
fn run(name: &str, nodes: Option<usize>) -> Report {
    let scenario = Scenario::named(name).expect("a scenario of this name");
    let report = scenario.run(1, nodes).expect("a world that can be");
    println!("field {:?}\nours {:?}", report.field.totals, report.ours.totals);
    for verdict in &report.verdicts {
        println!("{} {}: {}", if verdict.holds { "holds" } else { "FAILS" }, verdict.row, verdict.text);
    }
    report.ours.violations.iter().for_each(|violation| println!("{violation}"));
    report
}

macro_rules! scenarios {
    ($($test:ident: $name:literal, $nodes:expr;)*) => {
        $(#[test]
        fn $test() {
            assert!(run($name, $nodes).passes());
        })*

        #[test]
        fn every_scenario_is_tested() {
            let tested = [$($name),*];
            assert_eq!(Scenario::all().iter().map(|s| s.name).collect::<Vec<_>>(), tested);
        }
    };
}

scenarios! {
    the_retired_ca_storm_does_not_happen: "retired-ca-storm", None;
    the_retired_ca_storm_does_not_happen_even_if_nobody_is_told: "retired-ca-untold", None;
    the_request_loop_stops: "request-loop", None;
    no_connection_leaks: "connection-leak", None;
    an_ill_formed_certificate_hurts_itself_only: "ill-formed-certificate", None;
    our_own_credential_is_renewed_in_time: "expired-client-credential", None;
    a_calm_year_is_calm: "calm-year", Some(4);
    a_thousand_issuers_join_without_a_burst: "mass-onboarding", None;
    a_clock_that_jumps_makes_no_storm: "clock-jump", None;
    two_weeks_without_a_ca_are_survived: "ca-down-two-weeks", Some(5);
    a_ca_slower_than_the_time_out_sees_one_key_per_signer: "slow-ca", None;
}

/// `stillgood simulate --all --markdown docs` writes it again.
#[test]
fn the_page_of_the_incidents_says_what_a_run_shows() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/INCIDENTS.md")).unwrap();
    for scenario in Scenario::all() {
        assert!(page.contains(&format!("## {}\n\n{}\n", scenario.name, scenario.text)), "{}", scenario.name);
    }
    for name in ["connection-leak", "retired-ca-storm"] {
        let scenario = Scenario::named(name).expect("a scenario of this name");
        let report = scenario.run(1, None).expect("a world that can be");
        let section = stillgood::simulate::report::section(&scenario, &report);
        assert!(page.contains(section.trim_end()), "docs/INCIDENTS.md is not what a run gives:\n{section}");
    }
}

/// Each breaks one line of the core; a line that has been rewritten since would break nothing, unseen until all are run.
#[test]
fn every_mutant_has_its_one_place_in_the_sources() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mutants");
    let check = std::process::Command::new("bash").args([script, "--check"]).output().expect("bash and perl");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn one_seed_gives_one_run() {
    let scenario = Scenario::named("clock-jump").expect("a scenario of this name");
    let json = |seed| serde_json::to_string(&scenario.run(seed, Some(4)).expect("a world that can be")).unwrap();
    assert_eq!(json(3), json(3));
    assert_ne!(json(3), json(4));
}

#[test]
fn a_fleet_in_which_nothing_could_be_seen_is_refused() {
    let scenario = Scenario::named("clock-jump").expect("a scenario of this name");
    let fault = scenario.run(1, Some(2)).err().unwrap_or_default();
    assert!(fault.contains("--nodes 2") && fault.contains("4 nodes"), "{fault}");
}

/// `STILLGOOD_WORLDS` draws more than the few that fit into the time of a test, `STILLGOOD_SEED` one again.
#[test]
fn in_worlds_at_random_every_rule_holds_at_every_step() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("STILLGOOD_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("STILLGOOD_WORLDS").unwrap_or(150),
    };
    let (mut broken, mut requests) = (Vec::new(), 0);
    for seed in seeds {
        let drawn = stillgood::simulate::draw(seed).expect("a world that can be");
        requests += drawn.totals.requests;
        if !drawn.violations.is_empty() {
            println!("{}", drawn.what);
            drawn.violations.iter().take(3).for_each(|violation| println!("{violation}"));
            broken.push(seed);
        }
    }
    assert!(broken.is_empty(), "STILLGOOD_SEED={} cargo test --test simulate; all: {broken:?}", broken[0]);
    assert!(requests > 0);
}

/// Some of the worlds that showed a fault of the core when they were first drawn.
#[test]
fn worlds_that_once_showed_a_fault_do_no_longer() {
    for seed in [114, 178, 351, 473, 559, 682, 685, 3_561, 4_118, 17_116, 40_225, 44_250, 77_991, 82_894, 105_735] {
        let drawn = stillgood::simulate::draw(seed).expect("a world that can be");
        assert_eq!(drawn.violations, [], "seed {seed}: {}", drawn.what);
    }
}
