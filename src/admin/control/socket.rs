//! The socket as a file.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// What the kernel has room for in a socket's address, without the octet that ends it (`sun_path`, unix(7)).
const MAX_PATH: usize = 107;

/// Why there is no socket for operators.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit the kernel's address.
    #[error("[admin] socket {}: {len} octets, and a socket's path has at most {MAX_PATH}; choose a shorter one, as in socket = \"/run/stillgood/admin.sock\"", .path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        len: usize,
    },
    /// Somebody answers there.
    #[error("[admin] socket {}: another process answers there; stop that one, or give this one a socket of its own", .path.display())]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("[admin] socket {}: there is something that is no socket; it is left alone: move it away, or choose another path", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system says no.
    #[error("[admin] socket {}: {source}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why a socket cannot have this path, if so.
pub fn too_long(path: &Path) -> Option<SocketError> {
    let len = path.as_os_str().len();
    (len > MAX_PATH).then(|| SocketError::TooLong { path: path.to_owned(), len })
}

/// A listening socket; its file is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    id: (u64, u64),
}

impl Bound {
    /// Listens at `path`, for those whom `mode` lets in. The socket of a process that is gone is replaced, that of a
    /// living one is not.
    pub(super) fn new(path: &Path, mode: u32) -> Result<(UnixListener, Bound), SocketError> {
        if let Some(error) = too_long(path) {
            return Err(error);
        }
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(io)?;
        vacant(path)?;
        // Made where nobody else can open it, made private, and only then moved to where it is looked for: at no moment
        // can others connect.
        let aside = parent.join(format!(".{}", std::process::id()));
        let made = aside.join("s");
        if let Some(error) = too_long(&made) {
            return Err(error);
        }
        let _ = fs::remove_file(&made);
        let _ = fs::remove_dir(&aside); // of an earlier process with this id
        fs::DirBuilder::new().mode(0o700).create(&aside).map_err(io)?;
        let bound = UnixListener::bind(&made).and_then(|listener| {
            fs::set_permissions(&made, fs::Permissions::from_mode(mode))?;
            let metadata = fs::symlink_metadata(&made)?;
            fs::rename(&made, path)?;
            Ok((listener, (metadata.dev(), metadata.ino())))
        });
        if bound.is_err() {
            let _ = fs::remove_file(&made);
        }
        let _ = fs::remove_dir(&aside);
        let (listener, id) = bound.map_err(io)?;
        Ok((listener, Bound { path: path.to_owned(), id }))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|there| (there.dev(), there.ino()) == self.id);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a socket may be put there.
fn vacant(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match connect(path) {
        Ok(_) => Err(SocketError::InUse { path: path.to_owned() }),
        // Nobody listens: what a process left that is gone.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Its queue is full, so somebody is there.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::InUse { path: path.to_owned() }),
        Err(error) => Err(io(error)),
    }
}

/// Connects without waiting: where the queue of who listens is full, that is said at once.
fn connect(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn only_the_owner_may_open_the_socket() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("deep/admin.sock");
        let (_listener, bound) = Bound::new(&path, 0o600).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        drop(bound);
        assert!(!path.exists());
        let (_listener, _bound) = Bound::new(&path, 0o660).unwrap();
        assert_eq!(mode(&path), 0o660, "for the group, where the operator wants it");
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "what a killed process leaves");
        let (listener, bound) = Bound::new(&path, 0o600).unwrap();
        assert!(matches!(Bound::new(&path, 0o600), Err(SocketError::InUse { .. })));
        drop(listener);
        let (_second, second) = Bound::new(&path, 0o600).unwrap();
        drop(bound);
        assert!(path.exists(), "it belongs to the second one now");
        drop(second);
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        let error = Bound::new(&path, 0o600).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_path_that_does_not_fit_is_named_with_its_length() {
        let path = Path::new("/").join("x".repeat(200));
        let error = Bound::new(&path, 0o600).unwrap_err().to_string();
        assert!(error.contains("201 octets") && error.contains("at most 107"), "{error}");
    }

    #[test]
    fn one_who_listens_and_does_not_accept_is_not_waited_for() {
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("admin.sock");
        let busy = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        busy.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        busy.listen(0).unwrap();
        let _waiting = UnixStream::connect(&path).unwrap(); // the one place in its queue
        let full = connect(&path).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock, "{full}");
        let began = Instant::now();
        assert!(matches!(Bound::new(&path, 0o600), Err(SocketError::InUse { .. })));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}
