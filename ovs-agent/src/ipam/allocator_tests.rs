//! The allocator on a disk that fails and dies at every step.

use std::io;
use std::sync::{Arc, Mutex};

use api::cni::PodIdentity;

use super::*;

/// What becomes of bytes that were written but not synced when the machine dies.
#[derive(Clone, Copy, Debug)]
enum Unsynced {
    Lost,
    Torn,
    Kept,
}

#[derive(Debug, Default)]
struct Sim {
    file: Vec<u8>,
    synced: Vec<u8>,
    beside: Vec<u8>,
    /// The old file, while a swap is not durable.
    before_swap: Option<Vec<u8>>,
    steps: usize,
    /// The step that fails, and whether every later one does too.
    fail: Option<(usize, bool)>,
}

#[derive(Clone, Debug, Default)]
struct SimDisk(Arc<Mutex<Sim>>);

impl SimDisk {
    fn step(&self, act: impl FnOnce(&mut Sim, bool)) -> io::Result<()> {
        let mut sim = self.0.lock().unwrap();
        let step = sim.steps;
        sim.steps += 1;
        match sim.fail {
            Some((at, for_ever)) if step == at || (for_ever && step > at) => {
                if step == at {
                    act(&mut sim, false);
                }
                Err(io::Error::from(io::ErrorKind::StorageFull))
            }
            _ => {
                act(&mut sim, true);
                Ok(())
            }
        }
    }

    fn fail(&self, at: usize, for_ever: bool) {
        let mut sim = self.0.lock().unwrap();
        sim.steps = 0;
        sim.fail = Some((at, for_ever));
    }

    /// Power is cut, then it comes back.
    fn crash(&self, unsynced: Unsynced) {
        let mut sim = self.0.lock().unwrap();
        let torn =
            (sim.synced.iter().zip(&sim.file).take_while(|(a, b)| a == b).count() + sim.file.len()) / 2;
        sim.file = match (unsynced, sim.before_swap.take()) {
            (Unsynced::Lost, Some(old)) => old,
            (Unsynced::Lost, None) => sim.synced.clone(),
            (Unsynced::Torn, None) => sim.file[..torn].to_vec(),
            (Unsynced::Torn, Some(_)) | (Unsynced::Kept, _) => sim.file.clone(),
        };
        sim.synced = sim.file.clone();
        sim.fail = None;
    }
}

impl Disk for SimDisk {
    fn path(&self) -> String {
        "allocations".into()
    }
    fn read(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().file.clone())
    }
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step(|sim, whole| {
            sim.file.truncate(offset as usize);
            sim.file.extend_from_slice(&bytes[..if whole { bytes.len() } else { bytes.len() / 2 }]);
        })
    }
    fn sync(&mut self) -> io::Result<()> {
        self.step(|sim, whole| {
            if whole {
                sim.synced = sim.file.clone();
            }
        })
    }
    fn write_beside(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.step(|sim, _| sim.beside = bytes.to_vec())
    }
    fn sync_beside(&mut self) -> io::Result<()> {
        self.step(|_, _| {})
    }
    fn swap(&mut self) -> io::Result<()> {
        self.step(|sim, whole| {
            if whole {
                sim.before_swap.get_or_insert(sim.synced.clone());
                sim.file = sim.beside.clone();
                sim.synced = sim.file.clone();
            }
        })
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        self.step(|sim, whole| {
            if whole {
                sim.before_swap = None;
            }
        })
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn id(name: &str) -> AttachmentId {
    AttachmentId { container_id: name.into(), interface: "eth0".into() }
}

fn wanted(name: &str, addresses: &[&str]) -> Wanted {
    Wanted {
        id: id(name),
        network: "ferrule".into(),
        pod: Some(PodIdentity { namespace: "shop".into(), name: name.into(), uid: String::new() }),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        exact: false,
    }
}

fn open(disk: &SimDisk, ranges: &[&str]) -> Allocator {
    open_at(disk, ranges, at(u64::MAX >> 1))
}

fn open_at(disk: &SimDisk, ranges: &[&str], now: SystemTime) -> Allocator {
    let ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
    let node = NodeName::new("node-1");
    Allocator::open(node, ranges, Duration::from_secs(60), Box::new(disk.clone()), now).unwrap()
}

fn texts(addresses: &[PodAddress]) -> Vec<String> {
    addresses.iter().map(|held| held.address.to_string()).collect()
}

const DUAL: [&str; 2] = ["10.244.1.0/29", "fd00:10:244:1::/64"];

#[test]
fn one_address_per_family_and_the_same_again() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &DUAL);
    let first = ipam.allocate(&wanted("a", &[]), at(1)).unwrap();
    assert_eq!(texts(&first), ["10.244.1.2", "fd00:10:244:1::2"]);
    assert_eq!(first[0].gateway.to_string(), "10.244.1.1");
    assert_eq!(ipam.allocate(&wanted("a", &[]), at(2)).unwrap(), first);
    assert_eq!(texts(&ipam.allocate(&wanted("b", &[]), at(2)).unwrap()), ["10.244.1.3", "fd00:10:244:1::3"]);
    let mut again = open(&disk, &DUAL);
    assert_eq!(again.allocate(&wanted("a", &[]), at(3)).unwrap(), first);
    assert_eq!(again.list().count(), 2);
}

