//! A model hub on the loopback interface for the tests of the catalog: it serves one file of one repository and injects the
//! faults that a test configures.
//!
//! Like the real hub it has a resolve URL, redirects to a storage host with the published hash and size in headers, and
//! honors Range. It records every request.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The file and the faults.
#[derive(Clone, Default)]
pub(crate) struct HubBehavior {
    /// The URL path of the file, such as `/owner/name/resolve/main/model.gguf`.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// The hash in the headers of the redirect.
    pub(crate) linked_etag: Option<String>,
    /// Closes every connection after this many bytes of the body.
    pub(crate) close_after_bytes: Option<usize>,
    /// Waits this long before closing the connection.
    pub(crate) stall_before_close: Duration,
    /// Ignores Range: answers 200 with the whole file.
    pub(crate) ignore_range: bool,
    /// Status of the first responses, and their number.
    pub(crate) error_responses: Option<(u16, usize)>,
    /// Waits this long before answering.
    pub(crate) response_delay: Duration,
}

/// A request that was received.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) accept_encoding: Option<String>,
}

/// A running hub, which serves until the test process ends.
pub(crate) struct HubServer {
    pub(crate) url: String,
    behavior: Arc<Mutex<HubBehavior>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HubServer {
    pub(crate) fn start(behavior: HubBehavior) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another port is another origin, like the real storage host.
        let storage = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", hub.local_addr().unwrap()),
            behavior: Arc::new(Mutex::new(behavior)),
            requests: Arc::default(),
        };
        let storage_url = format!("http://{}", storage.local_addr().unwrap());
        server.accept(hub, Some(storage_url));
        server.accept(storage, None);
        server
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut HubBehavior)) {
        change(&mut lock(&self.behavior));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// Returns the `Range` header of each request for the body, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.requests();
        requests.into_iter().filter(|r| r.method == "GET" && r.path == "/storage").map(|r| r.range).collect()
    }

    fn accept(&self, listener: TcpListener, storage_url: Option<String>) {
        let (behavior, requests) = (self.behavior.clone(), self.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behavior, requests) = (behavior.clone(), requests.clone());
                let storage_url = storage_url.clone();
                thread::spawn(move || {
                    // The client may disconnect early.
                    let _ = answer(stream, &behavior, &requests, storage_url.as_deref());
                });
            }
        });
    }
}

fn answer(
    mut stream: TcpStream,
    behavior: &Mutex<HubBehavior>,
    requests: &Mutex<Vec<Request>>,
    storage_url: Option<&str>,
) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    lock(requests).push(request.clone());
    let now = {
        let mut behavior = lock(behavior);
        let now = behavior.clone();
        if let Some((_, times)) = &mut behavior.error_responses {
            *times = times.saturating_sub(1);
        }
        now
    };
    thread::sleep(now.response_delay);
    if let Some((status, 1..)) = now.error_responses {
        return write!(stream, "HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let total = now.content.len();
    if let Some(storage_url) = storage_url {
        if request.path != now.path {
            return write!(stream, "HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        write!(stream, "HTTP/1.1 302 Found\r\nLocation: {storage_url}/storage\r\n")?;
        if let Some(etag) = &now.linked_etag {
            write!(stream, "X-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {total}\r\n")?;
        }
        return write!(stream, "X-Repo-Commit: 0123abcd\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    }
    let range = request.range.filter(|_| !now.ignore_range);
    let begin = range.as_ref().map(|r| r.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    match begin {
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
        Some(begin) if begin >= total => {
            return write!(stream, "HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
        Some(begin) => {
            let last = total - 1;
            write!(stream, "HTTP/1.1 206 Partial\r\nContent-Range: bytes {begin}-{last}/{total}\r\n")?;
        }
    }
    let body = &now.content[begin.unwrap_or(0)..];
    // Like the real storage, an ETag that looks like a SHA-256 but is not.
    write!(stream, "ETag: \"{}\"\r\nContent-Length: {}\r\n", "e".repeat(64), body.len())?;
    write!(stream, "Connection: close\r\n\r\n")?;
    if request.method == "GET" {
        stream.write_all(&body[..now.close_after_bytes.unwrap_or(body.len()).min(body.len())])?;
        thread::sleep(now.stall_before_close);
    }
    Ok(())
}

fn read_request(stream: &TcpStream) -> std::io::Result<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        range: None,
        authorization: None,
        accept_encoding: None,
    };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match name.to_lowercase().as_str() {
            "range" => request.range = Some(value.to_owned()),
            "accept-encoding" => request.accept_encoding = Some(value.to_owned()),
            "authorization" => request.authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    Ok(request)
}
