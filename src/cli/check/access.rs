//! Whether the service may use the files and directories that it needs.

use crate::config::Fault;
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The state directory cannot be made or written to by whoever runs this. Root is another user's deputy here and may anything.
pub(super) fn state_dir(dir: &Path) -> Option<Fault> {
    let named = dir.ancestors().map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place });
    let place = named.into_iter().find(|place| place.exists())?;
    let error = match place.is_dir() {
        true => access(place, Access::WRITE_OK | Access::EXEC_OK).err()?.to_string(),
        false => "not a directory".to_owned(),
    };
    let shown = dir.display();
    let text = match place == dir {
        true => format!(
            "state_dir: {error}; it must be writable: run this as the service's user, or give it to that one: `chown -R USER {shown}`"
        ),
        false => format!(
            "state_dir: it is not there, and {} does not let it be made: {error}; run this as the service's user, or make it: \
             `mkdir -p -m 700 {shown}; chown USER {shown}`",
            place.display()
        ),
    };
    Some(Fault::of_file(dir, text))
}

/// Where root looks: a key that its owner alone can read, and that is not of whom the state directory belongs to. `true`: so no
/// user can run the service.
pub(super) fn foreign_key(key: &Path, state_dir: &Path) -> Option<(bool, String)> {
    if !geteuid().is_root() {
        return None;
    }
    let (key_uid, state) = (fs::metadata(key).ok()?.uid(), fs::metadata(state_dir).ok());
    let Some(state) = state else {
        // Whose service it is to be shows once that is there.
        let text = format!("{}: only user {key_uid} can read it: root cannot once the service runs", key.display());
        return (key_uid != 0).then_some((false, text));
    };
    let is_shared = state.mode() & 0o022 != 0;
    (key_uid != state.uid() && !is_shared).then(|| (true, whose(key, key_uid, state.uid(), state_dir)))
}

fn whose(key: &Path, key_uid: u32, user: u32, state_dir: &Path) -> String {
    let (key, state_dir) = (key.display(), state_dir.display());
    format!(
        "{key}: it belongs to user {key_uid}, and {state_dir} is user {user}'s: the service reads it only as user {key_uid}, also when \
         root starts it; run it as one user, and `chown USER {key} {state_dir}`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_is_there_and_writable_or_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(state_dir(dir.path()), None);
        assert_eq!(state_dir(&dir.path().join("not/there/yet")), None);
        assert_eq!(state_dir(Path::new("not-there-yet")), None, "in the directory of whoever runs this");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for dir in [file.clone(), file.join("below")] {
            let text = state_dir(&dir).unwrap().to_string();
            assert!(
                text.contains("state_dir: ") && text.contains("not a directory") && text.contains("chown"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_key_is_of_whom_the_state_directory_is() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("ocsp.key");
        fs::write(&key, "").unwrap();
        assert_eq!(foreign_key(&key, dir.path()), None);
        let text = whose(Path::new("ocsp.key"), 1000, 0, Path::new("state"));
        assert!(text.contains("belongs to user 1000, and state is user 0's") && text.contains("chown USER"), "{text}");
        if geteuid().is_root() {
            std::os::unix::fs::chown(&key, Some(1000), None).unwrap();
            let is_fault = |state: &Path| foreign_key(&key, state).map(|(is_fault, _)| is_fault);
            assert_eq!(is_fault(dir.path()), Some(true));
            assert_eq!(is_fault(&dir.path().join("none")), Some(false), "before a first start");
        }
    }
}
