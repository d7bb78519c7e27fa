"""Streams by HTTP.

options   query parameters: every flag of the commands
publish   PUT and POST
read      GET and HEAD
sse       GET as server-sent events
socket    both directions by WebSocket
links     what somebody without an account may do
"""
