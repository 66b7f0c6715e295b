//! Weights from the model hub over HTTP.
//!
//! Owns one file's address, its published facts and its bytes, with Range, time limits and retries. Called by `source`
//! and, for files that the hub's own programs have already cached, by `fetch`. Never writes to the hub's cache.
//!
//! The hf-hub crate gives the address, the token and the layout of the cache. Its download is not used: it has no time
//! limits, so it hangs where nobody answers; it appends a whole file to a part when the server ignores Range; and it
//! gives the file its final name without having looked at the hash. The body comes through ureq, which hf-hub is
//! built on.

use std::cell::Cell;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::str::FromStr as _;
use std::thread;

use hf_hub::api::sync::ApiBuilder;
use hf_hub::{Cache, Repo, RepoType};
use ureq::http::{HeaderMap, Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use super::{ExpectedFile, SourceDownload};
use crate::catalog::error::CatalogError;
use crate::catalog::manifest::HubSource;
use crate::catalog::settings::HubSettings;
use crate::catalog::store::Authority;
use crate::catalog::verify::{CHUNK_BYTES, ContentHash};

/// The hub answers with one redirect to its storage, and one more for a renamed repository.
const MAX_REDIRECTS: usize = 5;

/// The file in the hub's cache, by the name of its content there or by the revision last downloaded.
pub(in crate::catalog) fn cached(
    source: &HubSource,
    settings: &HubSettings,
    sha256: &ContentHash,
) -> Option<PathBuf> {
    let cache = Cache::new(settings.cache_dir.clone()?).repo(repo(source));
    let blob = cache.blob_path(&sha256.to_string());
    if blob.is_file() { Some(blob) } else { cache.get(&source.file) }
}

/// Size and hash of the file as the hub states them; without the hub, as its cache has them.
pub(in crate::catalog) fn published(
    source: &HubSource,
    settings: &HubSettings,
) -> Result<ExpectedFile, CatalogError> {
    let known = |size_bytes, sha256| ExpectedFile { size_bytes, sha256, authority: Authority::Hub };
    let asked = HubClient::new(source, settings).and_then(|client| {
        let facts = client.request(HubMethod::Head).map_err(HubFault::into_error)?.facts;
        match (facts.size_bytes, facts.sha256) {
            (Some(size_bytes), Some(sha256)) => Ok(known(size_bytes, sha256)),
            _ => Err(client.error(format!("publishes no sha256 of {}", source.file), None)),
        }
    });
    asked.or_else(|e| {
        // Large files lie in the cache under the sha256 that the hub published for them.
        let cache = settings.cache_dir.clone().map(|dir| Cache::new(dir).repo(repo(source)));
        let blob = cache.and_then(|cache| cache.get(&source.file)).and_then(|path| path.canonicalize().ok());
        let name = blob.as_ref().and_then(|blob| blob.file_name()?.to_str());
        let sha256 = name.and_then(|name| name.parse().ok());
        let size_bytes = blob.as_ref().and_then(|blob| Some(blob.metadata().ok()?.len()));
        sha256.zip(size_bytes).map(|(sha256, size_bytes)| known(size_bytes, sha256)).ok_or(e)
    })
}

/// Appends what is missing. The first contact fails fast; after it, faults are borne as long as bytes keep coming.
pub(super) fn fetch(source: &HubSource, download: &mut SourceDownload<'_>) -> Result<(), CatalogError> {
    let settings = &download.settings.hub;
    let client = HubClient::new(source, settings)?;
    let mut faults = 0;
    let mut most_bytes = download.partial.len();
    while download.partial.len() < download.expected.size_bytes {
        let Err(fault) = client.append(download) else { continue };
        if download.partial.len() > most_bytes {
            most_bytes = download.partial.len();
            faults = 0;
        }
        faults += 1;
        match fault {
            HubFault::Passing(e) if faults <= settings.max_retries => {
                let wait = settings.backoff.saturating_mul(2_u32.saturating_pow(faults - 1));
                download.progress.note(&format!("{e}; once more in {:.1} s", wait.as_secs_f64()));
                thread::sleep(wait);
            }
            fault => return Err(fault.into_error()),
        }
    }
    Ok(())
}

fn repo(source: &HubSource) -> Repo {
    Repo::with_revision(source.repo.clone(), RepoType::Model, source.revision.clone())
}

/// What went wrong, by whether it may go away.
enum HubFault {
    Passing(CatalogError),
    Lasting(CatalogError),
}

impl HubFault {
    fn into_error(self) -> CatalogError {
        match self {
            Self::Passing(e) | Self::Lasting(e) => e,
        }
    }
}

/// What the hub says about a file beside its bytes.
#[derive(Default)]
struct PublishedFacts {
    sha256: Option<ContentHash>,
    size_bytes: Option<u64>,
}

impl PublishedFacts {
    /// The hub's own words come with its redirect; the storage behind it may say less, or something else.
    fn learn(&mut self, status: StatusCode, headers: &HeaderMap, is_hub: bool) {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let etag = text("x-linked-etag").or(text("etag").filter(|_| is_hub));
        let hash = etag.and_then(|etag| etag.trim_matches('"').parse().ok());
        self.sha256 = self.sha256.or(hash);
        let size = match status {
            StatusCode::OK => text("x-linked-size").or(text("content-length")),
            StatusCode::PARTIAL_CONTENT => {
                text("content-range").and_then(|range| Some(range.rsplit_once('/')?.1))
            }
            _ => text("x-linked-size"),
        };
        self.size_bytes = self.size_bytes.or(size.and_then(|size| size.parse().ok()));
    }
}

/// An answer with a body, after all redirects.
struct HubResponse {
    facts: PublishedFacts,
    response: Response<Body>,
}

enum HubMethod {
    Head,
    /// From this byte to the end.
    GetFrom(u64),
}

/// Speaks to the hub about one file.
struct HubClient<'a> {
    source: &'a HubSource,
    settings: &'a HubSettings,
    agent: Agent,
    url: String,
    /// Whether any answer came yet.
    answered: Cell<bool>,
}