#[test]
fn a_node_without_a_range_says_how_to_give_it_one() {
    let mut ipam = open(&SimDisk::default(), &[]);
    let error = ipam.allocate(&wanted("a", &[]), at(0)).unwrap_err();
    assert!(
        error.to_string().contains("node node-1 has no pod range") && error.to_string().contains("podCIDRs")
    );
    assert_eq!(api::cni::Failure::from(error).code, api::cni::code::NO_ADDRESS);
    assert!(ipam.status(at(0)).is_err(), "STATUS says it before a pod comes");
}

#[test]
fn a_full_range_says_node_range_size_and_cure_and_rest_ends() {
    let mut ipam = open(&SimDisk::default(), &["10.244.1.0/29"]);
    for name in ["a", "b", "c", "d", "e"] {
        ipam.allocate(&wanted(name, &[]), at(0)).unwrap();
    }
    let error = ipam.allocate(&wanted("f", &[]), at(0)).unwrap_err();
    let text = error.to_string();
    for part in ["10.244.1.0/29", "node node-1", "5 of 5", "maxPods"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(api::cni::Failure::from(error).code, api::cni::code::NO_ADDRESS);
    assert!(ipam.status(at(0)).is_err());

    ipam.release(&[id("d")], at(100)).unwrap();
    ipam.release(&[id("b")], at(101)).unwrap();
    let resting = ipam.allocate(&wanted("f", &[]), at(130)).unwrap_err().to_string();
    assert!(resting.contains("2 were freed lately") && resting.contains("free in 30 s"), "{resting}");
    assert_eq!(
        texts(&ipam.allocate(&wanted("f", &[]), at(160)).unwrap()),
        ["10.244.1.5"],
        "the oldest first"
    );
    assert!(ipam.allocate(&wanted("g", &[]), at(160)).is_err());
    assert_eq!(texts(&ipam.allocate(&wanted("g", &[]), at(161)).unwrap()), ["10.244.1.3"]);
}

#[test]
fn what_another_clock_wrote_rests_from_the_start_and_not_for_ever() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &["10.244.1.0/30"]);
    ipam.allocate(&wanted("a", &[]), at(1_000_000)).unwrap();
    ipam.release(&[id("a")], at(1_000_000)).unwrap();
    // The machine has booted, or an older agent wrote the time of day: its seconds are not ours.
    let mut again = open_at(&disk, &["10.244.1.0/30"], at(10));
    let error = again.allocate(&wanted("b", &[]), at(11)).unwrap_err().to_string();
    assert!(error.contains("free in 59 s"), "{error}");
    assert!(again.allocate(&wanted("b", &[]), at(69)).is_err());
    assert_eq!(texts(&again.allocate(&wanted("b", &[]), at(70)).unwrap()), ["10.244.1.2"]);
    // The same clock: as long as it has rested, it has.
    let mut later = open_at(&disk, &["10.244.1.0/30"], at(200));
    later.release(&[id("b")], at(200)).unwrap();
    let mut later = open_at(&disk, &["10.244.1.0/30"], at(230));
    assert!(later.allocate(&wanted("c", &[]), at(259)).is_err());
    assert!(later.allocate(&wanted("c", &[]), at(260)).is_ok());
}

#[test]
fn a_requested_address_is_given_or_refused_with_its_owner() {
    let mut ipam = open(&SimDisk::default(), &DUAL);
    assert_eq!(texts(&ipam.allocate(&wanted("a", &["10.244.1.4"]), at(0)).unwrap())[0], "10.244.1.4");
    let owned = ipam.allocate(&wanted("b", &["10.244.1.4"]), at(0)).unwrap_err();
    assert!(owned.to_string().contains("pod shop/a"), "{owned}");
    assert_eq!(api::cni::Failure::from(owned).code, api::cni::code::ADDRESS_REFUSED);
    for bad in ["10.244.1.0", "10.244.1.1", "10.244.1.7", "10.244.2.2", "fd00:10:244:1::1", "fd01::5"] {
        let error = ipam.allocate(&wanted("b", &[bad]), at(0)).unwrap_err();
        assert!(matches!(error, IpamError::Refused { .. }), "{bad}: {error}");
    }
    assert!(ipam.allocate(&wanted("b", &["10.244.1.5", "10.244.1.6"]), at(0)).is_err());
    assert!(ipam.allocate(&wanted("a", &["10.244.1.5"]), at(0)).is_err(), "it has another already");
    assert_eq!(ipam.list().count(), 1, "nothing was half given");
    // Asked for by name, an address that rests is given.
    ipam.release(&[id("a")], at(5)).unwrap();
    assert_eq!(texts(&ipam.allocate(&wanted("b", &["10.244.1.4"]), at(6)).unwrap())[0], "10.244.1.4");
}

