"""Every bound we chose, with its unit in the name and where the number came from.

A limit against strangers is a promise to everybody else on the node: what one client can make it allocate, send or wait
for. Some of those can be lowered by configuration (`ecsnet.config`); the others belong to a format or an algorithm.

Bounds of the kernel's own structures live in `kernel/zig/limits.zig`; a test compares those that both sides know.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

# --- frames and messages ----------------------------------------------------------------------------------------------

FRAME_HEADER_BYTES: Final = 8
"""u32 payload length, u8 kind, u8 flags, u16 wire version: a format."""

MESSAGE_TO_NODE_BYTES_MAX: Final = 64 * KIB
"""Payload of one frame from a client. A client sends commands and acks, a few hundred bytes; 64 KiB leaves room for a
Hello with many command signatures and still bounds what 1000 strangers can make the node hold to 64 MiB."""

MESSAGE_TO_CLIENT_BYTES_MAX: Final = 1 * MIB
"""Payload of one frame to a client: the largest delta (`FULL_SYNC_BYTES_MIN`) with a wide margin, and a
schema text of a thousand tables."""

TRAVERSAL_LIMIT_FACTOR: Final = 4
"""pycapnp's `traversal_limit_in_words` as a multiple of the message's own words: each field is read once, so 1 would
do; 4 forgives a reader that looks twice and refuses an amplifying message."""

NESTING_LIMIT: Final = 16
"""pycapnp's `nesting_limit`: our deepest message nests 3 structs."""

FULL_SYNC_BYTES_MIN: Final = 256 * KIB
"""A delta above this travels as SyncBegin, SyncChunk and a closing DeltaSync, so that a joining client never has one
frame hold up its link: 256 KiB is 20 ms of a 100 Mbit/s line, about a tick."""

SYNC_CHUNK_BYTES: Final = 256 * KIB
"""The most that one SyncChunk's block aims at. Rows are counted as if each came whole and named one by one, so a chunk
is an eighth to a half of this; smaller ones would cost the collecting of what changed once more each."""

STAGED_SYNC_BYTES_MAX: Final = 1024 * MIB
"""What a replica stages of one sync before it gives up: protects a client from a node that never ends."""

DELTA_PARTS_MAX: Final = 16
"""Parts of one delta on datagrams: 16 x 1200 B is one small burst; more goes by the lane."""

DELTAS_STAGED_MAX: Final = 8
"""Deltas of which some parts are there and others are not: 130 ms at 60 Hz, more than the jitter of the links that we
aim at. At most 8 x 16 x 1200 B."""

# --- datagrams --------------------------------------------------------------------------------------------------------

DATAGRAM_BYTES_MAX: Final = 1200
"""What every path on the Internet carries unfragmented: IPv6's 1280 less headers of IP, UDP and a tunnel. It is what
QUIC begins with, too."""

DATAGRAM_HEADER_BYTES: Final = 12
"""u32 sequence, u32 ack, u32 ack bits: a format."""

DATAGRAM_CHECKSUM_BYTES: Final = 4
"""u32 behind the frames: a format."""

DATAGRAM_REPLAY_WINDOW: Final = 256
"""Datagrams behind the newest of which a late one is still taken: 270 ms of the busiest link, 16 parts at 60 Hz."""

DATAGRAMS_UNSENT_MAX: Final = 64
"""Unreliable frames that wait to be packed: two whole deltas and room to spare. Older ones give way: each of them is
soon made again, newer."""

DATAGRAM_ACK_DELAY_NS: Final = 20 * NS_PER_MS
"""How long an ack waits for a datagram that goes the same way: a little over a tick at 60 Hz."""

DATAGRAM_SILENCE_NS_MAX: Final = 40 * NS_PER_S
"""A datagram link that said nothing for so long is dead. Longer than a stream's: nothing breaks in a tunnel of 30 s, no
buffer fills up, and a session that is kept costs nothing and needs no full sync."""

