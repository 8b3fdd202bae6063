@0xecf1a7c3b2d40001;
# Every message of ecsnet. What surrounds them (frames, limits, the rules of apply and of the base) is in wire.md.
#
# Rules that hold for the whole file:
# - one root struct per frame, chosen by the frame header's `kind`; there is no outer union;
# - one segment, never packed; at most one level of lists of structs inside another;
# - fields are appended, never reused, reordered or retyped; enumerants likewise;
# - no default but zero in hot structs (SyncBegin, SyncChunk, DeltaSync, Ack, Command, CommandResult): the kernel reads and
#   writes them at fixed offsets, and a field that a sender's older struct does not reach reads as zero;
# - in hot structs 64-bit fields come first, so offsets are plain multiples and no field moves when one is appended.
#
# Units: versions, ticks and sequences are counts; `...Ns` is nanoseconds, `...Ms` milliseconds, `...Bytes` bytes.

enum Kind {
  # What the frame header's kind byte says.
  invalid @0;
  hello @1;
  welcome @2;
  auth @3;
  schema @4;
  syncBegin @5;
  syncChunk @6;
  deltaSync @7;
  ack @8;
  command @9;
  commandResult @10;
  event @11;
  ping @12;
  pong @13;
  resume @14;
  resumed @15;
  goodbye @16;
  error @17;
  peer @18;
}

enum Reason {
  # Why something was refused or ended. A number that a reader does not know is "other": the text beside it still counts.
  none @0;
  shutdown @1;            # the node stops or restarts
  wireMismatch @2;        # no wire version in common
  schemaMismatch @3;      # the fingerprints differ and no field map exists between them
  authFailed @4;          # the token was missing, wrong, expired or used before
  rateLimited @5;         # more commands or bytes a second than the Welcome allows
  badFrame @6;            # malformed: header, segment, pointer, text, or a value outside its range
  timeout @7;             # a deadline passed: handshake or silence
  tooSlow @8;             # the peer did not take what was queued for it
  kicked @9;              # somebody with the right to do so ended the session
  tooLarge @10;           # above the limit of a frame, a list or a text
  notBuilt @11;           # the message is part of the protocol and this build does not serve it yet
  full @12;               # no room for another session now
  internal @13;           # a bug at the sender of this reason; the text names where it was logged
  left @14;               # the client went by its own wish
  unknownCommand @15;     # the command id is not in the Welcome's list
  badArguments @16;       # the arguments do not fit the command's signature
  rejected @17;           # the game's own rule said no; the text is the game's
  historyGone @18;        # what was asked for is older than what is retained
  badState @19;           # legal message, wrong moment
  notAllowed @20;         # no permission of the schema covers what the client wrote
}

enum CommandStatus {
  none @0;                # not an answer; never sent
  accepted @1;            # ran, and is contained in `version`
  rejected @2;            # had no effect; `code` and `message` say why
  superseded @3;          # had no effect: a newer command of the same id, declared `latest`, came in the same tick
}

enum ParameterKind {
  # How one argument is encoded: wire.md, "Arguments". A new kind needs a feature bit.
  bool @0;
  int @1;
  float @2;
  str @3;
  entity @4;
  enumeration @5;
}

# --- handshake --------------------------------------------------------------------------------------------------------

struct Hello {                        # client -> node, the first frame
  wireMin @0 :UInt16;                 # lowest wire version the client speaks; the node picks one from the range
  wireMax @1 :UInt16;                 # highest
  messageBytesMax @2 :UInt32;         # bytes: largest payload the client takes; 0 = the default limit. The node may send smaller
  features @3 :UInt64;                # bits of wire.md "Features" that the client can do; Welcome answers with those in use
  commandsHash @4 :UInt64;            # hash of the command signatures the client was built with, 0 = none: equal hashes spare the list
  fingerprint @5 :Data;               # 16 bytes: the schema the client was built with; empty = send me yours
  name @6 :Text;                      # what the player is called, for the game and for logs; proves nothing
  token @7 :Data;                     # connect token, opaque here; empty = anonymous
}

