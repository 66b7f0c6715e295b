//! A certificate authority, the TLS files that it signs, and a client's handshake.

use std::{io, net::SocketAddr, path::Path, sync::Arc};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring},
};
use tonic::transport::Certificate;
use yizhai::server::TlsFiles;

/// A certificate authority.
pub struct CertificateAuthority {
    certificate: rcgen::Certificate,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl CertificateAuthority {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: rcgen::Issuer::new(params, key) }
    }

    /// Issues a certificate for a name; returns the certificate and its key as PEM.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    pub fn root(&self) -> Certificate {
        Certificate::from_pem(self.certificate.pem())
    }
}

/// Writes a certificate and key for `localhost`, and optionally the authority for client certificates, to files.
pub fn write_tls_files(
    directory: &Path,
    authority: &CertificateAuthority,
    client_ca: Option<&CertificateAuthority>,
) -> TlsFiles {
    let (certificate, key) = authority.sign("localhost");
    let path = |name: &str| directory.join(name);
    std::fs::write(path("key.pem"), key).unwrap();
    std::fs::write(path("certificate.pem"), certificate).unwrap();
    if let Some(ca) = client_ca {
        std::fs::write(path("ca.pem"), ca.certificate.pem()).unwrap();
    }
    TlsFiles {
        certificate: path("certificate.pem"),
        key: path("key.pem"),
        client_ca: client_ca.map(|_| path("ca.pem")),
    }
}

/// Connects as a client that trusts the authority and offers these ALPN protocols.
pub async fn tls_connect(
    address: SocketAddr,
    authority: &CertificateAuthority,
    offered: &[&str],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offered.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), socket).await
}
