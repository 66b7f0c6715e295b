//! The implementation of the API: takes a request apart, lets the pipeline work, puts the answer
//! together. No logic of its own.

use std::{
    collections::HashSet,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{Stream, StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    ServerConfig,
    admission::Admission,
    convert, deadline,
    state::{ModelSlot, Readiness},
    status::Refusal,
    to_rpc_status,
};
use crate::{
    document::Document,
    engine::Priority,
    pb::{self, digest_service_server::DigestService},
    pipeline::{Pipeline, SectionOutcome, Statistics},
};

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service; cheap to clone.
#[derive(Clone)]
pub(super) struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    slot: ModelSlot,
    config: ServerConfig,
    admission: Admission,
}

/// A job on its way: the parsed document and the outcomes of its sections as they come.
struct Running<S> {
    request_id: String,
    document: Arc<Document>,
    outcomes: S,
    arrived: Instant,
}

impl Service {
    pub(super) fn new(slot: ModelSlot, config: ServerConfig) -> Self {
        let admission = Admission::new(config.limits.max_requests);
        Self { inner: Arc::new(Inner { slot, config, admission }) }
    }

    fn pipeline(&self) -> Result<Pipeline, Refusal> {
        match self.inner.slot.readiness() {
            Readiness::Ready(pipeline) => Ok(pipeline),
            Readiness::Loading => Err(Refusal::Loading),
            Readiness::Draining => Err(Refusal::Draining),
            Readiness::Failed(_) => Err(Refusal::Broken),
        }
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.inner.admission.admit()
    }

    /// Parses on a thread where it may take its time.
    async fn parse(&self, input: Option<pb::Input>) -> Result<Document, Refusal> {
        let limits = self.inner.config.limits;
        let parsed = tokio::task::spawn_blocking(move || convert::document(input, &limits)).await;
        parsed.unwrap_or(Err(Refusal::Broken))
    }

    /// Validates a request and starts its work.
    async fn start(
        &self,
        request_id: &str,
        input: Option<pb::Input>,
        options: Option<pb::DigestOptions>,
        priority: Priority,
        deadline: Option<Instant>,
    ) -> Result<Running<impl Stream<Item = SectionOutcome> + Send + use<>>, Status> {
        let arrived = Instant::now();
        let started = async {
            let pipeline = self.pipeline()?;
            let document = self.parse(input).await?;
            let limits = &self.inner.config.limits;
            let job = convert::job(document, options, &pipeline.model().id, limits, priority, deadline)?;
            let document = job.document.clone();
            Ok((document, pipeline.digest(job)))
        };
        let (document, outcomes) = started.await.map_err(|refusal: Refusal| refusal.status(request_id))?;
        Ok(Running { request_id: request_id.to_owned(), document, outcomes, arrived })
    }
}

impl<S: Stream<Item = SectionOutcome>> Running<S> {
    /// Waits for every section. Fails only when all of them did.
    async fn whole(self) -> Result<pb::DigestResponse, Status> {
        let Self { request_id, document, outcomes, arrived } = self;
        let mut outcomes = std::pin::pin!(outcomes);
        let mut statistics = Statistics::default();
        let mut sections = Vec::new();
        while let Some(outcome) = outcomes.next().await {
            statistics.add(&outcome);
            sections.push(convert::outcome_message(outcome, &document, &request_id));
        }
        sections.sort_by_key(|section| (section.article_index, section.section_index));
        if statistics.sections > 0 && statistics.failed == statistics.sections {
            let error = sections.into_iter().find_map(|section| section.error).unwrap_or_default();
            return Err(from_rpc_status(&error));
        }
        Ok(pb::DigestResponse {
            request_id,
            document: Some(convert::document_message(&document)),
            sections,
            statistics: Some(convert::statistics_message(&statistics, arrived.elapsed().as_millis())),
        })
    }
}

#[tonic::async_trait]
impl DigestService for Service {
    async fn digest(
        &self,
        request: Request<pb::DigestRequest>,
    ) -> Result<Response<pb::DigestResponse>, Status> {
        let deadline = deadline::of(request.metadata());
        let pb::DigestRequest { input, options, request_id } = request.into_inner();
        let request_id = convert::request_id(&request_id).map_err(|r| r.status(""))?;
        let _permit = self.admit().map_err(|r| r.status(&request_id))?;
        let running = self.start(&request_id, input, options, Priority::Interactive, deadline).await?;
        Ok(Response::new(running.whole().await?))
    }

    type StreamDigestStream = ResponseStream<pb::StreamDigestResponse>;

    async fn stream_digest(
        &self,
        request: Request<pb::StreamDigestRequest>,
    ) -> Result<Response<Self::StreamDigestStream>, Status> {
        let deadline = deadline::of(request.metadata());
        let pb::StreamDigestRequest { input, options, request_id } = request.into_inner();
        let request_id = convert::request_id(&request_id).map_err(|r| r.status(""))?;
        let permit = self.admit().map_err(|r| r.status(&request_id))?;
        let running = self.start(&request_id, input, options, Priority::Interactive, deadline).await?;
        Ok(Response::new(Box::pin(events(running, permit))))
    }

    type DigestManyStream = ResponseStream<pb::DigestManyResponse>;