impl<'a> HubClient<'a> {
    fn new(source: &'a HubSource, settings: &'a HubSettings) -> Result<Self, CatalogError> {
        let cache = Cache::new(settings.cache_dir.clone().unwrap_or_default());
        let mut api = ApiBuilder::from_cache(cache).with_progress(false);
        if let Some(endpoint) = &settings.endpoint {
            api = api.with_endpoint(endpoint.clone());
        }
        let config = Agent::config_builder()
            .timeout_resolve(Some(settings.connect_timeout))
            .timeout_connect(Some(settings.connect_timeout))
            .timeout_per_read(Some(settings.read_timeout))
            .http_status_as_error(false)
            // Followed here: the hash stands in the redirect's own headers, and the token is for the hub alone.
            .max_redirects(0)
            .build();
        let mut client =
            Self { source, settings, agent: config.into(), url: String::new(), answered: Cell::new(false) };
        if settings.offline {
            return Err(client.error("not asked, for HF_HUB_OFFLINE is set", None));
        }
        let api = api.build().map_err(|e| client.error(e.to_string(), None))?;
        client.url = api.repo(repo(source)).url(&source.file);
        Ok(client)
    }

    fn error(&self, reason: impl Into<String>, source: Option<ureq::Error>) -> CatalogError {
        let repo = self.source.repo.clone();
        CatalogError::Hub { repo, reason: reason.into(), source: source.map(Box::new) }
    }