#[test]
fn ranges_may_change_and_what_is_outside_stays_until_released() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &["10.244.1.0/29"]);
    ipam.allocate(&wanted("a", &[]), at(0)).unwrap();
    ipam.set_ranges(vec!["10.244.9.0/30".parse().unwrap(), "10.244.8.0/30".parse().unwrap()]);
    assert_eq!(texts(&ipam.allocate(&wanted("a", &[]), at(0)).unwrap()), ["10.244.1.2"]);
    assert_eq!(texts(&ipam.allocate(&wanted("b", &[]), at(0)).unwrap()), ["10.244.9.2"]);
    assert_eq!(texts(&ipam.allocate(&wanted("c", &[]), at(0)).unwrap()), ["10.244.8.2"], "the added range");
    assert_eq!(ipam.release(&[id("a")], at(0)).unwrap().len(), 1);
    assert!(open(&disk, &[]).allocate(&wanted("d", &[]), at(0)).is_err());
    for tiny in ["10.0.0.0/31", "10.0.0.1/32", "fd00::/127", "fd00::/128"] {
        let mut ipam = open(&SimDisk::default(), &[tiny]);
        assert!(matches!(ipam.allocate(&wanted("a", &[]), at(0)), Err(IpamError::Full { .. })), "{tiny}");
        assert_eq!(ipam.usage(at(0))[0].size, 0);
    }
    assert!(open(&SimDisk::default(), &["::/0"]).allocate(&wanted("a", &[]), at(0)).is_ok());
}

#[test]
fn the_record_does_not_grow_without_end() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &["10.244.1.0/24"]);
    for turn in 0..5_000 {
        ipam.allocate(&wanted("a", &[]), at(turn * 100)).unwrap();
        ipam.release(&[id("a")], at(turn * 100 + 1)).unwrap();
    }
    let lines = disk.0.lock().unwrap().file.iter().filter(|byte| **byte == b'\n').count();
    assert!(lines < 2_500, "{lines} lines");
    assert_eq!(open(&disk, &["10.244.1.0/24"]).list().count(), 0);
}

#[test]
fn damage_that_no_crash_explains_is_named() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &DUAL);
    for name in ["a", "b", "c"] {
        ipam.allocate(&wanted(name, &[]), at(0)).unwrap();
    }
    disk.0.lock().unwrap().file[30] ^= 1;
    let error =
        Allocator::open(NodeName::new("n"), vec![], Duration::ZERO, Box::new(disk), at(0)).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

/// What the outside was told: the attachments with their addresses.
type Told = BTreeMap<AttachmentId, Vec<PodAddress>>;

enum Op {
    Take(&'static str),
    Free(&'static str),
}

const SCRIPT: [Op; 7] =
    [Op::Take("a"), Op::Take("b"), Op::Free("a"), Op::Take("c"), Op::Take("a"), Op::Free("b"), Op::Free("c")];

/// Runs the script; gives what was acknowledged, and for every operation that failed the attachment in doubt.
fn run(ipam: &mut Allocator, stop: bool) -> (Told, Vec<AttachmentId>) {
    let (mut told, mut doubt) = (Told::new(), Vec::new());
    for (turn, op) in SCRIPT.iter().enumerate() {
        let now = at(turn as u64 * 100);
        let failed = match op {
            Op::Take(name) => match ipam.allocate(&wanted(name, &[]), now) {
                Ok(addresses) => {
                    told.insert(id(name), addresses);
                    None
                }
                Err(_) => Some(id(name)),
            },
            Op::Free(name) => match ipam.release(&[id(name)], now) {
                Ok(_) => {
                    told.remove(&id(name));
                    None
                }
                Err(_) => Some(id(name)),
            },
        };
        doubt.extend(failed);
        if stop && !doubt.is_empty() {
            break;
        }
    }
    (told, doubt)
}

fn held(ipam: &Allocator) -> Told {
    ipam.list().map(|held| (held.id.clone(), held.addresses.clone())).collect()
}

#[test]
fn a_crash_at_any_step_loses_and_leaks_nothing() {
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        for step in 0.. {
            let disk = SimDisk::default();
            let mut ipam = open(&disk, &DUAL);
            disk.fail(step, true);
            let (told, doubt) = run(&mut ipam, true);
            drop(ipam);
            disk.crash(unsynced);
            let mut ipam = open(&disk, &DUAL);
            for (who, addresses) in held(&ipam) {
                assert!(
                    doubt.contains(&who) || told.get(&who) == Some(&addresses),
                    "{unsynced:?} step {step}"
                );
            }
            for (who, addresses) in &told {
                let kept = held(&ipam).get(who) == Some(addresses);
                assert!(kept || doubt.contains(who), "{unsynced:?} step {step}: {who:?} was lost");
            }
            everything_can_be_freed_and_used_again(&mut ipam, 2_000);
            everything_can_be_freed_and_used_again(&mut open(&disk, &DUAL), 4_000);
            if doubt.is_empty() {
                break;
            }
        }
    }
}

#[test]
fn one_failed_write_is_as_if_the_operation_had_not_been() {
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        for step in 0.. {
            let disk = SimDisk::default();
            let mut ipam = open(&disk, &DUAL);
            disk.fail(step, false);
            let (_, doubt) = run(&mut ipam, false);
            disk.fail(usize::MAX, false);
            ipam.allocate(&wanted("last", &[]), at(10_000)).unwrap();
            let now = held(&ipam);
            disk.crash(unsynced);
            assert_eq!(held(&open(&disk, &DUAL)), now, "{unsynced:?} step {step}");
            if doubt.is_empty() {
                break;
            }
        }
    }
}

