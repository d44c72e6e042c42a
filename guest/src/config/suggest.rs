//! The name that a person probably meant.
//!
//! Without it, a typing error in an argument is answered by a list of sixty names to search.

/// Most letters that may be wrong in a name for the suggestion to be worth making; Terraform's
/// number.
const NEAR: usize = 2;

/// The candidate nearest to `name`, if one is near. Of several equally near ones, the first.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= NEAR)
        .map(|candidate| (distance(name.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= NEAR)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance: insertions, deletions and replacements that turn one text into the other.
fn distance(from: &[u8], to: &[u8]) -> usize {
    // `costs[n]`: from what was looked at of `from` to the first n + 1 letters of `to`.
    let mut costs: Vec<usize> = (1..=to.len()).collect();
    for (done, letter) in from.iter().enumerate() {
        let mut diagonal = done;
        let mut left = done + 1;
        for (above, other) in costs.iter_mut().zip(to) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
    }
    costs.last().copied().unwrap_or(from.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_insertions_deletions_and_replacements() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("buket", "bucket", 1),
            ("bucket", "buket", 1),
            ("bukcet", "bucket", 2),
            ("kitten", "sitting", 3),
        ] {
            let found = distance(from.as_bytes(), to.as_bytes());
            assert_eq!(found, expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn only_a_near_name_is_suggested_and_the_nearest_wins() {
        let names = ["bucket", "key", "region", "endpoint", "endpoints"];
        let nearest = |name| nearest(name, names.into_iter());
        assert_eq!(nearest("buket"), Some("bucket"));
        assert_eq!(nearest("endpointss"), Some("endpoints"));
        assert_eq!(nearest("regoin"), Some("region"));
        assert_eq!(nearest("compartment"), None);
        assert_eq!(nearest(""), None);
    }
}
