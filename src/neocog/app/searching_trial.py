"""One trial: an ordinary run, reported to the study after every epoch, and paused where it is worse than the median.

The rule is that of Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2: a
trial ends whose best accuracy so far is below the median of what whole trials had at that epoch. The test pictures
play no part.
"""

import math
import time as clocks
from pathlib import Path
from typing import Any

from neocog.app import folder as run_folder
from neocog.app.compare_run import Clock, Limit, train_until
from neocog.app.searching_study import Claim, SharedStudy, quiet, translated
from neocog.app.session import is_out_of_memory
from neocog.core.config import TrainConfig, load_config
from neocog.core.errors import DivergedError, Interrupted, NeocogError, ResourceError, UsageError
from neocog.core.events import Events
from neocog.training.checkpoint import Checkpoints

TIME_IS_OVER = "the time was over"
ALARM = 14  # as which the end of the time stops a run between two steps, SIGALRM's number


class Leash(Limit):
    """A limit of no time at all until it is drawn in, which pauses the run after the epoch it is in."""

    def __init__(self) -> None:
        super().__init__(math.inf, math.inf)

    def draw_in(self) -> None:
        object.__setattr__(self, "soft", -math.inf)  # a limit is frozen for all who are only given one


def name_of(place: int) -> str:
    """Of a trial and its folder."""
    return f"trial-{place:04}"


def attempt(
    study: SharedStudy, claim: Claim, config: TrainConfig, folder: Path, events: Events, *, command: str = "",
    until: float = math.inf, fall_back: bool = True, clock: Clock = clocks.monotonic,
) -> str:  # fmt: skip
    """Trains, tells the study and returns how it ended: finished, pruned, failed, stopped (`until`, on the clock, was
    near), or lost: another process had declared this one dead. Every error but a diverged loss is raised, and the
    place waits for whoever asks next."""
    name, began, leash = name_of(claim.place), clock(), Leash()
    run = folder / name
    trainers: list[Any] = []

    def on_step(**_: Any) -> None:
        if clock() > until:
            trainers[-1].stop(ALARM)  # to go on with the next step one day, as if it had never stopped

    def on_epoch(row: dict[str, Any], **_: Any) -> None:
        if report(study, claim, row):
            leash.draw_in()

    try:
        refuse_stranger(run, config, claim)
        target = None
        for row in learned(run, fall_back):
            target = row["epoch"] if report(study, claim, row) else None  # it was killed between that and its pause
        events.on("training", lambda trainer: trainers.append(trainer))
        events.on("step_ended", on_step)
        events.on("epoch_ended", on_epoch)
        with study.beating(claim.trial.number):
            found = train_until(
                config, run, target, events, name=name, command=command, limit=leash, fall_back=fall_back, clock=clock
            )
    except DivergedError as error:
        return "failed" if study.end(claim, "FAIL", error=str(error), seconds=clock() - began) else "lost"
    except BaseException as error:
        if is_lost(error):
            return "lost"
        if isinstance(error, Interrupted) and error.exit_code == 128 + ALARM:
            return "stopped" if study.end(claim, "FAIL", stopped=TIME_IS_OVER) else "lost"
        let_go(study, claim, name, error)
        if is_out_of_memory(error) and not isinstance(error, NeocogError):
            raise ResourceError(f"{name}: the memory does not suffice", "use a smaller --batch-size") from error
        raise
    numbers = found.run.metrics("val")
    facts = {
        "val_accuracy": numbers["top1"], "val_loss": numbers["nll"], "epochs": found.epochs,
        "seconds": clock() - began, "folder": str(run.resolve()),
    }  # fmt: skip
    if not found.paused:
        return "finished" if study.end(claim, "COMPLETE", numbers["top1"], **facts) else "lost"
    return "pruned" if study.end(claim, "PRUNED", **facts) else "lost"


def report(study: SharedStudy, claim: Claim, row: dict[str, Any]) -> bool:
    """Tells the study of an epoch; whether the trial is to end there."""
    with quiet(), translated(study.path):
        claim.trial.report(row["val_accuracy"], row["epoch"])
        return claim.trial.should_prune()


def learned(run: Path, fall_back: bool) -> list[dict[str, Any]]:
    """The epochs that an earlier attempt left. ModelFileError where its checkpoint is damaged."""
    states = Checkpoints(run)
    if not run_folder.is_run(run) or not states.exist():
        return []
    history: list[dict[str, Any]] = states.load(fall_back=fall_back).facts["progress"]["history"]
    return history


def refuse_stranger(run: Path, config: TrainConfig, claim: Claim) -> None:
    """UsageError where the trial's folder holds a run of other settings."""
    if not run_folder.is_run(run):
        return
    there = load_config(run / run_folder.MARK, {})
    other = [name for name in ("model", "epochs", *claim.settings) if getattr(there, name) != getattr(config, name)]
    if other:
        raise UsageError(f"{run} holds the run of another search ({', '.join(other)} differ)", "give another --out")


def is_lost(error: BaseException) -> bool:
    from optuna.exceptions import UpdateFinishedTrialError

    return isinstance(error, UpdateFinishedTrialError)


def let_go(study: SharedStudy, claim: Claim, name: str, error: BaseException) -> None:
    """The place waits for another attempt. What a person did is not counted among its failures."""
    asked = isinstance(error, (Interrupted, KeyboardInterrupt, SystemExit))
    facts: dict[str, Any] = {"stopped": type(error).__name__} if asked else {}
    study.end(claim, "FAIL", **facts)
    if isinstance(error, NeocogError):
        error.cause = f"{name}: {error.cause}"
    if isinstance(error, Interrupted):
        error.hint = "the same command goes on"
