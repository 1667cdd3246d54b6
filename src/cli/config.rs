//! `--config FILE`: the flags of a verb from a TOML file.
//!
//! A file has one table per verb, its keys the long flags without dashes: `[record]`, `listen = "127.0.0.1:8080"`,
//! `upstream = ["http://a", "http://b"]`; `[trace.export]` for a verb of `trace`. `true` stands for a flag without a
//! value, `false` leaves it out. What is given on the command line wins, then the environment (`REENACT_LISTEN`), then
//! the file. The file's flags are put before the user's, so clap checks them like any others.

use std::ffi::OsString;
use std::fs;

use anyhow::Context as _;

use super::UsageError;

/// Returns `args` with the flags of the file that `--config` (or `REENACT_CONFIG`) names, if any.
///
/// # Errors
/// The file can't be read, is not TOML, or holds a value that no flag takes.
pub(super) fn expand(args: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let (mut args, file) = take_config(args)?;
    let Some(file) = file.or_else(|| std::env::var_os("REENACT_CONFIG")) else { return Ok(args) };
    let name = file.to_string_lossy().into_owned();
    let text = fs::read_to_string(&file)
        .with_context(|| format!("can't read the configuration {name}"))?;
    let table: toml::Table =
        text.parse().map_err(|error| UsageError(format!("{name} is not TOML: {error}")))?;
    let (flags, at) = flags_for(&table, &args, &name)?;
    args.splice(at..at, flags);
    Ok(args)
}

/// Takes `--config FILE` or `--config=FILE` out of `args`.
fn take_config(args: Vec<OsString>) -> anyhow::Result<(Vec<OsString>, Option<OsString>)> {
    let mut rest = Vec::with_capacity(args.len());
    let mut file = None;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args);
            break;
        }
        match arg.to_str().map(|text| text.split_once('=').unwrap_or((text, ""))) {
            Some(("--config", "")) => {
                file = Some(
                    args.next().ok_or_else(|| UsageError("--config needs a file".to_owned()))?,
                );
            }
            Some(("--config", value)) => file = Some(value.into()),
            _ => rest.push(arg),
        }
    }
    Ok((rest, file))
}

/// Returns the flags for the verb in `args`, and the place in `args` where they go.
fn flags_for(
    table: &toml::Table,
    args: &[OsString],
    name: &str,
) -> anyhow::Result<(Vec<OsString>, usize)> {
    let mut table = table;
    let mut at = 1;
    while let Some(toml::Value::Table(inner)) =
        args.get(at).and_then(|arg| table.get(arg.to_str()?))
    {
        table = inner;
        at += 1;
    }
    let mut flags = Vec::new();
    if at == 1 {
        return Ok((flags, at));
    }
    for (key, value) in table {
        if !matches!(value, toml::Value::Table(_)) && !is_given(key, args) {
            push_flag(&mut flags, key, value, name)?;
        }
    }
    Ok((flags, at))
}

/// Returns whether the command line or the environment sets `key`.
fn is_given(key: &str, args: &[OsString]) -> bool {
    let flag = format!("--{key}");
    let twin = format!("REENACT_{}", key.replace('-', "_").to_uppercase());
    std::env::var_os(twin).is_some()
        || args
            .iter()
            .filter_map(|arg| arg.to_str())
            .any(|arg| arg.split('=').next() == Some(&*flag))
}

fn push_flag(
    flags: &mut Vec<OsString>,
    key: &str,
    value: &toml::Value,
    name: &str,
) -> anyhow::Result<()> {
    match value {
        toml::Value::Boolean(true) => flags.push(format!("--{key}").into()),
        toml::Value::Boolean(false) => {}
        toml::Value::String(text) => flags.push(format!("--{key}={text}").into()),
        toml::Value::Integer(_) | toml::Value::Float(_) => {
            flags.push(format!("--{key}={value}").into());
        }
        toml::Value::Array(values) => {
            for value in values {
                push_flag(flags, key, value, name)?;
            }
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => {
            return Err(UsageError(format!("{name}: `{key}` takes no value like {value}")).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, args: &[&str], expected: &[&str]) {
        let table: toml::Table = file.parse().unwrap();
        let mut args: Vec<OsString> = args.iter().map(Into::into).collect();
        let (flags, at) = flags_for(&table, &args, "test.toml").unwrap();
        args.splice(at..at, flags);
        assert_eq!(args, expected);
    }

    #[test]
    fn flags_come_from_the_verbs_table_and_the_command_line_wins() {
        let file = "[record]\nlisten = '127.0.0.1:1'\nupstream = ['http://a', 'http://b']\nhttp2 = true\ntls = false\n\
                    [trace.export]\nformat = 'har'";
        check(
            file,
            &["reenact", "record", "--listen", "127.0.0.1:2"],
            &[
                "reenact",
                "record",
                "--http2",
                "--upstream=http://a",
                "--upstream=http://b",
                "--listen",
                "127.0.0.1:2",
            ],
        );
        check(
            file,
            &["reenact", "record", "--upstream=http://c"],
            &["reenact", "record", "--http2", "--listen=127.0.0.1:1", "--upstream=http://c"],
        );
        check(
            file,
            &["reenact", "trace", "export", "t"],
            &["reenact", "trace", "export", "--format=har", "t"],
        );
        check(file, &["reenact", "demo"], &["reenact", "demo"]);
    }

    #[test]
    fn the_flag_is_taken_out_in_both_forms() {
        for args in
            [vec!["reenact", "--config", "f", "demo"], vec!["reenact", "demo", "--config=f"]]
        {
            let (rest, file) = take_config(args.iter().map(Into::into).collect()).unwrap();
            assert_eq!((rest, file), (vec!["reenact".into(), "demo".into()], Some("f".into())));
        }
    }
}
