"""Play a notebook as Jupyter does: cell by cell, inside a running event loop; the last value of each cell is shown."""

import ast
import asyncio
import json
import sys
from pathlib import Path


def play(cells):
    names = {"__name__": "notebook"}
    for number, source in enumerate(cells):
        sys.stdout.write(f"\n[{number}]\n")
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102 - that is what playing is
        if last is not None:
            show(eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names))  # noqa: S307 - the same


def show(value):
    """What a notebook shows of a value: HTML, a picture (here its size), or text."""
    if hasattr(value, "_repr_html_"):
        sys.stdout.write(value._repr_html_())
    elif hasattr(value, "_repr_png_"):
        sys.stdout.write(f"picture of {value.width} x {value.height} px, {len(value._repr_png_())} bytes")
    elif value is not None:
        sys.stdout.write(repr(value))
    sys.stdout.flush()


async def main(cells):
    play("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


if __name__ == "__main__":  # worker processes of a cluster read this file too
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())["cells"]))
