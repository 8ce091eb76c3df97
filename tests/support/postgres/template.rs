//! Finds PostgreSQL's programs and keeps one cluster made by `initdb`, which every server starts as a copy of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The user that PostgreSQL runs as when the tests run as root, which it refuses.
const USER: &str = "postgres";

/// A new private folder under `base`, with a fresh cluster in `data`.
pub(super) fn make_folder(base: &Path) -> PathBuf {
    let folder = base.join(format!("ganger-pg-{}", uuid::Uuid::now_v7().simple()));
    fs::create_dir(&folder).expect("make the server's folder");
    run(Command::new("cp").arg("-a").arg(template()).arg(folder.join("data")));
    give_to_postgres(&folder);
    folder
}

/// The cluster's template, made at first use and named by the programs' version, so an upgrade makes a new one.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = run(Command::new(bin_dir().join("postgres")).arg("--version"));
        let name: String =
            version.trim().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("initdb-{name}"));
        if !cache.join("PG_VERSION").exists() {
            // Made where the other user may write, then renamed into place: other test processes see all or nothing.
            let making =
                std::env::temp_dir().join(format!("ganger-initdb-{}", uuid::Uuid::now_v7().simple()));
            fs::create_dir(&making).expect("make a folder for initdb");
            give_to_postgres(&making);
            let mut initdb = as_postgres(&bin_dir().join("initdb"));
            run(initdb
                .arg("-D")
                .arg(making.join("data"))
                .args(["--auth=trust", "-U", USER, "-E", "UTF8"])
                .args(["--locale=C", "--no-sync", "--no-instructions"]));
            let copy = cache.with_extension(uuid::Uuid::now_v7().simple().to_string());
            run(Command::new("cp").arg("-a").arg(making.join("data")).arg(&copy));
            fs::remove_dir_all(&making).ok();
            if fs::rename(&copy, &cache).is_err() {
                // Another process was first; its template is as good.
                fs::remove_dir_all(&copy).ok();
            }
        }
        cache
    })
}

/// The newest installed version's programs; they are not on the path where several versions live side by side.
pub(super) fn bin_dir() -> &'static Path {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    BIN.get_or_init(|| {
        let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<(u32, PathBuf)> = packaged
            .filter_map(|version| {
                Some((version.file_name().to_str()?.parse().ok()?, version.path().join("bin")))
            })
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).map(|path| (0, path)))
            .filter(|(_, bin)| bin.join("initdb").exists())
            .collect();
        // Stable, so the path's own order decides among programs without a known version.
        found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        found
            .into_iter()
            .next()
            .expect("PostgreSQL is not installed: run tests/run, or install `postgresql`")
            .1
    })
}

/// A command run as a user that PostgreSQL accepts. `setpriv` becomes the program: its pid is the program's.
pub(super) fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(program).current_dir("/");
    command
}

fn give_to_postgres(folder: &Path) {
    if is_root() {
        run(Command::new("chown").arg("-R").arg(format!("{USER}:")).arg(folder));
    }
    run(Command::new("chmod").arg("0700").arg(folder));
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs to the end and gives its output; a failure is ours and ends the test.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("failed to run {command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
