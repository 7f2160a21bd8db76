//! The GET form: base64 of the DER request in the path (RFC 6960 App. A.1, RFC 9919 §6), as clients really spell it.
//!
//! In the field: unescaped `/`, `//` and `+`; `+` turned into a space; escapes once or twice over; URL-safe alphabet; no
//! padding; extra slashes before and after. All spellings of one request decode to the same octets, so that they find
//! the same entry. The path must come as it was on the wire: merging `//` upstream destroys data.

use super::{ErrorStatus, Request};
use crate::asn1::tag;

/// Why a path does not carry a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GetError {
    /// Nothing but slashes and spaces: somebody asks for `/`.
    #[error("the path holds no request")]
    Empty,
    /// The path, or the request in it, is longer than a request may be.
    #[error("the path is longer than that of a request of {} octets", Request::MAX_LEN)]
    TooLong,
    /// Not the base64 of the header of a DER SEQUENCE: this is some other path.
    #[error("the path does not begin like the base64 of a request")]
    NotARequest,
    /// A `%` without two hexadecimal digits, or escaped more than twice.
    #[error("octet {at} of the path begins a broken percent-escape")]
    BadEscape {
        /// Offset in the path given.
        at: usize,
    },
    /// Not in the base64 alphabet, or more than the request needs.
    #[error("octet {at} of the path is not base64 of the request")]
    NotBase64 {
        /// Offset in the path given.
        at: usize,
    },
    /// The path ends before the DER in it does.
    #[error("the request in the path is cut short")]
    CutShort,
}

/// The longest path looked at: every character of the base64 of the longest request escaped twice (`%252F`).
pub const MAX_PATH_LEN: usize = Request::MAX_LEN.div_ceil(3) * 4 * 5;

impl GetError {
    /// What the client is told, where it is told something in OCSP.
    pub fn status(self) -> ErrorStatus {
        ErrorStatus::MalformedRequest
    }
}