    /// One request from the present end of the partial file on; `Ok` when the body ended where it should.
    fn append(&self, download: &mut SourceDownload<'_>) -> Result<(), HubFault> {
        let at = download.partial.len();
        let expected = download.expected;
        let HubResponse { facts, mut response } = self.request(HubMethod::GetFrom(at))?;
        self.compare(&facts, expected)?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), at) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(HubFault::Lasting(
                    self.error("answers with another range than it was asked for", None),
                ));
            }
            // The server ignores Range. To skip keeps what is there, and costs no more than to begin anew.
            _ => at,
        };
        if skip > 0 {
            download.progress.note(&format!(
                "hub {}: sends the file from its beginning; {skip} bytes of it are there",
                self.source.repo
            ));
        }
        let broke_off = |e: Option<io::Error>, len: u64| {
            let why = e.map_or_else(|| "the connection ended".to_owned(), |e| e.to_string());
            let total = expected.size_bytes;
            HubFault::Passing(self.error(format!("broke off at byte {len} of {total}: {why}"), None))
        };
        let mut body = response.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let len = download.partial.len();
            let n = match body.read(&mut chunk) {
                Ok(0) if len == expected.size_bytes => return Ok(()),
                Ok(0) => return Err(broke_off(None, len)),
                Ok(n) => n,
                Err(e) => return Err(broke_off(Some(e), len)),
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(n);
            skip -= skipped as u64;
            let bytes = &chunk[skipped..n];
            if len + bytes.len() as u64 > expected.size_bytes {
                let reason = format!("sends more than the {} bytes expected", expected.size_bytes);
                return Err(HubFault::Lasting(self.error(reason, None)));
            }
            download.partial.append(bytes).map_err(HubFault::Lasting)?;
            download.progress.advanced(bytes.len() as u64);
        }
    }

    /// Refuses before the download what would be refused after it.
    fn compare(&self, facts: &PublishedFacts, expected: &ExpectedFile) -> Result<(), HubFault> {
        let advice = "the hub offers another file; nothing was downloaded from it";
        let file = || format!("hub {} {}", self.source.repo, self.source.file);
        if let Some(actual) = facts.sha256.filter(|&actual| actual != expected.sha256) {
            let expected = expected.sha256;
            return Err(HubFault::Lasting(CatalogError::HashMismatch {
                file: file(),
                expected,
                actual,
                advice,
            }));
        }
        let expected_bytes = expected.size_bytes;
        match facts.size_bytes.filter(|&actual_bytes| actual_bytes != expected_bytes) {
            None => Ok(()),
            Some(actual_bytes) => Err(HubFault::Lasting(CatalogError::SizeMismatch {
                file: file(),
                expected_bytes,
                actual_bytes,
                advice,
            })),
        }
    }

    /// Asks, follows redirects, and judges the status.
    fn request(&self, method: HubMethod) -> Result<HubResponse, HubFault> {
        let mut url = self.url.clone();
        let mut facts = PublishedFacts::default();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = match method {
                HubMethod::Head => self.agent.head(&url),
                HubMethod::GetFrom(0) => self.agent.get(&url),
                HubMethod::GetFrom(at) => self.agent.get(&url).header(header::RANGE, format!("bytes={at}-")),
            };
            // Bytes are counted and hashed as they are in the file.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.settings.token
                && same_origin(&url, &self.url)
            {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| self.no_answer(e))?;
            self.answered.set(true);
            facts.learn(response.status(), response.headers(), same_origin(&url, &self.url));
            if !response.status().is_redirection() {
                return self.judge(response.status()).map(|()| HubResponse { facts, response });
            }
            if matches!(method, HubMethod::Head) && facts.sha256.is_some() && facts.size_bytes.is_some() {
                return Ok(HubResponse { facts, response });
            }
            url = response
                .headers()
                .get(header::LOCATION)
                .and_then(|location| join(&url, location.to_str().ok()?))
                .ok_or_else(|| HubFault::Lasting(self.error(format!("redirects {url} nowhere"), None)))?;
        }
        Err(HubFault::Lasting(self.error(format!("too many redirects from {}", self.url), None)))
    }

    /// No answer at all: it may pass if there ever was one, and else the hub is not to be had from here.
    fn no_answer(&self, e: ureq::Error) -> HubFault {
        let reason = format!("cannot be reached at {} ({e})", origin(&self.url));
        let error = self.error(reason, Some(e));
        if self.answered.get() { HubFault::Passing(error) } else { HubFault::Lasting(error) }
    }

    fn judge(&self, status: StatusCode) -> Result<(), HubFault> {
        let url = &self.url;
        let lasting =
            |advice: &str| Err(HubFault::Lasting(self.error(format!("{status} for {url}{advice}"), None)));
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                lasting(" (no such repository, or one that takes a token: set HF_TOKEN)")
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(HubFault::Passing(self.error(format!("{status} for {url}"), None)))
            }
            status if status.is_server_error() => {
                Err(HubFault::Passing(self.error(format!("{status} for {url}"), None)))
            }
            _ => lasting(""),
        }
    }
}

/// Whether a partial answer begins at byte `at`: `bytes 5-9/10`.
fn begins_at(headers: &HeaderMap, at: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    begin.is_some_and(|(begin, _)| begin.parse() == Ok(at))
}

/// Scheme, host and port, for people and for [`same_origin`].
fn origin(url: &str) -> String {
    let uri = Uri::from_str(url).unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()))
}

fn same_origin(a: &str, b: &str) -> bool {
    origin(a) == origin(b)
}

/// The target of a redirect from `url`; never from https to anything else.
fn join(url: &str, location: &str) -> Option<String> {
    let to = if location.starts_with('/') && !location.starts_with("//") {
        origin(url) + location
    } else {
        location.to_owned()
    };
    let scheme = |url: &str| Uri::from_str(url).ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
    let (from_scheme, to_scheme) = (scheme(url)?, scheme(&to)?);
    (from_scheme != "https" || to_scheme == "https").then_some(to)
}
