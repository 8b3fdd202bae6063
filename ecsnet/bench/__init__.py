"""The figures that ecsnet holds itself to, measured beside others in the same run: `ecsnet bench NAME`.

One file per benchmark (`store`, `replication`), what they share (`figures`, `goals`, `timing`, `workers`), and the
peers. `README.md` has the figures of a recorded run, and says which goals they meet.

Invariants:
- a figure and its peer's come from the same run, by turns, and do equal work: what one side does untimed, both do;
- a goal that is missed is printed as missed; a figure without a goal says null.
"""
