//! A small disk that can be filled to its last byte, and emptied again: a tmpfs of our own.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What fills the disk.
const BALLAST: &str = "ballast";
/// Unmounts and removes the folder when the pipe closes: this process is dead.
const SCRIPT: &str = r#"read -r _; umount -l "$1" 2>/dev/null; rmdir "$1" 2>/dev/null"#;

/// Mounted; unmounted on drop, and when this process is killed.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    watcher: Child,
}

impl SmallDisk {
    /// A new, empty disk of this size; the error says why this machine does not let us have one.
    pub fn mount(mebibytes: u32) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("ganger-disk-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&path).map_err(|error| error.to_string())?;
        let size = format!("size={mebibytes}m,mode=0755");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "ganger-test"]).arg(&path).output();
        let why = match mounted {
            Ok(output) if output.status.success() => None,
            Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            std::fs::remove_dir(&path).ok();
            return Err(why);
        }
        let watcher = Command::new("sh")
            .args(["-c", SCRIPT, "unmount"])
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start the watching shell");
        Ok(Self { path, watcher })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room there is; how many bytes.
    pub fn fill(&self) -> u64 {
        let file = File::options().create(true).append(true).open(self.path.join(BALLAST));
        let mut file = file.expect("open the ballast");
        let mut filled = 0;
        // Ever smaller pieces, to the last byte.
        for size in [1 << 20, 64 << 10, 4 << 10, 1] {
            let piece = vec![0; size];
            loop {
                match file.write(&piece) {
                    Ok(0) => break,
                    Ok(written) => filled += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("failed to fill the disk: {error}"),
                }
            }
        }
        filled
    }

    /// Gives the room back.
    pub fn free(&self) {
        std::fs::remove_file(self.path.join(BALLAST)).expect("remove the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        self.watcher.kill().ok();
        self.watcher.wait().ok();
        Command::new("umount").arg("-l").arg(&self.path).status().ok();
        std::fs::remove_dir(&self.path).ok();
    }
}
