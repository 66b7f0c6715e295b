//! Renders datelines and bylines by rule.
//!
//! Called by `translate`, so that the model never sees them: an English dateline makes it invent another one
//! (`December 6, 2022 (CNN)`), and it makes up the names of reporters.
//!
//! ```text
//! 新华社北京12月6日电（记者 吉宁 宋晨）12月3日，…   →   BEIJING, Dec. 6 (Xinhua) — By Ji Ning and Song Chen — | 12月3日，…
//! …共迎挑战。（新华社北京12月6日电）              →   …共迎挑战。 | (Xinhua, Beijing, Dec. 6)
//! ```
//!
//! A dateline with an unknown place or agency stays in the text for the model to translate.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::person;
use crate::{fidelity::numerals::Date, glossary::Glossary};

/// A paragraph split into dateline, body and closing dateline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    /// The English of the dateline and byline at the beginning; empty if there is none.
    pub(super) lead: String,
    /// The text left for the model.
    pub(super) body: &'a str,
    /// The English of the dateline at the end; empty if there is none.
    pub(super) tail: String,
}

/// Agencies and newspapers with the names of their English services. 本报 ("this newspaper") gets no name.
const AGENCIES: [(&str, &str); 8] = [
    ("新华社", "Xinhua"),
    ("新华网", "Xinhuanet"),
    ("中新社", "CNS"),
    ("中新网", "CNS"),
    ("人民网", "People’s Daily Online"),
    ("央视网", "CCTV"),
    ("中国网", "China.org.cn"),
    ("本报", ""),
];

fn dateline_pattern() -> String {
    let agencies: Vec<&str> = AGENCIES.iter().map(|(chinese, _)| *chinese).collect();
    format!(
        r"(?<agency>{})(?<place>\p{{Han}}{{2,8}}?)(?<month>\d{{1,2}})月(?<day>\d{{1,2}})日(?:专?电|讯)",
        agencies.join("|")
    )
}

/// A dateline at the beginning, possibly after a "continued from page …" mark and before the reporters in parentheses.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    let mark = r"(?:（上接[^（）]{1,12}）\s*)?";
    let reporters = r"(?:\s*（(?:本报|新华社)?(?:记者|通讯员|特派记者)\s*(?<names>[^（）]{2,40})）)?";
    pattern(&format!(r"^\s*{mark}{}{reporters}\s*", dateline_pattern()))
});

/// A dateline at the end, in parentheses.
static TAIL: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"\s*（{}）\s*$", dateline_pattern())));

/// A "continued from page …" or "continued on page …" mark, which belongs to the page and not to the text.
static CONTINUATION: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*（(?:上接|下转)[^（）]{1,12}）\s*|\s*（(?:上接|下转)[^（）]{1,12}）\s*$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are part of this build and are tested")
}

/// Splits the datelines and the byline off a paragraph, and drops continuation marks.
pub(super) fn frame(paragraph: &str) -> Framed<'_> {
    let mut framed = Framed { lead: String::new(), body: paragraph, tail: String::new() };
    if let Some(head) = HEAD.captures(framed.body)
        && let Some(lead) = lead(&head)
    {
        framed.body = &framed.body[head.get_match().end()..];
        framed.lead = lead;
    }
    if let Some(tail) = TAIL.captures(framed.body)
        && let Some((place, day, agency)) = dateline_parts(&tail)
    {
        framed.body = &framed.body[..tail.get_match().start()];
        framed.tail = match agency {
            "" => format!("({place}, {day})"),
            agency => format!("({agency}, {place}, {day})"),
        };
    }
    while let Some(mark) = CONTINUATION.find(framed.body) {
        framed.body =
            if mark.start() == 0 { &framed.body[mark.end()..] } else { &framed.body[..mark.start()] };
    }
    framed
}

/// Renders dateline and byline; `None` if any part of them is unknown.
fn lead(captures: &Captures<'_>) -> Option<String> {
    let (place, day, agency) = dateline_parts(captures)?;
    let agency = if agency.is_empty() { String::new() } else { format!(" ({agency})") };
    let mut lead = format!("{}, {day}{agency} —", place.to_uppercase());
    if let Some(names) = captures.name("names") {
        lead.push_str(&format!(" By {} —", person::names(names.as_str())?));
    }
    Some(lead)
}

/// Returns place, day and agency in English; `None` if one of them is unknown.
fn dateline_parts(captures: &Captures<'_>) -> Option<(&'static str, String, &'static str)> {
    let place = &Glossary::places().get(&captures["place"])?.target;
    let month = captures["month"].parse().ok().filter(|month| (1..=12).contains(month))?;
    let day = captures["day"].parse().ok().filter(|day| (1..=31).contains(day))?;
    let date = Date { month: Some(month), day: Some(day), ..Date::default() };
    let (_, agency) = AGENCIES.iter().find(|(chinese, _)| *chinese == &captures["agency"])?;
    Some((place, date.english(), agency))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed<'a>(lead: &str, body: &'a str, tail: &str) -> Framed<'a> {
        Framed { lead: lead.to_owned(), body, tail: tail.to_owned() }
    }

    #[test]
    fn renders_datelines_and_bylines_at_both_ends() {
        for (paragraph, expected) in [
            (
                "新华社北京12月6日电（记者 吉宁 宋晨）12月3日，火箭发射入轨。",
                framed(
                    "BEIJING, Dec. 6 (Xinhua) — By Ji Ning and Song Chen —",
                    "12月3日，火箭发射入轨。",
                    "",
                ),
            ),
            ("本报上海7月1日电  市场活跃。", framed("SHANGHAI, July 1 —", "市场活跃。", "")),
            (
                "共迎挑战。（新华社墨西哥城12月6日电）",
                framed("", "共迎挑战。", "(Xinhua, Mexico City, Dec. 6)"),
            ),
            ("（上接一版）创新地基打得更牢。", framed("", "创新地基打得更牢。", "")),
            ("创新地基打得更牢。（下转第三版）", framed("", "创新地基打得更牢。", "")),
        ] {
            assert_eq!(frame(paragraph), expected);
        }
    }

    #[test]
    fn leaves_unknown_datelines_in_the_text() {
        for paragraph in [
            "新华社不知名处12月6日电 消息。",
            "新华社北京13月6日电 消息。",
            "他说，新华社北京12月6日电的消息属实。",
            "正文。",
            "",
        ] {
            assert_eq!(frame(paragraph), framed("", paragraph, ""));
        }
    }
}