struct Welcome {                      # node -> client: the session begins
  wire @0 :UInt16;                    # the wire version chosen; every later frame carries it in its header
  hz @1 :UInt16;                      # ticks a second; a client paces its `latest` commands and its clock by it
  epoch @2 :UInt32;                   # the history that all versions of this session belong to
  features @3 :UInt64;                # the bits in use from now on: a subset of Hello's
  session @4 :UInt64;                 # random, never 0: names this conversation, survives a change of address
  clientId @5 :UInt64;                # the account, which owns rows; 0 is never a client
  version @6 :UInt64;                 # the authority's published version at this moment: how far there is to go
  tick @7 :UInt64;                    # the authority's tick at this moment: first estimate for the client's clock
  commandsHash @8 :UInt64;            # hash of the node's command signatures
  messageBytesMax @9 :UInt32;         # bytes: largest payload the node takes from this client
  bytesPerS @10 :UInt32;              # bytes of payload a second that the node takes from this client
  commandsPerS @11 :UInt32;           # commands a second that the node takes from this client
  commandNext @12 :UInt32;            # the next command sequence the node expects: 1 in a new session
  fingerprint @13 :Data;              # 16 bytes: the node's schema. Equal to Hello's, unless a Schema message follows
  resumeKey @14 :Data;                # secret that proves the session in a Resume; empty = this node ends sessions with their link
  name @15 :Text;                     # what the node calls itself, for logs and for people
  commands @16 :List(CommandSignature); # all commands, by id; empty when Hello's commandsHash equals the node's
}

struct CommandSignature {
  id @0 :UInt16;                      # what a Command names it by
  flags @1 :UInt16;                   # bit 0 latest: the newest of a tick counts; bit 1 predict: may run ahead on the client
  name @2 :Text;                      # what the game calls it
  parameters @3 :List(Parameter);     # in the order of their encoding
}

struct Parameter {
  kind @0 :ParameterKind;             # how it is encoded and checked
  name @1 :Text;                      # keyword of the call
  values @2 :List(EnumValue);         # for `enumeration` only: what is allowed
}

struct EnumValue {
  value @0 :Int64;                    # the discriminant, as encoded
  name @1 :Text;                      # its name, so that a client without the game's code may send by name
}

struct Peer {                         # both ways between nodes, the first frame of a link: who is there
  wireMin @0 :UInt16;                 # as in Hello
  wireMax @1 :UInt16;                 # as in Hello
  messageBytesMax @2 :UInt32;         # bytes: largest payload this node takes; 0 = the default limit
  features @3 :UInt64;                # bits of wire.md "Features"; none between nodes yet
  node @4 :UInt64;                    # the node's number, which no other has, never 0: what stamps and clocks name it by
  epoch @5 :UInt32;                   # the history that its versions belong to
  fingerprint @6 :Data;               # 16 bytes: the schema that its rows are in; must be the other's
  nonce @7 :Data;                     # 16 random bytes, others for each link: what the other proves the shared secret with
  name @8 :Text;                      # what the node calls itself, for logs
}

struct Auth {                         # both ways: a login in steps. Between nodes the proof of Peer; for clients not built
  scheme @0 :UInt16;                  # which method; numbers are given when one is built
  step @1 :UInt16;                    # counts the messages of this login from 1
  data @2 :Data;                      # opaque here
}

struct Schema {                       # node -> client: after a Welcome to a Hello without fingerprint; later with hot reload
  revision @0 :UInt32;                # counts the schemas of this session from 1
  fingerprint @1 :Data;               # 16 bytes: must equal the hash of `canonical`, so a damaged text is noticed
  canonical @2 :Text;                 # the canonical text of the schema
}

# --- replication: hot, at fixed offsets ------------------------------------------------------------------------------

struct ClockEntry {
  node @0 :UInt64;                    # who writes: a session, or an authority's node id
  counter @1 :UInt64;                 # its last write that is contained
}

