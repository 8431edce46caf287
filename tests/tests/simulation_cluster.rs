//! Whole clusters in virtual time: the real agents and controllers, everything around them simulated and seeded. Each
//! failure prints its seed and every step.

use tests::simulation::{Flavour, Run, Step, Tally};

const LISTS: Flavour = Flavour { tiers: false, replicas: 1, refusals: false, newer: false };
const TIERS: Flavour = Flavour { tiers: true, ..LISTS };

const TIERS_REFUSED: Flavour = Flavour { tiers: true, refusals: true, ..LISTS };

/// Plays scenarios of so many seeds, or of as many as `FERRULE_SIMULATION_SEEDS` says, and expects that they were worth it.
fn play(flavour: Flavour, first: u64, seeds: u64, rounds: usize, steps: usize) {
    let seeds =
        std::env::var("FERRULE_SIMULATION_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(seeds);
    let mut sum = Tally::default();
    for seed in first..first + seeds {
        let tally = Run::new(seed, flavour).play(rounds, steps);
        sum.steps += tally.steps;
        sum.rests += tally.rests;
        sum.walked += tally.walked;
        sum.delivered += tally.delivered;
        sum.stale += tally.stale;
    }
    println!("{flavour:?}: {sum:?}");
    assert!(sum.delivered > sum.rests, "hardly a packet arrived: {sum:?}");
}

#[test]
fn allow_lists_hold_through_every_change_and_failure() {
    play(LISTS, 0, 8, 3, 60);
}

#[test]
fn ordered_tiers_hold_through_every_change_and_failure() {
    play(TIERS, 10_000, 6, 3, 60);
}

#[test]
fn two_controllers_at_once_do_not_take_a_node_back() {
    play(Flavour { replicas: 2, ..LISTS }, 20_000, 6, 3, 60);
}

#[test]
fn peers_of_a_later_version_are_understood_as_far_as_it_goes() {
    play(Flavour { replicas: 2, newer: true, ..TIERS }, 50_000, 3, 3, 60);
}

#[test]
fn what_a_switch_refuses_opens_nothing() {
    play(Flavour { refusals: true, ..LISTS }, 30_000, 4, 3, 60);
}

#[test]
fn refusals_in_ordered_tiers_open_nothing() {
    play(TIERS_REFUSED, 40_000, 4, 3, 60);
}

#[test]
fn the_same_seed_is_the_same_run_and_its_log_plays_it_again() {
    let runs = [0, 1].map(|_| {
        let mut run = Run::new(7, TIERS);
        run.play(2, 60);
        (Run::digest(&run.world), run.log)
    });
    assert_eq!(runs[0], runs[1]);

    let [(digest, log), _] = runs;
    let text = serde_json::to_string(&log).unwrap();
    let mut world = Run::beginning(7, TIERS);
    for step in serde_json::from_str::<Vec<Step>>(&text).unwrap() {
        world.step(&step).unwrap();
    }
    assert_eq!(Run::digest(&world), digest);
}
