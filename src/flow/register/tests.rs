//! What is remembered, and for how long.

use super::*;

fn key(hop: u32) -> StayKey {
    StayKey { delivery: DeliveryId::of(&"e".parse().unwrap(), &"s".parse().unwrap()), hop }
}

async fn mine(register: &Arc<Register>, key: StayKey) -> Stay {
    match register.enter(key).await {
        Entered::Mine(stay) => stay,
        Entered::Settled(_) => panic!("must be new"),
    }
}

async fn is_settled(register: &Arc<Register>, key: StayKey) -> bool {
    matches!(register.enter(key).await, Entered::Settled(_))
}

#[tokio::test(start_paused = true)]
async fn who_comes_second_waits_and_finds_it_settled() {
    let register = Arc::new(Register::new());
    let stay = mine(&register, key(0)).await;
    let second = {
        let register = Arc::clone(&register);
        async move { is_settled(&register, key(0)).await }
    };
    let settle = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stay.settle(&Confirmed::nothing_owed());
    };
    let (second, ()) = tokio::join!(second, settle);
    assert!(second);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_free_for_who_waits() {
    let register = Arc::new(Register::new());
    let stay = mine(&register, key(0)).await;
    let second = {
        let register = Arc::clone(&register);
        async move { is_settled(&register, key(0)).await }
    };
    let give_up = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        drop(stay);
    };
    assert!(!tokio::join!(second, give_up).0);
}

#[tokio::test(start_paused = true)]
async fn another_hop_is_another_stay() {
    let register = Arc::new(Register::new());
    mine(&register, key(0)).await.settle(&Confirmed::nothing_owed());
    assert!(is_settled(&register, key(0)).await);
    assert!(!is_settled(&register, key(1)).await);
}

#[tokio::test(start_paused = true)]
async fn an_entry_lives_a_minute_after_its_ack_and_the_minute_stands_still_without_a_broker() {
    let register = Arc::new(Register::new());
    mine(&register, key(0)).await.settle(&Confirmed::nothing_owed());
    register.answered(&[key(0)], Acked::Sent);
    tokio::time::advance(Duration::from_secs(50)).await;
    register.consuming(false);
    tokio::time::advance(Duration::from_hours(1)).await;
    register.consuming(true);
    register.answered(&[], Acked::Sent);
    assert!(is_settled(&register, key(0)).await, "an hour without a broker does not count");
    tokio::time::advance(Duration::from_secs(11)).await;
    register.answered(&[], Acked::Sent);
    assert!(!is_settled(&register, key(0)).await, "forgotten after a minute of consuming");
}

#[tokio::test(start_paused = true)]
async fn what_may_come_twice_is_remembered_until_the_second_had_its_time() {
    let register = Arc::new(Register::new());
    register.expect_twice(key(1), Duration::from_secs(512));
    tokio::time::advance(Duration::from_secs(512)).await;
    mine(&register, key(1)).await.settle(&Confirmed::nothing_owed());
    register.answered(&[key(1)], Acked::Sent);
    tokio::time::advance(Duration::from_secs(59)).await;
    register.answered(&[], Acked::Sent);
    assert!(is_settled(&register, key(1)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_is_known_until_its_message_is_answered_however_late_it_came() {
    // It came in time and took long, or it came late.
    for (before, meanwhile) in [(0, 70), (70, 0)] {
        let register = Arc::new(Register::new());
        register.expect_twice(key(1), Duration::from_secs(2));
        tokio::time::advance(Duration::from_secs(before)).await;
        let stay = mine(&register, key(1)).await;
        tokio::time::advance(Duration::from_secs(meanwhile)).await;
        stay.settle(&Confirmed::nothing_owed());
        // Its message still owes something. Another one is answered.
        register.answered(&[], Acked::Sent);
        assert!(is_settled(&register, key(1)).await, "the second copy found it unknown");
        register.answered(&[key(1)], Acked::Sent);
        tokio::time::advance(Duration::from_secs(59)).await;
        register.answered(&[], Acked::Sent);
        assert!(is_settled(&register, key(1)).await);
        tokio::time::advance(Duration::from_secs(2)).await;
        register.answered(&[], Acked::Sent);
        assert!(!is_settled(&register, key(1)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_is_expected_for_as_long_as_it_was_and_then_forgotten() {
    for (at, is_expected) in [(61, true), (70, false)] {
        let register = Arc::new(Register::new());
        register.expect_twice(key(1), Duration::from_secs(2));
        let stay = mine(&register, key(1)).await;
        tokio::time::advance(Duration::from_secs(at)).await;
        register.answered(&[], Acked::Sent);
        drop(stay);
        assert_eq!(register.lock().entries.contains_key(&key(1)), is_expected, "given up after {at} s");
        tokio::time::advance(Duration::from_secs(2)).await;
        register.answered(&[], Acked::Sent);
        assert!(register.lock().entries.is_empty(), "given up after {at} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_while_there_is_no_room_is_forgotten_in_the_end_too() {
    let register = Arc::new(Register::new());
    register.expect_twice(key(0), Duration::from_secs(2));
    let stay = mine(&register, key(0)).await;
    // Those whose acks went nowhere are kept for longer: key 0 would be the first to make room.
    for hop in 1..=u32::try_from(MOST).unwrap() {
        mine(&register, key(hop)).await.settle(&Confirmed::nothing_owed());
        register.answered(&[key(hop)], Acked::Stale);
    }
    drop(stay);
    assert!(register.lock().entries.contains_key(&key(0)));
    tokio::time::advance(Duration::from_secs(63)).await;
    register.answered(&[], Acked::Sent);
    assert!(!register.lock().entries.contains_key(&key(0)));
}

#[tokio::test(start_paused = true)]
async fn the_register_is_bounded_and_the_oldest_go_first() {
    let register = Arc::new(Register::new());
    for hop in 0..u32::try_from(MOST).unwrap() + 10 {
        mine(&register, key(hop)).await.settle(&Confirmed::nothing_owed());
        register.answered(&[key(hop)], Acked::Sent);
    }
    assert_eq!(register.lock().entries.len(), MOST);
    assert!(is_settled(&register, key(u32::try_from(MOST).unwrap())).await);
    assert!(!is_settled(&register, key(0)).await);
}