struct SyncBegin {                    # node -> client: a big delta follows in chunks. Hot
  session @0 :UInt64;                 # whose; a frame of another session is a protocol error
  base @1 :UInt64;                    # version: chunks and the closing delta together cover (base, closing version]
  firstVersion @2 :UInt64;            # version: the oldest view any chunk is cut from, so the closing delta's base
  tick @3 :UInt64;                    # tick of firstVersion: for progress and clocks
  rows @4 :UInt64;                    # rows to come, an estimate, 0 = unknown: for a progress bar, never for an allocation
  epoch @5 :UInt32;                   # history that the versions belong to
  revision @6 :UInt32;                # schema revision the blocks are written in; 0 until hot reload exists
}

struct SyncChunk {                    # node -> client: a key range of a sync. Hot
  session @0 :UInt64;                 # whose
  base @1 :UInt64;                    # version: as in SyncBegin
  version @2 :UInt64;                 # version of the view this chunk was cut from; >= SyncBegin.firstVersion
  epoch @3 :UInt32;                   # history
  sequence @4 :UInt32;                # counts the chunks of this sync from 0: a missing one is noticed at once
  block @5 :Data;                     # rows and columns: wire.md "Blocks"
}

struct DeltaSync {                    # node -> client: every change in (base, version]. Hot
  session @0 :UInt64;                 # whose
  base @1 :UInt64;                    # version: readable by a replica that holds this or something newer
  version @2 :UInt64;                 # version that the replica holds after applying; the sequence number of a sync
  tick @3 :UInt64;                    # tick that `version` was made in
  digestLow @4 :UInt64;               # low half of the digest of what this session should hold at `version`
  digestHigh @5 :UInt64;              # high half; both halves 0 = no digest in this frame
  entity @6 :UInt64;                  # the client's own entity, 0 = none: so the game need not search for itself
  epoch @7 :UInt32;                   # history; another epoch than the session's is a protocol error
  commandAck @8 :UInt32;              # the client's clock entry: last of its commands that `version` contains or refused
  part @9 :UInt16;                    # i of n, from 0: datagrams only
  parts @10 :UInt16;                  # n; 0 and 1 both mean a delta in one piece
  flags @11 :UInt32;                  # bits of wire.md "Delta flags"; an unknown bit is a protocol error
  clock @12 :List(ClockEntry);        # empty but between nodes
  block @13 :Data;                    # rows and columns, last in the segment so that it can be shared: wire.md "Blocks"
}

struct Ack {                          # client -> node: what was applied. Hot
  session @0 :UInt64;                 # whose
  version @1 :UInt64;                 # newest version applied; receiving is not acking
  epoch @2 :UInt32;                   # history; an ack of another epoch is ignored
  chunks @3 :UInt32;                  # chunks of the running sync staged so far: flow control while nothing is visible yet
}

# --- commands ---------------------------------------------------------------------------------------------------------

struct Command {                      # client -> node: a numbered request. Hot
  session @0 :UInt64;                 # whose; with `sequence` what makes it idempotent
  tick @1 :UInt64;                    # the authority's tick that the player saw when deciding: for lag compensation
  sequence @2 :UInt32;                # dense from 1 in a session; a repeated one has no second effect
  command @3 :UInt16;                 # id in the Welcome's list; of a write the table's id
  flags @4 :UInt16;                   # bit 0 write; an unknown bit is a protocol error
  arguments @5 :Data;                 # wire.md "Arguments"; of a write "Writes"
}

struct CommandResult {                # node -> client: the answer to each command, in the order of their sequence. Hot
  version @0 :UInt64;                 # accepted: the version that contains it; otherwise the version it was judged against
  tick @1 :UInt64;                    # tick that it was judged in
  sequence @2 :UInt32;                # which command
  status @3 :CommandStatus;           # what became of it
  code @4 :Reason;                    # why not; none when accepted
  message @5 :Text;                   # for the player, from the game's rule; may be empty
}

