"""What happened: the event bus, its handlers and its log."""