LANE_WINDOW_BYTES: Final = 256 * KIB
"""Bytes of the lane that may be on their way, and that a receiver keeps of what came too early: 25 Mbit/s at 80 ms,
and 1 GiB if 4096 strangers fill all of it on purpose."""

LANE_FRAGMENTS_EARLY_MAX: Final = 512
"""Fragments that came too early and are kept: twice what the window holds of full ones, and a bound on the cost of
small ones."""

LANE_BACKLOG_BYTES: Final = 256 * KIB
"""A lane with so much unacked takes no more until some of it is: as on a stream, what waits is better cut anew."""

FLIGHT_BYTES_FIRST: Final = 16 * DATAGRAM_BYTES_MAX
"""Bytes on their way before anything is known of the path: one whole delta, or 1.5 times what TCP begins with."""

FLIGHT_BYTES_MIN: Final = 8 * DATAGRAM_BYTES_MAX
"""What is always allowed on the way: at 100 ms, 0.8 Mbit/s, about what the worst line that we aim at has."""

RETRANSMIT_NS_FIRST: Final = 400 * NS_PER_MS
"""How long to wait for an ack before a round trip was measured: most links are done by then; on the others it costs a
repeat or two."""

RETRANSMIT_NS_MIN: Final = 60 * NS_PER_MS
"""The shortest wait: two ticks at 60 Hz and the delay of acks."""

RETRANSMIT_NS_MAX: Final = 1 * NS_PER_S
"""The longest wait, however often nothing came: what a client needs at most to notice that a partition is over."""

REPEAT_NS_MIN: Final = 100 * NS_PER_MS
"""A delta that is not acked is repeated after two round trips, but not sooner: acks wait for the client's tick."""

REPEAT_NS_MAX: Final = 1 * NS_PER_S
"""It is repeated at least so often, as `RETRANSMIT_NS_MAX`."""

# --- sessions and commands --------------------------------------------------------------------------------------------

HZ_MIN: Final = 1
HZ_MAX: Final = 1000
"""Ticks a second. A timer is 0.13 ms late at the median: beyond 1000 Hz most of a tick would be lateness."""

HZ_DEFAULT: Final = 30
"""What most authoritative games run at: half of the usual 60 frames drawn."""

COMMANDS_PER_S_MAX: Final = 120
"""Commands a second of one client, in a bucket that holds as many: two for each frame of a 60 fps game."""

COMMAND_BYTES_PER_S_MAX: Final = 64 * KIB
"""Bytes of frames a second from one client, in a bucket that holds as many."""

COMMANDS_IN_FLIGHT_MAX: Final = 1024
"""Commands that a client keeps unanswered, to repeat them after a drop: 8 s of the highest rate."""

COMMAND_NAMES_MAX: Final = 1024
"""Commands of one world: their ids are u16 on the wire; a thousand signatures fit a Welcome."""

COMMAND_PARAMETERS_MAX: Final = 32
"""Parameters of one command: more wants a table."""

COMMAND_TEXT_BYTES_MAX: Final = 1 * KIB
"""UTF-8 bytes of one `str` argument: a chat line."""

WRITE_BYTES_MAX: Final = 16 * KIB
"""Of one write by a client: a quarter of what it may send in a second."""

WRITE_ROWS_MAX: Final = 1024
"""Rows of one write by a client: each is asked for its owner, which must be done well within a tick."""

WRITES_WAITING_MAX: Final = 256
"""Writes that a client keeps until the next tick: each names other cells than the others."""

COMMAND_ANSWERS_KEPT: Final = 256
"""Answers that a node remembers of one session, to repeat them: two seconds of the highest rate, more than a socket
holds back. An older one is told by DeltaSync.commandAck alone."""

COMMAND_STATUSES_KEPT: Final = 128
"""Commands of one session of which its row says what was decided, for a node that is started again: a second of the
highest rate, which is more than a healthy line leaves unanswered. Two bits each, 32 bytes a row."""

