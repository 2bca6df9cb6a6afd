"""What the fork server of commands.py does once, last of all, so that no script has to: tables that libraries
build when they are first asked for something, half a second each time."""

import io

from matplotlib.figure import Figure
from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("bert")
figure = Figure(layout="constrained")
figure.subplots().plot([1.0, 2.0], label="a line")
figure.legend()
for format in ("svg", "png"):
    figure.savefig(io.BytesIO(), format=format)
