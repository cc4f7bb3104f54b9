"""``maskwright models``: which networks there are and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskwright.cli.render import print_table

if TYPE_CHECKING:
    from maskwright.models.summary import ModelFacts

__all__ = ["activations", "app", "models", "show"]

app = typer.Typer(help="List networks: weights, multiply-adds, reach; show one.", add_completion=False)

_Size = Annotated[int, typer.Option("--size", min=32, max=8192, help="Side of the image in pixels.")]


@app.callback(invoke_without_command=True)
def models(context: typer.Context, size: _Size = 256) -> None:
    """List networks: weights, multiply-adds, reach; show one."""
    if context.invoked_subcommand is not None:
        return
    from maskwright.models.build import MODELS, model_config
    from maskwright.models.summary import model_facts

    rows = []
    for kind in MODELS:
        facts = model_facts(model_config(kind), size_px=size)
        rows.append((kind, "any" if facts.conditioned else "listed", *_costs(facts), _reach(facts)))
    print_table(("kind", "heights", "weights", f"multiply-adds at {size} px", "reach"), rows)
    typer.echo("maskwright models show KIND tells more. The numbers are those of the default settings.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Kind of network, or another of its names.", show_default=False)],
    size: _Size = 256,
) -> None:
    """Show one network: parts, costs and settings."""
    from maskwright.config import field_specs
    from maskwright.models.build import model_config
    from maskwright.models.summary import model_facts

    config = model_config(name)
    facts = model_facts(config, size_px=size)
    weights, multiply_adds = _costs(facts)
    typer.echo(f"{facts.kind}: {(type(config).__doc__ or '').strip().splitlines()[0]}")
    typer.echo("Answers any height." if facts.conditioned else "Answers the heights it was trained at.")
    typer.echo(f"{weights} weights, {multiply_adds} multiply-adds at {size} px, reach {_reach(facts)}.\n")
    print_table(("part", "weights"), [(part, f"{count:,}") for part, count in facts.parts])
    typer.echo()
    specs = [spec for spec in field_specs(type(config), "model.") if spec.name != "kind"]
    print_table(("setting", "values", "default"), [(spec.path, spec.values, str(spec.default)) for spec in specs])


@app.command()
def activations(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run, model folder or checkpoint of a model of images.")],
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image of the kind it was trained on.")],
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer", help="Name of a layer; may be given again. Unset: the largest parts.", show_default=False
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The picture.")] = Path("activations.png"),
) -> int:
    """Draw where the layers of a trained network answer strongly to an image."""
    from maskwright.workflows.activation_maps import draw_activations

    drawn = draw_activations(run, image, out, layers or ())
    typer.echo(f"Written: {out}, with {', '.join(drawn)}.")
    return 0


def _costs(facts: ModelFacts) -> tuple[str, str]:
    return f"{facts.parameters / 1e6:.2f} M", f"{facts.multiply_adds / 1e9:.2f} G"


def _reach(facts: ModelFacts) -> str:
    return "unbounded" if facts.receptive_field_px is None else f"{facts.receptive_field_px} px"
