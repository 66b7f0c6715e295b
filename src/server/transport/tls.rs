//! TLS through rustls, with optional verification of client certificates. The certificates can be replaced while the
//! server runs.

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

/// The paths of the certificates and the key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The server's certificate followed by the intermediate ones, as PEM.
    pub certificate: PathBuf,
    /// The private key of the server's certificate, as PEM.
    pub key: PathBuf,
    /// The root certificates that client certificates must chain to, as PEM. `None` requests no client certificate.
    pub client_ca: Option<PathBuf>,
}

/// The error returned for certificates or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or is not PEM.
    #[error("cannot read {what} from {path}: {reason}")]
    File {
        /// The expected content of the file, such as `the private key`.
        what: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        reason: String,
    },
    /// The certificate and the key do not match, or their algorithm is not supported.
    #[error("the certificate in {path} cannot be used: {source}")]
    Unusable {
        /// The path of the certificate.
        path: PathBuf,
        /// The underlying error.
        source: rustls::Error,
    },
    /// The root certificates for clients cannot be used.
    #[error("the client CA in {path} cannot be used: {reason}")]
    ClientCa {
        /// The path of the file.
        path: PathBuf,
        /// The underlying error.
        reason: String,
    },
}

/// The TLS configuration in force. Cheap to clone; all clones see a reload.
#[derive(Clone)]
pub struct Tls {
    files: TlsFiles,
    /// Offer HTTP/1.1 in addition to HTTP/2.
    http1: bool,
    current: Arc<ArcSwap<ServerConfig>>,
}

impl Tls {
    /// Reads the certificates and the key. With `http1`, HTTP/1.1 is offered as well, which only gRPC-Web uses.
    ///
    /// # Errors
    /// Fails if a file cannot be read, or if the certificates or the key cannot be used.
    pub fn load(files: TlsFiles, http1: bool) -> Result<Self, TlsError> {
        let config = config(&files, http1)?;
        Ok(Self { files, http1, current: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// Returns the acceptor for the next connection.
    pub(in crate::server) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.load_full())
    }
}

impl Reload for Tls {
    fn description(&self) -> &'static str {
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
        true => Err(refused("it contains no PEM section CERTIFICATE".to_owned())),
        false => Ok(found),
    }
}

/// Returns the name of a client certificate: its first DNS name, or a prefix of its SHA-256 if it has none.
pub(in crate::server) fn certificate_name(certificate: &CertificateDer<'_>) -> String {
    let parsed = webpki::EndEntityCert::try_from(certificate).ok();
    let name = parsed.and_then(|c| c.valid_dns_names().next().map(str::to_owned));
    name.unwrap_or_else(|| {
        Sha256::digest(certificate).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    })
}
