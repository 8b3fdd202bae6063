"""`ecsnet demo`: a node and bots in processes of their own over real sockets, watched and measured.

    parent          starts the others, shows, joins their logs into figures, decides whether all converged
      ├─ node       the world of `arena.py` behind an ordinary node
      └─ bots 1..4  ordinary clients: join, steer, attack, leave, come back

Everything that is claimed is measured: the node notes when each version's tick began and which commands took effect,
the bots note when each version was applied and what became of each command; `figures` puts the two together.

Invariants:
- no process outlives the parent, however that ends (`child`);
- node and bots use the public API alone, so that what they show is what a game gets; what only watches is in `watch`.
"""
