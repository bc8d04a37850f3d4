"""Data sets as their sites ship them: one small entry each. To add one, append a `Source` to `REGISTRY`."""

from __future__ import annotations

from lerenet.data.importing.layouts import Rule, Source
from lerenet.errors import DataError

CANONICAL = Source(
    name="canonical",
    title="the layout of Surface Defects-4i: <Class>/Images, GT, Nd",
    rules=(
        Rule(images="{cls}/Images/{id}.*", mask="{cls}/GT/{id}.*", stem="{id}"),
        Rule(images="{cls}/Nd/{id}.*", stem="{id}"),
    ),
)

MAGNETIC_TILE = Source(
    name="magnetic-tile",
    title="Magnetic tile surface defects",
    url="https://github.com/abin24/Magnetic-tile-defect-datasets.",
    rules=(
        Rule(
            images="MT_{type}/Imgs/exp{exposure}_num_{frame}.jpg",  # its mask differs by the suffix alone
            mask="MT_{type}/Imgs/exp{exposure}_num_{frame}.*",
            cls="MT_{type}",
            stem="{cls}_exp{exposure}_num_{frame}",
            sequence=("exposure", "frame"),
            exclude={"type": ("Free",)},
        ),
        Rule(
            images="MT_Free/Imgs/exp{exposure}_num_{frame}.jpg",
            cls="MT_Free",
            stem="MT_Free_exp{exposure}_num_{frame}",
            sequence=("exposure", "frame"),
            share_among="MT_.*",
        ),
    ),
    ignore=("MT_Free/Imgs/{id}.png",),  # empty masks
)

MVTEC_AD = Source(
    name="mvtec-ad",
    title="MVTec AD; each category is a class of all its defects",
    url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
    licence="CC BY-NC-SA 4.0",
    rules=(
        Rule(
            images="{cls}/test/{defect}/{id}.*",
            mask="{cls}/ground_truth/{defect}/{id}_mask.*",
            stem="{cls}_{defect}_{id}",
            exclude={"defect": ("good",)},
        ),
        Rule(images="{cls}/test/good/{id}.*", stem="{cls}_test_good_{id}"),
    ),
    ignore=("{cls}/train/good/{id}.*",),
)

MVTEC_LOCO = Source(
    name="mvtec-loco",
    title="MVTec LOCO AD; each category is a class of all its defects",
    url="https://www.mvtec.com/company/research/datasets/mvtec-loco",
    licence="CC BY-NC-SA 4.0",
    rules=(
        Rule(
            images="{cls}/test/{defect}/{id}.*",
            mask="{cls}/ground_truth/{defect}/{id}/*.*",
            stem="{cls}_{defect}_{id}",
            exclude={"defect": ("good",)},
            label="any",
        ),
        Rule(images="{cls}/test/good/{id}.*", stem="{cls}_test_good_{id}"),
    ),
    ignore=("{cls}/train/good/{id}.*", "{cls}/validation/good/{id}.*"),
)

VISA = Source(
    name="visa",
    title="VisA; each object is a class of all its defects",
    url="https://github.com/amazon-science/spot-diff",
    licence="CC BY 4.0",
    rules=(
        Rule(
            images="{cls}/Data/Images/Anomaly/{id}.*",
            mask="{cls}/Data/Masks/Anomaly/{id}.*",
            stem="{cls}_Anomaly_{id}",
            label="any",
        ),
        Rule(images="{cls}/Data/Images/Normal/{id}.*", stem="{cls}_Normal_{id}"),
    ),
)

KOLEKTOR_SDD = Source(
    name="kolektor-sdd",
    title="KolektorSDD",
    url="https://www.vicos.si/resources/kolektorsdd/",
    licence="CC BY-NC-SA 4.0",
    rules=(
        Rule(
            images="kos{item}/Part{part}.*",
            mask="kos{item}/Part{part}_label.*",
            cls="KSDD",
            stem="KSDD_kos{item}_Part{part}",
            group="kos{item}",
            empty_is_clean=True,
        ),
    ),
)

KOLEKTOR_SDD2 = Source(
    name="kolektor-sdd2",
    title="KolektorSDD2",
    url="https://www.vicos.si/resources/kolektorsdd2/",
    licence="CC BY-NC-SA 4.0",
    rules=(
        Rule(
            images="{split}/{id}.*",
            mask="{split}/{id}_GT.*",
            cls="KSDD2",
            stem="KSDD2_{split}_{id}",
            empty_is_clean=True,
        ),
    ),
)

DAGM = Source(
    name="dagm",
    title="DAGM 2007; made textures with defects that are marked by ellipses",
    url="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    rules=tuple(
        Rule(
            images=f"Class{{n}}/{split}/{{id}}.*",
            mask=f"Class{{n}}/{split}/Label/{{id}}_label.*",
            cls="DAGM_Class{n}",
            stem=f"{{cls}}_{split}_{{id}}",
            no_mask_is_clean=True,
        )
        for split in ("Train", "Test")
    ),
)

SD_SALIENCY_900 = Source(
    name="sd-saliency-900",
    title="SD-saliency-900 (NEU): inclusion, patches, scratches on steel",
    url="https://github.com/SongGuorong/MCITF",
    rules=(
        Rule(
            images="Source Images/{code}_{number}.*",
            mask="Ground truth/{code}_{number}.*",
            cls="{code}",
            stem="{cls}_{code}_{number}",
            rename={"code": {"In": "NEU_Inclusion", "Pa": "Steel_Pa", "Sc": "Steel_Sc"}},
        ),
    ),
)

REGISTRY = (
    CANONICAL, MAGNETIC_TILE, MVTEC_AD, MVTEC_LOCO, VISA, KOLEKTOR_SDD, KOLEKTOR_SDD2, DAGM, SD_SALIENCY_900,
)  # fmt: skip

# Folds of the paper's Table 1 and of the stand-ins for its classes without a public original.
FOLDS: tuple[tuple[str, ...], ...] = (
    ("Al_Rm", "MT_Uneven", "Steel_Ld", "Steel_Am", "NEU_Inclusion", "KSDD", "Al_Pit"),
    ("leather", "Steel_Pa", "Rail", "Steel_Sc", "Al_MissingPaint"),
    ("Al_Con", "MT_Break", "MT_Fray", "tile", "Al_SurfaceBulge"),
)


def find_source(name: str) -> Source:
    """The entry of ``REGISTRY`` by name.

    Raises:
        DataError: no such entry; the message lists the names.
    """
    for source in REGISTRY:
        if source.name == name:
            return source
    raise DataError(f"unknown kind {name!r}", f"known: {', '.join(source.name for source in REGISTRY)}")
