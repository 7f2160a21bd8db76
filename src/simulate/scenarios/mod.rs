//! The named scenarios.

mod credential;
mod fleet;
mod leak;
mod monitor;
mod request_loop;
mod service;
mod storm;

use super::scenario::Scenario;

/// All of them, the incidents first.
pub(super) fn all() -> Vec<Scenario> {
    vec![
        storm::RETIRED_CA_STORM,
        storm::RETIRED_CA_UNTOLD,
        request_loop::REQUEST_LOOP,
        leak::CONNECTION_LEAK,
        monitor::ILL_FORMED_CERTIFICATE,
        credential::EXPIRED_CLIENT_CREDENTIAL,
        fleet::CALM_YEAR,
        fleet::MASS_ONBOARDING,
        fleet::CLOCK_JUMP,
        service::CA_DOWN_TWO_WEEKS,
        service::SLOW_CA,
    ]
}