    async fn digest_many(
        &self,
        request: Request<Streaming<pb::DigestManyRequest>>,
    ) -> Result<Response<Self::DigestManyStream>, Status> {
        let deadline = deadline::of(request.metadata());
        let permit = self.admit().map_err(|r| r.status(""))?;
        let service = self.clone();
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let at_once = self.inner.config.limits.max_items_in_flight;
        let answers = request
            .into_inner()
            .map(move |item| {
                let (service, seen) = (service.clone(), seen.clone());
                async move { service.digest_item(item?, deadline, &seen).await }
            })
            .buffer_unordered(at_once)
            // The permit is held until the stream ends.
            .map(move |answer| {
                let _held = &permit;
                answer
            });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn segment(
        &self,
        request: Request<pb::SegmentRequest>,
    ) -> Result<Response<pb::SegmentResponse>, Status> {
        let _permit = self.admit().map_err(|r| r.status(""))?;
        let document = self.parse(request.into_inner().input).await.map_err(|r| r.status(""))?;
        Ok(Response::new(pb::SegmentResponse { document: Some(convert::document_message(&document)) }))
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let running = match self.inner.slot.readiness() {
            Readiness::Ready(pipeline) => Some(convert::running_message(&pipeline)),
            Readiness::Loading | Readiness::Draining | Readiness::Failed(_) => None,
        };
        let config = &self.inner.config;
        let mut models = (config.known_models)();
        for model in &mut models {
            model.running = running.is_some() && model.id == config.model_id;
        }
        models.sort_by_key(|model| !model.running);
        let mut response = page(models, &request.into_inner()).map_err(|r| r.status(""))?;
        response.running = running;
        Ok(Response::new(response))
    }
}

impl Service {
    /// Digests one item of a batch; its failure is its own.
    async fn digest_item(
        &self,
        item: pb::DigestManyRequest,
        deadline: Option<Instant>,
        seen: &Mutex<HashSet<String>>,
    ) -> Result<pb::DigestManyResponse, Status> {
        use pb::digest_many_response::Result as Outcome;
        let pb::DigestManyRequest { item_id, input, options, timeout_ms } = item;
        let work = async {
            let deadline = deadline::earlier(deadline, timeout_ms).map_err(|r| r.status(&item_id))?;
            convert::check_id("item_id", &item_id).map_err(|r| r.status(""))?;
            let is_new = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(item_id.clone());
            if !is_new {
                return Err(Refusal::field("item_id", "was used before in this stream").status(&item_id));
            }
            let running = self.start(&item_id, input, options, Priority::Batch, deadline).await?;
            running.whole().await
        };
        let result = match work.await {
            Ok(digest) => Outcome::Digest(digest),
            Err(status) => Outcome::Error(to_rpc_status(&status)),
        };
        Ok(pb::DigestManyResponse { item_id, result: Some(result) })
    }
}

/// The messages of a streamed digest: the structure, the sections as they come, the sums. A deadline that
/// passed is said at the end, after all that was finished.
fn events(
    running: Running<impl Stream<Item = SectionOutcome> + Send + 'static>,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<pb::StreamDigestResponse, Status>> + Send {
    use pb::stream_digest_response::Event;
    let Running { request_id, document, outcomes, arrived } = running;
    let structure = Event::Document(convert::document_message(&document));
    let totals = Arc::new(Mutex::new((Statistics::default(), None::<Status>)));
    let sections = {
        let (request_id, totals) = (request_id.clone(), totals.clone());
        outcomes.map(move |outcome| {
            let _held = &permit;
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.0.add(&outcome);
            let message = convert::outcome_message(outcome, &document, &request_id);
            let overdue = message.error.as_ref().filter(|e| e.code == Code::DeadlineExceeded as i32);
            totals.1 = totals.1.take().or(overdue.map(from_rpc_status));
            Ok(Event::Section(message))
        })
    };
    let end = stream::once(async move {
        let (statistics, overdue) = totals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match overdue {
            Some(status) => Err(status),
            None => {
                Ok(Event::Statistics(convert::statistics_message(&statistics, arrived.elapsed().as_millis())))
            }
        }
    });
    stream::once(async { Ok(structure) }).chain(sections).chain(end).map(move |event| {
        event.map(|event| pb::StreamDigestResponse { request_id: request_id.clone(), event: Some(event) })
    })
}

/// The status that a message stands for.
fn from_rpc_status(status: &tonic_types::pb::Status) -> Status {
    let details = prost::Message::encode_to_vec(status);
    Status::with_details(Code::from_i32(status.code), status.message.clone(), details.into())
}

/// One page of the list of models.
fn page(models: Vec<pb::Model>, request: &pb::ListModelsRequest) -> Result<pb::ListModelsResponse, Refusal> {
    let size = match usize::try_from(request.page_size) {
        Ok(0) => 50,
        Ok(size) => size.min(100),
        Err(_) => return Err(Refusal::field("page_size", "must not be negative")),
    };
    let first: usize = match request.page_token.as_str() {
        "" => 0,
        token => {
            token.parse().map_err(|_| Refusal::field("page_token", "is not one that this server gave"))?
        }
    };
    let rest = models.len().saturating_sub(first.saturating_add(size));
    Ok(pb::ListModelsResponse {
        models: models.into_iter().skip(first).take(size).collect(),
        next_page_token: if rest > 0 { (first + size).to_string() } else { String::new() },
        running: None,
    })
}
