"""The commands of the command line. Each translates its arguments to one request and the reply to output."""
