"""The tests of the client package, `client/pipe_log`."""
