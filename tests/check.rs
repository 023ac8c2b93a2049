//! Tests `hooktide check` on the real binary. Each error is one line on standard error, and the exit code is 2.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by failing")]

use std::process::{Command, Output};

fn hooktide(args: &[&str], vars: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooktide"));
    command.env_clear().args(args).envs(vars.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn the_reference_file_is_valid() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml");
    let run = hooktide(&["check", "--config", file], &[]);
    assert_eq!((run.status.code(), text(&run.stderr)), (Some(0), ""));
    assert!(text(&run.stdout).contains("\nmax_body_bytes = \"1 MiB\"  # "), "{}", text(&run.stdout));
}

#[test]
fn environment_variables_are_read_and_each_error_is_a_line() {
    let run = hooktide(&["check", "--listen", "x"], &[("HOOKTIDE_LOG__LEVEL", "debug"), ("DEDUP_TTL_HOURS", "0")]);
    assert_eq!((run.status.code(), text(&run.stdout)), (Some(2), ""));
    let lines: Vec<&str> =
        text(&run.stderr).lines().filter_map(|line| line.split_once(": ")).map(|(at, _)| at).collect();
    assert_eq!(
        lines,
        [
            "log.level (environment variable HOOKTIDE_LOG__LEVEL)",
            "server.listen (flag --listen)",
            "dedup.ttl_hours (environment variable DEDUP_TTL_HOURS)",
        ]
    );
}

#[test]
fn a_server_does_not_start_with_an_invalid_configuration() {
    for args in [&["serve"][..], &[], &["--dev"]] {
        let run = hooktide(args, &[("HOOKTIDE_SERVER__LISTEN", "nowhere")]);
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        assert!(text(&run.stderr).starts_with("server.listen (environment variable"), "{}", text(&run.stderr));
    }
}

#[test]
fn usage_errors_are_2_and_failures_are_1() {
    assert_eq!(hooktide(&["no-such-command"], &[]).status.code(), Some(2));
    assert_eq!(hooktide(&["webhook", "list", "--data-dir", "/nowhere"], &[]).status.code(), Some(2));
    let deaf = &[("HOOKTIDE_URL", "http://127.0.0.1:1"), ("HOOKTIDE_KEY", "a-key-of-the-tests")];
    assert_eq!(hooktide(&["webhook", "list"], deaf).status.code(), Some(1));
}