LINGER_S_DEFAULT: Final = 30.0
"""How long a session waits for a client that lost its link: longer than silence is told from a slow line (10 s), a
phone's tunnel or the restart of a node; short enough that who is gone for good does not stand around."""

LINGER_S_MAX: Final = 7 * 86_400.0
"""A week: a player of a turn a day is still the same one. Rows that wait longer than that wait for nobody."""

SESSIONS_ABSENT_MAX: Final = 4096
"""Sessions without a link; as many as may have one. Beyond it who has been away for longest leaves."""

RESUME_KEY_BYTES: Final = 16
"""A secret of 128 bits, which nobody guesses."""

NAME_BYTES_MAX: Final = 63
"""UTF-8 bytes of a name (client, table, field, command): fits the `bytes[64]` of the metadata tables."""

ROLE_BYTES_MAX: Final = 31
"""Bytes of the name of a role: it stands in every session's row, and a node has a handful of them."""

TOKEN_BYTES_MAX: Final = 4 * KIB
"""Bytes of a token that proves an account: a JWT of an identity provider with its signature has one or two."""

TOKEN_SECRET_BYTES_MIN: Final = 32
"""A secret that signs tokens: as much as SHA-256 keeps of it."""

TOKEN_LIFETIME_S_DEFAULT: Final = 45.0
"""A token is got right before it is shown: a slow line, a loading screen. Who copies one has little use for it."""

TOKEN_LIFETIME_S_MAX: Final = 86_400.0
"""A day: longer than any identity provider's, and a bound on how long a used one must be remembered."""

TOKEN_SKEW_S: Final = 5.0
"""By how much the clocks of who issues tokens and who verifies them may differ: NTP keeps far less."""

TOKENS_USED_MAX: Final = 1 << 16
"""Used tokens that a node remembers, some 10 MB: five minutes of `ACCEPTS_PER_S_MAX`, which is six lifetimes."""

REASON_BYTES_MAX: Final = 512
"""UTF-8 bytes of the text beside a reject, a goodbye or an error: one message box."""

HANDSHAKE_DEADLINE_NS: Final = 5 * NS_PER_S
"""From the accepted socket to the Hello, and from the Hello to the end of the handshake. Slowest useful link:
satellite, 0.7 s a round trip, three of them."""

HANDSHAKES_AT_ONCE_MAX: Final = 256
"""Links that have not finished their handshake: bounds what strangers without a session can hold."""

ACCEPTS_PER_S_MAX: Final = 200
"""New links a second of the whole node, in a bucket that holds as many: a full node of 1000 is back in five
seconds after a restart, and a flood costs less than a tenth of a core."""

LINKS_PER_ADDRESS_MAX: Final = 64
"""Links of one address, unless configured: a household, a school, most of a carrier's players behind one. A node behind
a proxy sees one address alone, and is told to allow it more."""

HANDSHAKES_PER_ADDRESS_MAX: Final = 32
"""Of those, not done with their handshake: an eighth of what the node has for all."""

REFUSALS_PER_ACCEPT: Final = 10
"""So many links that are turned away for their address cost as much of the accept rate as one that is served: less, or
whoever floods would keep everybody else out; not nothing, or it would keep a core busy."""

CLIENTS_MAX: Final = 4096
"""Sessions with a link on one node: beyond the 1000 we measure, below a process's usual limit of descriptors."""

PING_INTERVAL_NS: Final = 1 * NS_PER_S
"""A silent link is asked once a second, which also measures the round trip."""

SILENCE_NS_MAX: Final = 10 * NS_PER_S
"""A link that said nothing for so long, pings unanswered, is dead. A phone that changes its cell is away 2 to 5 s."""

TLS_RECORD_BYTES_MAX: Final = 17 * KIB
"""One record of TLS as bytes: 16 KiB and what is added to them, rounded up."""

