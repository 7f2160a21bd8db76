//! OpenSSL's `index.txt`: what `openssl ca` knows of every certificate it issued.
//!
//! One certificate a line, six fields between tabs: `V`, `R` or `E`; expiry; revocation; serial number in hexadecimal;
//! file name; subject. The revocation is `date[,reason[,extra]]`, the date in either ASN.1 form, the reason by its
//! CRL name or as `holdInstruction`, `keyTime` or `CAkeyTime` with an `extra`, whatever the case. Lines that begin
//! with `#` and empty ones are passed over; a tab behind a backslash belongs to its field. CRLF and a byte order mark are understood.
//!
//! Choices where OpenSSL leaves one:
//! * Expiry, file name, subject and `extra` are not looked at: no answer depends on them. `E` (expired) is an issued
//!   certificate as `V` is.
//! * OpenSSL gives up at the first bad line. Here it is quarantined by its number and the others are used. If its serial number
//!   cannot be read it may be about any certificate that no other line names: see [`IndexReport::unattributed`].
//! * A last line without a line end may still be being written. It counts if all six fields are there, since only the
//!   subject can then be incomplete; otherwise it is quarantined.

use super::{Consequence, Quarantine};
use crate::ocsp::{Reason, Serial, SerialError};
use crate::time::{Timestamp, parse_generalized, parse_utc_time};

/// The longest line that is read, in octets; a longer one is quarantined.
pub const MAX_LINE_LEN: usize = 64 * 1024;

/// Some editors begin a file with it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// What a line says of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexStatus {
    /// Issued and not revoked (`V` or `E`).
    Issued,
    /// Revoked (`R`).
    Revoked {
        /// When.
        at: Timestamp,
        /// Why; `None` if not said, and for `unspecified`, which says the same.
        reason: Option<Reason>,
    },
    /// The line names the certificate but cannot be read.
    Withheld,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct IndexReport {
    /// All lines, empty ones and comments too.
    pub lines: u64,
    /// `V` and `E` lines that were used.
    pub issued: u64,
    /// `R` lines that were used.
    pub revoked: u64,
    /// Lines that could not be read, by line number.
    pub quarantined: Quarantine,
    /// How many of them may be about any certificate: the serial number cannot be read. A last line without a line end is not
    /// counted, which may still be being written, nor one of nothing but blanks, nor one whose serial number is longer than any that
    /// can be asked about.
    pub unattributed: u64,
    /// The first of those, by line number, in words.
    pub first_unattributed: Option<String>,
    /// Whether the last line has no end: a habit of some editors, or a file cut short.
    pub ends_mid_line: bool,
}

/// Reads a whole index. `sink` gets what the lines say, in their order; a serial number may come more than once.
pub fn parse(bytes: &[u8], sink: &mut impl FnMut(Serial, IndexStatus)) -> IndexReport {
    let mut parser = IndexParser::new(sink);
    parser.feed(bytes);
    parser.finish()
}

/// Reads an index that comes in pieces, cut anywhere, and holds no more of it than one line.
#[derive(Debug)]
pub struct IndexParser<F> {
    sink: F,
    report: IndexReport,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
    /// In a line that is too long; it is passed over up to its end.
    overlong: bool,
}

impl<F: FnMut(Serial, IndexStatus)> IndexParser<F> {
    /// A parser that gives what the lines say to `sink`.
    pub fn new(sink: F) -> Self {
        IndexParser { sink, report: IndexReport::default(), partial: Vec::new(), overlong: false }
    }

