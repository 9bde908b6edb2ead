"""A run as a service: a bounded queue, a JSON API, and a page that works by keyboard, on a phone and without a network.

`service` and `batcher` know nothing about HTTP, so other servers can stand before them. `app` has the routes, `guard`
what every request must pass, `server` how it listens.
"""