/// Takes the mount prefix off a path: gives the index of the longest of `mounts` that the path lies under, and the rest.
///
/// A mount ends where a segment ends: `/ca` covers `/ca`, `/ca/ME…` and `/ca?…`, not `/cab/ME…`. Slashes at the end of a
/// mount do not count; the mount `/` (or an empty one) covers every path.
pub fn strip_mount<'p, M: AsRef<[u8]>>(path: &'p [u8], mounts: &[M]) -> Option<(usize, &'p [u8])> {
    let mut best: Option<(usize, &'p [u8])> = None;
    for (index, mount) in mounts.iter().enumerate() {
        let mut mount = mount.as_ref();
        while let [shorter @ .., b'/'] = mount {
            mount = shorter;
        }
        if let Some(rest @ ([] | [b'/' | b'?', ..])) = path.strip_prefix(mount)
            && best.is_none_or(|(_, longest)| rest.len() < longest.len())
        {
            best = Some((index, rest));
        }
    }
    best
}

/// Decodes the request in a GET path, its mount prefix already taken off, into `out` (cleared first, its capacity kept).
///
/// One pass, allocating nothing beyond `out`, which holds at most [`Request::MAX_LEN`] octets. Slashes and spaces before
/// and after are dropped, CR and LF ignored; escapes are decoded up to twice; space is `+`, `-` is `+` and `_` is `/`;
/// padding may be missing; a query is ignored. The length in the DER says where the data ends, so that a `/` that is
/// data at the end of unpadded base64 is told from one that a client or proxy has added.
///
/// # Errors
/// What is wrong with the spelling; `out` is then empty. Whether the octets are a request, [`Request::parse`] says.
pub fn decode_get_path(path: &[u8], out: &mut Vec<u8>) -> Result<(), GetError> {
    out.clear();
    if path.len() > MAX_PATH_LEN {
        return Err(GetError::TooLong);
    }
    if decode_tidy(path, out).is_some() {
        return Ok(());
    }
    Symbols { path, rest: path }.decode(out).inspect_err(|_| out.clear())
}

/// The longest tidy spelling, its escapes taken off: that of a request with one serial is about a hundred characters.
const TIDY_LEN: usize = 256;

/// The spelling of a tidy client: one layer of escapes at most, and nothing before or after the base64 but slashes before
/// and padding after. `None`, with anything in `out`, for all others, right or wrong.
fn decode_tidy(path: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = path;
    while let [b'/', more @ ..] = rest {
        rest = more;
    }
    let mut buffer = [0; TIDY_LEN];
    let mut text = rest;
    if let Some(first) = memchr::memchr(b'%', rest) {
        let (mut len, mut next) = (0, Some(first));
        while let Some(run) = next {
            let (plain, escape) = rest.split_at_checked(run)?;
            buffer.get_mut(len..len + run)?.copy_from_slice(plain);
            let [_, high, low, more @ ..] = escape else { return None };
            *buffer.get_mut(len + run)? = hex(*high, *low)?;
            len += run + 1;
            rest = more;
            next = memchr::memchr(b'%', rest);
        }
        buffer.get_mut(len..len + rest.len())?.copy_from_slice(rest);
        text = buffer.get(..len + rest.len())?;
    }
    while let [less @ .., b'='] = text {
        text = less;
    }
    let len = text.len() / 4 * 3 + [0, 0, 1, 2].get(text.len() % 4)?;
    out.clear();
    out.resize(len, 0);
    let done = plain_run(text, out);
    match (text.get(done * 4..)?, out.get_mut(done * 3..)?) {
        ([], []) => {}
        ([a, b], [x]) => [*x, ..] = octets(sextet(*a)?, sextet(*b)?, 0, 0),
        ([a, b, c], [x, y]) => [*x, *y, _] = octets(sextet(*a)?, sextet(*b)?, sextet(*c)?, 0),
        _ => return None,
    }
    let header = out.first_chunk::<4>().filter(|_| len >= 6)?;
    (der_len(*header) == Ok(len)).then_some(())
}

fn sextet(character: u8) -> Option<Symbol> {
    Some(meaning(character)).filter(|symbol| *symbol <= SLASH)
}

/// What a character stands for: a sextet, or one of the codes above 63.
type Symbol = u8;
const PLUS: Symbol = 62;
const SLASH: Symbol = 63;
const PAD: Symbol = 64;
const SKIP: Symbol = 65;
const END: Symbol = 66;
const ESCAPE: Symbol = 67;
const INVALID: Symbol = 68;

/// The first six bits of the tag SEQUENCE: `M`. No slash or space before it can be data.
const FIRST: Symbol = tag::SEQUENCE >> 2;

/// Both alphabets of RFC 4648 at once, and what else occurs in a path.
#[expect(clippy::indexing_slicing, reason = "the compiler computes it, and would say so")]
const SYMBOLS: [Symbol; 256] = {
    let mut table = [INVALID; 256];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut i = 0;
    while i < alphabet.len() {
        table[alphabet[i] as usize] = i as u8;
        i += 1;
    }
    table[b'-' as usize] = PLUS;
    table[b' ' as usize] = PLUS;
    table[b'_' as usize] = SLASH;
    table[b'=' as usize] = PAD;
    table[b'\r' as usize] = SKIP;
    table[b'\n' as usize] = SKIP;
    table[b'?' as usize] = END;
    table[b'%' as usize] = ESCAPE;
    table
};

#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "every u8 has its entry")]
fn meaning(character: u8) -> Symbol {
    SYMBOLS[usize::from(character)]
}

/// Reads a path as symbols.
struct Symbols<'p> {
    path: &'p [u8],
    rest: &'p [u8],
}

