//! Makes an input out of others.
//!
//! Without mutation of inputs that mean something, nearly every input would be refused at its first byte.

use fastrand::Rng;

/// The longest input. Bytes.
const LONGEST: usize = 64 * 1024;

/// What parsers stumble over, whatever they parse.
const ODD: &[&[u8]] = &[
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"%",
    b"%00",
    b"%2F",
    b"/",
    b"..",
    b"-",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"1e999",
    b"null",
    b"[[[[[[[[",
    b"{}",
    b"&amp;",
    b"&#x110000;",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3\xa4",
    b"\xe2\x80\xa8",
    b"\xf0\x9f\x98\x80",
    b"\x1b[2J",
];

/// An input made of one of `pool`, with a few changes; `words` are what inputs of this kind are made of.
pub(crate) fn mutated(rng: &mut Rng, pool: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut input = rng.choice(pool).cloned().unwrap_or_default();
    for _ in 0..=rng.usize(..6) {
        change(rng, &mut input, pool, words);
    }
    input.truncate(LONGEST);
    input
}

fn change(rng: &mut Rng, input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str]) {
    let at = rng.usize(..=input.len());
    let until = (at + length(rng)).min(input.len());
    match rng.u8(..9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        2 => drop(input.drain(at..until)),
        3 => put(input, at..at, rng.choice(ODD).copied().unwrap_or_default()),
        4 => put(
            input,
            at..until,
            rng.choice(ODD).copied().unwrap_or_default(),
        ),
        5 => put(
            input,
            at..at,
            rng.choice(words).copied().unwrap_or_default().as_bytes(),
        ),
        6 => put(
            input,
            at..until,
            rng.choice(words).copied().unwrap_or_default().as_bytes(),
        ),
        7 => {
            let piece = input[at..until].repeat(1 + length(rng));
            put(input, at..at, &piece);
        }
        _ => {
            let other = rng.choice(pool).map(Vec::as_slice).unwrap_or_default();
            let from = rng.usize(..=other.len());
            let piece = &other[from..(from + length(rng) * 4).min(other.len())];
            put(input, at..until, piece);
        }
    }
}

/// Short mostly, and long at times.
fn length(rng: &mut Rng) -> usize {
    let most = 1usize << rng.u32(..9);
    rng.usize(..=most)
}

fn put(input: &mut Vec<u8>, range: std::ops::Range<usize>, piece: &[u8]) {
    let room = LONGEST.saturating_sub(input.len());
    input.splice(range, piece[..piece.len().min(room)].iter().copied());
}

/// The shortest input found, by leaving parts out and by plainer bytes, that still fails.
pub(crate) fn minimised(input: &[u8], fails: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut attempts = 3000;
    let mut size = best.len().div_ceil(2);
    while size > 0 && attempts > 0 {
        let mut at = 0;
        while at < best.len() && attempts > 0 {
            attempts -= 1;
            let mut shorter = best.clone();
            drop(shorter.drain(at..(at + size).min(best.len())));
            if fails(&shorter) {
                best = shorter;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_made_as_short_as_its_failure_allows() {
        let input = b"<Error><Code>x</Code>!<Message>y</Message></Error>";
        assert_eq!(minimised(input, |it| it.contains(&b'!')), b"!");
    }

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let pool = [b"one".to_vec(), b"two and more".to_vec()];
        let inputs = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..100)
                .map(|_| mutated(&mut rng, &pool, &["word"]))
                .collect::<Vec<_>>()
        };
        assert_eq!(inputs(7), inputs(7));
        assert_ne!(inputs(7), inputs(8));
    }
}
