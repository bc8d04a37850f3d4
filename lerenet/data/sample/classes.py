"""The sample's twelve classes: a surface, a family of defects, a colour, a fold."""

from __future__ import annotations

from dataclasses import dataclass

from lerenet.data.sample import defects, textures
from lerenet.data.sample.defects import Defect
from lerenet.data.sample.textures import Texture


@dataclass(frozen=True)
class Kind:
    """One class; ``tint`` is None for grey images, else the weight of red, green and blue.

    ``mottle`` is the strength of broad light and dark areas that every specimen has in places of its own.
    """

    name: str
    fold: int
    texture: Texture
    defect: Defect
    tint: tuple[float, float, float] | None = None
    mottle: float = 0.0


KINDS = (
    Kind("Brushed_Scratch", 0, textures.brushed, defects.scratch),
    Kind("Cast_Pit", 0, textures.cast, defects.pits),
    Kind("Anodised_Stain", 0, textures.anodised, defects.stain, (0.92, 0.98, 1.08)),
    Kind("Magnet_Break", 0, textures.magnet, defects.chipped_edge),
    Kind("Rolled_Patch", 1, textures.rolled, defects.patch),
    Kind("Ceramic_Crack", 1, textures.ceramic, defects.crack, (1.03, 1.0, 0.93)),
    Kind("Painted_Missing", 1, textures.painted, defects.missing_paint, (0.75, 0.95, 1.2)),
    Kind("Knurled_Dent", 1, textures.knurled, defects.dent),
    Kind("Hotstrip_Inclusion", 2, textures.hot_strip, defects.inclusion),
    Kind("Lacquer_Bulge", 2, textures.orange_peel, defects.bulge, (1.15, 0.9, 0.8)),
    Kind("Mesh_Fray", 2, textures.woven, defects.fray),
    Kind("Forged_Corrosion", 2, textures.forged, defects.corrosion, (1.08, 1.0, 0.9)),
)
