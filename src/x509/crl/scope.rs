//! Which certificates a CRL speaks of.

use super::CrlError;
use crate::asn1::{NotDer, Reader, tag, whole};
use std::fmt;

/// Which certificates a CRL is about, from issuingDistributionPoint (RFC 5280 §5.2.5).
///
/// What a list does not name is good only if it is in the list's scope: an issuer whose list is limited needs its other
/// lists (or an index) beside it, or an operator who knows better: see [`CrlScope::cover_everything`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CrlScope {
    /// A distributionPoint is named: the list may be one shard of several.
    pub distribution_point: bool,
    /// onlyContainsUserCerts: says nothing of CA certificates.
    pub user_certs_only: bool,
    /// onlyContainsCACerts: says nothing of end-entity certificates.
    pub ca_certs_only: bool,
}

impl CrlScope {
    /// Reads issuingDistributionPoint.
    pub(super) fn read(value: &[u8]) -> Result<Self, CrlError> {
        let unreadable = |_: NotDer| CrlError::Extension("issuingDistributionPoint");
        let mut fields = Reader::new(whole(value, tag::SEQUENCE).map_err(unreadable)?);
        let distribution_point = fields.optional(tag::context(0)).map_err(unreadable)?.is_some();
        let mut flag = |n| match fields.optional(tag::context_primitive(n)).map_err(unreadable)? {
            None | Some([0]) => Ok(false),
            Some([0xff]) if n != 3 => Ok(true),
            Some(_) if n == 3 => Ok(true), // onlySomeReasons is a BIT STRING; any value limits the list
            Some(_) => Err(unreadable(NotDer)),
        };
        let (user_certs_only, ca_certs_only) = (flag(1)?, flag(2)?);
        let (some_reasons, indirect, attribute_certs) = (flag(3)?, flag(4)?, flag(5)?);
        fields.end().map_err(unreadable)?;
        if indirect {
            return Err(CrlError::Indirect);
        }
        if some_reasons {
            return Err(CrlError::OnlySomeReasons);
        }
        if attribute_certs {
            return Err(CrlError::OnlyAttributeCerts);
        }
        Ok(CrlScope { distribution_point, user_certs_only, ca_certs_only })
    }

    /// Whether the list says of itself that it covers every certificate.
    pub fn is_unlimited(self) -> bool {
        self == CrlScope::default()
    }

    /// Whether lists of these scopes cover every certificate between them: one is unlimited, or one covers all end-entity
    /// certificates and another all CA certificates. A shard never counts: nothing in it tells how many there are.
    pub fn cover_everything(scopes: impl IntoIterator<Item = CrlScope>) -> bool {
        let (mut user, mut ca) = (false, false);
        for scope in scopes.into_iter().filter(|scope| !scope.distribution_point) {
            user |= !scope.ca_certs_only;
            ca |= !scope.user_certs_only;
        }
        user && ca
    }
}

/// The fields of issuingDistributionPoint that limit it.
impl fmt::Display for CrlScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            (self.distribution_point, "distributionPoint"),
            (self.user_certs_only, "onlyContainsUserCerts"),
            (self.ca_certs_only, "onlyContainsCACerts"),
        ];
        let mut limits = limits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name);
        f.write_str(limits.next().unwrap_or("unlimited"))?;
        limits.try_for_each(|name| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::CrlScope;

    #[test]
    fn only_lists_that_cover_end_entities_and_cas_cover_everything() {
        let scope = |distribution_point, user_certs_only, ca_certs_only| CrlScope {
            distribution_point,
            user_certs_only,
            ca_certs_only,
        };
        let (all, users, cas) = (scope(false, false, false), scope(false, true, false), scope(false, false, true));
        let (shard, user_shard, none) = (scope(true, false, false), scope(true, true, false), scope(false, true, true));
        for (scopes, covers) in [
            (&[] as &[_], false),
            (&[all], true),
            (&[users], false),
            (&[cas], false),
            (&[users, cas], true),
            (&[cas, shard, users], true),
            (&[shard], false),
            (&[shard, shard], false),
            (&[user_shard, cas], false),
            (&[user_shard, all], true),
            (&[none], false),
            (&[none, cas], false),
        ] {
            assert_eq!(CrlScope::cover_everything(scopes.iter().copied()), covers, "{scopes:?}");
        }
        assert_eq!(
            (all.to_string(), user_shard.to_string()),
            ("unlimited".into(), "distributionPoint, onlyContainsUserCerts".into())
        );
    }
}
