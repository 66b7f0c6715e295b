//! The arguments of `yizhai serve`: every setting of the server, defined once.
//!
//! Flags, environment variables and the configuration file all use these definitions. The help headings are the tables
//! of the file, and the long names (with `_` for `-`) are its keys; see `config_file`.

mod config;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::ArgAction;

use super::{ModelArgs, positive, seconds};
use crate::server::{Http2, Origin, RequestLimits, RestartPolicy};

pub(super) const AFTER_HELP: &str = "\
Configuration:
  Settings are read from the --config file, then from the environment, then from flags; later ones take precedence. In
  the file, the headings above are the tables and the option names are the keys:

    [limits]
    max_requests = 32

    [security]
    tokens = \"/etc/yizhai/tokens.toml\"

  --print-config shows the effective settings.";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ServeArgs {
    /// Read settings from this TOML file
    #[arg(long, env = "YIZHAI_CONFIG", value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,

    /// Print the effective settings as TOML, with secrets hidden, and exit
    #[arg(long)]
    pub(in crate::cli) print_config: bool,

    #[command(flatten, next_help_heading = "Server")]
    pub(in crate::cli) server: ServerArgs,

    #[command(flatten, next_help_heading = "Model")]
    pub(in crate::cli) model: ModelArgs,

    #[command(flatten, next_help_heading = "Limits")]
    pub(in crate::cli) limits: LimitArgs,

    #[command(flatten, next_help_heading = "Connections")]
    pub(in crate::cli) connections: ConnectionArgs,

    #[command(flatten, next_help_heading = "Security")]
    pub(in crate::cli) security: SecurityArgs,

    #[command(flatten, next_help_heading = "Cache")]
    pub(in crate::cli) cache: CacheArgs,

    #[command(flatten, next_help_heading = "Observability")]
    pub(in crate::cli) observability: ObservabilityArgs,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ServerArgs {
    /// Address to listen on; port 0 picks a free port and logs it
    ///
    /// An address that other machines can reach requires TLS; see --tls-certificate and --allow-plaintext.
    #[arg(long, env = "YIZHAI_LISTEN", default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub(in crate::cli) listen: SocketAddr,

    /// Time that requests in flight get to finish after SIGTERM
    #[arg(long, env = "YIZHAI_GRACE_PERIOD", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub(in crate::cli) grace_period: Duration,

    /// Glossary file that requests can name; may be repeated
    ///
    /// Each line is `Chinese<TAB>English`. The name of the glossary is the file name without its extension.
    #[arg(long = "glossary", env = "YIZHAI_GLOSSARY", value_delimiter = ',', value_name = "FILE")]
    pub(in crate::cli) glossaries: Vec<PathBuf>,

    /// Maximum consecutive engine restarts before liveness fails
    #[arg(long, env = "YIZHAI_ENGINE_RESTARTS", default_value_t = RestartPolicy::default().max_restarts, value_name = "N")]
    pub(in crate::cli) engine_restarts: u32,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LimitArgs {
    /// Maximum concurrent requests, over all connections
    #[arg(long, env = "YIZHAI_MAX_REQUESTS", default_value_t = RequestLimits::default().max_requests,
          value_parser = positive, value_name = "N")]
    max_requests: usize,

    /// Maximum requests waiting for admission; more are refused with RESOURCE_EXHAUSTED
    ///
    /// Waiting requests are admitted in the order in which they arrived.
    #[arg(long, env = "YIZHAI_MAX_QUEUED", default_value_t = RequestLimits::default().max_queued, value_name = "N")]
    max_queued: usize,

    /// Maximum admitted and waiting requests per client
    ///
    /// A client is identified by its token, its certificate or its address.
    #[arg(long, env = "YIZHAI_MAX_REQUESTS_PER_CLIENT", default_value_t = RequestLimits::default().max_requests_per_client,
          value_parser = positive, value_name = "N")]
    max_requests_per_client: usize,

    /// Maximum requests per client and minute; 0 means unlimited
    #[arg(long, env = "YIZHAI_REQUESTS_PER_MINUTE", default_value_t = 0, value_name = "N")]
    requests_per_minute: u32,

    /// Maximum size of a page; larger pages are refused with INVALID_ARGUMENT
    #[arg(long, env = "YIZHAI_MAX_PAGE_BYTES", default_value_t = RequestLimits::default().max_page_bytes,
          value_parser = positive, value_name = "BYTES")]
    max_page_bytes: usize,

    /// Maximum size of a message [default: twice the maximum page size, but at least 4 MiB]
    #[arg(long, env = "YIZHAI_MAX_MESSAGE_BYTES", value_parser = positive, value_name = "BYTES")]
    max_message_bytes: Option<usize>,

    /// Byte budget of all requests being received or processed; beyond it, RESOURCE_EXHAUSTED
    #[arg(long, env = "YIZHAI_MAX_BYTES_IN_FLIGHT", default_value_t = RequestLimits::default().max_bytes_in_flight,
          value_parser = positive, value_name = "BYTES")]
    max_bytes_in_flight: usize,

    /// Maximum sections per request
    #[arg(long, env = "YIZHAI_MAX_SECTIONS", default_value_t = RequestLimits::default().max_sections,
          value_parser = positive, value_name = "N")]
    max_sections: usize,

    /// Maximum glossary terms per request
    #[arg(long, env = "YIZHAI_MAX_TERMS", default_value_t = RequestLimits::default().max_terms, value_name = "N")]
    max_terms: usize,

    /// Maximum concurrent items per DigestMany call
    #[arg(long, env = "YIZHAI_MAX_ITEMS_IN_FLIGHT", default_value_t = RequestLimits::default().max_items_in_flight,
          value_parser = positive, value_name = "N")]
    max_items_in_flight: usize,

    /// Maximum items per DigestMany call
    #[arg(long, env = "YIZHAI_MAX_ITEMS", default_value_t = RequestLimits::default().max_items,
          value_parser = positive, value_name = "N")]
    max_items: usize,

    /// Maximum time to receive a message, and between two messages of a DigestMany call
    #[arg(long, env = "YIZHAI_RECEIVE_TIMEOUT", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    receive_timeout: Duration,

    /// Cancel a stream if the client has read nothing for this long
    #[arg(long, env = "YIZHAI_STALL_TIMEOUT", default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    stall_timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ConnectionArgs {
    /// Maximum connections; more are closed immediately
    #[arg(long, env = "YIZHAI_MAX_CONNECTIONS", default_value_t = 1024, value_parser = positive, value_name = "N")]
    max_connections: usize,

    /// Maximum concurrent calls per connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS)
    #[arg(long, env = "YIZHAI_MAX_CONCURRENT_STREAMS", default_value_t = Http2::default().max_concurrent_streams,
          value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    max_concurrent_streams: u32,

    /// Maximum size of the headers of a call
    #[arg(long, env = "YIZHAI_MAX_HEADER_LIST_BYTES", default_value_t = Http2::default().max_header_list_bytes,
          value_parser = clap::value_parser!(u32).range(1024..), value_name = "BYTES")]
    max_header_list_bytes: u32,

    /// Maximum streams that a client may open and reset before its connection is closed
    #[arg(long, env = "YIZHAI_MAX_PENDING_RESET_STREAMS",
          default_value_t = Http2::default().max_pending_reset_streams, value_name = "N")]
    max_pending_reset_streams: usize,

    /// Send a keepalive ping after this long without traffic
    #[arg(long, env = "YIZHAI_KEEPALIVE_INTERVAL", default_value = "30", value_parser = seconds,
          value_name = "SECONDS")]
    keepalive_interval: Duration,

    /// Close a connection that does not answer a keepalive ping within this time
    #[arg(long, env = "YIZHAI_KEEPALIVE_TIMEOUT", default_value = "20", value_parser = seconds,
          value_name = "SECONDS")]
    keepalive_timeout: Duration,

    /// Ask clients to reconnect after this long, to spread load over servers [default: never]
    #[arg(long, env = "YIZHAI_MAX_CONNECTION_AGE", value_parser = seconds, value_name = "SECONDS")]
    max_connection_age: Option<Duration>,

    /// Maximum time for a TLS handshake
    #[arg(long, env = "YIZHAI_HANDSHAKE_TIMEOUT", default_value = "10", value_parser = seconds,
          value_name = "SECONDS")]
    handshake_timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SecurityArgs {
    /// Server certificate with its intermediates, as PEM; enables TLS
    #[arg(long, env = "YIZHAI_TLS_CERTIFICATE", requires = "tls_key", value_name = "FILE")]
    tls_certificate: Option<PathBuf>,

    /// Private key of the server certificate, as PEM
    #[arg(long, env = "YIZHAI_TLS_KEY", requires = "tls_certificate", value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// Require client certificates issued by one of these authorities, as PEM (mutual TLS)
    #[arg(long, env = "YIZHAI_TLS_CLIENT_CA", requires = "tls_certificate", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,

    /// Require a bearer token from this TOML file
    ///
    /// The file has one [[token]] table per token, with `name`, `sha256` (of the token, in hexadecimal) and optionally
    /// `max_requests`, `requests_per_minute` and `rpcs`.
    #[arg(long, env = "YIZHAI_TOKENS", value_name = "FILE")]
    tokens: Option<PathBuf>,

    /// Interval at which certificates and tokens are checked for changes
    #[arg(long, env = "YIZHAI_RELOAD_INTERVAL", default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    reload_interval: Duration,

    /// Answer health checks without a token
    #[arg(long, env = "YIZHAI_OPEN_HEALTH", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    open_health: bool,

    /// Enable gRPC server reflection
    #[arg(long, env = "YIZHAI_REFLECTION", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub(in crate::cli) reflection: bool,

    /// Allow gRPC-Web calls from this origin, such as https://news.example; may be repeated
    ///
    /// `*` allows every origin. Any value also enables HTTP/1.1. By default, neither is enabled.
    #[arg(
        long = "grpc-web-origin",
        env = "YIZHAI_GRPC_WEB_ORIGIN",
        value_delimiter = ',',
        value_name = "ORIGIN"
    )]
    pub(in crate::cli) web_origins: Vec<Origin>,

    /// Allow other machines to connect without TLS; texts and tokens are then sent unencrypted
    #[arg(long, env = "YIZHAI_ALLOW_PLAINTEXT", default_value_t = false, action = ArgAction::Set, num_args = 0..=1,
          default_missing_value = "true", value_name = "BOOL")]
    allow_plaintext: bool,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CacheArgs {
    /// Size of the result cache in memory; 0 disables the cache
    #[arg(long, env = "YIZHAI_CACHE_BYTES", default_value_t = 64 << 20, value_name = "BYTES")]
    cache_bytes: u64,

    /// Also cache results in this file, which survives restarts [default: memory only]
    #[arg(long, env = "YIZHAI_CACHE_FILE", value_name = "FILE")]
    cache_file: Option<PathBuf>,

    /// Maximum size of the results in the cache file; the oldest are evicted
    #[arg(long, env = "YIZHAI_CACHE_FILE_BYTES", default_value_t = 1 << 30, value_name = "BYTES")]
    cache_file_bytes: u64,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ObservabilityArgs {
    /// Serve /metrics (Prometheus), /livez and /readyz over plain HTTP on this address [default: off]
    #[arg(long, env = "YIZHAI_METRICS_LISTEN", value_name = "ADDRESS")]
    pub(in crate::cli) metrics_listen: Option<SocketAddr>,

    /// Send traces to this OpenTelemetry collector over OTLP/gRPC, such as http://127.0.0.1:4317 [default: off]
    ///
    /// Traces continue the trace of the caller if the request has a traceparent header.
    #[arg(long, env = "YIZHAI_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true)]
    pub(in crate::cli) otlp_endpoint: Option<String>,
}
