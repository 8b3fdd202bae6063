"""The table of the conversation: what it must allow, and what it must not."""

import pytest

from ecsnet.errors import LocalProtocolError, RemoteProtocolError
from ecsnet.session.states import HELLO_BLANK, NOT_BUILT, RESUME_REFUSED, TRANSITIONS, Conversation, Side, State
from ecsnet.wire.messages import Kind


def test_every_built_message_has_a_place_in_the_conversation() -> None:
    """A message that no state allows would be dead; one that is not built has no place yet."""
    allowed = {signal for steps in TRANSITIONS.values() for _, signal in steps}
    assert allowed == (set(Kind) - set(NOT_BUILT)) | {HELLO_BLANK, RESUME_REFUSED}


def test_every_open_state_can_be_left_by_a_goodbye_of_either_side_and_nothing_leads_out_of_closed() -> None:
    for state, steps in TRANSITIONS.items():
        for side in Side:
            expected = None if state is State.CLOSED else State.CLOSED
            assert steps.get((side, Kind.GOODBYE)) is expected
    assert TRANSITIONS[State.CLOSED] == {}


def test_every_state_is_reached() -> None:
    reached = {State.START}
    while True:
        more = {state for origin in reached for state in TRANSITIONS[origin].values()} | reached
        if more == reached:
            break
        reached = more
    assert reached == set(State)


def test_what_a_client_may_say_is_the_same_in_all_states_after_the_welcome() -> None:
    """Frames cross on the way: the node may be syncing while the client still thinks that it is live. The table is
    sound only because that makes no difference to what the client may say."""
    said = {
        state: {signal for side, signal in TRANSITIONS[state] if side is Side.CLIENT}
        for state in (State.LEARNING, State.LIVE, State.SYNCING)
    }
    assert said[State.LEARNING] == said[State.LIVE] == said[State.SYNCING]
    for state in said:
        for (side, signal), following in TRANSITIONS[state].items():
            if side is Side.CLIENT and signal is not Kind.GOODBYE:
                assert following is state, "a client's word must not move the node's state"


def test_no_delta_goes_out_while_a_schema_is_learned_and_no_chunk_outside_a_sync() -> None:
    for state in State:
        steps = TRANSITIONS[state]
        assert ((Side.NODE, Kind.SYNC_CHUNK) in steps) == (state is State.SYNCING)
        assert ((Side.NODE, Kind.DELTA_SYNC) in steps) == (state in (State.LIVE, State.SYNCING))


def test_a_step_that_is_not_in_the_table_names_whose_fault_it_is_and_changes_nothing() -> None:
    node = Conversation(Side.NODE)
    with pytest.raises(LocalProtocolError, match="node cannot send WELCOME while start"):
        node.send(Kind.WELCOME)
    with pytest.raises(RemoteProtocolError, match="client sent COMMAND while start"):
        node.receive(Kind.COMMAND)
    assert node.state is State.START
