//! The implementation of the API: validates a request, runs it on the pipeline, and assembles the answer.
//!
//! Called by tonic for calls that passed the gate. Contains no logic of its own beyond the order of these steps.

mod batch;
mod forward;
mod models;
mod stream;

use std::{sync::Arc, time::Instant};

use prost::Message as _;
use tonic::{Extensions, Request, Response, Status, Streaming};

use self::forward::{ResponseStream, forward};
use super::{
    ServerConfig, convert,
    gate::CallContext,
    model::{ModelSlot, Readiness},
    status::Refusal,
    work::DigestRun,
};
use crate::{
    document::Document,
    engine::Priority,
    pb::{self, digest_service_server::DigestService},
    pipeline::Pipeline,
};

/// The largest input that is parsed on a runtime thread, in bytes. Parsing it takes microseconds, about as long as
/// handing it to another thread.
const MAX_INLINE_PARSE_BYTES: usize = 2 << 10;

/// The service. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct ApiService {
    inner: Arc<Inner>,
}

struct Inner {
    slot: ModelSlot,
    config: ServerConfig,
}

impl ApiService {
    pub(in crate::server) fn new(slot: ModelSlot, config: ServerConfig) -> Self {
        Self { inner: Arc::new(Inner { slot, config }) }
    }

    fn pipeline(&self) -> Result<Pipeline, Refusal> {
        match self.inner.slot.readiness() {
            Readiness::Ready(pipeline) => Ok(pipeline),
            Readiness::Loading => Err(Refusal::Loading),
            Readiness::Draining => Err(Refusal::Draining),
            Readiness::Failed(_) => Err(Refusal::EngineFailed),
        }
    }

    /// Parses an input. A large one is parsed on a thread that may block.
    async fn parse(&self, input: Option<pb::Input>) -> Result<Document, Refusal> {
        let limits = self.inner.config.limits;
        if input.as_ref().is_none_or(|input| input.encoded_len() <= MAX_INLINE_PARSE_BYTES) {
            return convert::document(input, &limits);
        }
        let parsed = tokio::task::spawn_blocking(move || convert::document(input, &limits)).await;
        parsed.unwrap_or(Err(Refusal::EngineFailed))
    }

    /// Validates a request and starts its run.
    async fn start(
        &self,
        call: &CallContext,
        request_id: &str,
        input: Option<pb::Input>,
        options: Option<pb::DigestOptions>,
        priority: Priority,
    ) -> Result<DigestRun, Status> {
        let arrived = match priority {
            Priority::Interactive => call.arrived,
            Priority::Batch => Instant::now(),
        };
        let config = &self.inner.config;
        let run = async {
            let pipeline = convert::select_pipeline(&self.pipeline()?, options.as_ref())?;
            let document = self.parse(input).await?;
            let job =
                convert::job(document, options, &config.glossaries, &config.limits, priority, call.deadline)?;
            convert::check_tasks(job.tasks, &pipeline)?;
            let (cache, metrics) = (config.cache.clone(), config.metrics.clone());
            Ok(DigestRun::start(&pipeline, job, request_id.to_owned(), arrived, cache, metrics).await)
        };
        run.await.map_err(|refusal: Refusal| refusal.status(request_id))
    }
}

/// Takes the gate's context from the extensions of a request.
fn call_context(extensions: &mut Extensions) -> CallContext {
    extensions.remove().expect("every call passes the gate")
}

/// Returns the id of a request and records it in the call's span.
fn request_id(given: &str, call: &CallContext) -> Result<String, Status> {
    let id = convert::request_id(given, &call.id).map_err(|refusal| refusal.status(&call.id))?;
    tracing::Span::current().record("request_id", id.as_str());
    Ok(id)
}

#[tonic::async_trait]
impl DigestService for ApiService {
    async fn digest(
        &self,
        mut request: Request<pb::DigestRequest>,
    ) -> Result<Response<pb::DigestResponse>, Status> {
        let call = call_context(request.extensions_mut());
        let pb::DigestRequest { input, options, request_id: given } = request.into_inner();
        let request_id = request_id(&given, &call)?;
        let run = self.start(&call, &request_id, input, options, Priority::Interactive).await?;
        Ok(Response::new(run.collect().await?))
    }

    type StreamDigestStream = ResponseStream<pb::StreamDigestResponse>;

    async fn stream_digest(
        &self,
        mut request: Request<pb::StreamDigestRequest>,
    ) -> Result<Response<Self::StreamDigestStream>, Status> {
        let call = call_context(request.extensions_mut());
        let pb::StreamDigestRequest { input, options, request_id: given } = request.into_inner();
        let request_id = request_id(&given, &call)?;
        let run = self.start(&call, &request_id, input, options, Priority::Interactive).await?;
        let stall_timeout = self.inner.config.limits.stall_timeout;
        let held = (call.permit, call.reservation);
        Ok(Response::new(forward(stream::events(run), held, stall_timeout, request_id)))
    }

    type DigestManyStream = ResponseStream<pb::DigestManyResponse>;

    async fn digest_many(
        &self,
        mut request: Request<Streaming<pb::DigestManyRequest>>,
    ) -> Result<Response<Self::DigestManyStream>, Status> {
        let mut call = call_context(request.extensions_mut());
        let held = (call.permit.take(), call.reservation.clone());
        let id = call.id.to_string();
        let stall_timeout = self.inner.config.limits.stall_timeout;
        let responses = batch::responses(self.clone(), request.into_inner(), call);
        Ok(Response::new(forward(responses, held, stall_timeout, id)))
    }

    async fn segment(
        &self,
        mut request: Request<pb::SegmentRequest>,
    ) -> Result<Response<pb::SegmentResponse>, Status> {
        let call = call_context(request.extensions_mut());
        let document =
            self.parse(request.into_inner().input).await.map_err(|refusal| refusal.status(&call.id))?;
        Ok(Response::new(pb::SegmentResponse { document: Some(convert::document_message(&document)) }))
    }

    async fn list_models(
        &self,
        mut request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let call = call_context(request.extensions_mut());
        let pipeline = self.pipeline().ok();
        let known = (self.inner.config.known_models)();
        let response = models::list(known, pipeline.as_ref(), &request.into_inner());
        Ok(Response::new(response.map_err(|refusal| refusal.status(&call.id))?))
    }
}
