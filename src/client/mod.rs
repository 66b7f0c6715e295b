//! A typed client of the service, for the command line and for other Rust programs.
//!
//! Manages the connection, deadlines, and retries of calls that the server says may be retried. Depends on the API only,
//! not on the server.
//!
//! ```no_run
//! use std::time::Duration;
//! use yizhai::{client::{Client, ClientOptions}, pb};
//!
//! # async fn digest() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect_with("https://digest.example.org:50051", ClientOptions {
//!     token: std::env::var("YIZHAI_TOKEN").ok(),
//!     timeout: Some(Duration::from_secs(120)),
//!     ..ClientOptions::default()
//! })
//! .await?;
//! let page = std::fs::read("page.txt")?;
//! let input = pb::Input { source: Some(pb::input::Source::PageBytes(page)), ..Default::default() };
//! // Retries while the server is full or still loading its model, within the timeout.
//! let response = client.digest(pb::DigestRequest { input: Some(input), ..Default::default() }).await?;
//! for section in response.sections {
//!     match (section.summary, section.error) {
//!         (Some(summary), None) => println!("{}", summary.text),
//!         (_, error) => eprintln!("failed: {error:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod in_process;
mod options;
mod pool;

use std::time::{Duration, Instant};

use backon::{ExponentialBuilder, Retryable};
use tonic::{
    Request, Status, Streaming,
    service::interceptor::InterceptedService,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

pub use error::ClientError;
pub use in_process::{InProcess, in_process};
pub use options::ClientOptions;
pub use pool::{DigestItem, ItemFailure, PoolEvent, PoolMember, PoolSettings, ServerPool};

use crate::pb::{self, digest_service_client::DigestServiceClient};
use options::Authorize;

/// Maximum time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between keepalive pings, and maximum time for the answer to one. A server that vanishes without closing the
/// connection is detected within twice this time.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The default of [`ClientOptions::retry_time`].
const RETRY_TIME: Duration = Duration::from_secs(120);

/// A connection to a server. Cheap to clone; all clones share the connection.
#[derive(Debug, Clone)]
pub struct Client {
    inner: DigestServiceClient<InterceptedService<Channel, Authorize>>,
    options: ClientOptions,
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:50051`, with the default options.
    ///
    /// # Errors
    /// Fails if the address is malformed or the connection cannot be established.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, ClientOptions::default()).await
    }

    /// Connects to a server, with TLS if the address begins with `https`.
    ///
    /// # Errors
    /// Fails if the address is malformed, the token or the certificates cannot be used, or the connection cannot be
    /// established.
    pub async fn connect_with(address: &str, options: ClientOptions) -> Result<Self, ClientError> {
        let malformed = |cause| ClientError::Address { address: address.to_owned(), cause };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(malformed)?;
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        if endpoint.uri().scheme_str() == Some("https") {
            let unusable = |source| ClientError::Tls { address: address.to_owned(), source };
            endpoint = endpoint.tls_config(options.tls()).map_err(unusable)?;
        }
        let unreachable = |cause| ClientError::Unreachable { address: address.to_owned(), cause };
        let authorize = options.authorize().ok_or(ClientError::Token)?;
        Ok(Self::from_channel(endpoint.connect().await.map_err(unreachable)?, authorize, options))
    }

    /// Creates a client over an existing channel, with the default options.
    pub fn new(channel: Channel) -> Self {
        let options = ClientOptions::default();
        let authorize = options.authorize().expect("the default options contain no token");
        Self::from_channel(channel, authorize, options)
    }

    fn from_channel(channel: Channel, authorize: Authorize, options: ClientOptions) -> Self {
        let inner = DigestServiceClient::with_interceptor(channel, authorize)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self { inner, options }
    }

    /// Digests one input and waits for the complete result.
    ///
    /// # Errors
    /// Returns the server's error once it allows no further retry.
    pub async fn digest(&self, message: pb::DigestRequest) -> Result<pb::DigestResponse, ClientError> {
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.digest(request).await }
        };
        self.retry(&message, self.options.timeout, call).await
    }

    /// Digests one input and streams its structure, its sections and the statistics. If `timeout` passes, or that of the
    /// options if `timeout` is `None`, the stream ends with DEADLINE_EXCEEDED after all sections that were finished.
    ///
    /// # Errors
    /// Returns the server's error once it allows no further retry.
    pub async fn stream_digest(
        &self,
        message: pb::StreamDigestRequest,
        timeout: Option<Duration>,
    ) -> Result<Streaming<pb::StreamDigestResponse>, ClientError> {
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.stream_digest(request).await }
        };
        self.retry(&message, timeout.or(self.options.timeout), call).await
    }

    /// Digests many inputs over one stream.
    ///
    /// # Errors
    /// Returns the server's error. The call is not retried, because its requests are consumed when they are sent.
    pub async fn digest_many(
        &self,
        requests: impl futures::Stream<Item = pb::DigestManyRequest> + Send + 'static,
    ) -> Result<Streaming<pb::DigestManyResponse>, ClientError> {
        let mut request = Request::new(requests);
        self.options.timeout.into_iter().for_each(|timeout| request.set_timeout(timeout));
        Ok(self.inner.clone().digest_many(request).await?.into_inner())
    }

    /// Returns the structure of an input.
    ///
    /// # Errors
    /// Returns the server's error once it allows no further retry.
    pub async fn segment(&self, input: pb::Input) -> Result<pb::Document, ClientError> {
        let message = pb::SegmentRequest { input: Some(input) };
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.segment(request).await }
        };
        let response = self.retry(&message, self.options.timeout, call).await?;
        Ok(response.document.unwrap_or_default())
    }

    /// Returns the models and prompts that the server runs, or `None` if it is not ready.
    ///
    /// # Errors
    /// Returns the server's error once it allows no further retry.
    pub async fn running(&self) -> Result<Option<pb::Provenance>, ClientError> {
        let request = pb::ListModelsRequest { page_size: 1, ..pb::ListModelsRequest::default() };
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.list_models(request).await }
        };
        Ok(self.retry(&request, self.options.timeout, call).await?.running)
    }

    /// Lists the models that the server supports.
    ///
    /// # Errors
    /// Returns the server's error once it allows no further retry.
    pub async fn list_models(&self) -> Result<Vec<pb::Model>, ClientError> {
        let mut request = pb::ListModelsRequest::default();
        let mut models = Vec::new();
        loop {
            let call = |request| {
                let mut inner = self.inner.clone();
                async move { inner.list_models(request).await }
            };
            let page = self.retry(&request, self.options.timeout, call).await?;
            models.extend(page.models);
            if page.next_page_token.is_empty() {
                return Ok(models);
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Repeats a call while the server answers with RetryInfo, after the delay given there. `timeout` applies to all
    /// attempts together.
    async fn retry<M: Clone, T, F>(
        &self,
        message: &M,
        timeout: Option<Duration>,
        call: impl Fn(Request<M>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let start = Instant::now();
        let retry_time =
            timeout.map_or(self.options.retry_time, |timeout| timeout.min(self.options.retry_time));
        let policy = ExponentialBuilder::default()
            .with_jitter()
            .without_max_times()
            .with_max_delay(Duration::from_secs(10))
            .with_total_delay(Some(retry_time));
        let attempt = || {
            let mut request = Request::new(message.clone());
            timeout
                .into_iter()
                .for_each(|timeout| request.set_timeout(timeout.saturating_sub(start.elapsed())));
            call(request)
        };
        let response = attempt
            .retry(policy)
            .when(|status| retry_delay(status).is_some())
            .adjust(|status, delay| delay.map(|delay| delay.max(retry_delay(status).unwrap_or_default())))
            .await?;
        Ok(response.into_inner())
    }
}

/// Returns the delay after which the server allows a retry, or `None` if it allows none.
fn retry_delay(status: &tonic::Status) -> Option<Duration> {
    status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or_default())
}
