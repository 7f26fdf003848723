"""Help pages whose options stand under headings: `Sectioned`.

Sixty options in one list are read by nobody. Which heading an option has is told here, for all
commands alike; one that has none stands under "Running".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

REST = "Running"
SECTIONS = {
    "Which frames": (
        "night_file instrument frames exclude targets depth unsigned calibrations "
        "master_dark master_bias master_flat"
    ),
    "Calibration": "no_dark scale_dark no_flat no_overscan bad_pixels",
    "Combination and cosmic rays": (
        "combine clip_sigma minmax_low minmax_high scale weights cosmic_rays"
    ),
    "Finding the spectrum": "sigma background_rows detect rows near_row all_spectra",
    "Extraction and sky": "trace extraction sky_rows sky_model no_sky",
    "All settings at once": "recipe reference",
    "Products": (
        "out object grating grating_angle cards allow_missing electrons per_frame "
        "save_calibrated no_figures form show_plan write to"
    ),
    "Caches": "cache no_cache cache_dir cache_size info clear",
    "Where the work is done": "jobs workers dashboard scheduler worker_timeout",
}


class Sectioned(click.Command):
    """A command whose help has its options under headings.

    Headings, each with the names of its options: those of nights, or a subclass's own.
    """

    headings: ClassVar[Mapping[str, str]] = SECTIONS

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, section by section."""
        heading_of = {
            name: title for title, names in self.headings.items() for name in names.split()
        }
        sections: dict[str, list[tuple[str, str]]] = {}
        sections |= {title: [] for title in (*self.headings, REST)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections[heading_of.get(param.name or "", REST)].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
