//! A Rust client: sends a page to `yizhai serve` and prints each section as soon as it is finished.
//!
//!     cargo run --example digest -- http://127.0.0.1:50051 PAGE.txt
#![allow(clippy::print_stdout, clippy::print_stderr)]

use futures::StreamExt as _;
use yizhai::{
    client::Client,
    pb::{self, input::Source, stream_digest_response::Event},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(server), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: digest SERVER PAGE".into());
    };
    let client = Client::connect(&server).await?;
    let request = pb::StreamDigestRequest {
        input: Some(pb::Input { source: Some(Source::PageBytes(std::fs::read(path)?)), page_format: 0 }),
        ..pb::StreamDigestRequest::default()
    };
    let mut events = client.stream_digest(request, None).await?;
    let mut document = pb::Document::default();
    while let Some(event) = events.next().await {
        match event?.event {
            Some(Event::Document(structure)) => document = structure,
            Some(Event::Section(section)) => print(&document, &section),
            Some(Event::Statistics(totals)) => {
                eprintln!("{} sections in {} ms", totals.sections, totals.total_time_ms)
            }
            None => {}
        }
    }
    Ok(())
}

fn print(document: &pb::Document, section: &pb::SectionDigest) {
    let article = usize::try_from(section.article_index).ok().and_then(|index| document.articles.get(index));
    let headline =
        article.and_then(|article| article.headline.as_ref()).map_or("", |headline| &headline.text);
    println!("# {headline}");
    if let Some(error) = &section.error {
        println!("failed: {}\n", error.message);
        return;
    }
    if let Some(summary) = &section.summary {
        println!("摘要 {}", summary.text);
    }
    if let Some(translation) = &section.translation {
        println!("{}", translation.heading);
        translation.paragraphs.iter().for_each(|paragraph| println!("{}", paragraph.text));
    }
    println!();
}
