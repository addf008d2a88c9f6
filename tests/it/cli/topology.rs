//! `docrelay topology` against a real broker.

use lapin::{
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable},
};

use crate::support::broker::TestBroker;

#[tokio::test]
async fn what_is_printed_is_what_is_declared_and_declaring_again_changes_nothing() {
    let broker = TestBroker::new().await;
    let printed = broker.run(&["topology"]).await.fine();
    for _ in 0..2 {
        let told = broker.run(&["topology", "--declare"]).await.fine();
        assert!(told.contains("14 queues"), "{told}");
    }
    for queue in &broker.topology.queues {
        assert!(printed.contains(&queue.name), "{printed}");
        assert_eq!(broker.ready(&queue.name).await, 0);
    }
}

#[tokio::test]
async fn a_queue_that_differs_is_named_with_the_difference() {
    let broker = TestBroker::new().await;
    let (durable, mut arguments) = (QueueDeclareOptions::durable(), FieldTable::default());
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(7));
    let queue = &broker.topology.names.dead_queue;
    broker.channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    let complaint = broker.run(&["topology", "--declare"]).await.failed();
    assert!(complaint.contains(&format!("queue {queue} exists on the broker, but differs")), "{complaint}");
    assert!(complaint.contains("x-delivery-limit") && complaint.contains("'7'"), "{complaint}");
    assert!(complaint.contains("set another broker.queue_prefix"), "{complaint}");
}
