//! Converts the arguments of `yizhai serve` into the configuration of the server, and checks settings that depend on each
//! other.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{bail, ensure};

use super::{CacheArgs, ConnectionArgs, LimitArgs, ServeArgs};
use crate::{
    config::ModelConfig,
    server::{Access, Http2, ListenConfig, Metrics, RequestLimits, ResultCache, Tls, TlsFiles, Tokens},
};

impl From<&LimitArgs> for RequestLimits {
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
    /// Returns the configuration of the listening socket. Reads the certificate and the keys.
    pub(in crate::cli) fn listen_config(&self, metrics: Metrics) -> anyhow::Result<ListenConfig> {
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
                "{address} can be reached from other machines, but TLS is off; set --tls-certificate and --tls-key, \
                 or --allow-plaintext if a proxy in front of the server terminates TLS"
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

    /// Returns who may call. Reads the tokens.
    pub(in crate::cli) fn access(&self) -> anyhow::Result<Access> {
        let tokens = self.security.tokens.as_deref().map(Tokens::load).transpose()?;
        Ok(Access { tokens, health_open: self.security.open_health })
    }

    /// Returns the result cache, if it is enabled. Opens the cache file.
    pub(in crate::cli) fn cache(
        &self,
        config: &ModelConfig,
        metrics: Metrics,
    ) -> anyhow::Result<Option<ResultCache>> {
        let CacheArgs { cache_bytes, ref cache_file, cache_file_bytes } = self.cache;
        if cache_bytes == 0 {
            ensure!(cache_file.is_none(), "cache_file requires the cache in memory, but cache_bytes is 0");
            return Ok(None);
        }
        // Results depend on how the numbers were rounded, so these options are part of the cache key.
        let options = &config.options;
        let setup = format!("{} {} {}", options.device_name(), options.cpu_features, options.kv_type);
        let cache = ResultCache::new(cache_bytes, &setup, metrics);
        Ok(Some(match cache_file {
            Some(path) => cache.on_disk(path, cache_file_bytes)?,
            None => cache,
        }))
    }

    /// Returns the interval at which keys and tokens are checked for changes.
    pub(in crate::cli) fn reload_interval(&self) -> Duration {
        self.security.reload_interval
    }

    /// Checks settings that depend on each other.
    pub(in crate::cli) fn check(&self) -> anyhow::Result<()> {
        let limits = RequestLimits::from(&self.limits);
        if let Some(message) = limits.max_message_bytes {
            ensure!(
                message >= limits.max_page_bytes,
                "max_message_bytes ({message}) is smaller than max_page_bytes ({}): a page of that size could not be received",
                limits.max_page_bytes
            );
        }
        let (message, all) = (limits.message_bytes(), limits.max_bytes_in_flight);
        ensure!(
            all >= message,
            "max_bytes_in_flight ({all}) is smaller than the maximum message size ({message}): such a message could not be received"
        );
        if let Some(metrics) = self.observability.metrics_listen {
            ensure!(
                metrics != self.server.listen || metrics.port() == 0,
                "listen and metrics_listen are both {metrics}; they must be different addresses"
            );
        }
        Ok(())
    }
}
