//! Fences and epochs: what makes a former owner's or former worker's write harmless.
//!
//! A shard's epoch grows with every owner; a job's fence grows with every lease ever given for it.
//! Fences carry the epoch in their high bits, so that a restored store, whose epochs are raised by
//! `RESTORE_STEP`, never gives a fence again that its lost future gave.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ids::JobId;

/// One of the fixed number of shards that queues hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShardId(pub i16);

/// How many shards a store is installed with. Fixed for its life: a queue's shard is its hash
/// modulo this number.
pub const SHARDS: i16 = 128;

impl ShardId {
    /// The shard of a queue (FNV-1a, so that it is the same on every build and machine).
    #[must_use]
    pub fn of_queue(queue: &str) -> Self {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in queue.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        // FNV's low bits are its weak ones: fold the high half in before the modulo.
        let folded = (hash ^ (hash >> 32)) % u64::from(SHARDS.unsigned_abs());
        Self(i16::try_from(folded).unwrap_or(0))
    }
}

/// The number of an ownership of a shard; grows with every take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// Epochs stay below it, so that a fence is exact as a double: 2²¹ · 2³² = 2⁵³.
pub const EPOCH_MAX: i64 = 1 << 21;

/// What is added to all epochs of a store that was restored from a backup: more take-overs than a
/// lost future can plausibly have had.
pub const RESTORE_STEP: i64 = 4_096;

/// A shard together with the epoch under which a write is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardEpoch {
    /// The shard.
    pub shard: ShardId,
    /// The ownership the writer believes it has.
    pub epoch: Epoch,
}

/// A job's fence: strictly greater with every lease ever given for it.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    Default,
    utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Fence(pub i64);

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Fence {
    /// The least fence that grant number `counter` of an ownership may give; a job's next fence is
    /// the greater of this and its last one plus one (the store takes that maximum in the grant).
    #[must_use]
    pub fn floor(epoch: Epoch, counter: u32) -> Self {
        Self((epoch.0 << 32) | i64::from(counter))
    }

    /// The fence after `last`, under `floor`.
    #[must_use]
    pub fn next(last: Self, floor: Self) -> Self {
        Self(floor.0.max(last.0.saturating_add(1)))
    }
}

/// What a worker shows to prove that it holds a job's lease: names shard, job and fence, so that any
/// node can route it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LeaseToken {
    /// The shard that owned the job when the lease was given.
    pub shard: ShardId,
    /// The lease's fence.
    pub fence: Fence,
    /// The job.
    pub job: JobId,
}

impl fmt::Display for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.shard.0, self.fence.0, self.job.0.simple())
    }
}

/// The text is no lease token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a lease token")]
pub struct InvalidLeaseToken;

impl FromStr for LeaseToken {
    type Err = InvalidLeaseToken;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('.');
        let (Some(shard), Some(fence), Some(job), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidLeaseToken);
        };
        Ok(Self {
            shard: ShardId(shard.parse().map_err(|_| InvalidLeaseToken)?),
            fence: Fence(fence.parse().map_err(|_| InvalidLeaseToken)?),
            job: JobId(Uuid::try_parse(job).map_err(|_| InvalidLeaseToken)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_fence_grows_over_grants_epochs_and_moves_between_shards(
            last in 0_i64..(1 << 52), epoch in 0_i64..EPOCH_MAX, counter in any::<u32>(),
        ) {
            let next = Fence::next(Fence(last), Fence::floor(Epoch(epoch), counter));
            prop_assert!(next.0 > last);
            prop_assert!(next.0 <= 1 << 53, "exact as a double");
        }

        #[test]
        fn a_later_epoch_gives_greater_floors_than_any_grant_of_an_earlier_one(
            epoch in 0_i64..EPOCH_MAX - 1, early in any::<u32>(), late in any::<u32>(),
        ) {
            prop_assert!(Fence::floor(Epoch(epoch + 1), late) > Fence::floor(Epoch(epoch), early));
        }
    }

    #[test]
    fn a_lease_token_survives_its_text_form() {
        let token = LeaseToken { shard: ShardId(17), fence: Fence(1 << 40), job: JobId::new() };
        assert_eq!(token.to_string().parse(), Ok(token));
        for bad in ["", "1.2", "1.2.x", "1.2.3.4", "70000.1.00000000000000000000000000000000"] {
            assert_eq!(bad.parse::<LeaseToken>(), Err(InvalidLeaseToken));
        }
    }

    #[test]
    fn queues_spread_over_the_shards() {
        let shards: std::collections::HashSet<_> =
            (0..2_000).map(|n| ShardId::of_queue(&format!("queue-{n}"))).collect();
        assert!(shards.len() > 120);
        assert!(shards.iter().all(|shard| (0..SHARDS).contains(&shard.0)));
    }
}