TLS_HANDSHAKE_BYTES_MAX: Final = 32 * KIB
"""Bytes of a stranger before its TLS handshake is done. A client that shows no certificate has some hundreds; 256 of
them at once hold 8 MiB."""

# --- links and slow readers -------------------------------------------------------------------------------------------

QUEUED_BYTES_MAX: Final = 1 * MIB
"""A client for whom so much is queued is told goodbye."""

EVENT_LOG_BYTES_MAX: Final = 1 * MIB
"""Bytes of event rows that a node keeps for links that are behind, of all of them together; beyond that it keeps those
of the newest version. As much as `QUEUED_BYTES_MAX`: who has not taken it by then is told goodbye likewise."""

EVENT_BLOCK_BYTES: Final = 256 * KIB
"""The event rows of one version go in messages of about that size, and a row is no larger: well within what every
client takes."""

EVENT_ROWS_UNREAD_MAX: Final = 1 << 16
"""Event rows that a client keeps for a game that does not ask for them. Of more the older half goes, and is counted."""

EVENT_ROWS_EARLY_BYTES_MAX: Final = 16 * MIB
"""Bytes of event rows that a client keeps until it holds their version: a delta that takes seconds while every tick
fills `EVENT_BLOCK_BYTES`. More comes from a node that means no good."""

BLOCKED_NS_MAX: Final = 5 * NS_PER_S
"""A client whose link took nothing for so long is told goodbye."""

ACK_INTERVAL_NS: Final = 50 * NS_PER_MS
"""A replica on a stream acks what it applied at most so often. There an ack moves no base: it says how late the client
is, and bounds what is under way by half a second and more. At 60 Hz two thirds of the acks go, and with
them a third of what a client costs a node."""

ACK_VERSIONS_MAX: Final = 8
"""Or after so many versions, whichever is sooner: at 1000 Hz the window of unacked versions would else be shut."""

UNACKED_BYTES_MAX: Final = 256 * KIB
"""Bytes handed to a stream and not yet acked: the socket's own buffer must not hide seconds of lag. More is allowed
while acks come back within `UNACKED_NS_MAX`: a long round trip on a fast line holds many bytes and is not late."""

UNACKED_BYTES_MIN: Final = 32 * KIB
"""What that shrinks to on a line that turns out thin: a quarter of a second at 1 Mbit/s."""

UNACKED_QUEUE_NS: Final = 200 * NS_PER_MS
"""An ack later by this than twice the fastest one means a queue: less is a packet that was lost and sent again."""

UNACKED_FASTEST_FOR_NS: Final = 30 * NS_PER_S
"""How long the fastest ack counts: a phone that changes its cell has another line."""

UNACKED_NS_MAX: Final = 500 * NS_PER_MS
"""An ack that takes longer, with `UNACKED_BYTES_MAX` on their way, means a queue: the worst line that we aim at, a
satellite, is 600 ms and thin, and there coalescing is what we want."""

UNACKED_VERSIONS_MAX: Final = 64
"""Deltas handed to a stream and not yet acked: a second at 60 Hz, and well within the kernel's ring of change sets, so
that what is cut after such a wait is still a delta."""

SYNC_WINDOW_BYTES: Final = 1 * MIB
"""Chunks of one sync handed to a stream and not yet staged, to begin with: 1 MiB a round trip fills 100 Mbit/s at
80 ms, and bounds what one tick spends on cutting chunks for one joining client (0.1 ms a chunk). Doubles whenever a
client has staged all of it before more could be cut."""

SYNC_WINDOW_BYTES_MAX: Final = 16 * MIB
"""What it doubles up to: a world of a million cells that changes whole in each tick must fit between two ticks, or its
sync is overtaken for ever."""

COMPRESS_BYTES_MIN: Final = 256
"""Blocks below this are sent as they are: a zstd frame of so little is hardly shorter (measured: byte planes gain from
256 bytes on, packed columns from about 1.2 kB)."""

PLAIN_BLOCK_BYTES_MAX: Final = 1 * MIB
"""What a compressed block may become: as much as fits a frame to a client uncompressed, so a few bytes on the wire are
never more work or memory than a frame is."""

