"""``maskwright runs`` (list, pack, unpack, stop, pause, continue, checkpoint, lr) and ``maskwright demo``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from maskwright.cli.progress import progress_bar
from maskwright.cli.render import print_table

if TYPE_CHECKING:
    from maskwright.workflows.pack import PackedRun

__all__ = ["checkpoint", "demo", "go_on", "list_runs", "pack", "pause", "runs", "set_lr", "stop", "unpack"]

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run that is at work.", show_default=False)]
_Zip = Annotated[Path, typer.Argument(metavar="FILE.zip", help="The packed run.")]


class _ListByDefault(TyperGroup):
    """``maskwright runs [FOLDER]`` lists; any other command is called by its name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, "--help", "-h"}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


runs = typer.Typer(
    cls=_ListByDefault,
    help="List runs, newest first: status, epochs, best score.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@runs.callback()
def _runs() -> None:
    """List runs, newest first: status, epochs, best score."""


@runs.command("list")
def list_runs(
    folder: Annotated[Path, typer.Argument(help="Folder that holds run folders.")] = Path("outputs"),
    name: Annotated[
        str | None, typer.Option("--name", help="Only runs of this experiment.", show_default=False)
    ] = None,
) -> int:
    """List runs, newest first; what runs does if nothing else is said."""
    from maskwright.tracking import RunReader, find_runs

    found = find_runs(folder, name)
    if not found and (folder / "run.json").is_file():
        found = find_runs(folder.absolute().parent, name)  # a run itself was named: show it beside its neighbours
    if not found:
        typer.echo(f"No runs in {folder}.")
        return 0
    rows = []
    for run in found:
        reader = RunReader(run.path)
        history = reader.history()
        last = history[-1] if history else {}
        scores = [f"{key} {value:.3f}" for key, value in last.items() if key in ("train/loss", "val/loss", "val/iou")]
        rows.append((run.path.name, str(reader.status()["status"]), str(len(history)), ", ".join(scores)))
    print_table(("run", "status", "epochs", "last epoch"), rows)
    return 0


@runs.command()
def pack(run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")], out: _Zip) -> int:
    """Write a run to one file to send: settings, history, page, model, versions; no checkpoints, no pickle."""
    from maskwright.errors import ConfigError
    from maskwright.workflows.pack import pack_run

    if out.suffix.lower() != ".zip":
        raise ConfigError(f"{out}: a packed run is a zip file. Give a name such as {out.with_suffix('.zip')}.")
    packed = pack_run(run, out)
    _show(packed)
    typer.echo(f"Written: {out}, {out.stat().st_size / 1e6:.1f} MB. Unpack it with: maskwright runs unpack {out.name}")
    return 0


@runs.command()
def unpack(
    file: _Zip,
    to: Annotated[Path, typer.Option("--to", help="Folder of runs that gets the run folder.")] = Path("outputs"),
) -> int:
    """Check a packed run, unpack it into a new run folder and show what it is."""
    import shlex

    from maskwright.workflows.pack import unpack_run

    packed = unpack_run(file, to)
    _show(packed)
    typer.echo(f"Unpacked: {packed.path}")
    if "model/model.safetensors" in packed.files:
        typer.echo(f"Next: {shlex.join(['maskwright', 'predict', str(packed.path), 'YOUR_FILES', '--out', 'maps'])}")
    return 0


def _show(packed: PackedRun) -> None:
    made_with = ", ".join(
        f"{name} {packed.versions[name]}" for name in ("maskwright", "torch") if name in packed.versions
    )
    rows = [
        ("run", packed.name),
        ("status", f"{packed.status}, {packed.epochs} epochs"),
        ("made with", made_with),
        ("files", ", ".join(packed.files)),
        *(("note", note) for note in packed.notes),
    ]
    print_table(("what", "value"), rows)


@runs.command("stop")
def stop(run: _Run) -> int:
    """Stop a run after its current batch, of training or validation; it saves and can be continued."""
    return _ask(run, "stop", f"stops and saves. Continue it with: maskwright train --resume {run}")


@runs.command("pause")
def pause(run: _Run) -> int:
    """Let a run wait after its current batch, with all it holds in memory, until it may continue or is stopped."""
    return _ask(run, "pause", f"waits. Let it go on with: maskwright runs continue {run}")


@runs.command("continue")
def go_on(run: _Run) -> int:
    """Let a paused run go on."""
    return _ask(run, "resume", "goes on.")


@runs.command("checkpoint")
def checkpoint(run: _Run) -> int:
    """Let a run save its state now: at its next update, or between two batches of the validation."""
    return _ask(run, "checkpoint", "saves its state at its next update.")


@runs.command("lr")
def set_lr(
    run: _Run,
    value: Annotated[float, typer.Argument(metavar="VALUE", help="The learning rate, above 0.", show_default=False)],
) -> int:
    """Set the learning rate of a run at work; other groups and the rest of its schedule scale with it."""
    return _ask(run, "set_lr", f"trains with a learning rate of {value:g} from its next update on.", lr=value)


def _ask(path: Path, command: str, then: str, **values: float) -> int:
    """Send a command and say what comes of it."""
    from maskwright.tracking import RunFolder
    from maskwright.tracking.control import ask

    run = RunFolder.open(path)
    soon = "" if ask(run, command, **values) else "has not looked yet, busy with its data, say; once it does, it "
    typer.echo(f"{run.path.name} {soon}{then}")
    return 0


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything the demo makes.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the invented forest and of the training.")] = 1,
) -> int:
    """Invent a forest, train on it, score, map it all: a few minutes on two cores."""
    from maskwright.cli.evaluate_commands import print_evaluation
    from maskwright.workflows.demo import run_demo

    with progress_bar() as progress:
        say = partial(typer.echo, err=True)
        result = run_demo(out, seed=seed, say=say, progress=progress, own_process=True)
    print_evaluation(result.evaluation)
    for line in result.lines:
        typer.echo(line)
    return 0
