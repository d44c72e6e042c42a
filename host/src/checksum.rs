//! Verifies bytes against the checksum that the store holds, with the processor's own instructions.
//!
//! The component hands the checksum through: hashing in the sandbox takes eight times as long.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// From this size on a hash goes to a thread of its own: below it takes less than a task switch is worth.
const BLOCKING_FROM: usize = 1 << 20;

/// SHA-256 of a state.
pub(crate) async fn sha256(bytes: &Bytes) -> [u8; 32] {
    if bytes.len() < BLOCKING_FROM {
        return Sha256::digest(bytes).into();
    }
    let shared = bytes.clone();
    match tokio::task::spawn_blocking(move || Sha256::digest(&shared).into()).await {
        Ok(digest) => digest,
        // The runtime is shutting down and takes no more threads.
        Err(_) => Sha256::digest(bytes).into(),
    }
}

/// Whether the bytes have this checksum. An algorithm that is not known here says nothing against them.
pub(crate) async fn matches(bytes: &Bytes, algorithm: &str, expected: &[u8]) -> bool {
    let crc = |algorithm, width: usize| {
        let value = crc_fast::checksum(algorithm, bytes).to_be_bytes();
        value[8 - width..] == *expected
    };
    match algorithm {
        "sha1" => Sha1::digest(bytes)[..] == *expected,
        "sha256" => sha256(bytes).await == *expected,
        "crc32" => crc(CrcAlgorithm::Crc32IsoHdlc, 4),
        "crc32c" => crc(CrcAlgorithm::Crc32Iscsi, 4),
        "crc64nvme" => crc(CrcAlgorithm::Crc64Nvme, 8),
        _ => {
            tracing::debug!(algorithm, "checksum of an unknown kind not verified");
            true
        }
    }
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the CRC catalogue and of FIPS 180 for `123456789`.
    #[tokio::test]
    async fn every_algorithm_meets_its_published_check_value() {
        let bytes = Bytes::from_static(b"123456789");
        for (algorithm, value) in [
            ("crc32", "cbf43926"),
            ("crc32c", "e3069283"),
            ("crc64nvme", "ae8b14860a799888"),
            ("sha1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (
                "sha256",
                "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
            ),
        ] {
            let mut expected: Vec<u8> = (0..value.len() / 2)
                .map(|at| u8::from_str_radix(&value[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            assert!(matches(&bytes, algorithm, &expected).await, "{algorithm}");
            expected[0] ^= 1;
            assert!(
                !matches(&bytes, algorithm, &expected).await,
                "{algorithm}, one bit off"
            );
            assert!(
                !matches(&bytes, algorithm, &expected[1..]).await,
                "{algorithm}, too short"
            );
        }
    }

    #[tokio::test]
    async fn a_large_state_hashes_like_a_small_one() {
        let bytes = Bytes::from(vec![7; BLOCKING_FROM + 1]);
        assert_eq!(
            sha256(&bytes).await,
            <[u8; 32]>::from(Sha256::digest(&bytes))
        );
    }
}
