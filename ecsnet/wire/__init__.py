"""Messages as values, their bytes, and the frames around them. `schema/wire.md` is the standard; this is one reader."""
