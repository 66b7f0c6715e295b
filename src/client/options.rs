//! How a client connects, who it is, and how long it waits.

use std::{fmt, time::Duration};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
    transport::{Certificate, ClientTlsConfig, Identity},
};

/// How long a server that says "come back" is asked again, if nothing else is said.
const RETRY_TIME: Duration = Duration::from_secs(120);

/// How a client connects, who it is, and how long it waits.
#[derive(Clone)]
pub struct ClientOptions {
    /// The bearer token to send.
    pub token: Option<String>,
    /// The roots that the server's certificate must lead to, as PEM; `None` takes those of the system.
    pub ca_pem: Option<Vec<u8>>,
    /// The client's own certificate and key, as PEM, for mutual TLS.
    pub identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    /// How long a call may take with all its tries; the server is told, and stops at the deadline. `None` means as long
    /// as it takes.
    pub timeout: Option<Duration>,
    /// How long a server that says "come back" is asked again.
    pub retry_time: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { token: None, ca_pem: None, identity_pem: None, timeout: None, retry_time: RETRY_TIME }
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No secrets: what is debugged is logged some day.
        f.debug_struct("ClientOptions")
            .field("token", &self.token.as_ref().map(|_| "(hidden)"))
            .field("timeout", &self.timeout)
            .field("retry_time", &self.retry_time)
            .finish_non_exhaustive()
    }
}

impl ClientOptions {
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

    /// What sends the token along; `None` when the token cannot stand in a header.
    pub(super) fn authorize(&self) -> Option<Authorize> {
        let header = self.token.as_ref().map(|token| format!("Bearer {token}").parse()).transpose().ok()?;
        let header = header.map(|mut value: MetadataValue<Ascii>| {
            value.set_sensitive(true);
            value
        });
        Some(Authorize { header })
    }
}

/// Sends the token along.
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
