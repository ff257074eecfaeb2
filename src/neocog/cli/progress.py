"""What a person sees of a run: first lines, a moving bar on a terminal, plain lines elsewhere."""

import signal
import time
from types import FrameType
from typing import Any, Self

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from neocog.cli.out import console, line
from neocog.core.events import Events

# SIGHUP (not on Windows) comes when a terminal or a connection is closed.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
PLAIN_SECONDS = 30.0  # between plain lines of one long epoch


class Watch:
    """Listens to a run's moments. Ctrl-C once: the run finishes its step, saves and says how to continue;
    twice: it leaves at once, and the last checkpoint is what remains."""

    def __init__(self, events: Events, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = console()
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.what = ""
        self.last_line = 0.0
        self.trainer: Any = None
        self.seconds: list[float] = []
        for moment in ("note", "progress", "training", "epoch_started", "step_ended", "epoch_ended", "run_ended"):
            events.on(moment, getattr(self, moment))

    def __enter__(self) -> Self:
        self.before = {number: signal.signal(number, self.interrupt) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self.close_bar()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.trainer is None:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        self.trainer.stop(number)
        signal.signal(number, self.before[signal.Signals(number)])  # a second one is not held back
        if not self.quiet:
            console(stderr=True).print("finishing this step, then saving; once more to leave at once")

    def note(self, label: str, text: str) -> None:
        if not self.quiet:
            self.close_bar()
            line(label, text)

    def progress(self, what: str, done: int, total: int) -> None:
        self.show(what, done, total, "")

    def training(self, trainer: Any) -> None:
        self.trainer = trainer

    def epoch_started(self, epoch: int, epochs: int) -> None:
        self.what = f"epoch {epoch + 1}/{epochs}"

    def step_ended(
        self, batch: int, batches: int, mean_loss: float, accuracy: float | None, rate: float, **_: Any
    ) -> None:
        text = f"loss {mean_loss:.5f}" if accuracy is None else f"loss {mean_loss:.3f}  accuracy {accuracy:.3f}"
        text += f"  {rate:,.0f} images/s"
        self.show(self.what, batch, batches, text)

    def epoch_ended(self, row: dict[str, Any], epochs: int, better: bool) -> None:
        if self.quiet:
            return
        self.close_bar()
        self.seconds.append(row["seconds"])
        own = self.seconds[-1] - (self.seconds[-2] if len(self.seconds) > 1 else 0.0)
        left = self.left(epochs - row["epoch"], own)
        best = " best" if better else "     "
        validation = f"   val {measured(row, 'val')}{best}" if "val_loss" in row else ""
        text = (
            f"{row['epoch']:>4}/{epochs}  train {measured(row, 'train')}"
            f"{validation}  {row['images_per_second']:>7,.0f} images/s  {left:,.0f} s left"
        )
        line("epoch", text)

    def left(self, epochs: int, own: float) -> float:
        """Seconds for so many epochs, where the last one took `own`: as long as the next, unless more parts of the
        network are yet to learn. Then what was measured of these counts, and what follows each epoch."""
        pace, progress, batches = self.trainer.pace, self.trainer.progress, len(self.trainer.loader)
        if pace is None or progress.done >= pace.head_batches + batches:
            return epochs * own
        after = max(0.0, own - float(pace.seconds(progress.done - batches, progress.done)))
        return float(pace.seconds(progress.done, progress.planned)) + epochs * after

    def run_ended(self, progress: Any) -> None:
        self.trainer = None
        if not self.quiet:
            self.close_bar()

    def show(self, what: str, done: int, total: int, text: str) -> None:
        if self.quiet:
            return
        if not self.console.is_terminal:
            now = time.monotonic()
            if self.last_line == 0.0 or done == 1:
                self.last_line = now
            if now - self.last_line > PLAIN_SECONDS:
                self.last_line = now
                line("", f"{what}: {done:,} of {total:,}  {text}".rstrip())
            return
        if self.bar is None:
            columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(),
                       TextColumn("{task.fields[text]}"), TimeRemainingColumn())  # fmt: skip
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.bar.start()
            self.task = self.bar.add_task(what, total=total, text=text)
        assert self.task is not None
        self.bar.update(self.task, description=what, completed=done, total=total, text=text)

    def close_bar(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def measured(row: dict[str, Any], of: str) -> str:
    """An epoch's loss, and its accuracy or PSNR where there is one. Errors of pixels are small: five digits."""
    if f"{of}_accuracy" in row:
        return f"loss {row[f'{of}_loss']:.3f} accuracy {row[f'{of}_accuracy']:.4f}"
    text = f"loss {row[f'{of}_loss']:.5f}"
    if f"{of}_psnr" in row:
        text += f" PSNR {row[f'{of}_psnr']:.2f} dB"
    return text
