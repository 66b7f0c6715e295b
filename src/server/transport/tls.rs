//! TLS through rustls, with the callers' certificates checked by choice, and replaced while the server runs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier},
};

use super::reload::Reload;

/// Where the keys are.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate and those between it and its root, as PEM.
    pub certificate: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// The roots that callers' certificates must lead to, as PEM; `None` asks for no certificate.
    pub client_ca: Option<PathBuf>,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read {what} in {path}: {reason}")]
    File {
        /// What should be there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate in {path} cannot be used: {source}")]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The roots for callers' certificates cannot be used.
    #[error("the client CA in {path} cannot be used: {reason}")]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// The keys in force; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    /// Whether HTTP/1.1 is offered beside HTTP/2.
    http1: bool,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Reads the keys. `http1` offers HTTP/1.1 to callers, which only ever carries gRPC-Web.
    ///
    /// # Errors
    /// When a file cannot be read, or the keys cannot be used.
    pub fn load(files: TlsFiles, http1: bool) -> Result<Self, TlsError> {
        let config = config(&files, http1)?;
        Ok(Self { files, http1, current: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// What takes the next connection.
    pub(in crate::server) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

impl Reload for Tls {
    fn what(&self) -> &'static str {
        "certificates"
    }

    fn files(&self) -> Vec<PathBuf> {
        let TlsFiles { certificate, key, client_ca } = &self.files;
        [certificate, key].into_iter().chain(client_ca).cloned().collect()
    }

    fn reload(&self) -> Result<(), String> {
        let config = config(&self.files, self.http1).map_err(|error| error.to_string())?;
        self.current.store(Arc::new(config));
        Ok(())
    }
}

fn config(files: &TlsFiles, http1: bool) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let unusable = |source| TlsError::Unusable { path: files.certificate.clone(), source };
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let refused = |reason: String| TlsError::ClientCa { path: path.clone(), reason };
            let mut roots = RootCertStore::empty();
            for root in certificates("the client CA", path)? {
                roots.add(root).map_err(|error| refused(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| refused(error.to_string()))?)
        }
    };
    let chain = certificates("the certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| TlsError::File {
        what: "the private key",
        path: files.key.clone(),
        reason: error.to_string(),
    })?;
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    let offered: &[&[u8]] = if http1 { &[b"h2", b"http/1.1"] } else { &[b"h2"] };
    config.alpn_protocols = offered.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused = |reason: String| TlsError::File { what, path: path.to_owned(), reason };
    let found = CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| refused(error.to_string()))?;
    match found.is_empty() {
        true => Err(refused("no PEM section CERTIFICATE".to_owned())),
        false => Ok(found),
    }
}

/// What a caller is named by: the first DNS name of its certificate, or its hash.
pub(in crate::server) fn certificate_name(certificate: &CertificateDer<'_>) -> String {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok();
    let name = parsed.and_then(|c| c.valid_dns_names().next().map(str::to_owned));
    name.unwrap_or_else(|| {
        Sha256::digest(certificate).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    })
}
