//! Who asks.

use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

/// Only so much of the list of users is read.
const MAX_PASSWD: u64 = 4 << 20;

/// The process at the other end of the socket, as the kernel knows it (SO_PEERCRED).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its effective user.
    pub uid: u32,
    /// That user's name, where `/etc/passwd` has one.
    pub name: Option<String>,
    /// Its process id.
    pub pid: Option<i32>,
}

impl Caller {
    /// The caller with these ids; the name is looked up.
    pub(super) fn of(uid: u32, pid: Option<i32>) -> Self {
        let name = File::open("/etc/passwd").ok().and_then(|file| name(file.take(MAX_PASSWD), uid));
        Caller { uid, name, pid }
    }
}

/// `alice (uid 1000, pid 4711)`.
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uid = self.uid;
        match &self.name {
            Some(name) => write!(f, "{name} (uid {uid}")?,
            None => write!(f, "uid {uid} (")?,
        }
        match (&self.name, self.pid) {
            (Some(_), Some(pid)) => write!(f, ", pid {pid})"),
            (None, Some(pid)) => write!(f, "pid {pid})"),
            (Some(_), None) => f.write_str(")"),
            (None, None) => f.write_str("no name)"),
        }
    }
}

fn name(passwd: impl Read, uid: u32) -> Option<String> {
    BufReader::new(passwd).lines().map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let of = fields.nth(1)?.parse::<u32>().ok()?;
        let plain = !name.is_empty() && name.len() <= 64 && !name.contains(char::is_control);
        (of == uid && plain).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_as_the_list_of_users_does() {
        let passwd = b"root:x:0:0:root:/:/bin/sh\n\nbroken\nalice:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name(&passwd[..], 1000), Some("alice".into()));
        assert_eq!(name(&passwd[..], 1001), None);
        let caller = |name: Option<&str>, pid| Caller { uid: 7, name: name.map(Into::into), pid }.to_string();
        assert_eq!(caller(Some("alice"), Some(3)), "alice (uid 7, pid 3)");
        assert_eq!(caller(Some("alice"), None), "alice (uid 7)");
        assert_eq!(caller(None, Some(3)), "uid 7 (pid 3)");
    }
}
