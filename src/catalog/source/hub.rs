//! The model hub as a source: downloads over HTTP with range requests, timeouts and retries.
//!
//! Called by `source`, and by `fetch` for published hashes and for files in the cache of the hub, which is only read.
//!
//! The hf-hub crate provides URLs, the token and the layout of the cache. Its download is not used: it has no timeouts,
//! appends the whole file to a partial one if the server ignores Range, and installs files without checking their hash.
//! Downloads use ureq, on which hf-hub is built.

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

/// The hub redirects once to its storage, and once more if the repository was renamed.
const MAX_REDIRECTS: usize = 5;

/// Returns the file from the cache of the hub: by its hash, or else by the revision last downloaded.
pub(in crate::catalog) fn cached(
    source: &HubSource,
    settings: &HubSettings,
    sha256: &ContentHash,
) -> Option<PathBuf> {
    let cache = Cache::new(settings.cache_dir.clone()?).repo(repo(source));
    let blob = cache.blob_path(&sha256.to_string());
    if blob.is_file() { Some(blob) } else { cache.get(&source.file) }
}

/// Returns the size and hash published by the hub, or else those of the file in its cache.
pub(in crate::catalog) fn published(
    source: &HubSource,
    settings: &HubSettings,
) -> Result<ExpectedFile, CatalogError> {
    let expected = |size_bytes, sha256| ExpectedFile { size_bytes, sha256, authority: Authority::Hub };
    let published = HubClient::new(source, settings).and_then(|client| {
        let facts = client.request(HubMethod::Head).map_err(HubFault::into_error)?.facts;
        match (facts.size_bytes, facts.sha256) {
            (Some(size_bytes), Some(sha256)) => Ok(expected(size_bytes, sha256)),
            _ => Err(client.error(format!("publishes no SHA-256 of {}", source.file), None)),
        }
    });
    published.or_else(|e| {
        // The cache names large files after the SHA-256 that the hub published.
        let cache = settings.cache_dir.clone().map(|dir| Cache::new(dir).repo(repo(source)));
        let blob = cache.and_then(|cache| cache.get(&source.file)).and_then(|path| path.canonicalize().ok());
        let name = blob.as_ref().and_then(|blob| blob.file_name()?.to_str());
        let sha256 = name.and_then(|name| name.parse().ok());
        let size_bytes = blob.as_ref().and_then(|blob| Some(blob.metadata().ok()?.len()));
        sha256.zip(size_bytes).map(|(sha256, size_bytes)| expected(size_bytes, sha256)).ok_or(e)
    })
}

