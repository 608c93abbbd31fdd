"""What a mail was sent for: looked up one at a time, and nobody waits without end."""

import asyncio

import pytest
from aiokafka import TopicPartition

from app.web.mail_log import KafkaMails
from app.web.ports import Unsent


class Silent(KafkaMails):
    """Brokers that do not answer until they are let."""

    def __init__(self) -> None:
        super().__init__({}, "notifications.email", 4, timeout_s=0.05)
        self.answers = asyncio.Event()
        self.asked = 0

    async def _value(self, tp: TopicPartition, offset: int) -> bytes | None:
        self.asked += 1
        await self.answers.wait()
        return None


async def test_while_the_brokers_are_silent_nobody_waits_for_all_that_came_before() -> None:
    mails = Silent()
    found = await asyncio.gather(*(mails.find(0, n) for n in range(40)), return_exceptions=True)
    assert {type(one) for one in found} == {Unsent}
    # One after the other each would have had its look, long after whoever asked was gone.
    assert mails.asked < 40
    mails.answers.set()
    assert await mails.find(0, 1) == []
    await mails.close()


async def test_whose_turn_does_not_come_leaves_it_to_the_one_that_has_it() -> None:
    mails = Silent()
    await mails._turn.acquire()
    with pytest.raises(Unsent):
        await asyncio.wait_for(mails.find(0, 1), 60)
    assert mails._turn.locked()
    assert mails.asked == 0
    mails._turn.release()
