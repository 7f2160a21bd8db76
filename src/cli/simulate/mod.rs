//! `simulate`: the incidents, or a fleet of one's own, in virtual time.

mod own;

use super::{print, print_error};
use crate::config::HumanDuration;
use crate::simulate::report::{page, svg, table};
use crate::simulate::{Report, Scenario, draw};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Replays outages in virtual time, against the renewal core that `serve` runs.
///
/// Each scenario is a world (nodes, a CA service with queues, a registry, customers who share the queue) that is run twice:
/// under the policy that the field uses, which must show the outage, and under ours, which must not. Nothing is contacted.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stillgood simulate                               the five outages: figures of both policies, what must hold, a picture (SVG) of each
  stillgood simulate --list                        what there is
  stillgood simulate retired-ca-storm              one scenario
  stillgood simulate --all --out pictures          all of them, with the pictures in a directory of their own
  stillgood simulate slow-ca --seed 7 --json       another course of chance, for machines
  stillgood simulate --worlds 1000 --seed 1        worlds at random: the rules are checked at every step
  stillgood simulate --config stillgood.toml --registry issuers.json --ca-down 10d
                                                   your issuers and your limits: the calendar, and a dead CA

A run is repeated exactly by its seed. Exit codes: 0 everything holds, 1 something does not, 2 the command line cannot be \
understood.")]
pub(super) struct Args {
    /// The scenario; --list names them [default: the five outages that happened]
    #[arg(value_name = "SCENARIO", conflicts_with_all = ["all", "worlds", "list"])]
    scenario: Option<String>,
    /// Name the scenarios and stop
    #[arg(long)]
    list: bool,
    /// Run all scenarios: the outages, a variation, quiet years and other trouble
    #[arg(long, conflicts_with_all = ["worlds", "list"])]
    all: bool,
    /// Draw so many worlds at random, from the seed on, and check the rules in each
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    worlds: Option<u64>,
    /// Where chance begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// A smaller fleet, for a quick look; with a scenario as many nodes at least as it needs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    nodes: Option<u64>,
    /// Write a picture of each scenario into this directory, as NAME.svg [default: where you are; with --json or --markdown none]
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "worlds", "list"])]
    out: Option<PathBuf>,
    /// Write INCIDENTS.md and its pictures into this directory; with --all
    #[arg(long, value_name = "DIR", requires = "all")]
    markdown: Option<PathBuf>,
    /// Your own fleet: the configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["scenario", "all", "worlds", "list"])]
    config: Option<PathBuf>,
    /// Another registry than the one the configuration names
    #[arg(long, value_name = "FILE", requires = "config")]
    registry: Option<PathBuf>,
    /// How long your CA's signers are valid [default: validity of a local service, else 90d, which is told]
    #[arg(long, value_name = "TIME", requires = "config")]
    life: Option<HumanDuration>,
    /// The CA takes no connection for so long, as in 10d
    #[arg(long, value_name = "TIME", requires = "config")]
    ca_down: Option<HumanDuration>,
    /// When your own fleet's run begins, in seconds since 1970 [default: now]; with the same seed it repeats a run
    #[arg(long, value_name = "SECONDS", requires = "config", allow_negative_numbers = true)]
    start: Option<i64>,
    /// For machines: an array with one object for each run, figures and curves included
    #[arg(long)]
    json: bool,
}

/// The outages that happened, in the order of docs/INCIDENTS.md.
const OUTAGES: [&str; 5] =
    ["retired-ca-storm", "request-loop", "connection-leak", "ill-formed-certificate", "expired-client-credential"];

pub(super) fn run(args: &Args) -> ExitCode {
    if args.list {
        Scenario::all().iter().for_each(|s| print(&format!("{:<26}{}\n", s.name, s.title)));
        return ExitCode::SUCCESS;
    }
    if let Some(config) = &args.config {
        return own::run(args, config);
    }
    if let Some(count) = args.worlds {
        return worlds(args, count);
    }
    let scenarios = match &args.scenario {
        Some(name) => match Scenario::named(name) {
            Some(scenario) => vec![scenario],
            None => {
                print_error(&format!("there is no scenario \"{name}\"; `stillgood simulate --list` names them\n"));
                return ExitCode::from(2);
            }
        },
        None if args.all => Scenario::all(),
        None => OUTAGES.iter().filter_map(|name| Scenario::named(name)).collect(),
    };
    match scenarios_run(args, scenarios) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(text) => {
            print_error(&format!("{text}\n"));
            ExitCode::FAILURE
        }
    }
}

/// `true`: every verdict of every scenario holds.
fn scenarios_run(args: &Args, scenarios: Vec<Scenario>) -> Result<bool, String> {
    let nodes = args.nodes.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let mut reports: Vec<(Scenario, Report)> = Vec::new();
    for scenario in scenarios {
        let report = scenario.run(args.seed, nodes)?;
        if !args.json {
            print(&format!("{}\n", table(&scenario, &report)));
        }
        let is_wanted = args.out.is_some() || !(args.json || args.markdown.is_some());
        if is_wanted {
            let file = args.out.clone().unwrap_or_default().join(format!("{}.svg", scenario.name));
            match write(&file, &svg(&scenario, &report)) {
                Ok(()) if args.json => {}
                Ok(()) => print(&format!("picture: {}\n\n", file.display())),
                // Nobody asked for it there.
                Err(text) if args.out.is_none() => {
                    print_error(&format!("no picture: {text}; --out DIR writes it elsewhere\n"));
                }
                Err(text) => return Err(text),
            }
        }
        reports.push((scenario, report));
    }
    if let Some(dir) = &args.markdown {
        for (scenario, report) in &reports {
            write(&dir.join("incidents").join(format!("{}.svg", scenario.name)), &svg(scenario, report))?;
        }
        write(&dir.join("INCIDENTS.md"), &page(&reports))?;
    }
    if args.json {
        let reports: Vec<&Report> = reports.iter().map(|(_, report)| report).collect();
        let text = serde_json::to_string_pretty(&reports).map_err(|e| e.to_string())?;
        print(&format!("{text}\n"));
    }
    Ok(reports.iter().all(|(_, report)| report.passes()))
}

fn worlds(args: &Args, count: u64) -> ExitCode {
    let (mut broken, mut requests, mut drawn) = (0_u64, 0_u64, Vec::new());
    for seed in args.seed..args.seed.saturating_add(count) {
        let world = match draw(seed) {
            Ok(world) => world,
            Err(text) => {
                print_error(&format!("seed {seed}: {text}\n"));
                return ExitCode::FAILURE;
            }
        };
        requests += world.totals.requests;
        if !world.violations.is_empty() {
            broken += 1;
            if !args.json {
                print(&format!("{}\n", world.what));
                world.violations.iter().for_each(|violation| print(&format!("{violation}\n")));
            }
        }
        if args.json {
            drawn.push(world);
        }
    }
    if args.json {
        match serde_json::to_string_pretty(&drawn) {
            Ok(text) => print(&format!("{text}\n")),
            Err(e) => print_error(&format!("{e}\n")),
        }
    } else {
        print(&format!("{count} worlds from seed {}, {requests} requests: {broken} break a rule\n", args.seed));
    }
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let told = |e: std::io::Error| format!("{}: {e}", file.display());
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(told)?;
    }
    std::fs::write(file, text).map_err(told)
}