/// Downloads the missing part of the file.
///
/// Fails at once if the hub is unreachable. After the first response, retries as long as the download makes progress.
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
            HubFault::Transient(e) if faults <= settings.max_retries => {
                let wait = settings.backoff.saturating_mul(2_u32.saturating_pow(faults - 1));
                download.progress.note(&format!("{e}; retrying in {:.1} s", wait.as_secs_f64()));
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

/// The failure of a request.
enum HubFault {
    /// A retry may succeed.
    Transient(CatalogError),
    Permanent(CatalogError),
}

impl HubFault {
    fn into_error(self) -> CatalogError {
        match self {
            Self::Transient(e) | Self::Permanent(e) => e,
        }
    }
}

/// The hash and size of a file, from the headers of the hub.
#[derive(Default)]
struct PublishedFacts {
    sha256: Option<ContentHash>,
    size_bytes: Option<u64>,
}

impl PublishedFacts {
    /// Adds what the headers of a response tell. The headers of the hub take precedence over those of its storage.
    fn add_headers(&mut self, status: StatusCode, headers: &HeaderMap, is_hub: bool) {
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

/// The response after all redirects.
struct HubResponse {
    facts: PublishedFacts,
    response: Response<Body>,
}

enum HubMethod {
    Head,
    /// A GET request for everything from this byte.
    GetFrom(u64),
}

/// A client of the hub for one file.
struct HubClient<'a> {
    source: &'a HubSource,
    settings: &'a HubSettings,
    agent: Agent,
    url: String,
    /// The hub has responded at least once.
    has_responded: Cell<bool>,
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
            // `request` follows redirects: their headers contain the hash, and the token must go to the hub only.
            .max_redirects(0)
            .build();
        let mut client = Self {
            source,
            settings,
            agent: config.into(),
            url: String::new(),
            has_responded: Cell::new(false),
        };
        if settings.offline {
            return Err(client.error("not used, because HF_HUB_OFFLINE is set", None));
        }
        let api = api.build().map_err(|e| client.error(e.to_string(), None))?;
        client.url = api.repo(repo(source)).url(&source.file);
        Ok(client)
    }

    fn error(&self, reason: impl Into<String>, source: Option<ureq::Error>) -> CatalogError {
        let repo = self.source.repo.clone();
        CatalogError::Hub { repo, reason: reason.into(), source: source.map(Box::new) }
    }

    /// Requests the rest of the file and appends it to the partial file.
    fn append(&self, download: &mut SourceDownload<'_>) -> Result<(), HubFault> {
        let at = download.partial.len();
        let expected = download.expected;
        let HubResponse { facts, mut response } = self.request(HubMethod::GetFrom(at))?;
        self.compare(&facts, expected)?;
        let mut skip = match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(response.headers(), at) => 0,
            StatusCode::PARTIAL_CONTENT => {
                return Err(HubFault::Permanent(self.error("returned another range than requested", None)));
            }
            // The server ignores Range and sends the whole file. Skip what is already present.
            _ => at,
        };
        if skip > 0 {
            download.progress.note(&format!(
                "hub {}: sends the whole file; skipping the {skip} bytes that are present",
                self.source.repo
            ));
        }
        let interrupted = |e: Option<io::Error>, len: u64| {
            let why = e.map_or_else(|| "the connection was closed".to_owned(), |e| e.to_string());
            let total = expected.size_bytes;
            HubFault::Transient(self.error(format!("interrupted at byte {len} of {total}: {why}"), None))
        };
        let mut body = response.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let len = download.partial.len();
            let n = match body.read(&mut chunk) {
                Ok(0) if len == expected.size_bytes => return Ok(()),
                Ok(0) => return Err(interrupted(None, len)),
                Ok(n) => n,
                Err(e) => return Err(interrupted(Some(e), len)),
            };
            let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(n);
            skip -= skipped as u64;
            let bytes = &chunk[skipped..n];
            if len + bytes.len() as u64 > expected.size_bytes {
                let reason = format!("sent more than the expected {} bytes", expected.size_bytes);
                return Err(HubFault::Permanent(self.error(reason, None)));
            }
            download.partial.append(bytes).map_err(HubFault::Permanent)?;
            download.progress.advanced(bytes.len() as u64);
        }
    }

    /// Compares the published hash and size with the expected ones before the download.
    fn compare(&self, facts: &PublishedFacts, expected: &ExpectedFile) -> Result<(), HubFault> {
        let advice = "the hub has a different file; nothing was downloaded";
        let file = || format!("hub {} {}", self.source.repo, self.source.file);
        if let Some(actual) = facts.sha256.filter(|&actual| actual != expected.sha256) {
            let expected = expected.sha256;
            return Err(HubFault::Permanent(CatalogError::HashMismatch {
                file: file(),
                expected,
                actual,
                advice,
            }));
        }
        let expected_bytes = expected.size_bytes;
        match facts.size_bytes.filter(|&actual_bytes| actual_bytes != expected_bytes) {
            None => Ok(()),
            Some(actual_bytes) => Err(HubFault::Permanent(CatalogError::SizeMismatch {
                file: file(),
                expected_bytes,
                actual_bytes,
                advice,
            })),
        }
    }

    /// Sends a request and follows redirects.
    fn request(&self, method: HubMethod) -> Result<HubResponse, HubFault> {
        let mut url = self.url.clone();
        let mut facts = PublishedFacts::default();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = match method {
                HubMethod::Head => self.agent.head(&url),
                HubMethod::GetFrom(0) => self.agent.get(&url),
                HubMethod::GetFrom(at) => self.agent.get(&url).header(header::RANGE, format!("bytes={at}-")),
            };
            // A compressed body could not be counted or resumed.
            request = request.header(header::ACCEPT_ENCODING, "identity");
            if let Some(token) = &self.settings.token
                && same_origin(&url, &self.url)
            {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let response = request.call().map_err(|e| self.no_response(e))?;
            self.has_responded.set(true);
            facts.add_headers(response.status(), response.headers(), same_origin(&url, &self.url));
            if !response.status().is_redirection() {
                return self.check_status(response.status()).map(|()| HubResponse { facts, response });
            }
            if matches!(method, HubMethod::Head) && facts.sha256.is_some() && facts.size_bytes.is_some() {
                return Ok(HubResponse { facts, response });
            }
            url = response
                .headers()
                .get(header::LOCATION)
                .and_then(|location| join(&url, location.to_str().ok()?))
                .ok_or_else(|| {
                    HubFault::Permanent(self.error(format!("redirects {url} to an invalid location"), None))
                })?;
        }
        Err(HubFault::Permanent(self.error(format!("too many redirects from {}", self.url), None)))
    }

    /// Classifies a request without a response. If the hub has never responded, it counts as unreachable.
    fn no_response(&self, e: ureq::Error) -> HubFault {
        let reason = format!("is unreachable at {} ({e})", origin(&self.url));
        let error = self.error(reason, Some(e));
        if self.has_responded.get() { HubFault::Transient(error) } else { HubFault::Permanent(error) }
    }

    fn check_status(&self, status: StatusCode) -> Result<(), HubFault> {
        let url = &self.url;
        let permanent =
            |advice: &str| Err(HubFault::Permanent(self.error(format!("{status} for {url}{advice}"), None)));
        match status {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => Ok(()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                permanent(" (the repository does not exist, or requires a token in HF_TOKEN)")
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Err(HubFault::Transient(self.error(format!("{status} for {url}"), None)))
            }
            status if status.is_server_error() => {
                Err(HubFault::Transient(self.error(format!("{status} for {url}"), None)))
            }
            _ => permanent(""),
        }
    }
}

/// Returns `true` if a partial response begins at byte `at`, such as `bytes 5-9/10` for 5.
fn begins_at(headers: &HeaderMap, at: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")?.split_once('-'));
    begin.is_some_and(|(begin, _)| begin.parse() == Ok(at))
}

/// Returns the scheme, host and port of a URL.
fn origin(url: &str) -> String {
    let uri = Uri::from_str(url).unwrap_or_default();
    format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str()))
}

fn same_origin(a: &str, b: &str) -> bool {
    origin(a) == origin(b)
}

/// Returns the target of a redirect from `url`, unless it leads from https to another scheme.
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
