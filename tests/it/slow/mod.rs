//! What takes patience: loads, lost brokers, killed processes. `make test-fast` leaves this module out.

mod api;
mod broker_loss;
mod large;
mod load;
mod process;
mod simulation;
mod stored;

use std::collections::HashMap;

use docrelay::domain::{DocumentEvent, Outcome};

use crate::support::{
    receiver::{Receiver, Recorded},
    results::Results,
    service::event,
};

/// So many events, `evt-0` and on.
fn events(count: usize) -> Vec<DocumentEvent> {
    (0..count).map(|number| event(&format!("evt-{number}"))).collect()
}

/// How often each (webhook-id, attempt) was requested, over all receivers.
fn requests(receivers: &[Receiver]) -> HashMap<(String, u32), usize> {
    let mut times = HashMap::new();
    for request in receivers.iter().flat_map(Receiver::recorded) {
        *times.entry((request.delivery().to_owned(), request.attempt())).or_default() += 1;
    }
    times
}

/// Not one request was made twice.
fn assert_no_repeats(receivers: &[Receiver]) {
    let repeated: Vec<_> = requests(receivers).into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(repeated.is_empty(), "{} requests were repeated: {repeated:#?}", repeated.len());
}

/// Every delivery has exactly one final, and it is `delivered`.
fn assert_all_delivered(results: &Results, deliveries: usize) {
    let finals = results.finals();
    assert_eq!(finals.len(), deliveries);
    for (delivery, finals) in finals {
        let outcomes: Vec<_> = finals.iter().map(|result| result.outcome).collect();
        assert_eq!(outcomes, [Outcome::Delivered], "{delivery}: {finals:#?}");
    }
}

/// Requests by delivery, in order of arrival.
fn by_delivery(receivers: &[Receiver]) -> HashMap<String, Vec<Recorded>> {
    let mut all: HashMap<String, Vec<Recorded>> = HashMap::new();
    for request in receivers.iter().flat_map(Receiver::recorded) {
        all.entry(request.delivery().to_owned()).or_default().push(request);
    }
    for requests in all.values_mut() {
        requests.sort_by_key(|request| request.arrived);
    }
    all
}
