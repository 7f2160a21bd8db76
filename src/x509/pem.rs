//! PEM (RFC 7468): what operators' files hold.
//!
//! Lenient where files in practice are: text around the blocks, CRLF, any line length, several blocks. Strict about
//! base64 itself. Results never exceed the input in size, so whoever bounds the file bounds the memory.

use crate::asn1::{self, tag};
use data_encoding::BASE64;
use zeroize::Zeroizing;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END ";
const DASHES: &[u8] = b"-----";

/// How much base64 is decoded at once: whole groups of four characters.
const PIECE: usize = 4096;
/// The longest label that is read.
const MAX_LABEL_LEN: usize = 64;
/// The most blocks that are read from one file.
pub const MAX_BLOCKS: usize = 10_000;

/// One `-----BEGIN label-----` block. The octets are wiped when dropped, since they may be a key.
pub struct Block {
    /// `CERTIFICATE`, `PRIVATE KEY`, …
    pub label: String,
    /// What the base64 stands for.
    pub der: Zeroizing<Vec<u8>>,
    /// Whether headers as of RFC 1421 say that the content is encrypted (`Proc-Type: 4,ENCRYPTED`).
    pub encrypted: bool,
}

/// Why a file is neither the PEM nor the DER that was expected. Lines count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Neither format is recognised.
    #[error("neither PEM (no -----BEGIN line) nor DER")]
    Neither,
    /// PEM, but other blocks than those asked for.
    #[error("no {expected} block in the PEM, only {found}")]
    NoSuchBlock {
        /// The labels that would do.
        expected: String,
        /// The labels that are there.
        found: String,
    },
    /// A BEGIN line is not closed.
    #[error("line {line}: the BEGIN line is damaged; it must read -----BEGIN SOMETHING-----")]
    BeginLine {
        /// Where it is.
        line: usize,
    },
    /// No END line with the same label.
    #[error("line {line}: {label} begins here and has no -----END {label}----- line; the file may be cut off")]
    NoEnd {
        /// Where the block begins.
        line: usize,
        /// Its label.
        label: String,
    },
    /// The text between the lines is not base64.
    #[error("line {line}: the {label} that begins here is not valid base64; the file may be damaged")]
    Base64 {
        /// Where the block begins.
        line: usize,
        /// Its label.
        label: String,
    },
    /// More than [`MAX_BLOCKS`].
    #[error("more than {MAX_BLOCKS} PEM blocks in one file")]
    TooManyBlocks,
}

/// The DER of all blocks with one of these labels, or of the input itself when it is DER already.
///
/// At least one element is returned. Blocks with other labels are passed over.
pub fn decode(bytes: &[u8], labels: &[&str]) -> Result<Vec<Vec<u8>>, PemError> {
    if is_der(bytes) {
        return Ok(vec![bytes.to_vec()]);
    }
    let all = blocks(bytes)?;
    let found = all.iter().map(|b| b.label.clone()).collect::<Vec<_>>();
    let wanted: Vec<Vec<u8>> = all
        .into_iter()
        .filter(|b| labels.contains(&b.label.as_str()))
        .map(|mut b| std::mem::take(&mut *b.der))
        .collect();
    if wanted.is_empty() {
        return Err(PemError::NoSuchBlock { expected: labels.join(" or "), found: summary(&found) });
    }
    Ok(wanted)
}

/// Whether the input is one DER SEQUENCE from its first octet to its last; nothing inside is looked at.
pub fn is_der(bytes: &[u8]) -> bool {
    asn1::whole(bytes, tag::SEQUENCE).is_ok()
}

/// All blocks of a PEM file, in their order. At least one.
pub fn blocks(bytes: &[u8]) -> Result<Vec<Block>, PemError> {
    let mut found = Vec::new();
    let mut lines = Lines { rest: bytes, line: 0 };
    while let Some((line, text)) = lines.next() {
        let Some(label) = text.strip_prefix(BEGIN) else { continue };
        let label = label
            .strip_suffix(DASHES)
            .filter(|l| !l.is_empty() && l.len() <= MAX_LABEL_LEN)
            .and_then(|l| std::str::from_utf8(l).ok())
            .ok_or(PemError::BeginLine { line })?;
        if found.len() == MAX_BLOCKS {
            return Err(PemError::TooManyBlocks);
        }
        found.push(block(&mut lines, line, label)?);
    }
    if found.is_empty() { Err(PemError::Neither) } else { Ok(found) }
}