    /// Reads the next piece.
    pub fn feed(&mut self, mut piece: &[u8]) {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (line, rest) = piece.split_at(end);
            piece = rest.get(1..).unwrap_or_default();
            if self.partial.is_empty() && !self.overlong && line.len() <= MAX_LINE_LEN {
                self.line(line, true);
            } else {
                self.keep(line);
                self.complete(true);
            }
        }
        self.keep(piece);
    }

    /// The end of the file.
    pub fn finish(mut self) -> IndexReport {
        if self.overlong || !self.partial.is_empty() {
            self.report.ends_mid_line = true;
            self.complete(false);
        }
        self.report
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.partial.len().saturating_add(piece.len()) > MAX_LINE_LEN {
            self.overlong = true;
            self.partial.clear();
        }
        if !self.overlong {
            self.partial.extend_from_slice(piece);
        }
    }

    fn complete(&mut self, ended: bool) {
        if std::mem::take(&mut self.overlong) {
            self.report.lines += 1;
            self.quarantine(None, Consequence::Ignored, LineFault::TooLong, ended, true);
        } else {
            let line = std::mem::take(&mut self.partial);
            self.line(&line, ended);
            self.partial = line;
        }
        self.partial.clear();
    }

    #[inline]
    fn line(&mut self, line: &[u8], ended: bool) {
        self.report.lines += 1;
        let mut line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.report.lines == 1 {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        if matches!(line, [] | [b'#', ..]) {
            return;
        }
        match read_line(line) {
            Ok((serial, status)) => {
                match status {
                    IndexStatus::Revoked { .. } => self.report.revoked += 1,
                    _ => self.report.issued += 1,
                }
                (self.sink)(serial, status);
            }
            Err(bad) => self.bad_line(line, &bad, ended),
        }
    }

    #[cold]
    fn bad_line(&mut self, line: &[u8], bad: &BadLine, ended: bool) {
        let consequence = match (bad.serial, bad.revoked_at) {
            (Some(serial), Some(at)) => {
                self.report.revoked += 1;
                (self.sink)(serial, IndexStatus::Revoked { at, reason: None });
                Consequence::RevokedWithoutReason
            }
            (Some(serial), None) => {
                (self.sink)(serial, IndexStatus::Withheld);
                Consequence::Withheld
            }
            (None, _) => Consequence::Ignored,
        };
        // Nobody can ask about a serial number that is too long.
        let may_be_about_anyone = !line.trim_ascii().is_empty() && bad.fault != LineFault::Serial(SerialError::TooLong);
        self.quarantine(bad.serial, consequence, bad.fault, ended, may_be_about_anyone);
    }

    fn quarantine(
        &mut self,
        serial: Option<Serial>,
        consequence: Consequence,
        fault: LineFault,
        ended: bool,
        may_be_about_anyone: bool,
    ) {
        let number = self.report.lines;
        if serial.is_none() && ended && may_be_about_anyone {
            self.report.unattributed += 1;
            self.report.first_unattributed.get_or_insert_with(|| format!("line {number}: {fault}"));
        }
        self.report.quarantined.add(number, serial, consequence, || match ended {
            true => fault.to_string(),
            false => format!("{fault} (the last line has no line end; it may still be being written)"),
        });
    }
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum LineFault {
    #[error("longer than {MAX_LINE_LEN} octets")]
    TooLong,
    #[error("{0} fields; expected 6 between tabs: V, R or E, expiry, revocation, serial number, file, subject")]
    Fields(usize),
    #[error("begins with neither V, R nor E")]
    Type,
    #[error("serial number: {0}")]
    Serial(#[from] SerialError),
    #[error("not marked revoked (R), but there is something in the revocation field")]
    RevocationOfValid,
    #[error("the revocation date is neither YYMMDDHHMMSSZ nor YYYYMMDDHHMMSSZ")]
    Date,
    #[error("the revocation reason is not one that OpenSSL or RFC 5280 section 5.3.1 knows")]
    Reason,
    #[error("removeFromCRL says that the certificate is not revoked, R that it is; set one of them right")]
    RemoveFromCrl,
}

struct BadLine {
    serial: Option<Serial>,
    revoked_at: Option<Timestamp>,
    fault: LineFault,
}

const FIELDS: usize = 6;

#[inline]
fn read_line(line: &[u8]) -> Result<(Serial, IndexStatus), BadLine> {
    let mut fields: [&[u8]; FIELDS] = [&[]; FIELDS];
    let mut count = 1;
    let mut start = 0;
    for tab in memchr::memchr_iter(b'\t', line) {
        if tab.checked_sub(1).and_then(|before| line.get(before)) == Some(&b'\\') {
            continue;
        }
        if let Some(field) = fields.get_mut(count - 1) {
            *field = line.get(start..tab).unwrap_or_default();
        }
        count += 1;
        start = tab + 1;
    }
    // What stands behind the last tab is the subject, or a field that may be cut off; it is never looked at.
    let [kind, _expiry, revocation, serial, _file, _subject] = fields;
    let serial = if count > 4 { read_serial(serial) } else { Err(SerialError::Empty) };
    let bad = |fault| BadLine { serial: serial.ok(), revoked_at: None, fault };
    if count != FIELDS {
        return Err(bad(LineFault::Fields(count)));
    }
    let serial = serial.map_err(|e| bad(LineFault::Serial(e)))?;
    match (kind, revocation) {
        (b"V" | b"E", []) => Ok((serial, IndexStatus::Issued)),
        (b"V" | b"E", _) => Err(bad(LineFault::RevocationOfValid)),
        (b"R", _) => {
            let (at, reason) = read_revocation(revocation).map_err(bad)?;
            match reason {
                Ok(reason) => Ok((serial, IndexStatus::Revoked { at, reason })),
                Err(fault) => Err(BadLine { revoked_at: (fault == LineFault::Reason).then_some(at), ..bad(fault) }),
            }
        }
        _ => Err(bad(LineFault::Type)),
    }
}

/// The date, which is needed, and the reason, which may be wrong on its own.
type Revocation = (Timestamp, Result<Option<Reason>, LineFault>);

fn read_revocation(field: &[u8]) -> Result<Revocation, LineFault> {
    let (date, rest) = match memchr::memchr(b',', field) {
        Some(at) => (field.get(..at).unwrap_or_default(), field.get(at + 1..)),
        None => (field, None),
    };
    let at = parse_utc_time(date).or_else(|| parse_generalized(date)).ok_or(LineFault::Date)?;
    let Some(rest) = rest else { return Ok((at, Ok(None))) };
    let name = rest.split(|b| *b == b',').next().unwrap_or_default();
    Ok((at, read_reason(name)))
}

fn read_reason(name: &[u8]) -> Result<Option<Reason>, LineFault> {
    let name = std::str::from_utf8(name).map_err(|_| LineFault::Reason)?;
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    match Reason::from_name(name) {
        Some(Reason::Unspecified) => Ok(None),
        Some(Reason::RemoveFromCrl) => Err(LineFault::RemoveFromCrl),
        Some(reason) => Ok(Some(reason)),
        // How `openssl ca -crl_hold`, `-crl_compromise` and `-crl_CA_compromise` say it; the extra follows.
        None if is("holdInstruction") => Ok(Some(Reason::CertificateHold)),
        None if is("keyTime") => Ok(Some(Reason::KeyCompromise)),
        None if is("CAkeyTime") => Ok(Some(Reason::CaCompromise)),
        None => Err(LineFault::Reason),
    }
}

/// Hexadecimal without prefix or separators. Whole octets, as OpenSSL writes them, take the short way.
#[inline]
fn read_serial(text: &[u8]) -> Result<Serial, SerialError> {
    let mut octets = [0_u8; Serial::MAX_LEN];
    if !text.is_empty()
        && let (pairs, []) = text.as_chunks::<2>()
        && let Some(octets) = octets.get_mut(..pairs.len())
    {
        let mut wrong = 0;
        for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
            let (high, low) = (nibble(*high), nibble(*low));
            wrong |= high | low;
            *octet = (high << 4) | (low & 0x0f);
        }
        if wrong & 0xf0 == 0 {
            return Serial::from_unsigned(octets);
        }
    }
    let text = std::str::from_utf8(text).map_err(|_| SerialError::NotHex)?;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(SerialError::NotHex);
    }
    Serial::from_hex(text)
}

/// 0 to 15, or 0xff for what is no hexadecimal digit.
#[inline]
fn nibble(digit: u8) -> u8 {
    NIBBLES.get(usize::from(digit)).copied().unwrap_or(0xff)
}

#[expect(clippy::indexing_slicing, reason = "the compiler computes it, and would say so")]
static NIBBLES: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut n = 0;
    while n < 16 {
        table[b"0123456789ABCDEF"[n] as usize] = n as u8;
        table[b"0123456789abcdef"[n] as usize] = n as u8;
        n += 1;
    }
    table
};

#[cfg(test)]
mod tests;
