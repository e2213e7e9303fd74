"""The live page: a web server that is a client of the daemon like any other program.

browser ── WebSocket ── viewer.py ┐
browser ── WebSocket ── viewer.py ┼─ hub.py ── tracker.client ── daemon
                                  │  feed.py: one subscription per picture width that is looked at
access.py: who may               operations.py: what a page may ask for
"""
