"""``python -m benchmarks.truth.line_lists FOLDER``: make the line lists of `arrayred/lamps` again.

FOLDER holds tables of the NIST Atomic Spectra Database (ASD, https://physics.nist.gov/asd) as
RASCAL (BSD-3-Clause) stored them: ``nist_clean_Ne_I.csv`` and so on (its commit b5d24f90 of 28
April 2023: element, wavelength in vacuum in Angstrom, relative intensity), and ``all_nist.csv`` of
its version 0.3.11, which has the intensities below 100 that the former lost. What is done to them:

- Lines without an intensity are left out. `STRENGTHS` mends those that no lamp shows like that:
  NIST has neon 6717 at 1/30 of 6402, lamps at a third; its mercury is that of strong discharges.
  ``kspecdr`` are the tables of lamps of github.com/hbahk/kspecdr, data/arc_tables.
- Lines that coincide within 0.05 Angstrom are one line, at the mean weighted by strength.
- Vacuum becomes air (Morton 2000, ApJS 130, 403).
- Strengths of NIST compare lines of one ion that are close to each other, not far ones and not
  ions. So tiers are local: tier 1 are the lines with at most `MOST_STRONGER` stronger ones of the
  ion within 250 Angstrom and at least 3 % of the strongest there; tier 2 those with at least 0.3 %.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from arrayred.steps.wavelength import air_wavelength

IONS = {
    "Ne": ("Ne I",),
    "Ar": ("Ar I", "Ar II"),
    "He": ("He I",),
    "Hg": ("Hg I",),
    "Kr": ("Kr I",),
    "Xe": ("Xe I",),
    "Cd": ("Cd I",),
    "Cu": ("Cu I",),
    "Fe": ("Fe I",),
}
FIRST, LAST = 3200.0, 10800.0
SAME = 0.05
REACH, MOST_STRONGER, LEAST = 250.0, 12, (0.03, 0.003)
ONLY_KNOWN = {"Hg I"}
"""Ions of which only the lines in `STRENGTHS` shine in a lamp."""
STRENGTHS = {
    # Air wavelength and strength. As lamps show them, counts (PypeIt 2.0.1's list, BSD-3-Clause).
    "Ne I": {
        5037.75: 300, 5330.78: 6000, 5341.09: 3000, 5400.56: 6000, 5562.77: 300, 5656.66: 300,
        5764.42: 7000, 5852.49: 7489, 5881.90: 5962, 5944.83: 10105, 5975.53: 2204, 6030.00: 3292,
        6074.34: 9122, 6096.16: 14599, 6128.45: 319, 6143.06: 27178, 6163.59: 8360, 6217.28: 8536,
        6266.50: 17196, 6304.79: 6651, 6334.43: 22717, 6382.99: 37581, 6402.25: 64450,
        6506.53: 35663, 6532.88: 17243, 6598.95: 17780, 6678.28: 30950, 6717.04: 21322,
        6929.47: 37678, 7032.41: 64420, 7173.94: 8445, 7245.17: 64406, 7438.90: 37896,
        7488.87: 5760, 7535.77: 5565, 8082.46: 485, 8377.61: 23176, 8495.36: 21494, 8647.04: 383,
        8654.38: 10656, 8919.50: 6400, 9148.67: 12000, 9201.76: 2334, 9326.51: 6900,
        9425.38: 4800, 9459.21: 2800, 9486.68: 5000, 9534.16: 2334, 11143.02: 26000,
        # NIST's ratio to 5852; kspecdr's to 7032.
        5748.30: 1900, 5820.16: 1900, 7024.05: 16000, 7059.11: 7500,
    },
    # As a lamp of FLOYDS shows them (strengths in github.com/LCOGT/banzai-floyds, arc_lines.py),
    # 4358 = 10000; 5790 by kspecdr's ratio to 5770; the others by NIST's ratio to 3650 or 4358.
    "Hg I": {
        3341.48: 200, 3650.15: 2590, 3654.84: 860, 3662.89: 140, 3663.28: 300, 4046.56: 3070,
        4077.83: 260, 4339.22: 40, 4347.50: 125, 4358.33: 10000, 4916.07: 17, 5460.75: 8310,
        5769.61: 1380, 5790.67: 1720, 10139.75: 230,
    },
    # As a lamp shows them (github.com/saltastro/pysalt, data/linelists/Xe.salt), 4734 = 600.
    "Xe I": {
        4500.98: 270, 4524.68: 140, 4582.75: 74, 4624.28: 910, 4671.23: 1870, 4697.02: 230,
    },
    # As a lamp shows them (github.com/hbahk/kspecdr, data/arc_tables/kr.arc), 8113 = 6000; 8929 by
    # NIST's ratio to 8509.
    "Kr I": {
        7587.41: 1700, 7601.55: 5500, 7685.25: 600, 7694.54: 1000, 7854.82: 600, 8059.50: 400,
        8104.02: 500, 8104.37: 4000, 8112.90: 6000, 8190.06: 1500, 8263.24: 1200, 8281.05: 200,
        8298.11: 2500, 8508.87: 400, 8776.75: 1700, 8928.69: 400,
    },
}  # fmt: skip
HEADING = """\
# {element}: lines of comparison lamps. Wavelength in air, Angstrom; relative strength; ion; tier.
# Strengths compare lines of one ion close to each other. Tier 1 identifies, tiers 1 and 2 fit.
# NIST Atomic Spectra Database (https://physics.nist.gov/asd), vacuum to air by Morton 2000.
# Made by python -m benchmarks.truth.line_lists, which says how.
"""

Values = NDArray[np.float64]


def main(arguments: list[str]) -> int:
    """Write every list; return the exit code."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(__file__).parents[2] / "arrayred" / "lamps"
    for element, ions in IONS.items():
        rows = sorted(row for ion in ions for row in lines_of(Path(arguments[0]), ion))
        text = HEADING.format(element=element)
        text += "".join(f"{w:.4f} {s:g} {i.replace(' ', '')} {t}\n" for w, s, i, t in rows)
        (target / f"{element}.txt").write_text(text, encoding="utf-8")
        n_short = sum(tier == 1 for *_, tier in rows)
        print(f"{element}: {len(rows)} lines, {n_short} of them of tier 1")
    return 0


