//! From the configuration to the agent's settings.

use super::parts::{Service, Settings};
use crate::config::{Config, Protocol};
use crate::enrolment::build;
use crate::https::UrlError;
use crate::renewal::{CredentialSpec, EndpointId, EndpointSpec, Limits};
use crate::time::Clock;
use std::sync::Arc;
use std::time::Duration;

/// What the slowest step of the agent takes beyond a service's time-out.
const BEYOND: Duration = Duration::from_secs(120);

impl Settings {
    /// The settings that follow from a configuration. Services that are as they were in `before` keep their connections.
    ///
    /// # Errors
    /// A URL that the configuration should not have let through, with the name of its section.
    pub fn of(
        config: &Config,
        clock: &Arc<dyn Clock>,
        before: Option<(&Config, &Settings)>,
    ) -> Result<Settings, (String, UrlError)> {
        let mut services = Vec::with_capacity(config.enrolment.len());
        for (name, enrolment) in &config.enrolment {
            let Ok(id) = EndpointId::new(name) else { continue }; // the configuration lets no other name through
            let kept = before.filter(|(config, _)| config.enrolment.get(name) == Some(enrolment));
            let kept = kept.and_then(|(_, settings)| settings.services.iter().find(|s| s.spec.id == id));
            let client = match kept {
                Some(service) => service.enrolment.clone(),
                None => build(name, enrolment, clock.clone()).map_err(|e| (name.clone(), e))?,
            };
            let credential = match &enrolment.protocol {
                Protocol::Est { client: Some(client), .. } => {
                    Some(CredentialSpec { profile: client.profile.clone(), margin: config.renewal.margin })
                }
                _ => None,
            };
            let spec = EndpointSpec {
                id,
                rate: enrolment.rate,
                max_in_flight: enrolment.max_in_flight,
                attempts_per_day: enrolment.daily_requests,
                credential,
            };
            services.push(Service { spec, enrolment: client, timeout: enrolment.timeout });
        }
        Ok(Settings { limits: limits(config), renewal: config.renewal.clone(), services })
    }
}

/// The bounds of renewal by a configuration, free of contradictions since that is.
fn limits(config: &Config) -> Limits {
    let defaults = Limits::default();
    let renewal = &config.renewal;
    let (base, cap) = (renewal.backoff.base, renewal.backoff.cap);
    let slowest = config.enrolment.values().map(|e| e.timeout).max().unwrap_or_default();
    Limits {
        window: renewal.window,
        evidence_max_age: config.registry.max_age,
        confirm_within: config.registry.refresh.min(defaults.confirm_within),
        backoff_base: base,
        backoff_cap: cap,
        // What the window leaves, where that is less.
        urgent_share: defaults.urgent_share.min(1.0 - renewal.window.end),
        submissions_per_day: renewal.submissions_per_day,
        issuances_per_day: renewal.issuances_per_day,
        ramp: renewal.ramp,
        breaker_cap: defaults.breaker_cap.min(cap).max(base),
        step_patience: defaults.step_patience.max(slowest.saturating_add(BEYOND)),
        activation_skew: renewal.activation_skew,
        poll_cap: defaults.poll_cap.max(base),
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::SystemClock;
    use std::path::Path;

    const LAB: &str = "[enrolment.lab]\nprotocol = \"local\"\nca_keys = \"k\"\n";

    fn settings(text: &str) -> (Config, Settings) {
        let config = Config::parse(text, Path::new("stillgood.toml")).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let settings = Settings::of(&config, &clock, None).unwrap();
        (config, settings)
    }

    #[test]
    fn whatever_the_configuration_lets_through_does_not_contradict_itself() {
        for text in [
            "",
            "[renewal]\nwindow = [0.01, 0.95]\nbackoff = [\"7d\", \"7d\"]",
            "[renewal]\nwindow = [0.94, 0.95]\nbackoff = [\"1s\", \"1s\"]\nramp = \"0s\"\nactivation_skew = \"0s\"",
            "[renewal]\nsubmissions_per_day = 1\nissuances_per_day = 1\n[registry]\nrefresh = \"1s\"\nmax_age = \"2s\"",
            "[registry]\nrefresh = \"1d\"\nmax_age = \"7d\"",
        ] {
            let (_, settings) = settings(&format!("{text}\n{LAB}timeout = \"1h\"\nconnect_timeout = \"5s\""));
            assert_eq!(settings.limits.faults(), Vec::<String>::new(), "{text}");
            assert!(settings.limits.step_patience > settings.services[0].timeout);
        }
    }

    #[test]
    fn a_service_that_is_as_it_was_keeps_its_connections() {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let other = "[enrolment.other]\nprotocol = \"local\"\nca_keys = \"k\"\n";
        let (config, before) = settings(&format!("{LAB}{other}"));
        let changed = Config::parse(&format!("{LAB}{other}max_in_flight = 3\n"), Path::new("stillgood.toml")).unwrap();
        let after = Settings::of(&changed, &clock, Some((&config, &before))).unwrap();
        let kept: Vec<bool> =
            before.services.iter().zip(&after.services).map(|(b, a)| Arc::ptr_eq(&b.enrolment, &a.enrolment)).collect();
        assert_eq!(kept, [true, false]);
    }
}
