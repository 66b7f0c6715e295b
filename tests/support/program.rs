//! Runs `yizhai serve` with the tiny model in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use yizhai::pb::digest_service_client::DigestServiceClient;

use super::tiny_gguf;

/// Returns the command `yizhai serve` with an empty environment, so that no setting of the user applies.
pub fn serve_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yizhai"));
    command.arg("serve").args(arguments).env_clear().env("YIZHAI_CACHE_DIR", "/nonexistent/cache");
    command.env("YIZHAI_MODEL", tiny_gguf::path()).stdin(Stdio::null());
    command
}

/// A running server process; dropping it kills the process.
pub struct ServerProcess {
    pub child: Child,
    pub address: String,
    pub log: Arc<Mutex<String>>,
}

impl ServerProcess {
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(&mut serve_command(arguments))
    }

    /// Spawns a command that runs `yizhai serve`, on a free port unless the command sets one, and waits until it serves.
    pub fn spawn(command: &mut Command) -> Self {
        let command = command.env("YIZHAI_LISTEN", "127.0.0.1:0").env("YIZHAI_LOG_FORMAT", "json");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let log = Arc::new(Mutex::new(String::new()));
        let mut address = None;
        for line in &mut lines {
            let fields = serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            *log.lock().unwrap() += &(line + "\n");
            if fields["fields"]["message"] == "listening" {
                address = fields["fields"]["address"].as_str().map(str::to_owned);
            }
            if fields["fields"]["message"] == "serving" {
                break;
            }
        }
        let rest = log.clone();
        std::thread::spawn(move || lines.for_each(|line| *rest.lock().unwrap() += &(line + "\n")));
        Self { child, address: address.expect("the server logged no address"), log }
    }

    /// Counts the occurrences of a message in the log so far.
    pub fn log_count(&self, message: &str) -> usize {
        self.log.lock().unwrap().matches(message).count()
    }

    pub async fn client(&self) -> DigestServiceClient<tonic::transport::Channel> {
        DigestServiceClient::connect(format!("http://{}", self.address)).await.unwrap()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
