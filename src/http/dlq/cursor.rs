//! Where the next page of dead letters or groups begins.

use uuid::Uuid;

use crate::{
    domain::{JobId, Timestamp},
    http::{
        extract::Params,
        jobs::cursor::{decode, encode},
        problem::ApiError,
    },
    store::dead_letters::{GroupCursor, LetterCursor},
};

/// Leads each cursor, as those of jobs.
const LETTERS: u8 = b'd';
const GROUPS: u8 = b'g';

/// What a group's fingerprint takes; one without any is all zeros.
const PRINT_BYTES: usize = 16;

pub(super) fn of_letter(place: LetterCursor) -> String {
    encode(LETTERS, &[&place.failed_at.0.to_be_bytes()[..], place.job.0.as_bytes()].concat())
}

pub(super) fn letter(params: &Params) -> Result<Option<LetterCursor>, ApiError> {
    let Some(bytes) = decode::<24>(params, LETTERS)? else { return Ok(None) };
    let (at, job) = bytes.split_at(8);
    let job = Uuid::from_slice(job).unwrap_or_default();
    Ok(Some(LetterCursor { failed_at: time(at)?, job: JobId(job) }))
}

pub(super) fn of_group(as_of: Timestamp, last_seen: Timestamp, fingerprint: &str) -> String {
    let mut print = [0; PRINT_BYTES];
    for (to, from) in print.iter_mut().zip(fingerprint.bytes()) {
        *to = from;
    }
    encode(GROUPS, &[&as_of.0.to_be_bytes()[..], &last_seen.0.to_be_bytes()[..], &print[..]].concat())
}

pub(super) fn group(params: &Params) -> Result<Option<GroupCursor>, ApiError> {
    let Some(bytes) = decode::<32>(params, GROUPS)? else { return Ok(None) };
    let (as_of, rest) = bytes.split_at(8);
    let (last_seen, print) = rest.split_at(8);
    let print: String = print.iter().take_while(|byte| **byte != 0).map(|byte| char::from(*byte)).collect();
    Ok(Some(GroupCursor { as_of: time(as_of)?, after: Some((time(last_seen)?, print)) }))
}

/// A time that both engines can compare with.
fn time(bytes: &[u8]) -> Result<Timestamp, ApiError> {
    let micros = bytes.try_into().map_or(0, i64::from_be_bytes);
    let newest = LetterCursor::newest().failed_at.0;
    if !(0..=newest).contains(&micros) {
        return Err(ApiError::invalid_field("/cursor", "not a cursor of this list"));
    }
    Ok(Timestamp(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(cursor: &str) -> Params {
        Params::parse(&format!("cursor={cursor}")).expect("valid")
    }

    #[test]
    fn cursors_come_back_as_they_went_and_to_their_own_list() {
        let place = LetterCursor { failed_at: Timestamp(1 << 40), job: JobId::new() };
        assert_eq!(letter(&params(&of_letter(place))).expect("valid"), Some(place));
        for print in ["9cf09aa59628b9f2", ""] {
            let cursor = group(&params(&of_group(Timestamp(7), Timestamp(5), print))).expect("valid");
            let after = Some((Timestamp(5), print.to_owned()));
            assert_eq!(cursor, Some(GroupCursor { as_of: Timestamp(7), after }));
        }
        assert!(group(&params(&of_letter(place))).is_err());
        assert!(letter(&params(&of_group(Timestamp(7), Timestamp(5), ""))).is_err());
        let mut far = place;
        far.failed_at = Timestamp(i64::MAX);
        assert!(letter(&params(&of_letter(far))).is_err());
        assert_eq!(letter(&Params::default()).expect("none"), None);
    }
}
