//! The doorbell under loom: every interleaving, with the reorderings the memory model allows.
//!
//! The file under test is included, so that it meets loom's atomics and the rest of the crate does not.

#[path = "../src/actors/runtime/doorbell.rs"]
mod doorbell;

/// What `doorbell.rs` takes from its parent.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
}

use doorbell::Doorbell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// Two senders and a receiver; at the end every push was drained, or a bell that was not answered is left.
///
/// The queue is a slot a sender with release and acquire, as tokio's lock-free list has it: a mutex would add the very
/// ordering whose absence is tested.
fn no_wake_up_is_lost(answer: fn(&Doorbell)) {
    loom::model(move || {
        let doorbell = Arc::new(Doorbell::new());
        let bells = Arc::new(AtomicUsize::new(0));
        let slots = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);

        // As after an attach: a wake-up is under way.
        doorbell.ring_anew(|| bells.store(1, Ordering::Relaxed));

        let senders = [0, 1].map(|sender| {
            let (doorbell, bells, slots) = (Arc::clone(&doorbell), Arc::clone(&bells), Arc::clone(&slots));
            thread::spawn(move || {
                slots[sender].store(1, Ordering::Release);
                doorbell.ring(|| {
                    bells.fetch_add(1, Ordering::AcqRel);
                });
            })
        });

        let taken = {
            bells.fetch_sub(1, Ordering::AcqRel);
            answer(&doorbell);
            [0, 1].map(|sender| slots[sender].load(Ordering::Acquire) == 1)
        };

        for sender in senders {
            assert!(sender.join().is_ok(), "sender panicked");
        }
        let rung_again = bells.load(Ordering::Acquire) > 0;
        assert!(taken == [true, true] || rung_again, "an op waits and nobody will come for it");
    });
}

#[test]
fn door_loom_a_swap_loses_no_wake_up() {
    no_wake_up_is_lost(Doorbell::answer);
}

#[test]
#[should_panic(expected = "an op waits and nobody will come for it")]
fn door_loom_a_plain_store_loses_a_wake_up() {
    no_wake_up_is_lost(|doorbell| doorbell.rung.store(false, Ordering::Relaxed));
}