fn everything_can_be_freed_and_used_again(ipam: &mut Allocator, now: u64) {
    let ids: Vec<_> = held(ipam).into_keys().collect();
    ipam.release(&ids, at(now)).unwrap();
    let names = ["v", "w", "x", "y", "z"];
    let got: std::collections::BTreeSet<_> = names
        .iter()
        .flat_map(|name| texts(&ipam.allocate(&wanted(name, &[]), at(now + 500)).unwrap()))
        .collect();
    assert_eq!(got.len(), 10, "five addresses of either family: {got:?}");
    ipam.release(&names.map(id), at(now + 1_000)).unwrap();
    assert_eq!((ipam.owners.len(), ipam.held.len()), (0, 0));
}

#[test]
fn the_real_disk_keeps_what_was_taken_and_it_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state/allocations");
    let disk = || Box::new(crate::ipam::FileDisk::new(&path).unwrap());
    let ranges = || vec!["10.244.1.0/24".parse().unwrap()];
    let node = NodeName::new("node-1");
    let mut ipam = Allocator::open(node.clone(), ranges(), Duration::ZERO, disk(), at(0)).unwrap();
    let mut times: Vec<_> = (0..200)
        .map(|n| {
            let began = std::time::Instant::now();
            ipam.allocate(&wanted(&format!("c{n}"), &[]), at(0)).unwrap();
            began.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("an allocation takes {:?} (median of 200)", times[100]);
    let mut again = Allocator::open(node, ranges(), Duration::ZERO, disk(), at(0)).unwrap();
    assert_eq!(held(&again), held(&ipam));
    again.journal.compact(0, Vec::new);
    assert_eq!(again.list().count(), 200);
}

#[test]
fn what_was_taken_is_durable_after_its_sync_and_a_failed_one_can_be_released() {
    let disk = SimDisk::default();
    let mut ipam = open(&disk, &DUAL);
    ipam.take(&wanted("a", &[]), at(1)).unwrap();
    ipam.sync().unwrap();
    ipam.take(&wanted("b", &[]), at(1)).unwrap();
    disk.crash(Unsynced::Lost);
    assert_eq!(open(&disk, &DUAL).list().map(|held| held.id.clone()).collect::<Vec<_>>(), [id("a")]);

    let mut ipam = open(&disk, &DUAL);
    // A second one makes the first durable before it is written: only the last line can be torn.
    ipam.take(&wanted("b", &[]), at(2)).unwrap();
    ipam.take(&wanted("c", &[]), at(2)).unwrap();
    disk.crash(Unsynced::Torn);
    let mut ipam = open(&disk, &DUAL);
    assert_eq!(ipam.list().map(|held| held.id.clone()).collect::<Vec<_>>(), [id("a"), id("b")]);

    // The torn line made this one a rewrite, which is durable; the next is a line again.
    ipam.take(&wanted("c", &[]), at(3)).unwrap();
    ipam.take(&wanted("d", &[]), at(3)).unwrap();
    disk.fail(0, false);
    assert!(matches!(ipam.sync(), Err(IpamError::Storage { .. })));
    ipam.release(&[id("d")], at(4)).unwrap();
    for unsynced in [Unsynced::Lost, Unsynced::Torn, Unsynced::Kept] {
        disk.crash(unsynced);
        let again = open(&disk, &DUAL);
        assert_eq!(again.list().map(|held| held.id.clone()).collect::<Vec<_>>(), ["a", "b", "c"].map(id));
    }
}
