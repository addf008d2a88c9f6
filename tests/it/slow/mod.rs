//! What takes patience: loads, lost brokers, killed processes. `make test-fast` leaves this module out.
