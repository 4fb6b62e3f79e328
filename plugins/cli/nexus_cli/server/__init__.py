"""The server side: the channel ``cli``, its requests and its answers."""
