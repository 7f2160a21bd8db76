//! `inspect`: an OCSP request or response, printed for people.

mod input;
mod request;
mod response;

use super::show::Show;
use super::{print, print_error};
use crate::time::{Clock, SystemClock};
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

/// The most octets that are read: PEM or base64 of a response of 1 MiB, with room.
const MAX_INPUT: usize = 4 << 20;

/// Prints an OCSP request or response.
///
/// Takes DER, PEM, base64 (also the URL-safe kind, also without padding), or the URL or path of a GET request, and finds
/// out by itself which it is. Every field is named as in RFC 6960. Nothing is verified and nobody is contacted; `probe`
/// verifies. What cannot be read is told with its place.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  stillgood inspect response.der
  openssl ocsp ... -respout - | stillgood inspect -
  echo 'http://ocsp.example/MFEwTzBNMEswSTAJBgUrDgMCGgUABBQ...' | stillgood inspect -
  stillgood inspect request.der --json | jq .requestList

Exit codes: 0 read, 1 it cannot be read or is malformed, 2 the command line cannot be understood.")]
pub(super) struct Args {
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For machines: one JSON object with the same fields
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let name = args.file.display();
    let bytes = match read(args) {
        Ok(bytes) => bytes,
        Err(e) => {
            print_error(&format!("{name}: {e}\n"));
            return ExitCode::FAILURE;
        }
    };
    let shown = input::der(&bytes).and_then(|found| {
        input::whole(&found.der)?;
        input::is_ocsp(&found.der)?;
        let body = match input::is_response(&found.der) {
            true => response::show(&found.der, SystemClock.now()),
            false => request::show(&found.der),
        };
        body.map(|fields| (found, fields))
    });
    match shown {
        Ok((found, fields)) => {
            let kind = if input::is_response(&found.der) { "OCSP response" } else { "OCSP request" };
            let mut all = vec![
                ("type", Show::text(kind)),
                ("form", Show::text(found.form)),
                ("octets", Show::Number(found.der.len() as u64)),
            ];
            all.extend(fields);
            let show = Show::Fields(all);
            if args.json {
                print(&format!("{:#}\n", show.to_json()));
            } else {
                print(&show.to_lines());
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            print_error(&format!("{name}: {why}\n"));
            ExitCode::FAILURE
        }
    }
}

fn read(args: &Args) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_INPUT as u64 + 1;
    match args.file.to_str() {
        Some("-") => io::stdin().lock().take(limit).read_to_end(&mut bytes)?,
        _ => File::open(&args.file)?.take(limit).read_to_end(&mut bytes)?,
    };
    if bytes.len() > MAX_INPUT {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("longer than {MAX_INPUT} octets")));
    }
    Ok(bytes)
}
