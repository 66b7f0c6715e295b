//! `yizhai serve` as a black box: the sources of its settings, the settings that it rejects, and its log.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    process::{Command, Output},
    time::Duration,
};

use support::program::{ServerProcess, serve_command};
use yizhai::pb::{self, input::Source};

/// Returns the settings in force, as `--print-config` prints them.
fn in_force(command: &mut Command) -> toml::Table {
    let output = command.arg("--print-config").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    toml::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Creates a settings file.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("yizhai.toml");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn flags_override_the_environment_and_the_environment_overrides_the_file() {
    let (_kept, path) = file(
        "[limits]\nmax_requests = 5\nmax_queued = 6\nmax_sections = 7\n[security]\nreflection = false\n\
         [server]\ngrace_period = 2.5\nglossary = [\"a.tsv\", \"b.tsv\"]\n",
    );
    let mut command = serve_command(&["--config", &path, "--max-sections", "70"]);
    let settings = in_force(command.env("YIZHAI_MAX_QUEUED", "60").env("YIZHAI_MAX_SECTIONS", "71"));
    let limits = &settings["limits"];
    let number = |name: &str| limits[name].as_integer().unwrap();
    assert_eq!((number("max_requests"), number("max_queued"), number("max_sections")), (5, 60, 70));
    assert_eq!(number("max_terms"), 10_000);
    assert_eq!(settings["security"]["reflection"].as_bool(), Some(false));
    assert_eq!(settings["server"]["glossary"].as_array().unwrap().len(), 2);
    // The output is itself a file with the same meaning.
    let (_kept, printed) = file(&settings.to_string());
    let mut again = serve_command(&["--config", &printed]);
    assert_eq!(in_force(&mut again), settings);
}

#[test]
fn invalid_settings_are_named_before_anything_starts() {
    let cases = [
        ("[limits]\nmax_reqeusts = 5\n", "max_reqeusts"),
        ("[limit]\nmax_requests = 5\n", "[limit]"),
        ("[server]\nmax_requests = 5\n", "max_requests"),
        ("max_requests = 5\n", "table"),
        ("[limits]\nmax_requests = 0\n", "at least 1"),
        ("[limits]\nmax_requests = \"many\"\n", "many"),
        ("[limits\n", "not valid TOML"),
        ("[security]\ntls_certificate = \"x.pem\"\n", "tls-key"),
        ("[security]\ngrpc_web_origin = [\"https://a.example\", \"https://b.example/\"]\n", "https://HOST"),
    ];
    for (text, named) in cases {
        let (_kept, path) = file(text);
        let output = serve_command(&["--config", &path]).output().unwrap();
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{text}: {error}");
        assert!(error.contains(named) && error.contains("yizhai.toml"), "{text}: {error}");
    }
    let missing = serve_command(&["--config", "/nonexistent/yizhai.toml"]).output().unwrap();
    assert!(stderr(&missing).contains("/nonexistent/yizhai.toml"));
    for (arguments, named) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-plaintext"),
        (&["--tls-certificate", "/none.pem", "--tls-key", "/none.pem"][..], "/none.pem"),
        (&["--tokens", "/none.toml"][..], "/none.toml"),
        (&["--max-message-bytes", "10"][..], "max_message_bytes"),
        (&["--max-bytes-in-flight", "10"][..], "max_bytes_in_flight"),
        (&["--cache-bytes", "0", "--cache-file", "x"][..], "cache_file"),
    ] {
        let output = serve_command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(named), "{}", stderr(&output));
    }
}

#[test]
fn secrets_are_not_printed() {
    let mut command = serve_command(&["--otlp-endpoint", "http://user:geheim@127.0.0.1:4317"]);
    let output = command.arg("--print-config").output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(printed.contains("otlp_endpoint") && !printed.contains("geheim"), "{printed}");
}

#[tokio::test]
async fn the_log_names_callers_and_rpcs_but_contains_no_texts_or_tokens() {
    use sha2::{Digest, Sha256};
    let sha256: String = Sha256::digest("geheim").iter().map(|b| format!("{b:02x}")).collect();
    let (_kept, tokens) = file(&format!("[[token]]\nname = \"news\"\nsha256 = \"{sha256}\"\n"));
    let server = ServerProcess::start(&["--tokens", &tokens, "--log", "info"]);
    for (text, token) in [("机密正文。", "geheim"), ("\u{3000}", "geheim"), ("机密正文。", "falsch")]
    {
        let page_format = pb::PageFormat::Lines.into();
        let input = Some(pb::Input { source: Some(Source::PageText(text.to_owned())), page_format });
        let options = Some(pb::DigestOptions {
            terms: vec![pb::Term { source: "机密".to_owned(), target: "Secretword".to_owned() }],
            ..Default::default()
        });
        let message = pb::DigestRequest { input, options, request_id: "call-7".to_owned() };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let _ = server.client().await.digest(request).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let log = server.log.lock().unwrap().clone();
    for expected in ["call-7", "token:news", "Digest", "INVALID_ARGUMENT", "UNAUTHENTICATED"] {
        assert!(log.contains(expected), "{expected} is not in\n{log}");
    }
    for secret in ["机密", "正文", "Secretword", "geheim", "falsch", &sha256] {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}
