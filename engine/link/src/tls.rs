//! Links that both sides prove themselves on: TLS with certificates of one authority.

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bettong_frame::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name of HTTP/2 in the handshake (RFC 9113, 3.2).
const ALPN: &[u8] = b"h2";

/// Certificates of one member, for the links that it opens and those that it takes.
#[derive(Clone)]
pub struct LinkTls {
    connector: TlsConnector,
    /// For links that are taken; refuses whoever has no certificate of the authority.
    pub acceptor: TlsAcceptor,
}

impl std::fmt::Debug for LinkTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkTls")
    }
}

impl LinkTls {
    /// Read PEM files: the authorities, our certificate with what leads to one of them, and its key.
    ///
    /// # Errors
    /// A file can't be read, or the key is not the certificate's; names the file.
    pub fn read(authorities: &Path, certificate: &Path, key: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for found in certificates(authorities)? {
            roots.add(found).map_err(|error| bad(authorities, &error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate)?;
        let key_ = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
        let verifier = WebPkiClientVerifier::builder(roots.clone()).build().map_err(|error| bad(authorities, &error))?;
        let mut server = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key_.clone_key())
            .map_err(|error| bad(certificate, &error))?;
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key_)
            .map_err(|error| bad(certificate, &error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(client)), acceptor: TlsAcceptor::from(Arc::new(server)) })
    }

    /// Prove ourselves to *address*, and have it prove itself.
    pub(crate) async fn connect(&self, address: &str, stream: TcpStream) -> std::io::Result<Stream> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(std::io::Error::other)?;
        Ok(Stream::Tls(Box::new(self.connector.connect(name, stream).await?)))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(|error| bad(path, &error))?.collect();
    let found = found.map_err(|error| bad(path, &error))?;
    if found.is_empty() { Err(bad(path, &"it holds no certificate")) } else { Ok(found) }
}

#[cold]
fn bad(path: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("{} can't be used for links: {error}", path.display()))
}

/// A connection to a peer.
pub(crate) enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

macro_rules! either {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Plain($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
            Stream::Tls($inner) => {
                let $inner = Pin::new($inner);
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        either!(self, inner => inner.poll_read(context, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<std::io::Result<usize>> {
        either!(self, inner => inner.poll_write(context, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        either!(self, inner => inner.poll_write_vectored(context, data))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, inner => inner.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        either!(self, inner => inner.poll_shutdown(context))
    }
}
