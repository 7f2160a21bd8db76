//! The first signing, on a terminal.

use crate::responder::Responder;
use std::time::Duration;

/// How long the first signers are waited for.
const FIRST_SIGNERS: Duration = Duration::from_secs(20);
/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Until each issuer has a signer in use; a CA that issues none is not waited for for ever.
pub(super) async fn first_signers(responder: &Responder) {
    let all = async {
        let have_signers = |responder: &Responder| {
            let reports = responder.reports();
            !reports.is_empty() && reports.iter().all(|report| report.signer.is_some())
        };
        while !have_signers(responder) {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(FIRST_SIGNERS, all).await;
}

/// A bar on the terminal until everything has been signed once, or nothing moves any more.
pub(super) async fn show_progress(responder: &Responder) {
    // What there is to sign is known when the sources have been read.
    while !responder.reports().iter().all(|report| !report.sources.is_empty() || report.status_fault.is_some()) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let total: usize = responder.reports().iter().map(|report| report.entries).sum();
    let stats = responder.presign_stats();
    if stats.missing == 0 || total == 0 {
        return;
    }
    let bar = indicatif::ProgressBar::new(total as u64);
    if let Ok(style) = indicatif::ProgressStyle::with_template(
        "signing {bar:32} {human_pos}/{human_len} {per_sec} {elapsed_precise} left {eta}",
    ) {
        bar.set_style(style);
    }
    let mut still = 0;
    let mut before = 0;
    while still < 50 {
        let stats = responder.presign_stats();
        bar.set_position(stats.signed.min(total as u64));
        if stats.missing == 0 {
            break;
        }
        still = if stats.signed == before { still + 1 } else { 0 };
        before = stats.signed;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
}
