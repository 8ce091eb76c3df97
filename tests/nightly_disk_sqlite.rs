//! The disk of the embedded store filled to its last byte under load, and emptied again; `tests/run --nightly
//! disk-sqlite` plays the long form.

mod outage;
mod support;

use std::time::{Duration, Instant};

use outage::{Returned, Rig};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use support::wait::elapse;
use support::{NodeProcess, SmallDisk, nightly};

/// Each fills the disk twice.
const ROUNDS: u64 = 1;
/// Room for the rounds' jobs, and for a log of its full length.
const DISK_MIB: u32 = 256;
/// How long the disk stays full.
const FULL_MS: std::ops::Range<u64> = 6_000..9_000;
/// Jobs of this size use up what the log has kept for itself: 4,000 pages of 8 KiB.
const FILLING_BYTES: usize = 256 << 10;
const FILLING_JOBS_MAX: usize = 400;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_the_embedded_store_and_loses_nothing() {
    for round in nightly::rounds(ROUNDS) {
        let disk = match SmallDisk::mount(DISK_MIB) {
            Ok(disk) => disk,
            Err(why) => {
                println!("SKIPPED: 0 rounds ran, a tmpfs cannot be mounted here: {why}");
                return;
            }
        };
        let settings = NodeProcess::builder().data_dir(&disk.path().join("data"));
        let mut rig = Rig::start("disk-sqlite", settings, round).await;
        // The second meets a log that has its full length.
        for time in 0..2 {
            let full = Duration::from_millis(StdRng::seed_from_u64(round << 1 | time).random_range(FULL_MS));
            let (world, api) = (rig.world(), rig.node.api());
            rig.round("disk full", true, async {
                assert!(disk.fill() > 0, "vacuous: there was no room to take");
                let prefix = format!("filling-{time}");
                let found_room = world.fill(&api, &prefix, FILLING_BYTES, FILLING_JOBS_MAX).await;
                println!("{found_room} large jobs found room on the full disk");
                elapse(full).await;
                disk.free();
                Returned(Instant::now())
            })
            .await;
        }
        rig.finish(2, None).await;
    }
}
