//! The consonants of Chinese and Latin names, and the distance between them.
//!
//! Transcriptions roughly preserve the consonants of a name. Used by `phonetics` and `renderings`.

/// The maximum distance between a name and its transcription, for each consonant after the first.
const MAX_DISTANCE_PER_CONSONANT: f32 = 0.3;

/// The consonants that transcriptions distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consonant {
    P,
    T,
    K,
    F,
    H,
    S,
    M,
    N,
    L,
    /// The y of 约翰 and the j of John.
    Y,
}

/// Returns `true` if two lower-case words can be renderings of one name.
pub(super) fn are_alike(a: &str, b: &str) -> bool {
    let (a, b) = (latin_consonants(&plain_letters(a)), latin_consonants(&plain_letters(b)));
    let longer = if a.len() >= b.len() { &a } else { &b };
    distance(&a, &b, MatchExtent::All) <= max_distance(longer)
}

/// Returns the maximum distance of a transcription from its name.
pub(super) fn max_distance(name: &[Consonant]) -> f32 {
    MAX_DISTANCE_PER_CONSONANT * name.len().saturating_sub(1) as f32 + f32::EPSILON
}

pub(super) fn chinese_consonants(reading: &str) -> Vec<Consonant> {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let mut sounds = Vec::new();
    match reading.as_bytes().first() {
        Some(b'b' | b'p') => sounds.push(P),
        Some(b'd' | b't') => sounds.push(T),
        Some(b'g' | b'k') => sounds.push(K),
        Some(b'h') => sounds.push(H),
        Some(b'f' | b'w') => sounds.push(F),
        Some(b'm') => sounds.push(M),
        Some(b'n') => sounds.push(N),
        Some(b'l' | b'r') => sounds.push(L),
        Some(b'j' | b'q' | b'x' | b'z' | b'c' | b's') => sounds.push(S),
        Some(b'y') => sounds.push(Y),
        _ => {}
    }
    if reading == "er" {
        sounds.push(L);
    } else if reading.len() > 1 && (reading.ends_with('n') || reading.ends_with("ng")) {
        sounds.push(N);
    }
    sounds
}

pub(super) fn latin_consonants(word: &str) -> Vec<Consonant> {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let bytes = word.as_bytes();
    let mut sounds: Vec<Consonant> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        let (sound, length) = match (bytes[at], next) {
            (b'p', Some(b'h')) => (Some(F), 2),
            (b'c', Some(b'k')) | (b'k' | b'g', Some(b'h')) => (Some(K), 2),
            (b'c' | b's', Some(b'h'))
            | (b't', Some(b's' | b'z'))
            | (b'c', Some(b'e' | b'i' | b'y' | b'z')) => (Some(S), 2),
            (b's', Some(b'c')) if bytes.get(at + 2) == Some(&b'h') => (Some(S), 3),
            (b'd', Some(b't')) => (Some(T), 2),
            (b'd', Some(b'g' | b'j')) => (Some(S), 2),
            (b't', Some(b'h')) => (Some(T), 2),
            (b'w', Some(b'r' | b'h')) => (Some(if next == Some(b'r') { L } else { F }), 2),
            (b'k', Some(b'n')) => (Some(N), 2),
            // Silent after a vowel: Heathrow, Sarah.
            (b'w' | b'h', after) if at > 0 && is_vowel(bytes[at - 1]) && !after.is_some_and(is_vowel) => {
                (None, 1)
            }
            (b'b' | b'p', _) => (Some(P), 1),
            (b'd' | b't', _) => (Some(T), 1),
            (b'g' | b'k' | b'q' | b'c' | b'x', _) => (Some(K), 1),
            (b'f' | b'v' | b'w', _) => (Some(F), 1),
            (b'h', _) => (Some(H), 1),
            (b's' | b'z', _) => (Some(S), 1),
            (b'j', _) => (Some(Y), 1),
            (b'm', _) => (Some(M), 1),
            (b'n', _) => (Some(N), 1),
            (b'l' | b'r', _) => (Some(L), 1),
            _ => (None, 1),
        };
        if let Some(sound) = sound {
            // A double letter is one consonant.
            let doubled = at > 0 && bytes[at - 1] == bytes[at] && sounds.last() == Some(&sound);
            if !doubled {
                sounds.push(sound);
            }
            if bytes[at] == b'x' {
                sounds.push(S);
            }
        }
        at += length;
    }
    sounds
}

fn is_vowel(letter: u8) -> bool {
    matches!(letter, b'a' | b'e' | b'i' | b'o' | b'u' | b'y')
}

/// Removes accents and everything that is not a letter from a lower-case word.
pub(super) fn plain_letters(word: &str) -> String {
    word.chars().filter_map(unaccented).collect()
}

/// Returns a Latin letter without its accent, or `None` for any other character.
fn unaccented(c: char) -> Option<char> {
    Some(match c {
        'a'..='z' => c,
        'à'..='å' | 'ā' | 'ă' => 'a',
        'ç' | 'č' | 'ć' => 'c',
        'è'..='ë' | 'ē' | 'ė' => 'e',
        'ì'..='ï' | 'ī' | 'ı' => 'i',
        'ñ' => 'n',
        'ò'..='ö' | 'ø' | 'ō' => 'o',
        'ù'..='ü' | 'ū' => 'u',
        'š' | 'ş' => 's',
        'ž' => 'z',
        'ğ' => 'g',
        _ => return None,
    })
}

/// The part of a transcription that a name has to match.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MatchExtent {
    AnyPart,
    All,
}

/// Returns the edit distance between a name and a transcription, or the closest part of it.
pub(super) fn distance(name: &[Consonant], run: &[Consonant], extent: MatchExtent) -> f32 {
    use Consonant::{F, H, K, L, M, N, P, S, T, Y};
    let swap = |a: Consonant, b: Consonant| match (a, b) {
        (a, b) if a == b => 0.0,
        (M, N) | (N, M) => 0.3,
        (S, K) | (K, S) | (H, K) | (K, H) | (S, T) | (T, S) | (H, S) | (S, H) => 0.4,
        (F, H) | (H, F) | (F, P) | (P, F) => 0.4,
        (N, L) | (L, N) => 0.7,
        (Y, S) | (S, Y) => 0.1,
        (Y, H) | (H, Y) => 0.3,
        _ => 1.0,
    };
    // The costs of a consonant without a character, and of a character without a consonant in the name.
    let drop = |a: Consonant| match a {
        L | H => 0.35,
        Y => 0.5,
        N | T | F | K => 0.6,
        _ => 1.0,
    };
    let fill = |b: Consonant| match b {
        Y => 0.1,
        L | H | N => 0.35,
        F | S | T | K => 0.5,
        _ => 0.9,
    };
    // row[j] is the minimum cost of the name so far against a part of the run that ends before j.
    let mut row = vec![0.0_f32; run.len() + 1];
    if extent == MatchExtent::All {
        for (j, other) in run.iter().enumerate() {
            row[j + 1] = row[j] + fill(*other);
        }
    }
    for sound in name {
        let mut diagonal = row[0];
        row[0] += drop(*sound);
        for (j, other) in run.iter().enumerate() {
            let best =
                (diagonal + swap(*sound, *other)).min(row[j + 1] + drop(*sound)).min(row[j] + fill(*other));
            diagonal = row[j + 1];
            row[j + 1] = best;
        }
    }
    match extent {
        MatchExtent::All => row.last().copied().unwrap_or_default(),
        MatchExtent::AnyPart => row.into_iter().fold(f32::INFINITY, f32::min),
    }
}
