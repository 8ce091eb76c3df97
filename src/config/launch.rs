//! From the command line, the environment and the settings file to a `Config`, each value with its origin.

use std::{
    collections::BTreeMap,
    error::Error as _,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, builder::Resettable,
    parser::ValueSource,
};

use super::{Config, ConfigError, Origin, Setting, file};

/// The variable that names a settings file.
const FILE_VARIABLE: &str = "GANGER_CONFIG";
/// Its flag.
const FILE_FLAG: &str = "config";

/// What a node's program was asked to do.
#[derive(Debug)]
pub enum Launch {
    /// Serve.
    Serve(Box<Config>),
    /// Show the settings, which are sound, and end.
    Show {
        /// As JSON.
        json: bool,
        /// All of them.
        settings: Vec<Setting>,
    },
}

/// Why nothing is started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The command line cannot be understood, or asks for help or the version; clap knows what to say and with
    /// which status to end.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// A setting is bad.
    #[error(transparent)]
    Setting(#[from] ConfigError),
}

impl Launch {
    /// Reads this process's arguments and environment, and the file that they name.
    ///
    /// # Errors
    /// The first thing at fault.
    pub fn of_this_process() -> Result<Self, LaunchError> {
        Self::read(std::env::args_os(), &|name| std::env::var_os(name))
    }

    /// As `of_this_process`, for any arguments (the first is the program) and environment.
    ///
    /// # Errors
    /// The first thing at fault.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, LaunchError> {
        let matches = command().try_get_matches_from(arguments)?;
        // Settings may stand before or behind the subcommand: the deepest matches have them all.
        let shows = matches.subcommand_matches("config");
        let given = shows.unwrap_or(&matches);
        let mut settings = settings(given, environment);
        add_file(&mut settings, given, environment)?;
        let config = config(&settings, given.get_flag("demo"))?;
        config.check().map_err(|error| with_origins(&error, &settings))?;
        Ok(match shows {
            Some(shows) => {
                Self::Show { json: shows.get_flag("json"), settings: with_computed(settings, &config) }
            }
            None => Self::Serve(Box::new(config)),
        })
    }
}

/// The command line, with every value as it was typed: it is read later, when its origin is known.
fn command() -> Command {
    let file = Arg::new(FILE_FLAG)
        .long(FILE_FLAG)
        .env(FILE_VARIABLE)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .global(true)
        .help(
            "A file of settings in TOML, its keys named as the flags; flags and the environment win over it",
        );
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("As JSON");
    let show = Command::new("config")
        .about("Show every setting with its value and where it comes from, secrets masked; start nothing")
        .arg(json);
    Config::command()
        .mut_args(|arg| {
            let arg = if is_setting(&arg) { arg.value_parser(clap::value_parser!(OsString)) } else { arg };
            arg.global(true)
        })
        .arg(file)
        .subcommand(show)
        .max_term_width(100)
        .after_help(
            "Exit status: 0 stopped in good order, 1 could not start or go on, 2 wrong usage or a bad setting.",
        )
}

/// Whether it can be given by environment and file too.
fn is_setting(arg: &Arg) -> bool {
    arg.get_env().is_some()
}