impl Symbols<'_> {
    fn decode(mut self, out: &mut Vec<u8>) -> Result<(), GetError> {
        let first = self.skip_leading()?;
        let [a, b, c] = self.group(first)?;
        let second = self.sextet()?;
        let [d, e, f] = self.group(second)?;
        let len = der_len([a, b, c, d])?;
        out.resize(len, 0);
        let Some((head, body)) = out.split_first_chunk_mut::<6>() else {
            return Err(GetError::NotARequest); // no request is that short
        };
        *head = [a, b, c, d, e, f];
        self.body(body)?;
        self.trailing()
    }

    /// Fills `body`: runs of plain characters at once, a group with anything else in it symbol by symbol.
    fn body(&mut self, mut body: &mut [u8]) -> Result<(), GetError> {
        loop {
            let done = plain_run(self.rest, body);
            self.rest = self.rest.get(done * 4..).unwrap_or_default();
            body = body.get_mut(done * 3..).unwrap_or_default();
            match body {
                [] => return Ok(()),
                [a] => {
                    [*a, ..] = octets(self.sextet()?, self.sextet()?, 0, 0);
                    return Ok(());
                }
                [a, b] => {
                    [*a, *b, _] = octets(self.sextet()?, self.sextet()?, self.sextet()?, 0);
                    return Ok(());
                }
                [a, b, c, more @ ..] => {
                    let first = self.sextet()?;
                    [*a, *b, *c] = self.group(first)?;
                    body = more;
                }
            }
        }
    }

    /// Slashes, spaces and line ends before the first character of data, which is given back.
    fn skip_leading(&mut self) -> Result<Symbol, GetError> {
        loop {
            match self.symbol()? {
                SLASH | PLUS | SKIP => {}
                END => return Err(GetError::Empty),
                FIRST => return Ok(FIRST),
                _ => return Err(GetError::NotARequest),
            }
        }
    }

    /// After the data: padding, slashes, spaces, line ends.
    fn trailing(&mut self) -> Result<(), GetError> {
        loop {
            let at = self.at();
            match self.symbol()? {
                PAD | SLASH | PLUS | SKIP => {}
                END => return Ok(()),
                _ => return Err(GetError::NotBase64 { at }),
            }
        }
    }

    /// Three octets from a sextet already read and three more.
    #[inline]
    fn group(&mut self, first: Symbol) -> Result<[u8; 3], GetError> {
        Ok(octets(first, self.sextet()?, self.sextet()?, self.sextet()?))
    }

    /// The next symbol that must be data.
    #[inline]
    fn sextet(&mut self) -> Result<Symbol, GetError> {
        loop {
            match self.symbol()? {
                sextet @ 0..=SLASH => return Ok(sextet),
                SKIP => {}
                _ => return Err(GetError::CutShort),
            }
        }
    }

    /// The next symbol, never `ESCAPE` or `INVALID`.
    #[inline]
    fn symbol(&mut self) -> Result<Symbol, GetError> {
        let at = self.at();
        let Some((&character, rest)) = self.rest.split_first() else {
            return Ok(END);
        };
        match meaning(character) {
            ESCAPE => match self.unescape().map(meaning) {
                None | Some(ESCAPE) => Err(GetError::BadEscape { at }),
                Some(INVALID | END) => Err(GetError::NotBase64 { at }), // an escaped `?` begins no query
                Some(symbol) => Ok(symbol),
            },
            INVALID => Err(GetError::NotBase64 { at }),
            symbol => {
                self.rest = rest;
                Ok(symbol)
            }
        }
    }

    /// The character that an escape at the front stands for; where that is a `%` again, the one it escapes in turn.
    fn unescape(&mut self) -> Option<u8> {
        match self.unescape_once()? {
            b'%' => {
                let (high, low) = (self.unescape_once()?, self.unescape_once()?);
                hex(high, low)
            }
            character => Some(character),
        }
    }

    /// The next character with one layer of escapes taken off.
    fn unescape_once(&mut self) -> Option<u8> {
        let (character, rest) = match *self.rest {
            [b'%', high, low, ref rest @ ..] => (hex(high, low)?, rest),
            [b'%', ..] | [] => return None,
            [character, ref rest @ ..] => (character, rest),
        };
        self.rest = rest;
        Some(character)
    }

    fn at(&self) -> usize {
        self.path.len() - self.rest.len()
    }
}

/// Decodes whole groups while every character is a plain one; gives how many.
#[inline]
fn plain_run(from: &[u8], to: &mut [u8]) -> usize {
    let (from, _) = from.as_chunks::<4>();
    let (to, _) = to.as_chunks_mut::<3>();
    let mut done = 0;
    for (from, to) in from.iter().zip(to) {
        let [a, b, c, d] = from.map(meaning);
        if a | b | c | d >= PAD {
            break; // the codes above 63 have a bit of their own
        }
        *to = octets(a, b, c, d);
        done += 1;
    }
    done
}

