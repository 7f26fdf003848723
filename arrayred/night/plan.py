"""What will be done with a night: `Plan`, a list of `Target`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from html import escape

from arrayred.config import Recipe
from arrayred.config.toml import require_known
from arrayred.errors import ArrayredError, printable
from arrayred.io.header import Value
from arrayred.night.flats import Flat
from arrayred.night.group import Group
from arrayred.night.naming import listed, slug


@dataclass(frozen=True)
class Target:
    """The lights of one target, what serves them, and what is wanted of them.

    Parameters
    ----------
    lights : the frames.
    recipe : what to do with them.
    dark : the frames of the master dark; None: none is subtracted.
    bias : the frames of the master bias, where there is no dark; None: none is subtracted.
    flat : what becomes the master flat that it is divided by; None: it is not.
    lamps : frames of comparison lamps, cut through the target's rows; None: there are none.
    lamp_master : the frames of the master that is subtracted from the lamps, or None.
    rows_from : the name of the target whose rows are taken, or "".
    cards : cards of the products that the night file gives.
    remarks : what is not ideal.
    """

    lights: Group
    recipe: Recipe = field(default_factory=Recipe)
    dark: Group | None = None
    bias: Group | None = None
    flat: Flat | None = None
    lamps: Group | None = None
    lamp_master: Group | None = None
    rows_from: str = ""
    cards: Mapping[str, Value] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Return name, lights, what serves them, and what of the recipe is not usual."""
        told = [f"{self.lights.size} of {self.lights.exptime:g} s", served(self)]
        if self.lamps is not None:
            told.append(f"lamps {self.lamps.name}")
        if self.recipe.changed():
            told.append(repr(self.recipe))
        if self.remarks:
            told.append(f"{len(self.remarks)} remark{'s' * (len(self.remarks) > 1)}")
        return printable(f"Target({self.name}: {', '.join(told)})")

    @property
    def name(self) -> str:
        """Return the target's name."""
        return self.lights.name

    @property
    def master(self) -> Group | None:
        """Return the frames of the master that is subtracted: a dark, else a bias, else None."""
        return self.dark or self.bias

    @property
    def masters(self) -> tuple[Group, ...]:
        """Return the frames of all master darks and biases that are needed."""
        own = tuple(group for group in (self.master, self.lamp_master) if group is not None)
        return own + (self.flat.masters if self.flat else ())

    @property
    def calstat(self) -> str:
        """Return the letters of what is corrected when the target is reduced."""
        here = ("BD" if self.dark else "B" if self.bias else "") + ("F" if self.flat else "")
        return "".join(letter for letter in "BDF" if letter in self.lights.state + here)


@dataclass(frozen=True)
class Plan:
    """What will be done, what is left out, and what stands in the way.

    Parameters
    ----------
    masters : the groups that become master darks and biases.
    targets : what will be reduced, in this order.
    left_out : frames that take no part, each with the reason.
    problems : what keeps the whole night from being reduced.
    odd : what is odd about the night, but no obstacle.
    failed : targets that cannot be reduced while others can, each with the reason.
    """

    masters: tuple[Group, ...]
    targets: tuple[Target, ...]
    left_out: tuple[tuple[str, str], ...]
    problems: tuple[ArrayredError, ...]
    odd: tuple[str, ...] = ()
    failed: tuple[tuple[str, ArrayredError], ...] = ()

    @property
    def flats(self) -> dict[str, Flat]:
        """Return the flats that targets need, by key."""
        return {target.flat.key: target.flat for target in self.targets if target.flat}

    def __repr__(self) -> str:
        """Return the plan as text, how much it comprises first."""
        sizes = {"master": self.masters, "target": self.targets, "problem": self.problems}
        counts = [f"{len(some)} {what}{'s' * (len(some) != 1)}" for what, some in sizes.items()]
        return "\n  ".join([f"Plan: {', '.join(counts)}", *map(printable, str(self).splitlines())])

    def _repr_html_(self) -> str:
        """Return the plan for a notebook."""
        return f"<pre>{escape(repr(self))}</pre>"

    def __str__(self) -> str:
        """Return the plan as a few lines of text."""
        lines = [f"master {g.title}: {g.size} of {g.exptime:g} s" for g in self.masters]
        lines += [f"master {f.frames.title}: {f.frames.size}" for f in self.flats.values()]
        for target in self.targets:
            size = f"{target.lights.size} of {target.lights.exptime:g} s"
            lines.append(f"target {target.name}: {size}, {served(target)}")
        lines += [f"target {name} cannot be reduced" for name, _ in self.failed]
        lines += [f"left out {line}" for line in self.left_out_lines()]
        return "\n".join([*lines, *(f"problem: {problem}" for problem in self.problems)])

    @property
    def to_settle(self) -> tuple[Group, ...]:
        """Return the masters, each once and behind those that it is made of."""
        in_order = [group for master in self.masters for group in (*master.parts, master)]
        return tuple({group.key: group for group in in_order}.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what is odd about the night, and what is not ideal about its targets."""
        own = (f"{target.name}: {r}" for target in self.targets for r in target.remarks)
        return (*self.odd, *own)

    def left_out_lines(self) -> list[str]:
        """Return what is left out, a line for each reason."""
        names: dict[str, list[str]] = defaultdict(list)
        for name, reason in self.left_out:
            names[reason].append(name)
        return [f"{listed(who)}: {why}" for why, who in names.items()]

    def only(self, names: Collection[str]) -> Plan:
        """Return the plan for some targets, and those whose rows they take.

        Raises
        ------
        UsageError
            There is no target of such a name.
        """
        known = {target.name for target in self.targets} | {name for name, _ in self.failed}
        asked = [name if name in known else slug(name) for name in names]
        for name in asked:
            require_known(name, known, "target of this night")
        wanted = set(asked)
        for target in reversed(self.targets):
            if target.name in wanted and target.rows_from:
                wanted.add(target.rows_from)
        targets = tuple(target for target in self.targets if target.name in wanted)
        out = [
            (frame.label, "of a target that is not asked for")
            for target in self.targets
            if target.name not in wanted
            for frame in target.lights.frames
        ]
        needed = {group.key for target in targets for group in target.masters}
        return replace(
            self,
            masters=tuple(group for group in self.masters if group.key in needed),
            targets=targets,
            left_out=(*self.left_out, *out),
            failed=tuple(entry for entry in self.failed if entry[0] in wanted),
        )


def served(target: Target) -> str:
    """Return what calibrates a target, in a few words."""
    flat = f", {target.flat.frames.title}" if target.flat else ""
    if target.master is None:
        gone = target.lights.is_dark_subtracted
        return ("dark already subtracted" if gone else "no dark") + flat
    if target.dark is None:
        why = "dark already subtracted" if target.lights.is_dark_subtracted else "no dark"
        return f"{why}, only {target.master.title}{flat}"
    return f"{target.dark.title}{flat}"
