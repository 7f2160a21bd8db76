//! index.txt: however it is cut into pieces it says the same, and no line changes what another says.

use crate::ocsp::Serial;
use crate::status::index::{IndexParser, IndexStatus, parse};

/// Reads an index whole, in pieces, and line by line.
pub fn index_txt(data: &[u8]) {
    let mut whole = Vec::new();
    let report = parse(data, &mut |serial, status| whole.push((serial, status)));

    let size = data.first().map_or(1, |b| usize::from(*b) + 1);
    let mut pieces = Vec::new();
    let mut parser = IndexParser::new(|serial, status| pieces.push((serial, status)));
    data.chunks(size).for_each(|piece| parser.feed(piece));
    assert_eq!(parser.finish(), report);
    assert_eq!(pieces, whole);

    let mut alone: Vec<(Serial, IndexStatus)> = Vec::new();
    let (mut lines, mut quarantined) = (0, 0);
    for line in data.split_inclusive(|b| *b == b'\n') {
        let report = parse(line, &mut |serial, status| alone.push((serial, status)));
        lines += report.lines;
        quarantined += report.quarantined.total;
        assert!(report.lines == 1 && report.issued + report.revoked <= 1 && report.quarantined.total <= 1);
    }
    assert_eq!(alone, whole);
    assert_eq!((lines, quarantined), (report.lines, report.quarantined.total));
    let revoked = whole.iter().filter(|(_, status)| matches!(status, IndexStatus::Revoked { .. })).count();
    assert_eq!(revoked as u64, report.revoked);
}
