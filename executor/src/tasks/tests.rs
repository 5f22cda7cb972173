//! The states of slots, met one by one.

use std::collections::HashSet;
use std::future::ready;

use super::numbers::{NO_TASK, is_main};
use super::slot::SPARE_BYTES_MAX;
use super::*;
use crate::JoinError;

fn tasks() -> Tasks {
    Tasks::new(3, 5, None)
}

fn begin_main(tasks: &mut Tasks) -> Option<Token> {
    match tasks.begin_main() {
        None => tasks.begin_main_slowly(),
        id => id,
    }
}

/// Begins so late that a slot has two generations: generation `LAST_GENERATION` has none.
fn old_tasks() -> Tasks {
    Tasks::new(3, LAST_GENERATION - 2, None)
}

fn insert(tasks: &mut Tasks) -> Token {
    let index = tasks.claim_slot().expect("there is room");
    tasks.insert(index, ready(()), NO_TASK, Location::caller())
}

fn expect_task(tasks: &mut Tasks) -> (Token, TaskBox) {
    match tasks.next() {
        Some(Next::Task(id, task)) => (id, task),
        Some(Next::Main(_)) => panic!("expected a task, found the main future"),
        Some(Next::Stale) => panic!("expected a task, found a stale entry"),
        None => panic!("expected a task, found none"),
    }
}

fn free_unwanted(tasks: &mut Tasks, id: Token, task: TaskBox) {
    let Some(Deferred::Unwanted(mut task)) = tasks.finish(id, task) else {
        panic!("a handle takes the output");
    };
    task.as_mut().clear();
    tasks.free(id, task);
}

/// Ends the task that is next, whose output no handle takes.
fn run_detached(tasks: &mut Tasks) -> Token {
    let (id, mut task) = expect_task(tasks);
    tasks.detach(id);
    task.as_mut().clear();
    free_unwanted(tasks, id, task);
    id
}

fn run_detached_twice(tasks: &mut Tasks) {
    for _ in 0..2 {
        insert(tasks);
        run_detached(tasks);
    }
}

#[cfg(target_pointer_width = "64")]
#[test]
fn a_slot_fills_one_cache_line() {
    assert_eq!(size_of::<super::slot::Slot>(), 64);
}

#[test]
fn ready_tasks_come_first_in_first_out() {
    let mut tasks = tasks();
    let ids = [insert(&mut tasks), insert(&mut tasks), insert(&mut tasks)];
    for id in ids {
        assert_eq!(expect_task(&mut tasks).0, id);
    }
    assert!(tasks.next().is_none());
}

#[test]
fn many_wakes_queue_a_task_once() {
    let mut tasks = tasks();
    let id = insert(&mut tasks);
    let (_, task) = expect_task(&mut tasks);
    assert!(tasks.put_back(id, task, Notes::NONE).is_none());
    for _ in 0..10 {
        tasks.wake(id);
    }
    assert_eq!(tasks.n_ready(), 1);
}

#[test]
fn a_wake_during_the_poll_queues_the_task_again() {
    let mut tasks = tasks();
    let id = insert(&mut tasks);
    let (_, task) = expect_task(&mut tasks);
    tasks.wake(id);
    assert!(tasks.put_back(id, task, Notes::NONE).is_none());
    assert_eq!(expect_task(&mut tasks).0, id);
}

#[test]
fn a_stale_wake_does_not_reach_the_slots_next_generation() {
    let mut tasks = tasks();
    insert(&mut tasks);
    let old = run_detached(&mut tasks);
    let new = insert(&mut tasks);
    assert_eq!(old.slot(), new.slot());
    let (_, task) = expect_task(&mut tasks);
    assert!(tasks.put_back(new, task, Notes::NONE).is_none());
    tasks.wake(old);
    assert_eq!(tasks.n_ready(), 0);
}

#[test]
fn a_slot_that_has_had_its_last_generation_is_never_used_again() {
    let mut tasks = old_tasks();
    let mut seen = HashSet::new();
    for round in 0..10 {
        insert(&mut tasks);
        let id = run_detached(&mut tasks);
        assert!(seen.insert(id), "{id:?} came twice");
        assert_eq!(id.slot(), 1 + round / 2, "each slot has two generations");
        assert!(id.generation() < LAST_GENERATION);
    }
    assert_eq!((tasks.n_tasks(), tasks.spare_bytes), (0, 0));
    for id in seen {
        assert_eq!(tasks.look_up(id), Join::Gone);
        assert!(!tasks.wake(id));
        assert!(tasks.abort(id).is_none());
    }
}

#[test]
fn slots_that_are_spent_count_against_the_limit_and_only_they() {
    let mut tasks = old_tasks();
    tasks.limit_to(3);
    for _ in 0..4 {
        insert(&mut tasks);
        run_detached(&mut tasks);
    }
    assert_eq!(tasks.claim_slot(), None);
    assert_eq!(tasks.n_tasks(), 0);
}

