//! Real clients, a second reader of the format, and DuckDB: Python scripts against the real binary.
//!
//! Makes a virtual environment under `target/compat/` from `requirements.txt` (kept until that file changes), then runs
//! each `check_*.py` beside this file as one test. A script is given, in its environment, `REENACT` (the binary),
//! `SCRATCH` (an empty folder of its own), `TLS` (a folder with `ca.pem`, `cert.pem` and `key.pem` for localhost) and
//! `ROOT` (this project); it passes when it exits with 0.
//!
//! Where PyPI can't be reached this fails with one sentence; `REENACT_COMPAT=skip` leaves these tests out, as ignored.
#![expect(clippy::print_stderr, reason = "a test runner talks to the terminal")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// What every script needs.
#[derive(Clone, Debug)]
struct Setup {
    python: PathBuf,
    tls: PathBuf,
    target: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let skipped = env::var_os("REENACT_COMPAT").is_some_and(|value| value == "skip");
    if skipped {
        eprintln!("REENACT_COMPAT=skip: the tests with real clients are left out");
    }
    let scripts = match scripts() {
        Ok(scripts) => scripts,
        Err(error) => return failed(&error),
    };
    let wanted = !skipped && !arguments.list;
    let setup = match wanted.then(set_up).transpose() {
        Ok(setup) => setup,
        Err(error) => return failed(&error),
    };
    let trials = scripts
        .into_iter()
        .map(|script| {
            let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let setup = setup.clone();
            Trial::test(name, move || run(setup.as_ref(), &script)).with_ignored_flag(skipped)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// Returns the `check_*.py` files beside this one, sorted.
fn scripts() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(here()).context("can't list tests/compat")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("check_") && path.extension().is_some_and(|extension| extension == "py")
        {
            found.push(path);
        }
    }
    ensure!(!found.is_empty(), "tests/compat holds no check_*.py");
    found.sort();
    Ok(found)
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat")
}

/// Makes the virtual environment, unless one for the same requirements is there, and the certificates.
fn set_up() -> anyhow::Result<Setup> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("compat");
    fs::create_dir_all(&target)?;
    let tls = target.join("tls");
    make_certificates(&tls)?;
    let wanted = fs::read_to_string(here().join("requirements.txt"))?;
    let venv = target.join("venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed.txt");
    if fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        eprintln!("making the virtual environment {} (once)", venv.display());
        quietly(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv))
            .context("python3 with its venv module is needed for tests/compat")?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        quietly(pip.arg(here().join("requirements.txt"))).context(
            "tests/compat needs packages from PyPI and could not install them \
             (REENACT_COMPAT=skip leaves these tests out)",
        )?;
        fs::write(&stamp, &wanted)?;
    }
    Ok(Setup { python, tls, target })
}

/// Runs a command to its end; its output is shown only when it fails.
fn quietly(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{}",
            String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("it failed")
        );
    }
    Ok(())
}

/// Writes a certificate authority and a certificate of it for localhost.
fn make_certificates(folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(rcgen::DnType::CommonName, "reenact test authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    fs::write(folder.join("ca.pem"), authority.pem())?;
    fs::write(folder.join("cert.pem"), certificate.pem())?;
    fs::write(folder.join("key.pem"), key.serialize_pem())?;
    Ok(())
}

fn run(setup: Option<&Setup>, script: &Path) -> Result<(), Failed> {
    let setup = setup.ok_or("left out")?;
    let name = script.file_stem().unwrap_or_default();
    let scratch = setup.target.join("scratch").join(name);
    drop(fs::remove_dir_all(&scratch));
    fs::create_dir_all(&scratch)?;
    let output = Command::new(&setup.python)
        .arg(script)
        .current_dir(&scratch)
        .env("REENACT", env!("CARGO_BIN_EXE_reenact"))
        .env("ROOT", env!("CARGO_MANIFEST_DIR"))
        .env("SCRATCH", &scratch)
        .env("TLS", &setup.tls)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{} ended with {}\n{}",
        script.display(),
        output.status,
        String::from_utf8_lossy(&said)
    )
    .into())
}
