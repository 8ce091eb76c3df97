//! What upkeep is told.

/// A message to upkeep.
#[derive(Debug)]
pub enum UpkeepMessage {
    /// Private: time for a round.
    Tick,
    /// Private: the round is over.
    RoundDone,
}