/// PEM text of one block: 64 characters a line, LF. For a key, the caller wipes the result; nothing else is left behind.
pub fn encode(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(BASE64.encode(der));
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 2 * label.len() + 40);
    out.push_str("-----BEGIN ");
    out.push_str(label);
    out.push_str("-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|b| char::from(*b)));
        out.push('\n');
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

fn block(lines: &mut Lines<'_>, begins: usize, label: &str) -> Result<Block, PemError> {
    let no_end = || PemError::NoEnd { line: begins, label: label.to_owned() };
    let mut decoder = Decoder::with_room(lines.until_end().ok_or_else(no_end)?);
    let damaged = || PemError::Base64 { line: begins, label: label.to_owned() };
    let mut encrypted = false;
    let mut in_headers = false;
    loop {
        let (_, text) = lines.next().ok_or_else(no_end)?;
        if let Some(end) = text.strip_prefix(END) {
            if end.strip_suffix(DASHES) != Some(label.as_bytes()) {
                return Err(no_end());
            }
            break;
        }
        if text.contains(&b':') {
            in_headers = true;
            encrypted |= text.starts_with(b"Proc-Type:") && memchr::memmem::find(text, b"ENCRYPTED").is_some();
        } else if in_headers && text.is_empty() {
            in_headers = false;
        } else if !in_headers {
            decoder.feed(text).ok_or_else(damaged)?;
        }
    }
    Ok(Block { label: label.to_owned(), der: decoder.finish().ok_or_else(damaged)?, encrypted })
}

/// Decodes base64 in pieces, so that beside the text there is only the result. What it holds is wiped.
struct Decoder {
    piece: Zeroizing<[u8; PIECE]>,
    filled: usize,
    der: Zeroizing<Vec<u8>>,
}

impl Decoder {
    /// Room for all that so much text stands for, so that a key is never left behind by a vector that grows.
    fn with_room(text: usize) -> Self {
        let der = Zeroizing::new(Vec::with_capacity(text.div_ceil(4).saturating_mul(3)));
        Decoder { piece: Zeroizing::new([0; PIECE]), filled: 0, der }
    }

    fn feed(&mut self, text: &[u8]) -> Option<()> {
        for octet in text.iter().filter(|b| !b.is_ascii_whitespace()) {
            *self.piece.get_mut(self.filled)? = *octet;
            self.filled += 1;
            if self.filled == PIECE {
                self.decode()?;
            }
        }
        Some(())
    }

    fn decode(&mut self) -> Option<()> {
        let text = self.piece.get(..self.filled)?;
        let before = self.der.len();
        self.der.resize(before + BASE64.decode_len(text.len()).ok()?, 0);
        let len = BASE64.decode_mut(text, self.der.get_mut(before..)?).ok()?;
        self.der.truncate(before + len);
        self.filled = 0;
        Some(())
    }

    fn finish(mut self) -> Option<Zeroizing<Vec<u8>>> {
        self.decode()?;
        Some(self.der)
    }
}

/// Lines without their ends and without trailing blanks, with their numbers.
struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Lines<'_> {
    /// Octets before the next END line.
    fn until_end(&self) -> Option<usize> {
        memchr::memmem::find(self.rest, END)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = (usize, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        self.line += 1;
        let (text, rest) = match memchr::memchr(b'\n', self.rest) {
            Some(at) => (self.rest.get(..at)?, self.rest.get(at + 1..)?),
            None => (self.rest, &[][..]),
        };
        self.rest = rest;
        Some((self.line, text.trim_ascii_end()))
    }
}

/// A handful of labels for a message.
fn summary(labels: &[String]) -> String {
    let mut shown: Vec<&str> = labels.iter().map(String::as_str).collect();
    shown.dedup();
    shown.truncate(5);
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn der_is_passed_through() {
        assert_eq!(decode(&[0x30, 1, 0], &["X"]), Ok(vec![vec![0x30, 1, 0]]));
        assert_eq!(decode(&[0x30, 1, 0, 9], &["X"]), Err(PemError::Neither));
        assert_eq!(decode(b"", &["X"]), Err(PemError::Neither));
    }

    #[test]
    fn text_around_blocks_and_other_blocks_are_passed_over() {
        let file = format!(
            "subject=CN = x\r\n{}\nnoise: yes\n{}",
            encode("X509 CRL", &[1; 100]).replace('\n', "\r\n"),
            encode("CERTIFICATE", &[2; 100])
        );
        assert_eq!(decode(file.as_bytes(), &["CERTIFICATE"]), Ok(vec![vec![2; 100]]));
        assert_eq!(decode(file.as_bytes(), &["X509 CRL"]), Ok(vec![vec![1; 100]]));
        let error = decode(file.as_bytes(), &["PRIVATE KEY"]).unwrap_err().to_string();
        assert_eq!(error, "no PRIVATE KEY block in the PEM, only X509 CRL, CERTIFICATE");
    }

    #[test]
    fn headers_say_that_a_block_is_encrypted() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAQID\n\
                    -----END RSA PRIVATE KEY-----\n";
        let found = blocks(text.as_bytes()).unwrap();
        assert!(matches!(&found[..], [b] if b.encrypted && b.der[..] == [1, 2, 3]));
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let cases = [
            ("\n-----BEGIN A\n", PemError::BeginLine { line: 2 }),
            ("-----BEGIN A-----\nAQID\n", PemError::NoEnd { line: 1, label: "A".into() }),
            ("-----BEGIN A-----\nAQID\n-----END B-----\n", PemError::NoEnd { line: 1, label: "A".into() }),
            ("x\n-----BEGIN A-----\nAQI\n-----END A-----\n", PemError::Base64 { line: 2, label: "A".into() }),
            ("-----BEGIN A-----\nA*ID\n-----END A-----\n", PemError::Base64 { line: 1, label: "A".into() }),
        ];
        for (text, error) in cases {
            assert_eq!(decode(text.as_bytes(), &["A"]), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(octets in proptest::collection::vec(any::<u8>(), 0..8000)) {
            let text = encode("A B", &octets);
            prop_assert_eq!(blocks(text.as_bytes()).unwrap().remove(0).der.to_vec(), octets);
        }

        #[test]
        fn any_text_is_survived(text in "(-----BEGIN A-----|-----END A-----|\n|[A-Za-z=: -]{0,9}){0,12}") {
            let _ = decode(text.as_bytes(), &["A"]);
        }
    }
}
