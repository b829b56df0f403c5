"""The state store: objects with versions, a ledger of events and watches, in SQLite or in memory."""
