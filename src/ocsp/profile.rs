//! Which rule book an issuer's answers follow.

/// The profile of an issuer's responses. The rule books contradict one another, so it is chosen per issuer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// RFC 6960: the whole protocol, live signing where needed; unissued serials are `unknown`.
    Rfc6960,
    /// RFC 9919, the lightweight profile: pre-signed, byKey, nextUpdate always; no record means `unauthorized` (§3.2.3).
    #[default]
    Rfc9919,
    /// CA/B Forum TLS Baseline Requirements §4.9.9 and §7.3 with the Mozilla and Microsoft root programmes on top.
    Cabf,
}

impl Profile {
    /// The name in configuration and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Rfc6960 => "rfc6960",
            Profile::Rfc9919 => "rfc9919",
            Profile::Cabf => "cabf",
        }
    }
}

/// What is said of a serial that the sources show was never issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unissued {
    /// The error `unauthorized`: no record (RFC 9919 §3.2.3).
    Unauthorized,
    /// The status `unknown` (RFC 6960 §2.2).
    Unknown,
    /// The status `good`: "not revoked" and no more (RFC 6960 §2.2). CA/B BR §4.9.9 does not permit it.
    Good,
    /// `revoked` with certificateHold, 1970-01-01 and the extended-revoke extension (RFC 6960 §2.2, §4.4.8).
    Revoked,
}

impl Unissued {
    /// What a profile says when nothing else is asked for.
    pub const fn default_for(profile: Profile) -> Self {
        match profile {
            Profile::Rfc6960 => Unissued::Unknown,
            Profile::Rfc9919 | Profile::Cabf => Unissued::Unauthorized,
        }
    }

    /// The name in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Unissued::Unauthorized => "unauthorized",
            Unissued::Unknown => "unknown",
            Unissued::Good => "good",
            Unissued::Revoked => "revoked",
        }
    }
}
