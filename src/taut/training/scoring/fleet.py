"""The devices of a Ray cluster as scorers, an actor each.

Jobs say all that they need, so that any device can do any of them: what an actor that died had in
hand goes to the others, and another one starts in its place as soon as there is room.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from taut.cluster import other_version
from taut.errors import LogError, TautError, UsageError
from taut.training.scoring.scorer import Job, Scorer
from taut.version import __version__

_IN_HAND = 2  # jobs of a device: one that it does, one that waits there
_TRIES = 8  # of a job whose device died


def gpus(ray: Any) -> int:
    """Return how many GPUs a cluster has."""
    return int(ray.cluster_resources().get("GPU", 0))


class Fleet:
    """Scorers on the devices of a cluster: an actor for each GPU, or for each node without them.

    Raises:
        UsageError: The cluster has no such device.
    """

    def __init__(self, ray: Any, **settings: Any) -> None:
        self._ray, self._settings = ray, settings
        places = _places(ray, settings["device"])
        if not places:
            raise UsageError(
                f"--engine ray: expected a node with {_device(settings)}, found none in the "
                "cluster; start one, or name another --device."
            )
        self._idle: deque[Any] = deque()  # an actor stands here once for each job it can take
        self._starting: dict[Any, tuple[Any, dict]] = {}
        self._place: dict[Any, dict] = {}
        self._failed = 0  # starts
        self._waiting = places

    def each(self, jobs: Iterable[Job]) -> Iterator[tuple[Any, Any]]:
        """Do jobs on all devices; yield what each is for, and what it gives, as it is done.

        Raises:
            LogError: A job failed on several devices, one after the other.
        """
        more, again, busy = iter(jobs), deque[tuple[Job, int]](), {}
        open_ = True
        while self._waiting:  # not before there is a job: what is all scored needs no device
            self._start(self._waiting.pop())
        while True:
            while self._idle and (open_ or again):
                job, tries = again.popleft() if again else (next(more, None), 1)
                if job is None:
                    open_ = False
                    break
                actor = self._idle.popleft()
                _, method, given = job
                busy[getattr(actor, method).remote(*given)] = (actor, job, tries)
            if not busy and not again and not open_:
                return
            (done, *_), _ = self._ray.wait([*busy, *self._starting], num_returns=1)
            if done in self._starting:
                self._started(done)
                continue
            actor, job, tries = busy.pop(done)
            found = self._result(done, actor)
            if found is None:
                if tries == _TRIES:
                    raise LogError(
                        f"expected a device to score {job[0]}, found {_TRIES} that died over it; "
                        "look at their memory, and lower --batch-tokens."
                    )
                again.append((job, tries + 1))
                continue
            yield job[0], found

    def close(self) -> None:
        """Stop the actors."""
        actors = [*self._place, *(actor for actor, _ in self._starting.values())]
        for actor in actors:
            with suppress(Exception):  # the cluster may be gone
                self._ray.kill(actor)
        self._place.clear()
        self._starting.clear()
        self._idle.clear()

    def _start(self, place: dict) -> None:
        actor = self._ray.remote(Scorer).options(**place).remote(**self._settings)
        self._starting[actor.version.remote()] = (actor, place)

    def _started(self, ping: Any) -> None:
        actor, place = self._starting.pop(ping)
        try:
            found = self._ray.get(ping)
        except self._ray.exceptions.RayTaskError as problem:
            raise UsageError(
                f"--engine ray: expected taut and its extra 'train' on every node, found "
                f"{str(problem.cause).splitlines()[0]}."
            ) from None
        except self._ray.exceptions.RayError as problem:
            self._failed += 1
            if self._failed > _TRIES:
                why = str(problem).strip().splitlines()[-1].strip()
                raise UsageError(
                    "--engine ray: expected taut with its extra 'train' on every node, and room "
                    f"for a model, found that {self._failed} scorers died as they started: {why}"
                ) from None
            self._start(place)
            return
        if found != __version__:
            raise other_version(found)
        self._place[actor] = place
        self._idle.extend([actor] * _IN_HAND)

    def _result(self, done: Any, actor: Any) -> Any:
        """Return what a job gave; None where its device died, in whose place another starts."""
        try:
            found = self._ray.get(done)
        except self._ray.exceptions.RayTaskError as problem:
            if isinstance(problem.cause, TautError):
                raise problem.cause from None
            raise
        except self._ray.exceptions.RayError:
            self._idle = deque(other for other in self._idle if other is not actor)
            if actor in self._place:
                self._start(self._place.pop(actor))
            return None
        if actor in self._place:
            self._idle.append(actor)
        return found


def _places(ray: Any, device: str) -> list[dict]:
    """Return where an actor goes, for each device."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    if device == "cuda":
        return [{"num_gpus": 1}] * gpus(ray)
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    return [
        {
            "num_cpus": 1,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=True),
        }
        for node in nodes
    ]


def _device(settings: dict) -> str:
    return "a GPU" if settings["device"] == "cuda" else "a processor"
