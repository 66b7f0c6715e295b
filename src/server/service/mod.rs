//! The implementation of the API: takes a request apart, lets the pipeline work, puts the answer
//! together. No logic of its own.

mod forward;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures::{Stream, StreamExt, stream};
use prost::Message as _;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};
use tracing::Instrument as _;

use self::forward::{ResponseStream, forward};
use super::{
    Limits, ServerConfig, convert,
    gate::{CallContext, deadline, refused_by_transport},
    model::{ModelSlot, Readiness},
    status::{Refusal, from_rpc_status, to_rpc_status},
    work::{DigestRun, millis_since},
};
use crate::{
    document::Document,
    engine::Priority,
    pb::{self, digest_service_server::DigestService},
    pipeline::Pipeline,
};

/// The largest input that is parsed at once: a matter of microseconds, like the way to another thread.
const SMALL_INPUT_BYTES: usize = 2 << 10;

/// The service; cheap to clone.
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
            Readiness::Failed(_) => Err(Refusal::Broken),
        }
    }

    /// Parses; a large input on a thread where it may take its time.
    async fn parse(&self, input: Option<pb::Input>) -> Result<Document, Refusal> {
        let limits = self.inner.config.limits;
        if input.as_ref().is_none_or(|input| input.encoded_len() <= SMALL_INPUT_BYTES) {
            return convert::document(input, &limits);
        }
        let parsed = tokio::task::spawn_blocking(move || convert::document(input, &limits)).await;
        parsed.unwrap_or(Err(Refusal::Broken))
    }

    /// Validates a request and starts its work.
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
        let started = async {
            let pipeline = convert::chosen(&self.pipeline()?, options.as_ref())?;
            let document = self.parse(input).await?;
            let job =
                convert::job(document, options, &config.glossaries, &config.limits, priority, call.deadline)?;
            convert::check_tasks(job.tasks, &pipeline)?;
            let (cache, metrics) = (config.cache.clone(), config.metrics.clone());
            Ok(DigestRun::start(&pipeline, job, request_id.to_owned(), arrived, cache, metrics).await)
        };
        started.await.map_err(|refusal: Refusal| refusal.status(request_id))
    }
}

/// What the gate knows of a call.
fn call(extensions: &mut Extensions) -> CallContext {
    extensions.remove().expect("every call passes the gate")
}

/// The id of a request, which from then on stands in the log.
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
        let call = call(request.extensions_mut());
        let pb::DigestRequest { input, options, request_id: given } = request.into_inner();
        let request_id = request_id(&given, &call)?;
        let work = self.start(&call, &request_id, input, options, Priority::Interactive).await?;
        Ok(Response::new(work.whole().await?))
    }

    type StreamDigestStream = ResponseStream<pb::StreamDigestResponse>;

    async fn stream_digest(
        &self,
        mut request: Request<pb::StreamDigestRequest>,
    ) -> Result<Response<Self::StreamDigestStream>, Status> {
        let call = call(request.extensions_mut());
        let pb::StreamDigestRequest { input, options, request_id: given } = request.into_inner();
        let request_id = request_id(&given, &call)?;
        let work = self.start(&call, &request_id, input, options, Priority::Interactive).await?;
        let patience = self.inner.config.limits.stall_timeout;
        Ok(Response::new(forward(events(work), (call.permit, call.reservation), patience, request_id)))
    }

    type DigestManyStream = ResponseStream<pb::DigestManyResponse>;

    async fn digest_many(
        &self,
        mut request: Request<Streaming<pb::DigestManyRequest>>,
    ) -> Result<Response<Self::DigestManyStream>, Status> {
        let mut call = call(request.extensions_mut());
        let held = (call.permit.take(), call.reservation.clone());
        let id = call.id.to_string();
        let limits = self.inner.config.limits;
        let (items, end) = items(request.into_inner(), limits, &call);
        let service = self.clone();
        let seen = Arc::new(Mutex::new(HashSet::new()));
        let answers = items
            .map(move |item| {
                let (service, seen, call) = (service.clone(), seen.clone(), call.clone());
                let bytes = item.encoded_len();
                let answered = async move {
                    let answer = service.digest_item(item, &call, &seen).await;
                    call.reservation.release(bytes);
                    Ok(answer)
                };
                answered.in_current_span()
            })
            .buffer_unordered(limits.max_items_in_flight)
            .chain(end.map(Err));
        Ok(Response::new(forward(answers, held, limits.stall_timeout, id)))
    }

    async fn segment(
        &self,
        mut request: Request<pb::SegmentRequest>,
    ) -> Result<Response<pb::SegmentResponse>, Status> {
        let call = call(request.extensions_mut());
        let document =
            self.parse(request.into_inner().input).await.map_err(|refusal| refusal.status(&call.id))?;
        Ok(Response::new(pb::SegmentResponse { document: Some(convert::document_message(&document)) }))
    }

    async fn list_models(
        &self,
        mut request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let call = call(request.extensions_mut());
        let pipeline = match self.inner.slot.readiness() {
            Readiness::Ready(pipeline) => Some(pipeline),
            Readiness::Loading | Readiness::Draining | Readiness::Failed(_) => None,
        };
        let running = pipeline.as_ref().map(Pipeline::models).unwrap_or_default();
        let mut models = (self.inner.config.known_models)();
        for model in &mut models {
            model.running = running.iter().any(|running| running.id == model.id);
        }
        models.sort_by_key(|model| !model.running);
        let mut response = page(models, &request.into_inner()).map_err(|r| r.status(&call.id))?;
        response.running = pipeline.as_ref().map(convert::running_message);
        Ok(Response::new(response))
    }
}