CLOSING_DELTA_BYTES_MAX: Final = 768 * KIB
"""A delta that closes a sync may be larger than another: it saves the next round, and with what a budget may be passed
by it still fits `MESSAGE_TO_CLIENT_BYTES_MAX`."""

TCP_NOTSENT_LOWAT_BYTES: Final = 32 * KIB
"""Unsent bytes that the system may hold for one TCP link: two ticks of a busy session."""

RECEIVE_CHUNK_BYTES: Final = 64 * KIB
"""Read from a socket at once: one full message to the node."""

SHUTDOWN_NS_MAX: Final = 2 * NS_PER_S
"""From SIGTERM until links that do not take their Goodbye are cut."""

# --- metrics ---------------------------------------------------------------------------------------------------------

METRICS_READERS_MAX: Final = 8
"""Who reads metrics at once: a monitoring system or two, and a person."""

METRICS_READER_S: Final = 5.0
"""How long one of them has for all of it. Prometheus gives up after ten."""

METRICS_REQUEST_BYTES_MAX: Final = 8 * KIB
"""The head of a request, with what proxies add to it."""

METRICS_CLIENTS_NAMED: Final = 20
"""Clients that have figures of their own: those furthest behind. A series for each of thousands that come and go would
be a burden on whoever stores them."""

# --- store ------------------------------------------------------------------------------------------------------------

ENTITIES_MAX_DEFAULT: Final = 1 << 22
"""Entities of one store, unless the schema says otherwise: 4 M. Reserved address space, not memory."""

BATON_WAIT_S_DEFAULT: Final = 5.0
"""How long a transaction waits for another thread's, unless it says otherwise: the busy timeout of Python's sqlite3. A
tick takes milliseconds, so whoever waits for so long waits for a mistake."""

QUEUE_TRANSACTIONS_MAX: Final = 1 << 16
"""Transactions that wait for the writer: what ten fast threads hand in during a tick of 100 ms. Beyond it producers are
told, or wait."""

QUEUE_BYTES_MAX: Final = 64 * MIB
"""Bytes of them: a spawn of three components takes some 100, so only bulk reaches this before the number above."""

CHANGES_BYTES_DEFAULT: Final = 16 * MIB
"""What is kept of the changes that somebody follows: a quarter of a minute of 1000 rows of 20 bytes at 60 Hz."""

RETAIN_VERSIONS_DEFAULT: Final = 3600
"""What changed in so many versions is kept for those who come back, unless their store says otherwise: a minute at 60
Hz, twice the time that a session waits. What is older is merged, so that it takes some 80 change sets."""

RETAIN_BYTES_DEFAULT: Final = 64 * MIB
"""Of it: a world of a million rows of which everywhere some change takes half a MiB a set. Beyond it what is oldest is
forgotten, and who comes back from before is sent a whole world."""

TABLES_MAX: Final = 1024
"""Tables of one schema: ids are u16; a block names each changed table."""

FIELDS_MAX: Final = 256
"""Fields of one table."""

ARRAY_LENGTH_MAX: Final = 4096
"""Elements of a `[T; N]` and bytes of a `bytes[N]`: a cell is copied whole when it changes."""

ARRAY_DIMENSIONS_MAX: Final = 8
"""Levels of arrays in arrays: numpy holds 64, and a matrix of vectors needs three."""

STRUCT_NESTING_MAX: Final = 8
"""Structs within structs: a name of 63 bytes has no room for many more."""

UNIQUES_MAX: Final = 16
"""Uniques over several fields that one table may have: each costs an index."""

UNIQUE_FIELDS_MAX: Final = 8
"""Fields of one such unique: their cells are hashed and compared as one."""

WRITERS_MAX: Final = 32
"""Permissions of one table: each write of a client is held against them one by one."""

ROLES_MAX: Final = 32
"""Roles that one list of a schema may name: a game has a handful."""

