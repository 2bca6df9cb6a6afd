"""Sizes of students: of a hop of relation distillation, of a part of a once-for-all student."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hop:
    """Sizes of one distillation.  teacher_layer: from 1.  relation_heads: R.  The rest: the student's."""

    teacher_layer: int
    relation_heads: int
    layers: int
    hidden: int
    heads: int
    intermediate: int


@dataclass(frozen=True)
class Part:
    """Sizes of a part of a once-for-all student."""

    layers: int
    hidden: int
    heads: int
    intermediate: int

    @property
    def name(self) -> str:
        """4L_512H."""
        return f"{self.layers}L_{self.hidden}H"
