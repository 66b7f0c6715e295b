//! The typed client of the service, for the command line and for other Rust services.
//!
//! Owns the connection, the retries of what is safe to retry, and errors a person can read. Knows the API
//! and nothing of what stands behind it.

mod balance;
mod error;
mod in_process;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tonic::{
    Request, Streaming,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

pub use balance::{Balanced, Event, Failure, Settings, Target, Work};
pub use error::ClientError;
pub use in_process::{InProcess, in_process};

use crate::pb::{self, digest_service_client::DigestServiceClient};

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
    inner: DigestServiceClient<Channel>,
}

impl Client {
    /// Connects to a server, such as `http://127.0.0.1:50051`.
    ///
    /// # Errors
    /// When the address is malformed or nobody listens there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        let malformed = |source| ClientError::Address { address: address.to_owned(), source };
        let endpoint = Endpoint::from_shared(address.to_owned()).map_err(malformed)?;
        let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        let endpoint = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true);
        let unreachable = |source| ClientError::Unreachable { address: address.to_owned(), source };
        Ok(Self::new(endpoint.connect().await.map_err(unreachable)?))
    }

    /// A client over a channel that is made already.
    pub fn new(channel: Channel) -> Self {
        let inner = DigestServiceClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self { inner }
    }

    /// Digests one input and waits for the whole of it.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn digest(&self, request: pb::DigestRequest) -> Result<pb::DigestResponse, ClientError> {
        retry(|| async { self.inner.clone().digest(request.clone()).await }).await
    }

    /// Digests one input and streams the structure, the sections and the sums. At the end of `timeout` the
    /// stream ends with DEADLINE_EXCEEDED, after all that was finished.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn stream_digest(
        &self,
        message: pb::StreamDigestRequest,
        timeout: Option<Duration>,
    ) -> Result<Streaming<pb::StreamDigestResponse>, ClientError> {
        retry(|| async {
            let mut request = Request::new(message.clone());
            timeout.into_iter().for_each(|timeout| request.set_timeout(timeout));
            self.inner.clone().stream_digest(request).await
        })
        .await
    }

    /// Digests many inputs over one stream.
    ///
    /// # Errors
    /// What the server answers. Nothing is retried: the requests are consumed as they are sent.
    pub async fn digest_many(
        &self,
        requests: impl futures::Stream<Item = pb::DigestManyRequest> + Send + 'static,
    ) -> Result<Streaming<pb::DigestManyResponse>, ClientError> {
        Ok(self.inner.clone().digest_many(Request::new(requests)).await?.into_inner())
    }

    /// Finds the structure of an input.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn segment(&self, input: pb::Input) -> Result<pb::Document, ClientError> {
        let request = pb::SegmentRequest { input: Some(input) };
        let response = retry(|| async { self.inner.clone().segment(request.clone()).await }).await?;
        Ok(response.document.unwrap_or_default())
    }

    /// What a result made now would be made with; `None` while the server can make none.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn running(&self) -> Result<Option<pb::Provenance>, ClientError> {
        let request = pb::ListModelsRequest { page_size: 1, ..pb::ListModelsRequest::default() };
        let response = retry(|| async { self.inner.clone().list_models(request.clone()).await }).await?;
        Ok(response.running)
    }

    /// Lists the models that the server knows.
    ///
    /// # Errors
    /// What the server answers, after the retries that it allows.
    pub async fn list_models(&self) -> Result<Vec<pb::Model>, ClientError> {
        let mut request = pb::ListModelsRequest::default();
        let mut models = Vec::new();
        loop {
            let page = retry(|| async { self.inner.clone().list_models(request.clone()).await }).await?;
            models.extend(page.models);
            if page.next_page_token.is_empty() {
                return Ok(models);
            }
            request.page_token = page.next_page_token;
        }
    }
}

/// Repeats a call as long as the server says that it may be repeated, and when.
async fn retry<T, F>(call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let policy = ExponentialBuilder::default()
        .with_jitter()
        .without_max_times()
        .with_max_delay(Duration::from_secs(10))
        .with_total_delay(Some(RETRY_TIME));
    let response = call
        .retry(policy)
        .when(|status| retry_delay(status).is_some())
        .adjust(|status, delay| delay.map(|delay| delay.max(retry_delay(status).unwrap_or_default())))
        .await?;
    Ok(response.into_inner())
}

/// How long the server wants us to wait before we ask again; `None` when we must not.
fn retry_delay(status: &tonic::Status) -> Option<Duration> {
    status.get_details_retry_info().map(|info| info.retry_delay.unwrap_or_default())
}
