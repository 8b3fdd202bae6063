"""A session as both sides see it, without a socket, a clock or a store: frames and a time in, frames and events out."""
