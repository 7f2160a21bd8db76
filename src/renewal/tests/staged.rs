//! What has come and is not in use yet.

use super::super::*;
use super::service::*;

#[test]
fn what_has_come_for_a_parked_slot_is_in_use_as_soon_as_it_may_be() {
    let mut s = Service::with(Limits { issuances_per_day: 1, ..Limits::default() }, 1, 30);
    s.says.insert(signer(0), Says::Issue(3_600));
    s.run(60);
    assert!(matches!(s.view(&signer(0)).hold, Hold::Parked { why: Park::Governor, .. }));
    s.says.clear();
    s.valid_from = 240;
    s.run(26 * 3_600);
    let view = s.view(&signer(0));
    let (asked, _) = s.log[1];
    let life = view.life.unwrap();
    assert!(matches!(view.hold, Hold::Parked { .. }) && view.phase == "idle", "{view:?}");
    assert_eq!(life.not_before.seconds_since(asked), 240);
    let (at, _) = s.activated.last().unwrap();
    assert!((540..=541).contains(&at.seconds_since(asked)), "in use {} s after it came", at.seconds_since(asked));
}
