//! Datelines and bylines are rendered by rule and never shown to the model: seeing an English dateline, it invents
//! another (`December 6, 2022 (CNN)`), and names of reporters it makes up.
//!
//! ```text
//! 新华社北京12月6日电（记者 吉宁 宋晨）12月3日，…   →   BEIJING, Dec. 6 (Xinhua) — By Ji Ning and Song Chen — | 12月3日，…
//! …共迎挑战。（新华社北京12月6日电）              →   …共迎挑战。 | (Xinhua, Beijing, Dec. 6)
//! ```
//!
//! A dateline whose place or agency is not known stays in the text: what is not certain is the model's to translate.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::person;
use crate::{fidelity::numerals::Date, glossary::Glossary};

/// A paragraph without its dateline and byline, and the English of these.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Framed<'a> {
    /// What the English begins with; empty without a dateline at the head.
    pub(super) lead: String,
    /// What is left to translate.
    pub(super) body: &'a str,
    /// What the English ends with; empty without a dateline at the tail.
    pub(super) tail: String,
}

/// Agencies and papers, with the name under which their English wire runs; 本报 is whatever paper the page is of.
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

fn dateline() -> String {
    let agencies: Vec<&str> = AGENCIES.iter().map(|(chinese, _)| *chinese).collect();
    format!(
        r"(?<agency>{})(?<place>\p{{Han}}{{2,8}}?)(?<month>\d{{1,2}})月(?<day>\d{{1,2}})日(?:专?电|讯)",
        agencies.join("|")
    )
}

/// At the head, after a mark that the article goes on here; the names of reporters may follow in brackets.
static HEAD: LazyLock<Regex> = LazyLock::new(|| {
    let mark = r"(?:（上接[^（）]{1,12}）\s*)?";
    let reporters = r"(?:\s*（(?:本报|新华社)?(?:记者|通讯员|特派记者)\s*(?<names>[^（）]{2,40})）)?";
    pattern(&format!(r"^\s*{mark}{}{reporters}\s*", dateline()))
});

/// At the tail, in brackets.
static TAIL: LazyLock<Regex> = LazyLock::new(|| pattern(&format!(r"\s*（{}）\s*$", dateline())));

/// A mark that the article goes on here or elsewhere: it belongs to the page and not to the text.
static MARK: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"^\s*（(?:上接|下转)[^（）]{1,12}）\s*|\s*（(?:上接|下转)[^（）]{1,12}）\s*$"));

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("the patterns are part of this build and are tested")
}

/// Takes the dateline, the byline and the continuation marks off a paragraph.
pub(super) fn frame(paragraph: &str) -> Framed<'_> {
    let mut framed = Framed { lead: String::new(), body: paragraph, tail: String::new() };
    if let Some(found) = HEAD.captures(framed.body)
        && let Some(lead) = lead(&found)
    {
        framed.body = &framed.body[found.get_match().end()..];
        framed.lead = lead;
    }
    if let Some(found) = TAIL.captures(framed.body)
        && let Some((place, day, agency)) = parts(&found)
    {
        framed.body = &framed.body[..found.get_match().start()];
        framed.tail = match agency {
            "" => format!("({place}, {day})"),
            agency => format!("({agency}, {place}, {day})"),
        };
    }
    while let Some(found) = MARK.find(framed.body) {
        framed.body =
            if found.start() == 0 { &framed.body[found.end()..] } else { &framed.body[..found.start()] };
    }
    framed
}

fn lead(found: &Captures<'_>) -> Option<String> {
    let (place, day, agency) = parts(found)?;
    let agency = if agency.is_empty() { String::new() } else { format!(" ({agency})") };
    let mut lead = format!("{}, {day}{agency} —", place.to_uppercase());
    if let Some(names) = found.name("names") {
        lead.push_str(&format!(" By {} —", person::names(names.as_str())?));
    }
    Some(lead)
}

/// Place, day and agency in English, if all are known.
fn parts(found: &Captures<'_>) -> Option<(&'static str, String, &'static str)> {
    let place = &Glossary::places().get(&found["place"])?.target;
    let month = found["month"].parse().ok().filter(|month| (1..=12).contains(month))?;
    let day = found["day"].parse().ok().filter(|day| (1..=31).contains(day))?;
    let date = Date { month: Some(month), day: Some(day), ..Date::default() };
    let (_, agency) = AGENCIES.iter().find(|(chinese, _)| *chinese == &found["agency"])?;
    Some((place, date.english(), agency))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed<'a>(lead: &str, body: &'a str, tail: &str) -> Framed<'a> {
        Framed { lead: lead.to_owned(), body, tail: tail.to_owned() }
    }

    #[test]
    fn datelines_and_bylines_at_both_ends_are_rendered_by_rule() {
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
    fn what_is_not_certain_stays_in_the_text() {
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
