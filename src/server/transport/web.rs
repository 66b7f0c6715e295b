//! gRPC-Web, by choice: calls from scripts of pages in a browser, over HTTP/1.1 or HTTP/2.
//!
//! The outermost layer translates such a call into a gRPC call and its answer back, so that everything behind it treats
//! both alike. The browser tells the origin of the page: it asks for leave beforehand, which is answered here, and a call
//! of another page is refused by `gate`, so that nothing depends on the browser alone.

use std::{str::FromStr, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header::ORIGIN};
use tonic_web::GrpcWebLayer;
use tower::layer::util::Stack;
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::server::status::Refusal;

/// Stands for every page.
const ANY: &str = "*";
/// How long a browser may remember that a page may call.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// What a script may read of an answer that has no body.
const STATUS_HEADERS: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// The origin of a page, such as `https://news.example:8443`, or `*` for that of any page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// A text that is no origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write it as a browser does, https://HOST or https://HOST:PORT in small letters, or * for any page")]
pub struct OriginError;

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let uri = Uri::from_str(text).map_err(|_| OriginError)?;
        let written = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme @ ("http" | "https")), Some(authority)) => {
                format!("{scheme}://{authority}").to_lowercase()
            }
            _ => ANY.to_owned(),
        };
        // What is written otherwise, with a path or a slash at the end, would never be equal to what a browser sends.
        let value = HeaderValue::from_str(text).ok().filter(|_| written == text);
        value.map(Self).ok_or(OriginError)
    }
}

/// The pages that may call.
#[derive(Clone)]
pub(in crate::server) struct Web {
    /// `None` is any page.
    origins: Option<Vec<HeaderValue>>,
}

impl Web {
    /// `None` when no page may call.
    pub(in crate::server) fn new(origins: &[Origin]) -> Option<Self> {
        let is_any = origins.iter().any(|origin| origin.0 == ANY);
        let listed = || origins.iter().map(|origin| origin.0.clone()).collect();
        (!origins.is_empty()).then(|| Self { origins: (!is_any).then(listed) })
    }

    /// Refuses a call of a page that may not. A call that no page makes tells no origin.
    pub(in crate::server) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match (headers.get(ORIGIN), &self.origins) {
            (Some(origin), Some(listed)) if !listed.contains(origin) => {
                Err(Refusal::Origin(String::from_utf8_lossy(origin.as_bytes()).into_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Answers browsers that ask for leave, and translates.
    pub(in crate::server) fn layer(&self) -> Stack<GrpcWebLayer, CorsLayer> {
        let origins = match &self.origins {
            None => AllowOrigin::any(),
            Some(listed) => AllowOrigin::list(listed.iter().cloned()),
        };
        let cors = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(STATUS_HEADERS.map(HeaderName::from_static))
            .max_age(REMEMBERED);
        Stack::new(GrpcWebLayer::new(), cors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        for good in ["https://news.example", "http://127.0.0.1:8080", "http://[::1]:80", "*"] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "news.example",
            "https://news.example/",
            "https://News.example",
            "ftp://x",
            "https://x/a",
            "/",
        ] {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }
}