struct Event {                        # node -> client: what a subscription is told. Subscription 0, which every session has, is told event rows
  session @0 :UInt64;                 # whose
  sequence @1 :UInt64;                # dense from 1 in a subscription: a gap is noticed
  version @2 :UInt64;                 # version that made the change
  tick @3 :UInt64;                    # tick of that version
  key @4 :UInt64;                     # the row; 0 in subscription 0
  epoch @5 :UInt32;                   # history
  subscription @6 :UInt32;            # which of the client's subscriptions; others than 0 are not built
  table @7 :UInt16;                   # table id of the row; 0 in subscription 0
  flags @8 :UInt16;                   # what happened: bits are given when it is built; 0 in subscription 0
  block @9 :Data;                     # the row's changed cells; in subscription 0 event rows: wire.md "Event rows"
}

# --- the link ---------------------------------------------------------------------------------------------------------

struct Ping {                         # both ways, at any time after Hello
  nonce @0 :UInt64;                   # comes back in the Pong: which ping it answers
  sentNs @1 :UInt64;                  # ns of the sender's own clock; comes back, so the sender keeps no list
}

struct Pong {                         # answers a Ping
  nonce @0 :UInt64;                   # the Ping's
  sentNs @1 :UInt64;                  # the Ping's, unchanged
  receivedNs @2 :UInt64;              # ns of the answerer's clock: with sentNs and the round trip gives the clock offset
  tick @3 :UInt64;                    # the authority's tick then; 0 from a client
}

struct Resume {                       # client -> node, instead of Hello: go on with a session
  session @0 :UInt64;                 # which
  version @1 :UInt64;                 # newest version the replica holds
  epoch @2 :UInt32;                   # of that version: (epoch, version) decide whether a delta is possible
  commandNext @3 :UInt32;             # next sequence the client will give to a new command
  wireMin @4 :UInt16;                 # as in Hello
  wireMax @5 :UInt16;                 # as in Hello
  messageBytesMax @6 :UInt32;         # as in Hello
  features @7 :UInt64;                # as in Hello
  fingerprint @8 :Data;               # 16 bytes: the schema that the replica's rows are in
  resumeKey @9 :Data;                 # the Welcome's secret
  commandsHash @10 :UInt64;           # of the command signatures that the client goes by: others have other numbers
  commandOldest @11 :UInt32;          # the oldest of its commands without an answer; commandNext if there is none
}

struct Resumed {                      # node -> client: the answer to Resume
  session @0 :UInt64;                 # as asked
  version @1 :UInt64;                 # base of the delta that follows: the Resume's, or 0 = start over with a full sync
  tick @2 :UInt64;                    # the authority's tick now
  epoch @3 :UInt32;                   # the history that holds from now on
  commandNext @4 :UInt32;             # next sequence the node expects: the client repeats from here
  accepted @5 :Bool;                  # false: say Hello instead
  reason @6 :Reason;                  # why not
  resumeKey @7 :Data;                 # the next secret; empty = the one there is stays
  hz @8 :UInt16;                      # ticks a second now: a node that was started again may have another pace
  bytesPerS @9 :UInt32;               # as in Welcome
  commandsPerS @10 :UInt32;           # as in Welcome
  eventsFrom @11 :UInt64;             # event rows of versions after this are told; those of (version, eventsFrom] are lost
}

struct Goodbye {                      # both ways: the last frame
  reason @0 :Reason;                  # why
  reconnectAfterMs @1 :UInt32;        # ms to wait before trying again; 0 = at will
  message @2 :Text;                   # for people
}

struct Error {                        # both ways: something was refused
  code @0 :Reason;                    # what kind of fault
  fatal @1 :Bool;                     # a Goodbye follows
  kind @2 :UInt8;                     # the frame kind that it answers; 0 = none in particular
  sequence @3 :UInt32;                # the command sequence that it answers; 0 = none
  message @4 :Text;                   # for people: what, expected and found, what to do instead
}
