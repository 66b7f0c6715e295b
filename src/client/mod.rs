//! The typed client of the service, for the command line and for other Rust services.
//!
//! Owns the connection, the retries of what is safe to retry, and errors a person can read. Knows the API
//! and nothing of what stands behind it.

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
//! // Asks again when the server is full or still loading, for as long as the timeout allows.
//! let answer = client.digest(pb::DigestRequest { input: Some(input), ..Default::default() }).await?;
//! for section in answer.sections {
//!     match (section.summary, section.error) {
//!         (Some(summary), None) => println!("{}", summary.text),
//!         (_, error) => eprintln!("not done: {error:?}"),
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

/// How long to wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a quiet connection is tried, and how long its answer may take: a machine that is gone without a word is
/// noticed within both together.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long a server that says "come back" is asked again.
const RETRY_TIME: Duration = Duration::from_secs(120);

/// A connection to a server; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    inner: DigestServiceClient<InterceptedService<Channel, Authorize>>,
    options: ClientOptions,
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:50051`, with the default options.
    ///
    /// # Errors
    /// When the address is malformed or nobody listens there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, ClientOptions::default()).await
    }

    /// Connects to a server; with TLS when the address begins with `https`.
    ///
    /// # Errors
    /// When the address is malformed, the certificates cannot be used, or nobody listens there.
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
        Ok(Self::over(endpoint.connect().await.map_err(unreachable)?, authorize, options))
    }

    /// A client over a channel that is made already, with the default options.
    pub fn new(channel: Channel) -> Self {
        let options = ClientOptions::default();
        let authorize = options.authorize().expect("no token is always one that can be sent");
        Self::over(channel, authorize, options)
    }

    fn over(channel: Channel, authorize: Authorize, options: ClientOptions) -> Self {
        let inner = DigestServiceClient::with_interceptor(channel, authorize)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self { inner, options }
    }

    /// Digests one input and waits for the whole of it.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn digest(&self, message: pb::DigestRequest) -> Result<pb::DigestResponse, ClientError> {
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.digest(request).await }
        };
        self.retry(&message, self.options.timeout, call).await
    }

    /// Digests one input and streams the structure, the sections and the sums. At the end of `timeout`, or that of the
    /// options, the stream ends with DEADLINE_EXCEEDED, after all that was finished.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
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
    /// What the server answers. Nothing is retried: the requests are consumed as they are sent.
    pub async fn digest_many(
        &self,
        requests: impl futures::Stream<Item = pb::DigestManyRequest> + Send + 'static,
    ) -> Result<Streaming<pb::DigestManyResponse>, ClientError> {
        let mut request = Request::new(requests);
        self.options.timeout.into_iter().for_each(|timeout| request.set_timeout(timeout));
        Ok(self.inner.clone().digest_many(request).await?.into_inner())
    }

    /// Finds the structure of an input.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn segment(&self, input: pb::Input) -> Result<pb::Document, ClientError> {
        let message = pb::SegmentRequest { input: Some(input) };
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.segment(request).await }
        };
        let response = self.retry(&message, self.options.timeout, call).await?;
        Ok(response.document.unwrap_or_default())
    }

    /// What a result made now would be made with; `None` while the server can make none.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn running(&self) -> Result<Option<pb::Provenance>, ClientError> {
        let request = pb::ListModelsRequest { page_size: 1, ..pb::ListModelsRequest::default() };
        let call = |request| {
            let mut inner = self.inner.clone();
            async move { inner.list_models(request).await }
        };
        Ok(self.retry(&request, self.options.timeout, call).await?.running)
    }

    /// Lists the models that the server knows.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
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

    /// Repeats a call as long as the server says that it may be repeated, and when. All tries together have `timeout`.
    async fn retry<M: Clone, T, F>(
        &self,
        message: &M,
        timeout: Option<Duration>,
        call: impl Fn(Request<M>) -> F,
    ) -> Result<T, ClientError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let began = Instant::now();
        let patience =
            timeout.map_or(self.options.retry_time, |timeout| timeout.min(self.options.retry_time));
        let policy = ExponentialBuilder::default()
            .with_jitter()
            .without_max_times()
            .with_max_delay(Duration::from_secs(10))
            .with_total_delay(Some(patience));
        let attempt = || {
            let mut request = Request::new(message.clone());
            timeout
                .into_iter()
                .for_each(|timeout| request.set_timeout(timeout.saturating_sub(began.elapsed())));
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

/// How long the server wants us to wait before we ask again; `None` when we must not.
fn retry_delay(status: &tonic::Status) -> Option<Duration> {
    status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or_default())
}