#[test]
fn the_main_future_moves_to_another_slot_when_its_own_is_spent() {
    let mut tasks = old_tasks();
    insert(&mut tasks);
    let mut seen = HashSet::new();
    for _ in 0..20 {
        let id = begin_main(&mut tasks).unwrap();
        assert!(is_main(id) && seen.insert(id), "{id:?} came twice");
        assert!(tasks.wake(id));
        // Not always all of them, so that stale entries of its old slots are met as well.
        for _ in 0..seen.len() % 3 {
            match tasks.next() {
                Some(Next::Main(main)) => assert_eq!(main, id),
                Some(Next::Task(task, mut taken)) => {
                    assert!(!is_main(task));
                    tasks.detach(task);
                    taken.as_mut().clear();
                    free_unwanted(&mut tasks, task, taken);
                    insert(&mut tasks);
                }
                Some(Next::Stale) | None => {}
            }
        }
    }
    assert!(tasks.main > 1, "it has moved");
    let last = tasks.slots[tasks.main].id;
    for old in seen.into_iter().filter(|id| *id != last) {
        assert!(!tasks.wake(old), "{old:?} names no task any more");
    }
}

#[test]
fn a_loop_with_no_number_left_for_its_main_future_says_so() {
    let mut tasks = old_tasks();
    tasks.limit_to(1);
    assert!(begin_main(&mut tasks).is_some());
    assert_eq!(begin_main(&mut tasks), None);
}

#[test]
fn the_next_loop_begins_after_all_generations_of_this_one() {
    let mut tasks = tasks();
    assert_eq!(tasks.unused_generation(0), 6);
    insert(&mut tasks);
    run_detached(&mut tasks);
    assert_eq!(tasks.unused_generation(0), 7);
    assert_eq!(tasks.unused_generation(9), 9);
    for _ in 0..5 {
        begin_main(&mut tasks);
    }
    assert_eq!(tasks.unused_generation(9), 11);
    let mut tasks = old_tasks();
    insert(&mut tasks);
    run_detached(&mut tasks);
    run_detached_twice(&mut tasks);
    assert!(tasks.unused_generation(0) >= LAST_GENERATION, "there is no next loop");
}

#[test]
fn the_next_main_future_inherits_nothing() {
    let mut tasks = tasks();
    let first = begin_main(&mut tasks).unwrap();
    tasks.note(first, Notes::FOREIGN);
    tasks.set_name(first, "first".into());
    tasks.set_daemon(first);
    let second = begin_main(&mut tasks).unwrap();
    assert_eq!((tasks.name(second), tasks.is_daemon(second)), (None, false));
    assert_eq!(tasks.notes(true).next(), Some(Notes::NONE));
    assert_eq!(tasks.describe(second, None).unwrap().polls, 1);
    tasks.set_name(first, "late".into());
    assert_eq!(tasks.name(second), None);
}

#[test]
fn the_next_generation_takes_over_a_stale_entry() {
    let mut tasks = tasks();
    let id = insert(&mut tasks);
    let (_, task) = expect_task(&mut tasks);
    tasks.wake(id);
    tasks.detach(id);
    free_unwanted(&mut tasks, id, task);
    let next = insert(&mut tasks);
    assert_eq!(tasks.n_ready(), 1);
    assert_eq!(expect_task(&mut tasks).0, next);
    assert!(tasks.next().is_none());
}

#[test]
fn a_stale_entry_without_a_task_is_skipped() {
    let mut tasks = tasks();
    let id = insert(&mut tasks);
    let (_, task) = expect_task(&mut tasks);
    tasks.wake(id);
    tasks.detach(id);
    free_unwanted(&mut tasks, id, task);
    assert!(matches!(tasks.next(), Some(Next::Stale)));
    assert!(tasks.next().is_none());
}

#[test]
fn spare_boxes_are_bounded() {
    let mut tasks = tasks();
    for _ in 0..100_000 {
        insert(&mut tasks);
    }
    for _ in 0..100_000 {
        run_detached(&mut tasks);
    }
    assert!(tasks.spare_bytes <= SPARE_BYTES_MAX);
    let held: usize = tasks.slots.iter().filter_map(|slot| slot.task.as_ref()).count();
    assert!(held > 0 && held < 100_000, "{held} boxes held");
}

#[test]
fn a_joined_output_is_moved_out_once() {
    let mut tasks = tasks();
    let id = insert(&mut tasks);
    let (_, mut task) = expect_task(&mut tasks);
    let mut cx = std::task::Context::from_waker(Waker::noop());
    assert!(task.as_mut().poll(&mut cx).is_ready());
    assert!(tasks.finish(id, task).is_none());
    let mut output: Option<Result<(), JoinError>> = None;
    assert_eq!(tasks.look_up(id), Join::Finished);
    tasks.take_output(id, &mut output);
    assert!(output.unwrap().is_ok());
    assert_eq!(tasks.look_up(id), Join::Gone);
}
