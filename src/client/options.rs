//! The options of a client: credentials, trusted certificates and time limits.

use std::{fmt, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Certificate, ClientTlsConfig, Identity},
};

use super::RETRY_TIME;

/// The options of a [`Client`](super::Client).
#[derive(Clone)]
pub struct ClientOptions {
    /// The bearer token to send with every call.
    pub token: Option<String>,
    /// The root certificates that the server's certificate must chain to, as PEM. `None` uses the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's certificate and private key for mutual TLS, as PEM.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// Maximum duration of a call including its retries. The server receives it as the deadline. `None` means no limit.
    pub timeout: Option<Duration>,
    /// Maximum time for which a call is retried when the server answers with RetryInfo. Two minutes by default.
    pub retry_time: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { token: None, ca_pem: None, identity_pem: None, timeout: None, retry_time: RETRY_TIME }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Debug output may end up in a log, so it must not contain secrets.
        f.debug_struct("ClientOptions")
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("timeout", &self.timeout)
            .field("retry_time", &self.retry_time)
            .finish_non_exhaustive()
    }
}

impl ClientOptions {
    /// Returns the TLS configuration.
    pub(super) fn tls(&self) -> ClientTlsConfig {
        let tls = ClientTlsConfig::new();
        let tls = match &self.ca_pem {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        match &self.identity_pem {
            Some((certificate, key)) => tls.identity(Identity::from_pem(certificate, key)),
            None => tls,
        }
    }

    /// Returns the interceptor that adds the token, or `None` if the token is not valid in a header.
    pub(super) fn authorize(&self) -> Option<Authorize> {
        let header = self.token.as_ref().map(|token| format!("Bearer {token}").parse()).transpose().ok()?;
        let header = header.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        });
        Some(Authorize { header })
    }
}

/// Adds the token to every request.
#[derive(Debug, Clone)]
pub(super) struct Authorize {
    header: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Authorize {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}
