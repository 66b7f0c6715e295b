//! A model hub for tests: one file of one repository, over HTTP on a port of this machine, with the faults that a test
//! asks for. Speaks what the real one does: the resolve address, a redirect to a storage host that carries the
//! published hash and size, Range. Every request is kept for the test to look at.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// What is served, and how.
#[derive(Clone, Default)]
pub(crate) struct Behaviour {
    /// Path of the file, such as `/owner/name/resolve/main/model.gguf`.
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// The hash that the redirect publishes.
    pub(crate) linked_etag: Option<String>,
    /// Closes the connection after this many bytes of a body, each time.
    pub(crate) break_after: Option<usize>,
    /// Keeps silent for this long before it closes the connection.
    pub(crate) stalls_for: Duration,
    /// Answers 200 with the whole file, whatever was asked.
    pub(crate) ignores_range: bool,
    /// The first answers are this status, so many times.
    pub(crate) refuses: Option<(u16, usize)>,
    /// Takes the request and says nothing, for this long.
    pub(crate) silent_for: Duration,
}

/// One request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) accept_encoding: Option<String>,
}

/// Serves until the test process ends.
pub(crate) struct HubServer {
    pub(crate) url: String,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl HubServer {
    pub(crate) fn start(behaviour: Behaviour) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        // Another port is another origin, as the real storage is.
        let storage = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            url: format!("http://{}", hub.local_addr().unwrap()),
            behaviour: Arc::new(Mutex::new(behaviour)),
            requests: Arc::default(),
        };
        let storage_url = format!("http://{}", storage.local_addr().unwrap());
        server.accept(hub, Some(storage_url));
        server.accept(storage, None);
        server
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut lock(&self.behaviour));
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// The `Range` of each request for the body, in order.
    pub(crate) fn ranges(&self) -> Vec<Option<String>> {
        let requests = self.requests();
        requests.into_iter().filter(|r| r.method == "GET" && r.path == "/storage").map(|r| r.range).collect()
    }

    fn accept(&self, listener: TcpListener, storage_url: Option<String>) {
        let (behaviour, requests) = (self.behaviour.clone(), self.requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (behaviour, requests) = (behaviour.clone(), requests.clone());
                let storage_url = storage_url.clone();
                thread::spawn(move || {
                    // A client that goes away is no fault of the server.
                    let _ = answer(stream, &behaviour, &requests, storage_url.as_deref());
                });
            }
        });
    }
}

fn answer(
    mut stream: TcpStream,
    behaviour: &Mutex<Behaviour>,
    requests: &Mutex<Vec<Request>>,
    storage_url: Option<&str>,
) -> std::io::Result<()> {
    let request = read_request(&stream)?;
    lock(requests).push(request.clone());
    let now = {
        let mut behaviour = lock(behaviour);
        let now = behaviour.clone();
        if let Some((_, times)) = &mut behaviour.refuses {
            *times = times.saturating_sub(1);
        }
        now
    };
    thread::sleep(now.silent_for);
    if let Some((status, 1..)) = now.refuses {
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
    let range = request.range.filter(|_| !now.ignores_range);
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
    // An etag as the storage has it, of the same form as a sha256 but not one.
    write!(stream, "ETag: \"{}\"\r\nContent-Length: {}\r\n", "e".repeat(64), body.len())?;
    write!(stream, "Connection: close\r\n\r\n")?;
    if request.method == "GET" {
        stream.write_all(&body[..now.break_after.unwrap_or(body.len()).min(body.len())])?;
        thread::sleep(now.stalls_for);
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