#[inline(always)]
fn octets(a: Symbol, b: Symbol, c: Symbol, d: Symbol) -> [u8; 3] {
    let [_, x, y, z] = (u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d)).to_be_bytes();
    [x, y, z]
}

/// Octets of the whole DER SEQUENCE that begins so.
fn der_len(header: [u8; 4]) -> Result<usize, GetError> {
    let len = match header {
        [tag::SEQUENCE, len @ 0..=0x7f, ..] => 2 + usize::from(len),
        [tag::SEQUENCE, 0x81, len @ 0x80..=0xff, _] => 3 + usize::from(len),
        [tag::SEQUENCE, 0x82, a @ 1..=0xff, b] => 4 + usize::from(u16::from_be_bytes([a, b])),
        _ => return Err(GetError::NotARequest),
    };
    if len > Request::MAX_LEN { Err(GetError::TooLong) } else { Ok(len) }
}

#[expect(clippy::indexing_slicing, reason = "every octet has its entry")]
fn hex(high: u8, low: u8) -> Option<u8> {
    let (high, low) = (HEX_DIGITS[usize::from(high)], HEX_DIGITS[usize::from(low)]);
    (high | low < 16).then_some(high << 4 | low)
}

/// What a hexadecimal digit stands for; 255 for any other octet.
#[expect(clippy::indexing_slicing, reason = "the compiler computes it, and would say so")]
const HEX_DIGITS: [u8; 256] = {
    let mut table = [255; 256];
    let mut i = 0;
    while i < 16 {
        table[b"0123456789abcdef"[i] as usize] = i as u8;
        table[b"0123456789ABCDEF"[i] as usize] = i as u8;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decoded(path: &str) -> Result<Vec<u8>, GetError> {
        let mut out = vec![0xee; 7];
        let result = decode_get_path(path.as_bytes(), &mut out);
        assert!(result.is_ok() || out.is_empty());
        result.map(|()| out)
    }

    proptest! {
        #[test]
        fn a_tidy_spelling_is_read_as_the_general_reader_reads_it(
            content in proptest::collection::vec(any::<u8>(), 4..160),
            escapes in proptest::collection::vec(0_u8..6, 260),
            spoilt in proptest::option::weighted(0.3, (0_usize..260, any::<u8>())),
        ) {
            let der = crate::asn1::tlv(tag::SEQUENCE, &content);
            let mut path = b"/".to_vec();
            for (character, escape) in data_encoding::BASE64.encode(&der).bytes().zip(escapes) {
                match (escape, character) {
                    (0, _) => path.extend(format!("%{character:02x}").bytes()),
                    (1..4, b'+' | b'/' | b'=') => path.extend(format!("%{character:02X}").bytes()),
                    (4, b'=') => {}
                    _ => path.push(character),
                }
            }
            if let Some((at, octet)) = spoilt {
                let len = path.len();
                path[at % len] = octet;
            }
            let (mut tidy, mut general) = (Vec::new(), Vec::new());
            let read = Symbols { path: &path, rest: &path }.decode(&mut general);
            match decode_tidy(&path, &mut tidy) {
                Some(()) => prop_assert_eq!((read, &tidy), (Ok(()), &general)),
                None => prop_assert!(spoilt.is_some() || path.len() > TIDY_LEN, "not seen as tidy"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_offset() {
        assert_eq!(decoded(""), Err(GetError::Empty));
        assert_eq!(decoded("//"), Err(GetError::Empty));
        assert_eq!(decoded("/?MEQ="), Err(GetError::Empty));
        assert_eq!(decoded("/favicon.ico"), Err(GetError::NotARequest));
        assert_eq!(decoded("/MAAAAAAA"), Err(GetError::NotARequest));
        assert_eq!(decoded("/MIAwAAAAAAAA"), Err(GetError::NotARequest)); // indefinite length
        assert_eq!(decoded("/MIIn/wAAAAAA"), Err(GetError::TooLong));
        assert_eq!(decoded("/MAYwBDACM"), Err(GetError::CutShort));
        assert_eq!(decoded("/MAYwBDA=AAA"), Err(GetError::CutShort));
        assert_eq!(decoded("/MAYwBDACMAA!"), Err(GetError::NotBase64 { at: 12 }));
        assert_eq!(decoded("/MAYwBDACMAA=A"), Err(GetError::NotBase64 { at: 13 }));
        assert_eq!(decoded("/MAYw%3FDACMAA="), Err(GetError::NotBase64 { at: 5 }));
        assert_eq!(decoded("/MAYw%4"), Err(GetError::BadEscape { at: 5 }));
        assert_eq!(decoded("/MAYw%zz"), Err(GetError::BadEscape { at: 5 }));
        assert_eq!(decoded("/MAYw%252542DACMAA="), Err(GetError::BadEscape { at: 5 }));
        assert_eq!(decoded(&"/".repeat(MAX_PATH_LEN + 1)), Err(GetError::TooLong));
        assert_eq!(decoded("/MAYwBDACMAA="), Ok(vec![0x30, 6, 0x30, 4, 0x30, 2, 0x30, 0]));
    }

    #[test]
    fn the_longest_mount_that_ends_at_a_segment_wins() {
        let mounts = ["/", "/ca", "/ca/sub/", "/cab"];
        assert_eq!(strip_mount(b"/MEQ", &mounts), Some((0, &b"/MEQ"[..])));
        assert_eq!(strip_mount(b"/ca//MEQ", &mounts), Some((1, &b"//MEQ"[..])));
        assert_eq!(strip_mount(b"/ca", &mounts), Some((1, &b""[..])));
        assert_eq!(strip_mount(b"/ca?x", &mounts), Some((1, &b"?x"[..])));
        assert_eq!(strip_mount(b"/ca/sub/MEQ", &mounts), Some((2, &b"/MEQ"[..])));
        assert_eq!(strip_mount(b"/cab/MEQ", &mounts), Some((3, &b"/MEQ"[..])));
        assert_eq!(strip_mount(b"/cabal/MEQ", &mounts), Some((0, &b"/cabal/MEQ"[..])));
        assert_eq!(strip_mount(b"/cabal/MEQ", &["/ca"]), None);
        assert_eq!(strip_mount::<&str>(b"/MEQ", &[]), None);
    }

    proptest! {
        #[test]
        fn any_mix_of_spellings_decodes_to_the_same_octets(
            content in proptest::collection::vec(any::<u8>(), 4..400),
            choices in proptest::collection::vec(0_u8..8, 1..64),
            pad in any::<bool>(),
            before in "[/ \r\n]{0,3}",
            after in "[/ \r\n]{0,3}",
        ) {
            let der = crate::asn1::tlv(tag::SEQUENCE, &content);
            let plain = data_encoding::BASE64.encode(&der);
            let plain = if pad { plain.as_str() } else { plain.trim_end_matches('=') };
            let mut path = before;
            for (c, choice) in plain.chars().zip(choices.iter().cycle()) {
                match (choice, c) {
                    (0, _) => path.push_str(&format!("%{:02X}", c as u8)),
                    (1, _) => path.push_str(&format!("%25{:02x}", c as u8)),
                    (2, _) => path.push_str(&format!("%25%{:02X}%{:02x}", b"0123456789ABCDEF"[c as usize / 16], b"0123456789abcdef"[c as usize % 16])),
                    (3, '+') => path.push(' '),
                    (4, '+') => path.push('-'),
                    (3 | 4, '/') => path.push('_'),
                    (5, _) => path.push_str(&format!("\r\n{c}")),
                    _ => path.push(c),
                }
            }
            path.push_str(&after);
            prop_assert_eq!(decoded(&path), Ok(der));
        }

        #[test]
        fn no_path_panics(path in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            let _ = decode_get_path(&path, &mut out);
            let mut path = path;
            path.splice(0..0, *b"/MEQwQjBA");
            let _ = decode_get_path(&path, &mut out);
        }
    }
}
