//! The Markdown files of the repository: their code blocks, links, anchors and tables.
//!
//! Called by the tests in `docs.rs`. Reads files and decides nothing about them.

#![allow(unreachable_pub, reason = "a module of one test program")]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Folders that contain no documentation of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "node_modules", "generated", "data"];

/// A Markdown file, parsed.
pub struct Page {
    /// The path below the root of the repository.
    pub name: String,
    pub text: String,
    pub blocks: Vec<Block>,
    /// The targets of all links and images.
    pub links: Vec<String>,
    /// The anchors of all headings, as GitHub makes them.
    pub anchors: Vec<String>,
}

/// A fenced code block.
pub struct Block {
    /// What follows the fence, such as `toml config`.
    pub info: String,
    pub text: String,
}

impl Page {
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(ROOT).unwrap().display().to_string();
        let (mut blocks, mut links, mut anchors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut block, mut heading) = (None::<Block>, None::<String>);
        let mut slugs = HashMap::new();
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    block = Some(Block { info: info.to_string(), text: String::new() });
                }
                Event::End(TagEnd::CodeBlock) => blocks.extend(block.take()),
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => {
                    let slug = slug(&heading.take().unwrap());
                    let count = slugs.entry(slug.clone()).or_insert(0);
                    anchors.push(if *count == 0 { slug } else { format!("{slug}-{count}") });
                    *count += 1;
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    links.push(dest_url.to_string());
                }
                Event::Text(text) | Event::Code(text) => {
                    if let Some(block) = &mut block {
                        block.text += &text;
                    } else if let Some(heading) = &mut heading {
                        *heading += &text;
                    }
                }
                _ => {}
            }
        }
        Self { name, text, blocks, links, anchors }
    }

    /// The blocks whose info string is `info`.
    pub fn blocks<'a>(&'a self, info: &'a str) -> impl Iterator<Item = &'a Block> {
        self.blocks.iter().filter(move |block| block.info == info)
    }

    /// All commands in blocks of `sh`.
    pub fn commands(&self) -> Vec<String> {
        self.blocks("sh").flat_map(|block| commands(&block.text)).collect()
    }

    /// The rows of all tables below a heading, up to the next heading; each row as its cells.
    pub fn rows(&self, heading: &str) -> Vec<Vec<String>> {
        let (_, below) = self.text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| {
            panic!("{} has no heading `{heading}`", self.name);
        });
        let below = below.split("\n#").next().unwrap();
        let cells = |line: &str| {
            let line = line.trim().trim_matches('|').replace("\\|", "\u{1}");
            line.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
        };
        let lines: Vec<&str> = below.lines().collect();
        let is_body = |at: usize| {
            lines[at].starts_with('|')
                && !lines[at].starts_with("|---")
                && !lines.get(at + 1).is_some_and(|next| next.starts_with("|---"))
        };
        (0..lines.len()).filter(|at| is_body(*at)).map(|at| cells(lines[at])).collect()
    }
}

/// All Markdown files of the repository.
pub fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(Path::new(ROOT), &mut paths);
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// One Markdown file, by its path below the root of the repository.
pub fn page(name: &str) -> Page {
    Page::read(&Path::new(ROOT).join(name))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !SKIPPED.contains(&name.as_str()) {
            collect(&path, paths);
        } else if name.ends_with(".md") && !path.components().any(|part| part.as_os_str() == "tests") {
            paths.push(path);
        }
    }
}

/// The commands of a block: one per line, a backslash continues a line, and a here-document belongs to its command.
fn commands(block: &str) -> Vec<String> {
    let mut commands: Vec<String> = Vec::new();
    let mut lines = block.lines();
    while let Some(line) = lines.next() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut command = line.to_owned();
        while command.ends_with('\\') {
            command.pop();
            command += lines.next().unwrap_or_default().trim_start();
        }
        if command.ends_with("<<'EOF'") {
            for line in lines.by_ref() {
                command += "\n";
                command += line;
                if line == "EOF" {
                    break;
                }
            }
        }
        commands.push(command);
    }
    commands
}

/// The anchor that GitHub makes of a heading.
fn slug(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The width of a line in columns; a Chinese character takes two.
pub fn columns(line: &str) -> usize {
    let is_wide = |c: char| {
        matches!(u32::from(c), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x20000..=0x3fffd)
    };
    line.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}
