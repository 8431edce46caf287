//! Every failure in every state.

use super::*;

type Pods = Reflector<&'static str>;

fn page(objects: &[&'static str], revision: u64, next: Option<&str>) -> Page<&'static str> {
    Page { objects: objects.to_vec(), revision, next: next.map(str::to_owned), remaining: next.map(|_| 7) }
}

fn listing() -> Pods {
    Reflector::new(false, false)
}

fn watching(revision: u64) -> Pods {
    let mut pods = listing();
    pods.page(page(&["a"], revision, None));
    pods
}

fn request(pods: &Pods) -> Request {
    pods.next().1
}

#[test]
fn pages_make_one_list_of_the_first_ones_revision() {
    let mut pods = listing();
    assert_eq!(pods.next(), (Duration::ZERO, Request::List(None)));
    let learnt = pods.page(page(&["a", "b"], 7, Some("more")));
    assert_eq!(learnt, [Learnt::Succeeded("list"), Learnt::Receiving(2, Some(9))]);
    assert_eq!(request(&pods), Request::List(Some("more".into())));
    let learnt = pods.page(page(&["c"], 9, None));
    assert_eq!(learnt[1], Learnt::All(vec!["a", "b", "c"], 7));
    assert_eq!(pods.next(), (Duration::ZERO, Request::Watch(7)));
}

#[test]
fn a_continuation_that_expired_begins_anew_and_forgets_the_pages() {
    let mut pods = listing();
    pods.page(page(&["a"], 7, Some("more")));
    assert_eq!(pods.failed(Failure::Expired), []);
    assert_eq!(pods.next(), (Duration::ZERO, Request::List(None)));
    assert_eq!(pods.page(page(&["b"], 9, None))[1], Learnt::All(vec!["b"], 9));
}

#[test]
fn a_stream_sends_all_and_then_changes() {
    let mut pods: Pods = Reflector::new(false, true);
    assert_eq!(request(&pods), Request::Stream);
    assert_eq!(pods.event(Event::There("a", 3)), (vec![], true));
    assert_eq!(pods.event(Event::Bookmark(9, true)), (vec![Learnt::All(vec!["a"], 9)], true));
    assert_eq!(pods.event(Event::There("b", 12)), (vec![Learnt::There("b", 12)], true));
    pods.ended(Duration::from_secs(300));
    assert_eq!(pods.next(), (Duration::ZERO, Request::Probe));
    pods.page(page(&[], 12, None));
    assert_eq!(request(&pods), Request::Watch(12));
    // A stream that broke in the middle begins anew.
    pods.relist();
    pods.event(Event::There("a", 3));
    pods.failed(Failure::Broken("reset".into()));
    assert_eq!(request(&pods), Request::Stream);
    assert_eq!(pods.event(Event::Bookmark(20, true)).0, [Learnt::All(vec![], 20)]);
}

#[test]
fn a_server_without_streams_is_asked_for_pages() {
    for failure in
        [Failure::Refused("sendInitialEvents is forbidden".into()), Failure::Forbidden("no".into())]
    {
        let mut pods: Pods = Reflector::new(false, true);
        pods.failed(failure);
        assert_eq!(request(&pods), Request::List(None));
        pods.relist();
        assert_eq!(request(&pods), Request::List(None));
    }
}

#[test]
fn bookmarks_and_events_move_the_place_from_which_it_goes_on() {
    let mut pods = watching(7);
    assert_eq!(pods.event(Event::Gone("a", 8)).0, [Learnt::Gone("a", 8)]);
    assert_eq!(pods.event(Event::Bookmark(20, false)).0, [Learnt::UpTo(20)]);
    pods.failed(Failure::Broken("reset".into()));
    assert_eq!(request(&pods), Request::Probe);
    pods.page(page(&["x"], 25, Some("more")));
    assert_eq!(request(&pods), Request::Watch(20));
}

#[test]
fn an_expired_watch_lists_anew_at_once_but_not_without_end() {
    let mut pods = watching(7);
    let (learnt, goes_on) = pods.event(Event::Failed(Failure::Expired));
    assert_eq!((learnt, goes_on), (vec![], false));
    assert_eq!(pods.next(), (Duration::ZERO, Request::List(None)));
    pods.failed(Failure::Expired);
    assert!(pods.next().0 > Duration::ZERO);
}

#[test]
fn a_history_that_went_back_is_listed_anew() {
    let mut pods = watching(50);
    pods.ended(Duration::from_secs(60));
    pods.page(page(&["x"], 30, None));
    assert_eq!(pods.next(), (Duration::ZERO, Request::List(None)));
    assert_eq!(pods.page(page(&["x"], 30, None))[1], Learnt::All(vec!["x"], 30));
}

#[test]
fn waits_double_end_and_obey_the_server() {
    let mut pods = listing();
    let broken = || Failure::Broken("refused".into());
    let waits: Vec<u64> = (0..9)
        .map(|_| {
            pods.failed(broken());
            pods.next().0.as_millis() as u64
        })
        .collect();
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
    pods.page(page(&[], 1, None));
    assert_eq!(pods.next().0, Duration::ZERO);
    let busy = |seconds| Failure::Busy { message: "429".into(), after: Some(Duration::from_secs(seconds)) };
    pods.failed(busy(9));
    assert_eq!(pods.next().0, Duration::from_secs(9));
    pods.failed(busy(9000));
    assert_eq!(pods.next().0, LONGEST_WAIT);
    // A watch that is closed at once is no success.
    let mut pods = watching(7);
    pods.ended(Duration::from_millis(3));
    assert_eq!(pods.next(), (FIRST_WAIT, Request::Probe));
}

#[test]
fn what_is_forbidden_is_told_with_its_verb() {
    let no = || Failure::Forbidden("no".into());
    assert_eq!(listing().failed(no()), [Learnt::Failed("list", no(), 1)]);
    let mut pods = watching(7);
    assert_eq!(pods.failed(no()), [Learnt::Failed("watch", no(), 1)]);
    // Without the watch the list is the only way to learn anything.
    assert_eq!(pods.next(), (FIRST_WAIT, Request::List(None)));
    // Lists that succeed in between do not make it faster.
    pods.page(page(&["a"], 8, None));
    assert_eq!(pods.failed(no()), [Learnt::Failed("watch", no(), 2)]);
    assert_eq!(pods.next(), (FIRST_WAIT * 2, Request::List(None)));
    pods.page(page(&["a"], 9, None));
    pods.opened();
    pods.failed(no());
    assert_eq!(pods.next(), (FIRST_WAIT, Request::List(None)));
}

#[test]
fn an_optional_kind_is_looked_for_again_and_a_builtin_one_is_a_failure() {
    let mut policies: Pods = Reflector::new(true, true);
    assert_eq!(policies.failed(Failure::NotFound), [Learnt::NoSuchKind]);
    assert_eq!(policies.next(), (LOOK_AGAIN, Request::List(None)));
    assert_eq!(policies.failed(Failure::NotFound), []);
    assert_eq!(policies.page(page(&["p"], 9, None))[1], Learnt::All(vec!["p"], 9));
    // Its definition is deleted: the watch ends, the list is not found.
    policies.ended(Duration::from_secs(5));
    assert_eq!(policies.failed(Failure::NotFound), [Learnt::NoSuchKind]);
    // It comes back in another version, which is told, and goes again.
    let other = || Failure::OtherVersions("v1alpha1".into());
    assert_eq!(policies.failed(other()), [Learnt::Failed("list", other(), 1)]);
    assert_eq!(policies.next(), (LOOK_AGAIN, Request::List(None)));
    assert_eq!(policies.failed(other()), [Learnt::Failed("list", other(), 2)]);
    assert_eq!(policies.failed(Failure::NotFound), [Learnt::NoSuchKind]);
    assert_eq!(policies.page(page(&["p"], 9, None))[1], Learnt::All(vec!["p"], 9));
    policies.ended(Duration::from_secs(5));
    assert_eq!(policies.failed(other()), [Learnt::NoSuchKind, Learnt::Failed("list", other(), 1)]);
    assert_eq!(listing().failed(Failure::NotFound), [Learnt::Failed("list", Failure::NotFound, 1)]);
}
