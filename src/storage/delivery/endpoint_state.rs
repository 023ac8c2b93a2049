//! The row of an endpoint's state: version u8, address version u64, status of the pause u16 (0: no pause), end of the
//! pause i64, end of the open time i64, length of the open time in ms u64 (0: closed), little-endian.

use std::time::Duration;

use super::part;
use crate::model::{EndpointPause, EndpointState, OpenBreaker, PauseReason, Timestamp};

const VERSION: u8 = 1;
const LEN: usize = 35;

/// Encodes a state.
pub(super) fn encode(state: &EndpointState) -> [u8; LEN] {
    let mut row = [0; LEN];
    row[0] = VERSION;
    row[1..9].copy_from_slice(&state.address_version.to_le_bytes());
    if let Some(EndpointPause { until, reason }) = state.pause {
        row[9..11].copy_from_slice(&reason.status().unwrap_or_default().to_le_bytes());
        row[11..19].copy_from_slice(&until.as_millis().to_le_bytes());
    }
    if let Some(OpenBreaker { until, lasts }) = state.breaker {
        let ms = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX).max(1);
        row[19..27].copy_from_slice(&until.as_millis().to_le_bytes());
        row[27..].copy_from_slice(&ms.to_le_bytes());
    }
    row
}

/// Decodes a row. `None` for a row of a later program: such a webhook starts without a pause.
pub(super) fn decode(row: &[u8]) -> Option<EndpointState> {
    if row.len() != LEN || row[0] != VERSION {
        return None;
    }
    let time = |at| Timestamp::from_millis(i64::from_le_bytes(part(row, at)));
    let reason = PauseReason::of_status(u16::from_le_bytes(part(row, 9)));
    let ms = u64::from_le_bytes(part(row, 27));
    Some(EndpointState {
        address_version: u64::from_le_bytes(part(row, 1)),
        pause: reason.map(|reason| EndpointPause { until: time(11), reason }),
        breaker: (ms > 0).then(|| OpenBreaker { until: time(19), lasts: Duration::from_millis(ms) }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back() {
        let pause = EndpointPause { until: Timestamp::from_millis(7), reason: PauseReason::ServiceUnavailable };
        let open = OpenBreaker { until: Timestamp::from_millis(9), lasts: Duration::from_millis(1_500) };
        for (pause, breaker) in [(None, None), (Some(pause), None), (None, Some(open)), (Some(pause), Some(open))] {
            let state = EndpointState { address_version: 5, pause, breaker };
            assert_eq!(decode(&encode(&state)), Some(state));
        }
        assert_eq!((decode(&[]), decode(&[9; LEN])), (None, None));
    }
}