def lines_of(folder: Path, ion: str) -> list[tuple[float, float, str, int]]:
    """Return wavelength in air, strength, ion and tier of the lines of an ion."""
    found = np.array(list(_stored_lines(folder, ion)))
    air = air_wavelength(found[:, 0])
    strength = np.zeros(air.size) if ion in ONLY_KNOWN else found[:, 1]
    for wave, known in STRENGTHS.get(ion, {}).items():
        strength[np.abs(air - wave) < SAME] = known
    kept = (strength > 0) & (air > FIRST) & (air < LAST)
    order = np.argsort(air[kept], kind="stable")
    air, strength = _merged(air[kept][order], strength[kept][order])
    near = np.abs(air[:, np.newaxis] - air) <= REACH
    stronger = np.count_nonzero(near & (strength > strength[:, np.newaxis]), axis=1)
    share = strength / np.where(near, strength, 0.0).max(axis=1)
    is_short = (stronger <= MOST_STRONGER) & (share >= LEAST[0])
    return [
        (float(air[i]), float(strength[i]), ion, 1 if is_short[i] else 2)
        for i in np.flatnonzero(share >= LEAST[1])
    ]


def _stored_lines(folder: Path, ion: str) -> Iterator[tuple[float, float]]:
    """Yield vacuum wavelength, Angstrom, and intensity of the lines of an ion; 0 where unknown."""
    element, stage = ion.split()
    with open(folder / f"nist_clean_{element}_{stage}.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            yield float(row["wavelength"]), float(row["intensity"])
    with open(folder / "all_nist.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number = re.match(r"[0-9.]+", row["intens"].strip())
            if (row["element"], row["sp_num"]) == (element, str(len(stage))) and number:
                yield float(row["obs_wl_vac(A)"]), float(number[0])


def _merged(wave: Values, strength: Values) -> tuple[Values, Values]:
    """Return lines, those that coincide as one, as strong as the strongest."""
    group = np.concatenate(([0], np.cumsum(np.diff(wave) > SAME)))
    mean = np.bincount(group, wave * strength) / np.bincount(group, strength)
    strongest = np.zeros(mean.size)
    np.maximum.at(strongest, group, strength)
    return mean, strongest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
