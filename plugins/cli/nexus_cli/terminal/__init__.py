"""What is written to terminals, pipes and log files."""