INTEREST_RULES_MAX: Final = 32
"""Rules of interest of one schema: which of them are a session's is a bit mask of 32 bits in the kernel."""

FOCUS_ENTITIES_MAX: Final = 64
"""Entities that one client is focused on: its squad, not its army. The neighbours of each are looked for."""

REVEALED_ENTITIES_MAX: Final = 4096
"""Entities that one client is shown beside what rules find: what is more wants a rule."""

BUDGET_BYTES_S_MIN: Final = 1024
"""The least budget of a session: heads and acks of 10 Hz alone take that, and no row would ever fit beside them."""

AUDIENCES_OFF_LOOP_MIN: Final = 200
"""From so many sessions with views of their own on, these are looked for and encoded on a worker thread: fewer take
less time than handing the work over and back, some 100 µs."""

SIGHT_EVENTS_UNREAD_MAX: Final = 4096
"""Comings and goings that wait for a game to ask for them: half a minute of two a version at 60 Hz."""

QUIET_NS_MAX: Final = 250 * NS_PER_MS
"""How long a client of whose view nothing has changed is not told of newer versions: four small frames a second."""

QUIET_VERSIONS_MAX: Final = 64
"""The same in versions: a quarter of the cuts that change sets are kept for."""

SCHEMA_TEXT_BYTES_MAX: Final = 512 * KIB
"""Canonical text of a schema: must fit one message to a client."""

CELL_BYTES_MAX: Final = 4096
"""Bytes of one cell, as in `kernel/zig/limits.zig`: a delta carries cells whole."""

ENUM_VALUES_MAX: Final = 256
"""Members of one enum, as in `kernel/zig/limits.zig`: they are searched per changed cell."""

ROWS_MAX: Final = 1 << 24
"""Rows of one table and entities of one store, as in `kernel/zig/limits.zig`; a schema's `rows_max` ends here."""

SCHEMA_NESTING_MAX: Final = 32
"""Levels of arrays and inline tables in a schema file: the language itself uses six."""

SCHEMA_ID_MAX: Final = 0xFFEF
"""Table and field ids: u16, of which the last sixteen name virtual columns."""

SYSTEM_TABLE_IDS_MAX: Final = 15
"""Ids 1 to 15 are tables of ecsnet's own; a schema's begin at the next. Five are in use."""

PEERS_MAX: Final = 16
"""Links to other nodes. Each is told what was written by itself, so n nodes that all know each other send n² deltas; a
cluster of games has a handful, and more of them relay."""

PEER_HANDSHAKE_NS_MAX: Final = 5 * NS_PER_S
"""A node that was dialled, or that dials, says who it is within this."""

PEER_PING_NS: Final = 3 * NS_PER_S
"""How often a node that has nothing to say to another shows that it is there: as between client and node."""

PEER_SILENCE_NS_MAX: Final = 10 * NS_PER_S
"""As between client and node: three pings may be lost."""

PEER_BLOCK_BYTES: Final = 256 << 10
"""About as many bytes one delta between nodes has; more go in several. As the chunks of a sync."""

PEER_FRAMES_IN_FLIGHT_MAX: Final = 8
"""Deltas on their way that are not acked: at 60 ticks a second and 100 ms there and back, six are."""

PEER_WAITING_FRAMES_MAX: Final = 2 * PEER_FRAMES_IN_FLIGHT_MAX
"""Frames of one node that wait for what another wrote before them. Twice what one may have sent."""

PEER_WAITING_BYTES_MAX: Final = 8 << 20
"""What came of one node and waits for what another wrote before it. Twice what one may have sent."""

PEER_WAIT_NS_MAX: Final = 5 * NS_PER_S
"""... and for how long. What did not come by then may be lost: the one who knows it is asked for everything."""

TOMBSTONES_AGE_S: Final = 7 * 24 * 3600
"""How long it is remembered that a row was deleted. A node that was away for longer may bring it back."""
