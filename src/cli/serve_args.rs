//! The arguments of `yizhai serve`: one definition of every setting, for flags, environment and file alike.
//!
//! The headings are the tables of the file, and the long names (with `_` for `-`) its keys; see `settings`.

use std::{net::SocketAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use anyhow::{bail, ensure};
use clap::ArgAction;

use super::args::{ModelArgs, at_least_one, seconds};
use crate::config::ModelConfig;
use crate::server::{
    Access, Http2, Limits, ListenConfig, Metrics, Origin, RestartPolicy, ResultCache, Tls, TlsFiles, Tokens,
};

pub(super) const AFTER_HELP: &str = "Settings come from the file of --config, then the environment, then flags; the \
later wins. The headings above are the tables of the file and the names its keys, for example:\n\n  \
[limits]\n  max_requests = 32\n\n  [security]\n  tokens = \"/etc/yizhai/tokens.toml\"\n\n--print-config shows what is in \
force.";

#[derive(Debug, clap::Args)]
pub(super) struct ServeArgs {
    /// Read settings from this TOML file; the environment and flags win over it
    #[arg(long, env = "YIZHAI_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,

    /// Print the settings in force as TOML, secrets hidden, and end
    #[arg(long)]
    pub(super) print_config: bool,

    #[command(flatten, next_help_heading = "Server")]
    pub(super) server: ServerArgs,

    #[command(flatten, next_help_heading = "Model")]
    pub(super) model: ModelArgs,

    #[command(flatten, next_help_heading = "Limits")]
    pub(super) limits: LimitArgs,

    #[command(flatten, next_help_heading = "Connections")]
    pub(super) connections: ConnectionArgs,

    #[command(flatten, next_help_heading = "Security")]
    pub(super) security: SecurityArgs,

    #[command(flatten, next_help_heading = "Cache")]
    pub(super) cache: CacheArgs,

    #[command(flatten, next_help_heading = "Observability")]
    pub(super) observability: ObservabilityArgs,
}

#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// The address to listen on; port 0 takes a free one, which is logged. Beyond loopback TLS is wanted
    #[arg(long, env = "YIZHAI_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub(super) listen: SocketAddr,

    /// How many seconds requests in flight may take after SIGTERM
    #[arg(long, env = "YIZHAI_GRACE_PERIOD", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub(super) grace_period: Duration,

    /// A file of terms (`Chinese<TAB>English` a line) that requests may name by the file's name without the ending;
    /// may be given several times
    #[arg(long = "glossary", env = "YIZHAI_GLOSSARY", value_delimiter = ',', value_name = "FILE")]
    pub(super) glossaries: Vec<PathBuf>,

    /// How often in a row a failed engine is started again; then liveness turns
    #[arg(long, env = "YIZHAI_ENGINE_RESTARTS", default_value_t = RestartPolicy::default().max_restarts, value_name = "N")]
    pub(super) engine_restarts: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// The most requests that are worked on at once, over all connections
    #[arg(long, env = "YIZHAI_MAX_REQUESTS", default_value_t = Limits::default().max_requests,
          value_parser = at_least_one, value_name = "N")]
    max_requests: usize,

    /// The most requests that wait for a place, first come first served; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "YIZHAI_MAX_QUEUED", default_value_t = Limits::default().max_queued, value_name = "N")]
    max_queued: usize,

    /// The most requests of one client (its token, certificate or address) that are worked on or wait
    #[arg(long, env = "YIZHAI_MAX_REQUESTS_PER_CLIENT", default_value_t = Limits::default().max_requests_per_client,
          value_parser = at_least_one, value_name = "N")]
    max_requests_per_client: usize,

    /// The most requests of one client in a minute; 0 means any number
    #[arg(long, env = "YIZHAI_REQUESTS_PER_MINUTE", default_value_t = 0, value_name = "N")]
    requests_per_minute: u32,

    /// The largest page, in bytes; larger ones are refused with INVALID_ARGUMENT
    #[arg(long, env = "YIZHAI_MAX_PAGE_BYTES", default_value_t = Limits::default().max_page_bytes,
          value_parser = at_least_one, value_name = "BYTES")]
    max_page_bytes: usize,

    /// The largest message, in bytes [default: twice the largest page, at least 4 MiB]
    #[arg(long, env = "YIZHAI_MAX_MESSAGE_BYTES", value_parser = at_least_one, value_name = "BYTES")]
    max_message_bytes: Option<usize>,

    /// The most bytes of all requests together that are received or worked on; more are refused with RESOURCE_EXHAUSTED
    #[arg(long, env = "YIZHAI_MAX_BYTES_IN_FLIGHT", default_value_t = Limits::default().max_bytes_in_flight,
          value_parser = at_least_one, value_name = "BYTES")]
    max_bytes_in_flight: usize,

    /// The most sections of one request
    #[arg(long, env = "YIZHAI_MAX_SECTIONS", default_value_t = Limits::default().max_sections,
          value_parser = at_least_one, value_name = "N")]
    max_sections: usize,

    /// The most terms of one request
    #[arg(long, env = "YIZHAI_MAX_TERMS", default_value_t = Limits::default().max_terms, value_name = "N")]
    max_terms: usize,

    /// The most items of one DigestMany call that are worked on at once
    #[arg(long, env = "YIZHAI_MAX_ITEMS_IN_FLIGHT", default_value_t = Limits::default().max_items_in_flight,
          value_parser = at_least_one, value_name = "N")]
    max_items_in_flight: usize,

    /// The most items of one DigestMany call
    #[arg(long, env = "YIZHAI_MAX_ITEMS", default_value_t = Limits::default().max_items,
          value_parser = at_least_one, value_name = "N")]
    max_items: usize,

    /// How many seconds a message may take to arrive, and a stream of items may be silent
    #[arg(long, env = "YIZHAI_RECEIVE_TIMEOUT", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    receive_timeout: Duration,

    /// After how many seconds without reading a stream's reader is given up
    #[arg(long, env = "YIZHAI_STALL_TIMEOUT", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    stall_timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConnectionArgs {
    /// The most connections; more are closed at once
    #[arg(long, env = "YIZHAI_MAX_CONNECTIONS", default_value_t = 1024, value_parser = at_least_one, value_name = "N")]
    max_connections: usize,

    /// The most calls at once over one connection; a client waits with more
    #[arg(long, env = "YIZHAI_MAX_CONCURRENT_STREAMS", default_value_t = Http2::default().max_concurrent_streams,
          value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_concurrent_streams: u32,

    /// The most bytes of a call's headers
    #[arg(long, env = "YIZHAI_MAX_HEADER_LIST_BYTES", default_value_t = Http2::default().max_header_list_bytes,
          value_parser = clap::value_parser!(u32).range(1024..), value_name = "BYTES")]
    max_header_list_bytes: u32,

    /// The most streams that a client may open and reset at once; with more its connection is closed
    #[arg(long, env = "YIZHAI_MAX_PENDING_RESET_STREAMS",
          default_value_t = Http2::default().max_pending_reset_streams, value_name = "N")]
    max_pending_reset_streams: usize,

    /// After how many silent seconds a connection is asked whether it is alive
    #[arg(long, env = "YIZHAI_KEEPALIVE_INTERVAL", default_value = "30", value_parser = seconds,
          value_name = "SECONDS")]
    keepalive_interval: Duration,

    /// How many seconds its answer may take
    #[arg(long, env = "YIZHAI_KEEPALIVE_TIMEOUT", default_value = "20", value_parser = seconds,
          value_name = "SECONDS")]
    keepalive_timeout: Duration,

    /// After how many seconds a client is told to make a new connection, which spreads load [default: never]
    #[arg(long, env = "YIZHAI_MAX_CONNECTION_AGE", value_parser = seconds, value_name = "SECONDS")]
    max_connection_age: Option<Duration>,

    /// How many seconds a TLS handshake may take
    #[arg(long, env = "YIZHAI_HANDSHAKE_TIMEOUT", default_value = "10", value_parser = seconds,
          value_name = "SECONDS")]
    handshake_timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(super) struct SecurityArgs {
    /// The server's certificate and those between it and its root, as PEM; turns TLS on
    #[arg(long, env = "YIZHAI_TLS_CERTIFICATE", requires = "tls_key", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// The private key of the certificate, as PEM
    #[arg(long, env = "YIZHAI_TLS_KEY", requires = "tls_certificate", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Want a certificate of every client that leads to one of these roots, as PEM (mutual TLS)
    #[arg(long, env = "YIZHAI_TLS_CLIENT_CA", requires = "tls_certificate", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// Want a token of every call, one of this TOML file: [[token]] with name, sha256 (of the token, hexadecimal) and,
    /// by choice, max_requests, requests_per_minute and rpcs
    #[arg(long, env = "YIZHAI_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// How often, in seconds, certificates and tokens are looked at for changes
    #[arg(long, env = "YIZHAI_RELOAD_INTERVAL", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    reload_interval: Duration,

    /// Whether health is answered without a token
    #[arg(long, env = "YIZHAI_OPEN_HEALTH", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    open_health: bool,

    /// Whether the server describes its API to callers
    #[arg(long, env = "YIZHAI_REFLECTION", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(super) reflection: bool,

    /// Let scripts of pages of this origin, such as https://news.example, call by gRPC-Web over HTTP/1.1 and HTTP/2; `*`
    /// means any page; may be given several times [default: none, and no HTTP/1.1]
    #[arg(
        long = "grpc-web-origin",
        env = "YIZHAI_GRPC_WEB_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub(super) web_origins: Vec<Origin>,

    /// Listen beyond loopback without TLS: texts and tokens are then sent in the clear
    #[arg(long, env = "YIZHAI_ALLOW_PLAINTEXT", default_value_t = false, action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", value_name = "BOOL")]
    allow_plaintext: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CacheArgs {
    /// Memory for results that were made before, in bytes; 0 makes everything anew
    #[arg(long, env = "YIZHAI_CACHE_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    cache_bytes: u64,

    /// Keep results in this file, too, over restarts [default: in memory only]
    #[arg(long, env = "YIZHAI_CACHE_FILE", value_name = "FILE")]
    cache_file: Option<PathBuf>,

    /// The most bytes of results in the file; the oldest are forgotten
    #[arg(long, env = "YIZHAI_CACHE_FILE_BYTES", default_value_t = 1 << 30, value_name = "BYTES")]
    cache_file_bytes: u64,
}

#[derive(Debug, clap::Args)]
pub(super) struct ObservabilityArgs {
    /// Serve /metrics (Prometheus), /livez and /readyz over plain HTTP on this address [default: off]
    #[arg(long, env = "YIZHAI_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(super) metrics_listen: Option<SocketAddr>,

    /// Send traces to this OpenTelemetry collector over OTLP/gRPC, such as http://127.0.0.1:4317; the caller's
    /// traceparent is taken over [default: off]
    #[arg(long, env = "YIZHAI_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub(super) otlp_endpoint: Option<String>,
}

impl From<&LimitArgs> for Limits {
    fn from(args: &LimitArgs) -> Self {
        let LimitArgs {
            max_requests,
            max_queued,
            max_requests_per_client,
            requests_per_minute,
            max_page_bytes,
            max_message_bytes,
            max_bytes_in_flight,
            max_sections,
            max_terms,
            max_items_in_flight,
            max_items,
            receive_timeout,
            stall_timeout,
        } = *args;
        Self {
            max_page_bytes,
            max_message_bytes,
            max_bytes_in_flight,
            max_sections,
            max_terms,
            max_requests,
            max_queued,
            max_requests_per_client,
            requests_per_minute: NonZeroU32::new(requests_per_minute),
            max_items_in_flight,
            max_items,
            receive_timeout,
            stall_timeout,
        }
    }
}

impl From<&ConnectionArgs> for Http2 {
    fn from(args: &ConnectionArgs) -> Self {
        Self {
            max_concurrent_streams: args.max_concurrent_streams,
            max_header_list_bytes: args.max_header_list_bytes,
            max_pending_reset_streams: args.max_pending_reset_streams,
            keepalive_interval: args.keepalive_interval,
            keepalive_timeout: args.keepalive_timeout,
            max_connection_age: args.max_connection_age,
        }
    }
}

impl ServeArgs {
    /// How connections are taken. Reads the keys.
    pub(super) fn listen_config(&self, metrics: Metrics) -> anyhow::Result<ListenConfig> {
        let security = &self.security;
        let tls = match (&security.tls_certificate, &security.tls_key) {
            (Some(certificate), Some(key)) => {
                let files = TlsFiles {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    client_ca: security.tls_client_ca.clone(),
                };
                Some(Tls::load(files, !security.web_origins.is_empty())?)
            }
            _ => None,
        };
        let address = self.server.listen;
        if tls.is_none() && !address.ip().is_loopback() && !security.allow_plaintext {
            bail!(
                "{address} can be reached from other machines, and without TLS everybody on the way reads along; give \
                 --tls-certificate and --tls-key, or say --allow-plaintext if something in front of it does TLS"
            );
        }
        Ok(ListenConfig {
            tls,
            max_connections: self.connections.max_connections,
            handshake_timeout: self.connections.handshake_timeout,
            reload_interval: security.reload_interval,
            metrics,
        })
    }

    /// Who may call. Reads the tokens.
    pub(super) fn access(&self) -> anyhow::Result<Access> {
        let tokens = self.security.tokens.as_deref().map(Tokens::load).transpose()?;
        Ok(Access { tokens, health_open: self.security.open_health })
    }

    /// Where results are kept. Opens the file.
    pub(super) fn cache(
        &self,
        config: &ModelConfig,
        metrics: Metrics,
    ) -> anyhow::Result<Option<ResultCache>> {
        let CacheArgs { cache_bytes, ref cache_file, cache_file_bytes } = self.cache;
        if cache_bytes == 0 {
            ensure!(cache_file.is_none(), "cache_file needs a cache in memory before it: cache_bytes is 0");
            return Ok(None);
        }
        // What rounds differently may write differently.
        let options = &config.options;
        let setup = format!("{} {} {}", options.device_name(), options.cpu_features, options.kv_type);
        let cache = ResultCache::new(cache_bytes, &setup, metrics);
        Ok(Some(match cache_file {
            Some(path) => cache.on_disk(path, cache_file_bytes)?,
            None => cache,
        }))
    }

    /// How often the files of keys and tokens are looked at.
    pub(super) fn reload_interval(&self) -> Duration {
        self.security.reload_interval
    }

    /// Refuses settings that cannot hold together.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let limits = Limits::from(&self.limits);
        if let Some(message) = limits.max_message_bytes {
            ensure!(
                message >= limits.max_page_bytes,
                "max_message_bytes ({message}) is smaller than max_page_bytes ({}): no such page could arrive",
                limits.max_page_bytes
            );
        }
        let (message, all) = (limits.message_bytes(), limits.max_bytes_in_flight);
        ensure!(
            all >= message,
            "max_bytes_in_flight ({all}) is smaller than a message may be ({message}): none of that size could arrive"
        );
        if let Some(metrics) = self.observability.metrics_listen {
            ensure!(
                metrics != self.server.listen || metrics.port() == 0,
                "listen and metrics_listen are both {metrics}; they need a socket each"
            );
        }
        Ok(())
    }
}
