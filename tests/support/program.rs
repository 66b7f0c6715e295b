//! `yizhai serve` as a process of its own, with the tiny model.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use yizhai::pb::digest_service_client::DigestServiceClient;

use super::tiny_gguf;

/// `yizhai serve` in an environment where nothing of the user's counts.
pub fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yizhai"));
    command.arg("serve").args(arguments).env_clear().env("YIZHAI_CACHE_DIR", "/nonexistent/cache");
    command.env("YIZHAI_MODEL", tiny_gguf::path()).stdin(Stdio::null());
    command
}

/// A running server, killed at the end of the test.
pub struct Running {
    pub child: Child,
    pub address: String,
    pub log: Arc<Mutex<String>>,
}

impl Running {
    pub fn start(arguments: &[&str]) -> Self {
        Self::of(&mut serve(arguments))
    }

    /// Starts what ends up as `yizhai serve`, on a free port unless it says otherwise, and waits until it answers.
    pub fn of(command: &mut Command) -> Self {
        let command = command.env("YIZHAI_LISTEN", "127.0.0.1:0").env("YIZHAI_LOG_FORMAT", "json");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let log = Arc::new(Mutex::new(String::new()));
        let mut address = None;
        for line in &mut lines {
            let fields = serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            *log.lock().unwrap() += &(line + "\n");
            if fields["fields"]["message"] == "listening" {
                address = fields["fields"]["address"].as_str().map(str::to_owned);
            }
            if fields["fields"]["message"] == "serving" {
                break;
            }
        }
        let told = log.clone();
        std::thread::spawn(move || lines.for_each(|line| *told.lock().unwrap() += &(line + "\n")));
        Self { child, address: address.expect("it did not say where it listens"), log }
    }

    /// How often a message stands in the log so far.
    pub fn told(&self, message: &str) -> usize {
        self.log.lock().unwrap().matches(message).count()
    }

    pub async fn client(&self) -> DigestServiceClient<tonic::transport::Channel> {
        DigestServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
