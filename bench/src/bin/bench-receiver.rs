//! The benchmark's receiver: answers 200 with an empty body, counts, and tells the counts at `GET /counts`.
//! Prints its port on the first line.

#![expect(clippy::print_stdout, reason = "the port is what the parent waits for")]

use std::net::Ipv4Addr;

use anyhow::Result;
use tokio::net::TcpListener;

// One thread is enough and cheapest: the receiver should cost as little as possible.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    docrelay_bench::receiver::serve(listener).await
}