/// Every setting, from flags, environment and defaults.
fn settings(matches: &ArgMatches, environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<Setting> {
    let definition = Config::command();
    let arguments = definition.get_arguments().filter(|arg| is_setting(arg));
    let setting = |arg: &Arg| {
        let name = arg.get_env().map(OsStr::to_string_lossy).unwrap_or_default().into_owned();
        let flag = arg.get_long().unwrap_or_default().to_owned();
        let id = arg.get_id().as_str();
        let by_flag = matches.value_source(id) == Some(ValueSource::CommandLine);
        let (given, origin) = if by_flag {
            let given = matches.get_one::<OsString>(id).cloned();
            (given, Origin::Flag { flag: format!("--{flag}") })
        } else if let Some(value) = environment(&name) {
            (Some(value), Origin::Environment { variable: name.clone() })
        } else {
            (arg.get_default_values().first().map(|value| value.to_os_string()), Origin::Default)
        };
        Setting { name, flag, given, origin, is_secret: arg.is_hide_env_values_set() }
    };
    arguments.map(setting).collect()
}

/// Values of the file, for settings that nobody else gave.
fn add_file(
    settings: &mut [Setting],
    matches: &ArgMatches,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<(), ConfigError> {
    let by_flag = matches.value_source(FILE_FLAG) == Some(ValueSource::CommandLine);
    let path = if by_flag {
        matches.get_one::<PathBuf>(FILE_FLAG).cloned()
    } else {
        // As with most programs, an empty variable names no file.
        environment(FILE_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from)
    };
    let Some(path) = path else { return Ok(()) };
    let known: Vec<String> = settings.iter().map(Setting::key).collect();
    let mut entries: BTreeMap<String, file::Entry> = file::read(&path, &known)?;
    for setting in settings.iter_mut() {
        let Some(entry) = entries.remove(&setting.key()) else { continue };
        if setting.origin == Origin::Default {
            setting.given = Some(entry.text.into());
            setting.origin = Origin::File { path: path.clone(), line: entry.line };
        }
    }
    Ok(())
}

/// Reads every value; the first bad one is named with its origin.
fn config(settings: &[Setting], demo: bool) -> Result<Config, LaunchError> {
    // The environment was read already.
    let strict = || Config::command().mut_args(|arg| arg.env(Resettable::Reset));
    let mut words = vec![OsString::from("ganger-node")];
    for setting in settings {
        let Some(given) = setting.given.as_ref().filter(|_| setting.origin != Origin::Default) else {
            continue;
        };
        let mut word = OsString::from(format!("--{}=", setting.flag));
        word.push(given);
        strict()
            .try_get_matches_from([words[0].clone(), word.clone()])
            .map_err(|error| bad_value(setting, &error))?;
        words.push(word);
    }
    words.extend(demo.then(|| "--demo".into()));
    Ok(Config::from_arg_matches(&strict().try_get_matches_from(words)?)?)
}

fn bad_value(setting: &Setting, error: &clap::Error) -> ConfigError {
    let why = error.source().map_or_else(|| "not a value of this setting".to_owned(), ToString::to_string);
    let Setting { name, origin, is_secret, given, .. } = setting;
    let value = given.as_ref().map(|given| given.to_string_lossy()).unwrap_or_default();
    ConfigError::Bad(match (is_secret, value.is_empty()) {
        (true, _) => format!("{name}: {why} ({origin})"),
        (false, true) => format!("{name}: is empty; {why} ({origin})"),
        (false, false) => format!("{name}: {value:?}: {why} ({origin})"),
    })
}

/// Says of each setting that a fault names where it came from.
fn with_origins(error: &ConfigError, settings: &[Setting]) -> ConfigError {
    let text = error.to_string();
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_uppercase() && c != '_').collect();
    let named = settings.iter().filter(|setting| words.contains(&setting.name.as_str()));
    let origins: Vec<String> = named.map(|setting| format!("{}: {}", setting.name, setting.origin)).collect();
    ConfigError::Bad(if origins.is_empty() { text } else { format!("{text} ({})", origins.join("; ")) })
}

/// Defaults that depend on the machine or on another setting.
fn with_computed(mut settings: Vec<Setting>, config: &Config) -> Vec<Setting> {
    for setting in settings.iter_mut().filter(|setting| setting.given.is_none()) {
        setting.given = match setting.name.as_str() {
            "WORKER_CONCURRENCY" => Some(config.concurrency().to_string().into()),
            "INGEST_ROOT" => Some(config.ingest_root().into()),
            _ => None,
        };
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn launch(line: &[&str], environment: &[(&str, &str)]) -> Result<Launch, LaunchError> {
        let arguments = std::iter::once("ganger-node").chain(line.iter().copied()).map(OsString::from);
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        Launch::read(arguments, &variable)
    }

    fn config(line: &[&str], environment: &[(&str, &str)]) -> Config {
        match launch(line, environment) {
            Ok(Launch::Serve(config)) => *config,
            other => panic!("not to be served: {other:?}"),
        }
    }

    fn fault(line: &[&str], environment: &[(&str, &str)]) -> String {
        launch(line, environment).expect_err("refused").to_string()
    }

    fn shown(line: &[&str], environment: &[(&str, &str)]) -> Vec<Setting> {
        match launch(line, environment) {
            Ok(Launch::Show { settings, .. }) => settings,
            other => panic!("not shown: {other:?}"),
        }
    }

    fn file(text: &str) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ganger.toml");
        std::fs::write(&path, text).expect("a file");
        let path = path.to_str().expect("UTF-8").to_owned();
        (folder, path)
    }

    #[test]
    fn a_flag_wins_over_the_environment_and_that_over_the_file() {
        let (_folder, path) =
            file("lease_ttl = '41s'\nheartbeat-interval = '11s'\nbase_retry_delay = '1s'\n");
        let environment =
            [("GANGER_CONFIG", path.as_str()), ("HEARTBEAT_INTERVAL", "12s"), ("LEASE_TTL", "42s")];
        let config = config(&["--lease-ttl", "43s"], &environment);
        let seconds =
            [config.lease_ttl, config.heartbeat_interval, config.base_retry_delay, config.max_retry_delay];
        assert_eq!(seconds.map(|span| span.as_secs()), [43, 12, 1, 900]);
        let settings = shown(&["--lease-ttl", "43s", "config"], &environment);
        let origin = |name: &str| {
            let setting = settings.iter().find(|setting| setting.name == name).expect("a setting");
            setting.origin.to_string()
        };
        assert_eq!(origin("LEASE_TTL"), "flag --lease-ttl");
        assert_eq!(origin("HEARTBEAT_INTERVAL"), "environment variable HEARTBEAT_INTERVAL");
        assert_eq!(origin("BASE_RETRY_DELAY"), format!("{path}:3"));
        assert_eq!(origin("MAX_RETRY_DELAY"), "default");
    }

    #[test]
    fn a_bad_value_is_named_with_its_origin_and_what_would_be_right() {
        let (_folder, path) = file("\nlease_ttl = 30\n");
        for (line, environment, parts) in [
            (&["--lease-ttl", "soon"][..], &[][..], ["LEASE_TTL", "\"soon\"", "flag --lease-ttl", "30s"]),
            (&[], &[("LEASE_TTL", "30")], ["LEASE_TTL", "\"30\"", "environment variable LEASE_TTL", "15m"]),
            (&["--config", &path], &[], ["LEASE_TTL", "\"30\"", "ganger.toml:2", "250ms"]),
            (
                &[],
                &[("HTTP_ADDR", "localhost:80")],
                ["HTTP_ADDR", "localhost:80", "variable HTTP_ADDR", "127.0.0.1:8080"],
            ),
            (&[], &[("LOG_LEVEL", "loud")], ["LOG_LEVEL", "\"loud\"", "variable LOG_LEVEL", "debug"]),
            (
                &[],
                &[("OUTBOUND_ALLOW", "http://x")],
                ["OUTBOUND_ALLOW", "http://x", "variable OUTBOUND_ALLOW", "host:port"],
            ),
            (
                &[],
                &[("AUTO_MIGRATE", "maybe")],
                ["AUTO_MIGRATE", "\"maybe\"", "variable AUTO_MIGRATE", "yes"],
            ),
            (
                &[],
                &[("WORKER_CONCURRENCY", "-1")],
                ["WORKER_CONCURRENCY", "\"-1\"", "variable WORKER_CONCURRENCY", "whole number"],
            ),
            (&[], &[("DATA_DIR", "")], ["DATA_DIR", "is empty", "variable DATA_DIR", "not a value"]),
            (&[], &[("HTTP_ADDR", "")], ["HTTP_ADDR", "is empty", "variable HTTP_ADDR", "127.0.0.1:8080"]),
            (
                &[],
                &[("HEARTBEAT_INTERVAL", "20s")],
                ["HEARTBEAT_INTERVAL", "half", "variable HEARTBEAT_INTERVAL", "LEASE_TTL: default"],
            ),
            (
                &[],
                &[("REDIS_URL", "redis://x")],
                ["REDIS_URL", "POSTGRES_URL is missing", "variable REDIS_URL", "needs both"],
            ),
        ] {
            let fault = fault(line, environment);
            assert!(parts.iter().all(|part| fault.contains(part)), "{parts:?}: {fault}");
        }
    }

    #[test]
    fn a_bad_secret_is_not_repeated() {
        for variable in ["POSTGRES_URL", "SMTP_URL", "WEBHOOK_SECRET"] {
            let fault = fault(&[], &[(variable, "hunter2")]);
            assert!(fault.starts_with(variable) && !fault.contains("hunter2"), "{fault}");
        }
    }

    #[test]
    fn switches_are_understood_as_people_write_them() {
        let (_folder, path) = file("restored = true\nauto_migrate = 'no'\n");
        for (line, environment, restored, migrates) in [
            (&[][..], &[][..], false, true),
            (&["--restored"], &[], true, true),
            (&["--restored=no"], &[("RESTORED", "1")], false, true),
            (&[], &[("RESTORED", "1"), ("AUTO_MIGRATE", "0")], true, false),
            (&["--auto-migrate", "yes"], &[("RESTORED", "yes"), ("AUTO_MIGRATE", "no")], true, true),
            (&["--config", &path], &[], true, false),
        ] {
            let config = config(line, environment);
            assert_eq!(
                (config.restored, config.auto_migrate),
                (restored, migrates),
                "{line:?} {environment:?}"
            );
        }
        assert!(config(&["--demo"], &[]).demo);
    }

    #[test]
    fn a_file_that_cannot_be_used_stops_the_start() {
        assert!(fault(&["--config", "/nowhere/a.toml"], &[]).contains("/nowhere/a.toml cannot be read"));
        let (_folder, path) = file("lease-tl = '30s'\n");
        let fault = fault(&["--config", &path], &[]);
        assert!(fault.contains("ganger.toml:1") && fault.contains("did you mean lease_ttl?"), "{fault}");
        assert_eq!(config(&[], &[("GANGER_CONFIG", "")]).lease_ttl, Duration::from_secs(30));
    }

    #[test]
    fn help_and_wrong_usage_are_claps() {
        for (line, status) in
            [(&["--help"][..], 0), (&["--version"], 0), (&["--nothing"], 2), (&["serve"], 2)]
        {
            match launch(line, &[]) {
                Err(LaunchError::Arguments(error)) => assert_eq!(error.exit_code(), status, "{line:?}"),
                other => panic!("{line:?}: {other:?}"),
            }
        }
        command().debug_assert();
    }
}