impl ApiService {
    /// Digests one item of a batch; its failure is its own.
    async fn digest_item(
        &self,
        item: pb::DigestManyRequest,
        call: &CallContext,
        seen: &Mutex<HashSet<String>>,
    ) -> pb::DigestManyResponse {
        use pb::digest_many_response::Result as Outcome;
        let pb::DigestManyRequest { item_id, input, options, timeout_ms } = item;
        let work = async {
            let deadline =
                deadline::with_timeout(call.deadline, timeout_ms).map_err(|r| r.status(&item_id))?;
            let call = &CallContext { deadline, ..call.clone() };
            convert::check_id("item_id", &item_id).map_err(|r| r.status(&call.id))?;
            let is_new = seen.lock().unwrap_or_else(PoisonError::into_inner).insert(item_id.clone());
            if !is_new {
                return Err(Refusal::field("item_id", "was used before in this stream").status(&item_id));
            }
            self.start(call, &item_id, input, options, Priority::Batch).await?.whole().await
        };
        let result = match work.await {
            Ok(digest) => Outcome::Digest(digest),
            Err(status) => Outcome::Error(to_rpc_status(&status)),
        };
        pb::DigestManyResponse { item_id, result: Some(result) }
    }
}

/// The items of a batch as they arrive, and then why no more of them are taken, if the caller did not end the
/// stream itself: its deadline, a broken message, too many items. What was taken is answered first.
fn items(
    requests: Streaming<pb::DigestManyRequest>,
    limits: Limits,
    call: &CallContext,
) -> (impl Stream<Item = pb::DigestManyRequest> + Send + use<>, impl Stream<Item = Status> + Send + use<>) {
    let (id, deadline) = (call.id.clone(), call.deadline);
    let why = Arc::new(Mutex::new(None::<Status>));
    let overdue = async move {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
            None => std::future::pending().await,
        }
    };
    let stop = {
        let (id, why) = (id.clone(), why.clone());
        move |status: Status| {
            let refusal = refused_by_transport(&status, limits.message_bytes());
            let status = refusal.map_or(status, |refusal| refusal.status(&id));
            why.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(status);
        }
    };
    let too_many = Refusal::TooManyItems { limit: limits.max_items }.status(&id);
    let taken = requests.enumerate().map(move |(index, item)| match item {
        Ok(_) if index >= limits.max_items => Err(too_many.clone()),
        item => item,
    });
    let taken = taken.map(move |item| item.map_err(&stop).ok());
    let taken = taken.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready);
    let end = stream::once(async move {
        let why = why.lock().unwrap_or_else(PoisonError::into_inner).take();
        let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
        why.or_else(|| is_over.then(|| Refusal::Deadline.status(&id)))
    });
    (taken.take_until(overdue), end.filter_map(std::future::ready))
}

/// The messages of a streamed digest: the structure, the sections as they come, the sums. A deadline that
/// passed is said at the end, after all that was finished.
fn events(work: DigestRun) -> impl Stream<Item = Result<pb::StreamDigestResponse, Status>> + Send {
    use pb::stream_digest_response::Event;
    let DigestRun { request_id, document, sections, arrived } = work;
    let structure = Event::Document(convert::document_message(&document));
    let sums = Arc::new(Mutex::new((pb::DigestStatistics::default(), None::<Status>)));
    let sections = {
        let sums = sums.clone();
        sections.map(move |section| {
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            convert::add(&mut sums.0, &section);
            let overdue = section.error.as_ref().filter(|e| e.code == Code::DeadlineExceeded as i32);
            sums.1 = sums.1.take().or(overdue.map(from_rpc_status));
            Ok(Event::Section(section))
        })
    };
    let end = stream::once(async move {
        let (mut statistics, overdue) = sums.lock().unwrap_or_else(PoisonError::into_inner).clone();
        statistics.total_time_ms = millis_since(arrived);
        overdue.map_or(Ok(Event::Statistics(statistics)), Err)
    });
    stream::once(async { Ok(structure) }).chain(sections).chain(end).map(move |event| {
        event.map(|event| pb::StreamDigestResponse { request_id: request_id.clone(), event: Some(event) })
    })
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
